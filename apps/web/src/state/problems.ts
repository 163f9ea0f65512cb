// Errors for people: a heading that says what went wrong, the sentence of the error, and what can be done.
import { EngineError } from "../engine/client.ts";
import type { Problem } from "../engine/protocol.ts";

/** What a notice offers to do. */
export type Way = "choose-model" | "demo-model" | "try-again" | "reload" | "storage" | "wasm";

export interface Notice {
  readonly id: number;
  readonly tone: "error" | "warning" | "fact";
  readonly title: string;
  readonly text: string;
  readonly ways: readonly Way[];
  /** It is about one answer: gone with the next question, or with the conversation. */
  readonly passing?: boolean;
}
export type NoticeText = Omit<Notice, "id">;

interface Explanation {
  readonly title: string;
  /** Added to the error's own sentence, which already says the way out where it knows one. */
  readonly more?: string;
  readonly ways: readonly Way[];
  readonly passing?: boolean;
}

const EXPLANATIONS: Readonly<Record<string, Explanation>> = {
  "hub-not-found": { title: "There is no such model", ways: ["choose-model"] },
  // Hubs answer so for names that do not exist, too: the commonest cause is a slip of the keyboard.
  "hub-unauthorized": {
    title: "There is no such model, or it is not given to everybody",
    more: "On this page a token is given under “Revision, hub and token”.",
    ways: ["choose-model"],
  },
  "hub-unreachable": {
    title: "The hub cannot be reached",
    more: "The next try goes on from the last whole piece. Models that were downloaded before work without a connection.",
    ways: ["try-again", "demo-model"],
  },
  "hub-busy": { title: "The hub asks to wait", ways: ["try-again", "demo-model"] },
  "hub-response": { title: "This is not how a hub answers", ways: ["choose-model"] },
  "insecure-url": { title: "The address is not safe", ways: ["choose-model"] },
  integrity: { title: "The download was damaged", ways: ["try-again"] },
  "offline-missing": { title: "This model is not on this machine", ways: ["choose-model", "demo-model"] },
  "disk-full": { title: "The browser's storage is full", ways: ["storage"] },
  "cache-unwritable": { title: "The browser does not let the model be kept", ways: ["try-again"] },
  "out-of-memory": {
    title: "The model does not fit",
    more: "A smaller dtype (q8, q4), fewer open tabs or a smaller model need less memory.",
    ways: ["choose-model", "demo-model"],
  },
  "device-lost": {
    title: "The GPU was lost",
    more: "The conversation is kept. WebAssembly needs no GPU.",
    ways: ["try-again", "wasm"],
  },
  unavailable: { title: "The backend cannot run here", ways: ["wasm", "choose-model"] },
  "known-answer": {
    title: "The backend computes wrongly on this machine",
    more: "It is refused rather than trusted.",
    ways: ["wasm"],
  },
  "context-overflow": { title: "The conversation is too long", ways: [], passing: true },
  "site-unreachable": {
    title: "The site cannot be reached",
    more: "Models that were downloaded before work without it.",
    ways: ["try-again", "choose-model"],
  },
  "template-missing": {
    title: "This model does not chat",
    more: "It has no chat template: choose an instruct model.",
    ways: ["choose-model"],
  },
  "unsupported-model": { title: "This is not a Doge model", ways: ["choose-model"] },
  "unsupported-format": { title: "The weights are not safetensors", ways: ["choose-model"] },
  "file-missing": { title: "A file of the model is missing", ways: ["choose-model"] },
  "file-changed": { title: "A file of the model has changed", ways: ["choose-model"] },
  engine: { title: "Something broke", ways: ["try-again", "reload"] },
};

/** What a person is told of an error while `doing` ("loading the model"). */
export function explain(error: unknown, doing: string): NoticeText {
  const problem: Problem =
    error instanceof EngineError
      ? error.problem
      : { code: "engine", message: error instanceof Error ? error.message : String(error) };
  const known = EXPLANATIONS[problem.code] ?? {
    title: `That did not work: ${doing}`,
    ways: doing.includes("model") ? (["choose-model"] as const) : [],
  };
  const sentence = /[.!?…]$/.test(problem.message) ? problem.message : `${problem.message}.`;
  const text = "more" in known && known.more !== undefined ? `${sentence} ${known.more}` : sentence;
  return {
    tone: "error",
    title: known.title,
    text,
    ways: known.ways,
    passing: "passing" in known && known.passing === true,
  };
}
