// The engine: holds one model and answers the page's requests. It lives in a worker, so that nothing it does makes the page wait.
import {
  type Doge,
  type Fallback,
  isDogeError,
  loadDoge,
  type Message,
  type Progress,
  sentenceOf,
  tensorShapes,
  weightBytes,
} from "@doge-lm/core";
import { probe, providers } from "./backends.ts";
import { demoFiles, SiteUnreachable } from "./demo.ts";
import { look } from "./look.ts";
import type {
  AnswerFacts,
  AnswerOptions,
  LoadProgress,
  LoadRequest,
  ModelFacts,
  Port,
  Problem,
  Report,
  Request,
  Results,
} from "./protocol.ts";

/** Answer what comes over `port`, for good. */
export function serve(port: Port): void {
  const engine = new Engine((report, transfer = []) => port.postMessage(report, { transfer }));
  port.onmessage = ({ data }: MessageEvent<Request>) => engine.receive(data);
}

class Engine {
  readonly #report: (report: Report, transfer?: Transferable[]) => void;
  readonly #aborts = new Map<number, AbortController>();
  #doge: Doge | undefined;
  #name = "";
  /** The model is asked and looked into one after the other, */
  #uses: Promise<unknown> = Promise.resolve();
  /** and beside that models are loaded, one after the other too: who waits for a download can go on talking. */
  #loads: Promise<unknown> = Promise.resolve();

  constructor(report: (report: Report, transfer?: Transferable[]) => void) {
    this.#report = report;
  }

  receive(request: Request): void {
    const { ticket } = request;
    if (request.kind === "cancel") {
      this.#aborts.get(ticket)?.abort();
      return;
    }
    const abort = new AbortController();
    this.#aborts.set(ticket, abort);
    const work = (): Promise<Results[keyof Results]> => {
      abort.signal.throwIfAborted();
      switch (request.kind) {
        case "probe":
          return probe();
        case "load":
          return this.#load(request.request, abort.signal, (progress) =>
            this.#report({ ticket, kind: "progress", progress }),
          );
        case "ask":
          return this.#ask(request.messages, request.options, abort.signal, (text, tokens) =>
            this.#report({ ticket, kind: "piece", text, tokens }),
          );
        case "look":
          return look(this.#loaded(), request.promptIds, request.ids, abort.signal);
      }
    };
    const after = (before: Promise<unknown>): Promise<unknown> =>
      before
        .then(work)
        .then((result) => this.#report({ ticket, kind: "done", result }, buffersOf(result)))
        .catch((error) => this.#report({ ticket, kind: "failed", problem: problemOf(error, abort.signal) }))
        .finally(() => this.#aborts.delete(ticket));
    if (request.kind === "load") this.#loads = after(this.#loads);
    else this.#uses = after(this.#uses);
  }

  #loaded(): Doge {
    if (this.#doge === undefined) throw new Error("No model is loaded: choose one first.");
    return this.#doge;
  }

  /** The model before stays until the new one is there and it has said what it was saying: what fails leaves a page that still
   *  answers. */
  async #load(
    { source, backend, dtype, threads }: LoadRequest,
    signal: AbortSignal,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<ModelFacts> {
    const name = source.kind === "demo" ? "Demo model" : source.name;
    const common = {
      backend: providers({ choice: backend, threads }),
      onFallback: ({ message }: Fallback) => {
        this.#report({ ticket: 0, kind: "notice", text: message });
        if (this.#doge !== undefined)
          this.#report({ ticket: 0, kind: "moved", facts: factsOf(this.#doge, this.#name) });
      },
      dtype,
      signal,
      onProgress: ({ file, loaded, total, overall }: Progress) =>
        onProgress(
          overall === undefined
            ? { phase: "reading", file, loaded, total }
            : { phase: "fetching", file, loaded: overall.loaded, total: overall.total },
        ),
    };
    const doge =
      source.kind === "hub"
        ? await loadDoge(source.name, {
            ...common,
            revision: source.revision,
            endpoint: source.endpoint,
            token: source.token,
          })
        : await loadDoge(source.kind === "demo" ? await demoFiles(signal, onProgress) : source.files, common);
    const change = this.#uses.then(async () => {
      if (signal.aborted) {
        await doge.close();
        signal.throwIfAborted();
      }
      const before = this.#doge;
      this.#doge = doge;
      this.#name = name;
      await before?.close().catch(() => {}); // its device may be gone
    });
    this.#uses = change.catch(() => {});
    await change;
    return factsOf(doge, name);
  }

  async #ask(
    messages: readonly Message[],
    options: AnswerOptions,
    signal: AbortSignal,
    onPiece: (text: string, tokens: number) => void,
  ): Promise<AnswerFacts> {
    const doge = this.#loaded();
    const generation = doge.generate(messages, { ...options, overflow: "slide", signal });
    for await (const { text, ids } of generation) onPiece(text, ids.length);
    const { ids, promptIds, stopReason, seed, timings, truncated = 0 } = await generation.result();
    const { prefillMs, decodeTokens, decodeMs } = timings;
    return {
      model: this.#name,
      backend: doge.info().backend, // by now: it may have moved
      ids: [...ids],
      promptIds: [...promptIds],
      stopReason,
      seed,
      firstMs: prefillMs,
      speed: decodeTokens > 1 && decodeMs > 0 ? (1000 * decodeTokens) / decodeMs : null,
      truncated,
    };
  }
}

function factsOf(doge: Doge, name: string): ModelFacts {
  const { backend, device, dtype, threads, context, loadMs, warnings, tried } = doge.info();
  const { layers, biasHeads, window } = doge.config;
  // What a backend says of itself stands beside it; the rest a person should be told of.
  const own = tried.flatMap(({ availability }) => (availability.available ? (availability.warnings ?? []) : []));
  const shapes = [...tensorShapes(doge.config)];
  const count = shapes.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const bytes = shapes.reduce((sum, [tensor, shape]) => sum + weightBytes(tensor, shape, dtype), 0);
  return {
    ...{ name, backend, device, dtype, threads, context, loadMs, layers, biasHeads, window },
    weightBytes: Number(doge.model.details?.weightBytes ?? bytes),
    parameters: count,
    chats: doge.chatTemplate !== null && doge.tokenizer !== null,
    warnings: warnings.filter((warning) => !own.includes(warning)),
    tried: tried.map(({ name: one, state, reason }) => ({ name: one, chosen: state === "chosen", reason })),
  };
}

/** What need not be copied on its way to the page. */
const buffersOf = (result: Results[keyof Results]): Transferable[] =>
  "biases" in result ? [result.biases.buffer] : [];

function problemOf(error: unknown, signal: AbortSignal): Problem {
  if (signal.aborted) return { code: "aborted", message: "It was stopped." };
  const message = sentenceOf(error);
  if (isDogeError(error)) return { code: error.code, message };
  if (error instanceof SiteUnreachable) return { code: "site-unreachable", message };
  if (error instanceof RangeError || /out of memory|allocation failed/i.test(message))
    return { code: "out-of-memory", message };
  return { code: "engine", message };
}
