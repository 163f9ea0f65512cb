// A button that copies a text, and says whether that worked.
import { useState } from "preact/hooks";
import { usePage } from "./context.ts";
import { IconButton } from "./icons.tsx";

export function Copy({ text, what }: { readonly text: string; readonly what: string }) {
  const { app } = usePage();
  const [said, say] = useState<string | null>(null);
  const tell = (words: string) => {
    say(words);
    app.announce(words);
    setTimeout(() => say(null), 1500);
  };
  return (
    <IconButton
      icon={said === "Copied" ? "check" : "copy"}
      label={said ?? `Copy the ${what}`}
      onClick={() => {
        // Only secure pages have a clipboard, and a policy or the person may refuse it.
        const copied = navigator.clipboard?.writeText(text) ?? Promise.reject();
        copied.then(
          () => tell("Copied"),
          () => tell("The browser does not let this page copy"),
        );
      }}
    />
  );
}
