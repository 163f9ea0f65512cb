// What backends are compared on: the demo model with 1,000 chats of its own domain, the random checkpoints of the conformance
// suite, one for every layout, and the shapes that are timed.
import { readFileSync } from "node:fs";
import { type Checkpoint, chatTemplate, encodeChat, type Message, readJson, type Tokens } from "@doge-lm/core";
import { randomCheckpoint, randomIds } from "../apps/cli/src/bench/random-checkpoint.ts";
import { configOf, shapeNames } from "../apps/cli/src/bench/shapes.ts";
import { openDemoModel } from "../packages/conformance/src/demo.ts";
import { fixtureNames, fixturesOnDisk, readFixture } from "../packages/conformance/src/fixtures.ts";

/** "shape:20m moe" is that shape with experts. */
export type SubjectName = "demo" | `fixture:${string}` | `shape:${string}`;

export interface Subject {
  readonly checkpoint: Checkpoint;
  /** `count` prompts from number `first` on. */
  prompts(count: number, first: number): Tokens[];
  close(): Promise<void>;
}

/** Tokens of a prompt of random ids. */
const PROMPT = 24;

export const fixtureSubjects: readonly SubjectName[] = fixtureNames.map((name): SubjectName => `fixture:${name}`);

/** All that can be named. */
export const subjects: readonly SubjectName[] = [
  "demo",
  ...fixtureSubjects,
  ...shapeNames.flatMap((shape): SubjectName[] => [`shape:${shape}`, `shape:${shape} moe`]),
];

/** For people: "demo model", "native (random)", "20m with experts (random)". */
export function titleOf(subject: SubjectName): string {
  if (subject === "demo") return "demo model";
  const name = subject.slice(subject.indexOf(":") + 1);
  return `${name.replace(/ moe$/, " with experts")} (random)`;
}

export async function openSubject(name: SubjectName): Promise<Subject> {
  if (name === "demo") return openDemo();
  if (name.startsWith("shape:")) {
    const [shape, moe] = name.slice("shape:".length).split(" ");
    const config = configOf(shape!, moe !== undefined);
    if (config === null) throw new Error(`There is no shape ${shape}.`);
    return ofRandom(randomCheckpoint(config), async () => {});
  }
  const fixture = await readFixture(await fixturesOnDisk(name.slice("fixture:".length)));
  return ofRandom(fixture.checkpoint, () => fixture.close());
}

const ofRandom = (checkpoint: Checkpoint, close: () => Promise<void>): Subject => ({
  checkpoint,
  prompts: (count, first) =>
    Array.from({ length: count }, (_, index) => randomIds(PROMPT, checkpoint.config.vocabSize, 100 + first + index)),
  close,
});

async function openDemo(): Promise<Subject> {
  const demo = await openDemoModel();
  if (typeof demo === "string") throw new Error(demo);
  const { folder } = await import("@doge-lm/core/node");
  const { demoModel } = await import("@doge-lm/demo-model");
  const { fileURLToPath } = await import("node:url");
  const files = folder(fileURLToPath(demoModel));
  const template = chatTemplate({ tokenizerConfig: await readJson(files, "tokenizer_config.json") });
  await files.close?.();
  const lines = JSON.parse(readFileSync(new URL("./prompts.json", import.meta.url), "utf8")) as [string, string][][];
  return {
    checkpoint: demo.checkpoint,
    prompts(count, first) {
      if (first + count > lines.length) {
        throw new Error(`There are ${lines.length} prompts, fewer than the ${first + count} asked for.`);
      }
      return lines.slice(first, first + count).map((chat) => {
        const messages = chat.map(([role, content]): Message => ({ role, content }));
        return encodeChat(demo.tokenizer, template, messages);
      });
    },
    close: () => demo.close(),
  };
}
