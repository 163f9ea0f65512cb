// Before anything is drawn: the theme that was chosen, so that the page does not flash in the other one.
try {
  const { theme } = JSON.parse(localStorage.getItem("doge-settings") ?? "{}");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // As the system has it.
}
