// The page's end of the engine: calls that end with a result or a Problem, and can be cancelled. A worker that died is replaced by a
// fresh one at the next call.
import type { Message } from "@doge-lm/core";
import type {
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

/** A Problem as an error, so that it can be thrown. */
export class EngineError extends Error {
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

export const isStopped = (error: unknown): boolean => error instanceof EngineError && error.problem.code === "aborted";

export interface EnginePort extends Port {
  onerror: ((event: ErrorEvent) => void) | null;
  terminate(): void;
}

interface Pending {
  readonly resolve: (result: never) => void;
  readonly reject: (error: EngineError) => void;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  readonly onPiece?: ((text: string, tokens: number) => void) | undefined;
}

type Call<Kind extends keyof Results> = Omit<Extract<Request, { kind: Kind }>, "ticket">;
interface CallOptions extends Pick<Pending, "onProgress" | "onPiece"> {
  readonly signal?: AbortSignal | undefined;
}

export class EngineClient {
  readonly #start: () => EnginePort;
  readonly #pending = new Map<number, Pending>();
  #port: EnginePort | undefined;
  #tickets = 0;
  /** Told of what a person should know outside of any call. */
  onNotice: (text: string) => void = () => {};
  /** Told when the model runs elsewhere than it did. */
  onMove: (facts: ModelFacts) => void = () => {};
  /** Told when the worker died, and the model with it. */
  onDeath: (problem: Problem) => void = () => {};

  constructor(start: () => EnginePort) {
    this.#start = start;
  }

  /** Begin with the worker ahead of the first call: its program takes the longest to come. */
  start(): void {
    this.#live();
  }

  probe(): Promise<Results["probe"]> {
    return this.#call<"probe">({ kind: "probe" });
  }

  load(request: LoadRequest, options: CallOptions): Promise<Results["load"]> {
    return this.#call<"load">({ kind: "load", request }, options);
  }

  ask(messages: readonly Message[], options: AnswerOptions, call: CallOptions): Promise<Results["ask"]> {
    return this.#call<"ask">({ kind: "ask", messages, options }, call);
  }

  look(promptIds: readonly number[], ids: readonly number[], options: CallOptions): Promise<Results["look"]> {
    return this.#call<"look">({ kind: "look", promptIds, ids }, options);
  }

  #call<Kind extends keyof Results>(call: Call<Kind>, options: CallOptions = {}): Promise<Results[Kind]> {
    const ticket = ++this.#tickets;
    const { signal, ...told } = options;
    const port = this.#live();
    return new Promise<Results[Kind]>((resolve, reject) => {
      this.#pending.set(ticket, { resolve, reject, ...told });
      port.postMessage({ ...call, ticket });
      const cancel = () => this.#port?.postMessage({ kind: "cancel", ticket });
      if (signal?.aborted) cancel();
      else signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  #live(): EnginePort {
    if (this.#port !== undefined) return this.#port;
    const port = this.#start();
    port.onmessage = ({ data }: MessageEvent<Report>) => this.#receive(data);
    port.onerror = (event) => {
      event.preventDefault?.();
      const why = event.message ? `: ${event.message}` : "";
      this.#die({ code: "engine", message: `The engine's worker broke down${why}. The model must be loaded again.` });
    };
    this.#port = port;
    return port;
  }

  #die(problem: Problem): void {
    this.#port?.terminate();
    this.#port = undefined;
    const all = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of all) reject(new EngineError(problem));
    this.onDeath(problem);
  }

  #receive(report: Report): void {
    if (report.kind === "notice") {
      this.onNotice(report.text);
      return;
    }
    if (report.kind === "moved") {
      this.onMove(report.facts);
      return;
    }
    const pending = this.#pending.get(report.ticket);
    if (pending === undefined) return;
    switch (report.kind) {
      case "progress":
        pending.onProgress?.(report.progress);
        break;
      case "piece":
        pending.onPiece?.(report.text, report.tokens);
        break;
      case "done":
        this.#pending.delete(report.ticket);
        pending.resolve(report.result as never);
        break;
      case "failed":
        this.#pending.delete(report.ticket);
        pending.reject(new EngineError(report.problem));
    }
  }
}
