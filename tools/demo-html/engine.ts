// The model behind the page: it answers what a port asks. In a worker the port is the worker's own; where the browser allows
// none, the page has this script itself and the port is one end of a channel: the engine computes in slices and lets the page live.
import { sentenceOf } from "@doge-lm/core";
import { load, type Source, type WasmLoadOptions } from "@doge-lm/wasm";

export type Request =
  | { readonly kind: "ask"; readonly text: string }
  | { readonly kind: "stop" }
  /** Begin a new conversation. */
  | { readonly kind: "forget" };

export type Report =
  | { readonly kind: "ready"; readonly device: string; readonly loadMs: number }
  | { readonly kind: "piece"; readonly text: string }
  /** An answer has ended; `speed` is in tokens per second, null where there was too little to measure. */
  | { readonly kind: "done"; readonly tokens: number; readonly speed: number | null; readonly stopped: boolean }
  | { readonly kind: "failed"; readonly reason: string };

/** What a worker's scope and a channel's end have in common. */
export interface Port {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown): void;
}

/** Load the model, then answer until the page is gone. */
export async function serve(port: Port, source: Source, assets: WasmLoadOptions["assets"]): Promise<void> {
  const report = (message: Report): void => port.postMessage(message);
  const fail = (error: unknown): void => report({ kind: "failed", reason: sentenceOf(error) });
  try {
    // A page from a file cannot be isolated, so there is one thread.
    const doge = await load(source, { threads: 1, assets });
    const begin = () => doge.session({ maxNewTokens: 120, temperature: 0, overflow: "slide" });
    let session = begin();
    let abort = new AbortController();
    const answer = async (text: string): Promise<void> => {
      abort = new AbortController();
      const generation = session.send(text, { signal: abort.signal });
      for await (const piece of generation) report({ kind: "piece", text: piece.text });
      const { ids, stopReason, timings } = await generation.result();
      const { decodeTokens, decodeMs } = timings;
      const speed = decodeTokens > 1 && decodeMs > 0 ? (1000 * decodeTokens) / decodeMs : null;
      report({ kind: "done", tokens: ids.length, speed, stopped: stopReason === "abort" });
    };
    port.onmessage = ({ data }: MessageEvent<Request>) => {
      if (data.kind === "stop") abort.abort();
      else if (data.kind === "ask") answer(data.text).catch(fail);
      else {
        session.close().catch(fail);
        session = begin();
      }
    };
    const { device, loadMs } = doge.info();
    report({ kind: "ready", device, loadMs });
  } catch (error) {
    fail(error);
  }
}
