// The controller with an engine that does as it is told, anew for each test: what the tests of its parts share.
import { beforeEach, expect } from "vitest";
import { EngineClient, type EnginePort } from "../src/engine/client.ts";
import type { AnswerFacts, LoadRequest, ModelFacts, Report, Request } from "../src/engine/protocol.ts";
import { App } from "../src/state/app.ts";
import { DEFAULT_SETTINGS } from "../src/state/settings.ts";
import { inSight, versionsOf } from "../src/state/versions.ts";
import { type ConversationStore, memoryStore } from "../src/storage/database.ts";
import { keptDrafts } from "../src/storage/drafts.ts";
import { type TurnTaking, turnTaking } from "../src/storage/turn-taking.ts";

export const model = {
  name: "Demo model",
  backend: "wasm",
  device: "wasm simd128",
  context: 512,
  chats: true,
  warnings: [],
} as unknown as ModelFacts;
export const facts: AnswerFacts = {
  model: "Demo model",
  backend: "wasm",
  ids: [3],
  promptIds: [1],
  stopReason: "eos",
  seed: 0,
  firstMs: 1,
  speed: null,
  truncated: 0,
};
export const demo: LoadRequest = { source: { kind: "demo" }, backend: "auto", dtype: "f32" };

/** A worker whose answers are those of `script`, each time it is asked. */
class FakeWorker implements EnginePort {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  readonly asked: Request[] = [];
  terminated = false;
  answer: (request: Request) => void = () => {};
  postMessage(message: unknown): void {
    this.asked.push(message as Request);
    queueMicrotask(() => this.answer(message as Request));
  }
  say(report: Report): void {
    this.onmessage?.({ data: report } as MessageEvent);
  }
  done(ticket: number, result: unknown): void {
    this.say({ ticket, kind: "done", result } as Report);
  }
  fail(ticket: number, code: string, message = "It failed."): void {
    this.say({ ticket, kind: "failed", problem: { code, message } });
  }
  terminate(): void {
    this.terminated = true;
  }
}

export let workers: FakeWorker[];
export let store: ConversationStore;
export let turns: TurnTaking;
export let app: App;
export let frames: (() => void)[];
export const worker = () => workers.at(-1)!;
export const state = () => app.state.get();
export const words = () => inSight(state().current).map(({ content }) => content);
/** Of what stands at this place. */
export const versions = (place: number) =>
  versionsOf(state().current.turns, inSight(state().current)[place]!).map(({ content }) => content);
export const settled = () => new Promise((done) => setTimeout(done));

beforeEach(() => {
  workers = [];
  frames = [];
  store = memoryStore();
  turns = turnTaking(undefined);
  const engine = new EngineClient(() => {
    workers.push(new FakeWorker());
    return worker();
  });
  let time = 0;
  app = new App({
    engine,
    store,
    turns,
    drafts: keptDrafts([]),
    settings: DEFAULT_SETTINGS,
    saveSettings: () => {},
    nextFrame: (work) => frames.push(work),
    now: () => ++time,
  });
});

export async function loaded(): Promise<void> {
  const loading = app.models.load(demo);
  worker().answer = ({ ticket, kind }) => {
    if (kind === "load") worker().done(ticket, model);
  };
  expect(await loading).toBe(true);
}

/** Answer what is asked with these pieces. */
export function answering(...pieces: string[]): void {
  worker().answer = ({ ticket, kind }) => {
    if (kind !== "ask") return;
    for (const text of pieces) worker().say({ ticket, kind: "piece", text, tokens: 1 });
    worker().done(ticket, facts);
  };
}
