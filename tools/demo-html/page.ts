// The chat page: what a person sees and does. The engine's script lies in the page as text and is started from a Blob as a worker,
// or, where the browser refuses that, becomes a script of the page.
import type { Port, Report, Request } from "./engine.ts";

declare global {
  /** Defined by the engine's script. */
  var dogeEngine: (port: Port) => void;
}

const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const log = element<HTMLDivElement>("log");
const form = element<HTMLFormElement>("form");
const input = element<HTMLTextAreaElement>("input");
const button = element<HTMLButtonElement>("send");
const fresh = element<HTMLButtonElement>("fresh");
const status = element("status");
const speed = element("speed");
const welcome = element("welcome");

type State = "loading" | "idle" | "answering" | "broken";
let state: State = "loading";
/** The bubble that the answer is written into. */
let bubble: HTMLElement | undefined;
let port: Port;

function enter(next: State): void {
  state = next;
  const answering = next === "answering";
  button.textContent = answering ? "Stop" : "Send";
  button.classList.toggle("stop", answering);
  button.disabled = next === "loading" || next === "broken";
  fresh.disabled = next !== "idle";
  for (const suggestion of welcome.querySelectorAll("button")) suggestion.disabled = next !== "idle";
  // Screen readers wait for the whole answer, which is then read at once.
  log.setAttribute("aria-busy", String(answering));
}

const send = (request: Request): void => port.postMessage(request);

/** A message of the conversation, at its end. @returns where its text goes */
function say(who: "You" | "Doge", text: string): HTMLElement {
  const item = document.createElement("div");
  item.className = who === "You" ? "you" : "doge";
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = who;
  const body = document.createElement("p");
  body.dir = "auto";
  body.textContent = text;
  item.append(name, body);
  log.append(item);
  return body;
}

/** Keep the end in sight, unless the person has scrolled away from it. */
function follow(change: () => void): void {
  const { scrollingElement: page } = document;
  const atEnd = page === null || page.scrollHeight - page.scrollTop - page.clientHeight < 80;
  change();
  if (atEnd && page !== null) page.scrollTop = page.scrollHeight;
}

function ask(text: string): void {
  if (state !== "idle" || text.trim() === "") return;
  welcome.hidden = true;
  say("You", text.trim());
  bubble = say("Doge", "");
  bubble.classList.add("writing");
  document.scrollingElement?.scrollTo(0, document.scrollingElement.scrollHeight);
  status.textContent = "Answering…";
  speed.textContent = "";
  enter("answering");
  send({ kind: "ask", text: text.trim() });
}

/** What is told below changes the room above. */
const receive = (report: Report): void => follow(() => take(report));

function take(report: Report): void {
  switch (report.kind) {
    case "ready":
      status.textContent = `Ready in ${Math.round(report.loadMs)} ms.`;
      element("device").textContent = report.device;
      enter("idle");
      // Not where it would bring up a keyboard on the screen.
      if (!matchMedia("(pointer: coarse)").matches) input.focus();
      break;
    case "piece":
      bubble?.append(report.text);
      break;
    case "done": {
      if (report.stopped && bubble?.textContent === "") bubble.textContent = "…";
      bubble?.classList.remove("writing");
      status.textContent = report.stopped ? "Stopped." : "Answered.";
      const count = `${report.tokens} ${report.tokens === 1 ? "token" : "tokens"}`;
      speed.textContent = report.speed === null ? count : `${count}, ${Math.round(report.speed)} tokens/s`;
      enter("idle");
      break;
    }
    case "failed":
      bubble?.classList.remove("writing");
      // Nothing was said: its name alone would look like an answer.
      if (bubble?.textContent === "") bubble.parentElement?.remove();
      status.textContent = `That did not work: ${report.reason}`;
      enter(state === "loading" ? "broken" : "idle");
  }
}

/** The engine in a worker from a Blob, or in the page. */
function start(): void {
  const script = element("engine").textContent;
  const listen = (at: Port, where: string): void => {
    document.documentElement.dataset.engine = where;
    port = at;
    at.onmessage = ({ data }) => receive(data);
  };
  const here = (): void => {
    const own = document.createElement("script");
    own.textContent = script;
    document.head.append(own);
    const { port1, port2 } = new MessageChannel();
    listen(port1, "page");
    dogeEngine(port2);
  };
  try {
    const address = URL.createObjectURL(new Blob([script, "\ndogeEngine(globalThis);"], { type: "text/javascript" }));
    const worker = new Worker(address);
    listen(worker, "worker");
    worker.onerror = (event) => {
      event.preventDefault();
      worker.terminate();
      // A worker that never began was refused; one that breaks later would break here too.
      if (state === "loading") here();
      else receive({ kind: "failed", reason: event.message });
    };
  } catch {
    here();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (state === "answering") send({ kind: "stop" });
  else if (state === "idle") {
    const text = input.value;
    if (text.trim() !== "") input.value = "";
    ask(text);
  }
  input.focus();
});
input.addEventListener("keydown", (event) => {
  // While a word is being composed, Enter ends that.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (state === "idle") form.requestSubmit();
});
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && state === "answering") send({ kind: "stop" });
});
fresh.addEventListener("click", () => {
  send({ kind: "forget" });
  log.replaceChildren();
  welcome.hidden = false;
  status.textContent = "A new conversation.";
  speed.textContent = "";
  input.focus();
});
welcome.addEventListener("click", ({ target }) => {
  if (!(target instanceof HTMLButtonElement)) return;
  ask(target.textContent);
  input.focus();
});

enter("loading");
// After the first picture: a page of megabytes should not keep a person before a blank window.
requestAnimationFrame(() => setTimeout(start));
