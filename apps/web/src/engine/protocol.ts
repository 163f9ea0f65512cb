// What the page and the engine's worker say to each other: plain data, in one direction requests, in the other reports.
import type { DType, GenerateOptions, Message, StopReason } from "@doge-lm/core";

/** "auto": the one that is measured to be the fastest here. */
export type BackendChoice = "auto" | "webgpu" | "wasm";

/** Where a model comes from. */
export type ModelSource =
  | { readonly kind: "demo" }
  | {
      readonly kind: "hub";
      /** "owner/name". */
      readonly name: string;
      readonly revision?: string | undefined;
      readonly endpoint?: string | undefined;
      readonly token?: string | undefined;
    }
  | { readonly kind: "files"; readonly name: string; readonly files: Readonly<Record<string, Blob>> };

export interface LoadRequest {
  readonly source: ModelSource;
  readonly backend: BackendChoice;
  readonly dtype: DType;
  /** Of WebAssembly; none: what suits the machine. */
  readonly threads?: number | undefined;
}

/** A backend as it was found: here, with its device, or not, with the reason. */
export interface BackendReport {
  readonly name: "webgpu" | "wasm";
  readonly available: boolean;
  /** The device, or why there is none: for people. */
  readonly says: string;
  readonly warnings: readonly string[];
}

/** The loaded model, for people and for what the views need to know of it. */
export interface ModelFacts {
  readonly name: string;
  readonly backend: string;
  readonly device: string;
  readonly dtype: DType;
  readonly threads: number;
  readonly context: number;
  readonly loadMs: number;
  /** Bytes of the weights as they are held. */
  readonly weightBytes: number;
  readonly parameters: number;
  readonly layers: number;
  readonly biasHeads: number;
  /** Keys that each head keeps; null: all. */
  readonly window: number | null;
  readonly chats: boolean;
  readonly warnings: readonly string[];
  /** What became of every backend that there was to choose from, and why, this one included. */
  readonly tried: readonly TriedBackend[];
}

interface TriedBackend {
  readonly name: string;
  readonly chosen: boolean;
  readonly reason: string;
}

/** Bytes so far; `total` 0: not known yet. */
export interface LoadProgress {
  readonly phase: "fetching" | "reading";
  readonly file: string;
  readonly loaded: number;
  readonly total: number;
}

/** An error that crossed from the worker. */
export interface Problem {
  /** A DogeError's code, or the page's own: "aborted", "site-unreachable", "engine" for what should not happen. */
  readonly code: string;
  readonly message: string;
}

/** The options of an answer that the page sets. */
export type AnswerOptions = Pick<
  GenerateOptions,
  "maxNewTokens" | "temperature" | "topK" | "topP" | "minP" | "repetitionPenalty" | "seed"
>;

/** What is known of an answer once it has ended. */
export interface AnswerFacts {
  /** What gave it. */
  readonly model: string;
  readonly backend: string;
  readonly ids: readonly number[];
  readonly promptIds: readonly number[];
  readonly stopReason: StopReason;
  readonly seed: number;
  /** Milliseconds until the first token. */
  readonly firstMs: number;
  /** Tokens per second after the first; null where there was too little to measure. */
  readonly speed: number | null;
  /** Tokens of the conversation that were left out because it was too long. */
  readonly truncated: number;
}

/** One place of an answer: what was drawn there, and what else might have been. */
export interface Choice {
  readonly id: number;
  readonly text: string;
  readonly probability: number;
  /** 0: the most likely. */
  readonly rank: number;
  readonly alternatives: readonly { readonly text: string; readonly probability: number }[];
}

/** The inside of a conversation: its tokens, how likely those of the answer were, and the dynamic mask of every token. */
export interface Look {
  /** The text of every token, prompt and answer. */
  readonly tokens: readonly string[];
  /** Where the answer begins. */
  readonly answerFrom: number;
  /** Of the answer's tokens. */
  readonly choices: readonly Choice[];
  readonly layers: number;
  readonly heads: number;
  /** Keys that each head keeps; null: all. */
  readonly window: number | null;
  /** (layers, heads, tokens); empty where the backend does not show it. */
  readonly biases: Float32Array<ArrayBuffer>;
}

export type Request = { readonly ticket: number } & (
  | { readonly kind: "probe" }
  | { readonly kind: "load"; readonly request: LoadRequest }
  | { readonly kind: "ask"; readonly messages: readonly Message[]; readonly options: AnswerOptions }
  | { readonly kind: "look"; readonly promptIds: readonly number[]; readonly ids: readonly number[] }
  /** Abort what `ticket` began. */
  | { readonly kind: "cancel" }
);

/** What a request ends with, by its kind. */
export interface Results {
  readonly probe: readonly BackendReport[];
  readonly load: ModelFacts;
  readonly ask: AnswerFacts;
  readonly look: Look;
}

export type Report = { readonly ticket: number } & (
  | { readonly kind: "progress"; readonly progress: LoadProgress }
  | { readonly kind: "piece"; readonly text: string; readonly tokens: number }
  | { readonly kind: "done"; readonly result: Results[keyof Results] }
  | { readonly kind: "failed"; readonly problem: Problem }
  /** Something a person should know, outside of any request (ticket 0). */
  | { readonly kind: "notice"; readonly text: string }
  /** The model runs elsewhere than it did (ticket 0). */
  | { readonly kind: "moved"; readonly facts: ModelFacts }
);

/** What a worker's scope and the page's end of it have in common. */
export interface Port {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown, options?: { transfer?: Transferable[] }): void;
}
