// How views reach the controller and follow its state, and a few habits that they share.
import { createContext } from "preact";
import { useContext, useEffect, useReducer, useRef, useState } from "preact/hooks";
import type { AnswerFacts } from "../engine/protocol.ts";
import type { Offline } from "../offline.ts";
import type { App } from "../state/app.ts";
import type { State } from "../state/board.ts";

export type Opened = null | "model" | "parameters" | "conversations" | { readonly attention: AnswerFacts };

/** What belongs to the page alone: what is open, and what the service worker has said. */
export interface Page {
  readonly app: App;
  readonly opened: Opened;
  readonly open: (what: Opened) => void;
  readonly offline: Offline;
  readonly reload: () => void;
}

export const PageContext = createContext<Page | null>(null);

export const usePage = (): Page => useContext(PageContext)!;

/** A part of the state; the view is drawn again when it becomes another. */
export function useApp<Part>(select: (state: State) => Part): Part {
  const { app } = usePage();
  const [, redraw] = useReducer<number, void>((count) => count + 1, 0);
  const part = select(app.state.get());
  const seen = useRef(part);
  seen.current = part;
  useEffect(() => {
    const check = () => {
      if (!Object.is(seen.current, select(app.state.get()))) redraw();
    };
    check(); // it may have changed before the effect ran
    return app.state.subscribe(check);
  }, [app]);
  return part;
}

/** An answer is being written in the conversation in sight, here or in another tab: another one waits. */
export const useBusy = (): boolean => useApp(({ answering, elsewhere }) => answering !== null || elsewhere);

/** Whether a media query holds, now and later. */
export function useMedia(query: string): boolean {
  const [holds, set] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const change = () => set(list.matches);
    change();
    list.addEventListener("change", change);
    return () => list.removeEventListener("change", change);
  }, [query]);
  return holds;
}

/** Room for the list of conversations beside the conversation. */
export const WIDE = "(min-width: 60rem)";

/** "3.4 MB"; decimal, as disks and networks are sold. */
export function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  for (const [unit, size] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ] as const) {
    if (count >= size) return `${(count / size).toFixed(count / size < 10 ? 1 : 0)} ${unit}`;
  }
  return `${count} B`;
}

export const percent = (share: number): string =>
  share >= 0.9995
    ? "100 %"
    : share >= 0.1
      ? `${(100 * share).toFixed(share > 0.99 ? 1 : 0)} %`
      : share >= 0.0001
        ? `${(100 * share).toPrecision(2)} %`
        : "< 0.01 %";

export const backendName = (name: string): string =>
  name === "wasm" ? "WebAssembly" : name === "webgpu" ? "WebGPU" : name;

/** The message field has the focus, but not where that would bring up a keyboard on the screen. */
export function toMessage(): void {
  if (!matchMedia("(pointer: coarse)").matches) document.getElementById("message")?.focus();
}

/** What had the focus is about to be taken away: when it is gone, the focus goes on in the open dialog, or in the message field. */
export function refocus(): void {
  requestAnimationFrame(() => {
    if (document.activeElement !== null && document.activeElement !== document.body) return;
    const dialog = document.querySelector("dialog[open]");
    if (dialog === null) toMessage();
    else dialog.querySelector("button")?.focus();
  });
}

/** Offer `text` as a file. */
export function download(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
