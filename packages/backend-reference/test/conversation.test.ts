// Conversations under "reference" routing, where the tokens of a call are routed together: a past that was evaluated in parts
// is another one, so every turn evaluates its whole prompt, and says what a fresh model says.
import { readFile } from "node:fs/promises";
import { checked, Doge, filesFrom, type Message, openCheckpoint, type Routing, type Tokenizer } from "@doge-lm/core";
import { expect, test } from "vitest";
import { reference } from "../src/index.ts";

const folder = new URL("../../conformance/fixtures/moe/", import.meta.url);

/** One id per character. */
const tokenizer: Tokenizer = {
  size: 128,
  bosId: 0,
  eosId: 1,
  special: new Map(),
  roles: new Map(),
  encode: (text) => Int32Array.from(text, (char) => char.charCodeAt(0) % 128),
  decode: (ids) => String.fromCharCode(...Array.from(ids)),
  stream: () => ({ push: (ids) => String.fromCharCode(...Array.from(ids)), end: () => "" }),
};

async function open(routing: Routing): Promise<Doge> {
  const names = ["config.json", "model.safetensors"];
  const entries = await Promise.all(names.map(async (name) => [name, await readFile(new URL(name, folder))] as const));
  const checkpoint = await openCheckpoint(filesFrom(Object.fromEntries(entries)));
  const backend = checked(await reference().open());
  return new Doge({
    backend,
    model: await backend.load(checkpoint, { routing }),
    tokenizer,
    chatTemplate: "{% for m in messages %}[{{ m.content }}]{% endfor %}",
    defaults: {},
    info: { source: "moe", loadMs: 0, warnings: [], tried: [] },
  });
}

const options = { maxNewTokens: 6, ignoreEos: true, logprobs: 5 } as const;

test("a session's logits equal those of a fresh call on its whole conversation, under reference routing", async () => {
  await using doge = await open("reference");
  const session = doge.session(options);
  for (const question of ["one two three", "four", "five six"]) {
    const asked: Message[] = [...session.messages, { role: "user", content: question }];
    const answer = await session.send(question).result();
    expect(answer.timings.prefillTokens).toBe(answer.promptIds.length);
    await using fresh = await open("reference");
    const alone = await fresh.generate(asked, options).result();
    expect(answer.promptIds).toEqual(alone.promptIds);
    expect(answer.ids).toEqual(alone.ids);
    expect(answer.logprobs).toEqual(alone.logprobs); // the same calls on the same machine: to the last bit
  }
  const copy = session.clone();
  expect((await copy.send("x").result()).logprobs).toEqual((await session.send("x").result()).logprobs);
});

test("under per-token routing the past is reused", async () => {
  await using doge = await open("per-token");
  const session = doge.session(options);
  await session.send("one two three").result();
  const { timings, promptIds } = await session.send("four").result();
  expect(timings.prefillTokens).toBeLessThan(promptIds.length);
});
