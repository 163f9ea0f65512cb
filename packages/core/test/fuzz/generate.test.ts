// Options and input of generate under random values: a result within its bounds, or a refusal that names what is wrong.
import fc from "fast-check";
import { expect } from "vitest";
import { checked, Doge, type ErrorCode, type GenerateOptions } from "../../src/index.ts";
import { checkpoint, MockBackend } from "../running/mock.ts";
import { mockTokenizer } from "../running/text.ts";
import { fuzz, worksOrRefuses } from "./fuzz.ts";

const context = 48;
const backend = checked(new MockBackend());
const doge = new Doge({
  backend,
  model: await backend.load(checkpoint({ maxPositions: context })),
  tokenizer: mockTokenizer(),
  chatTemplate: "{% for m in messages %}[{{ m.content }}]{% endfor %}",
  defaults: {},
  info: { source: "a mock", loadMs: 0, warnings: [], tried: [] },
});

const codes: ErrorCode[] = [
  "invalid-argument",
  "invalid-token",
  "invalid-messages",
  "context-overflow",
  "empty-prompt",
  "numerical",
  "no-room",
  "template-error",
];
const odd = fc.constantFrom<unknown>(
  null,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  -1,
  0,
  1,
  0.5,
  1e9,
  2 ** 64,
  "1",
  "",
  [],
  {},
  [[]],
  [-1],
  true,
  3n,
  Symbol.iterator,
  () => 1,
);
const count = fc.oneof({ weight: 3, arbitrary: fc.nat(12) }, { weight: 1, arbitrary: odd });
const share = fc.oneof(
  { weight: 3, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
  { weight: 1, arbitrary: odd },
);
const number = fc.oneof(
  { weight: 3, arbitrary: fc.double({ min: 0.05, max: 3, noNaN: true }) },
  { weight: 1, arbitrary: odd },
);
const ids = fc.oneof({ weight: 3, arbitrary: fc.array(fc.nat(39), { maxLength: 5 }) }, { weight: 1, arbitrary: odd });
const lists = fc.oneof({ weight: 3, arbitrary: fc.array(ids, { maxLength: 3 }) }, { weight: 1, arbitrary: odd });
const flag = fc.oneof({ weight: 3, arbitrary: fc.boolean() }, { weight: 1, arbitrary: odd });
const stop = fc.oneof(
  { weight: 3, arbitrary: fc.array(fc.string({ maxLength: 3 }), { maxLength: 3 }) },
  { weight: 1, arbitrary: odd },
);

const options = fc.record(
  {
    maxNewTokens: count,
    maxLength: count,
    doSample: flag,
    temperature: number,
    topK: count,
    topP: share,
    minP: share,
    repetitionPenalty: number,
    seed: count,
    eosTokenId: ids,
    ignoreEos: flag,
    stop,
    echo: flag,
    logprobs: count,
    skipSpecialTokens: flag,
    overflow: fc.oneof(fc.constantFrom("error", "truncate"), odd),
    noRepeatNgramSize: count,
    badWordsIds: lists,
    sequenceBias: fc.oneof(fc.array(fc.tuple(ids, number), { maxLength: 2 }), odd),
    minNewTokens: count,
    minLength: count,
    suppressTokens: ids,
    beginSuppressTokens: ids,
    forcedBosTokenId: count,
    forcedEosTokenId: fc.oneof(count, ids),
    exponentialDecayLengthPenalty: fc.oneof(fc.tuple(count, number), odd),
    topH: share,
    typicalP: share,
    epsilonCutoff: share,
    etaCutoff: share,
    allowedTokens: odd,
    logitsProcessors: odd,
    nonsense: odd,
  },
  { requiredKeys: [] },
);
const input = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 20 }) },
  { weight: 2, arbitrary: fc.array(fc.nat(37), { maxLength: 60 }) },
  {
    weight: 1,
    arbitrary: fc.array(fc.record({ role: fc.constantFrom("user", "wizard"), content: fc.string({ maxLength: 9 }) }), {
      maxLength: 3,
    }),
  },
  { weight: 1, arbitrary: odd },
);
/** Most of the thirty options at once would nearly always be refused: at most six of them. */
const some = fc.tuple(options, fc.array(fc.nat(99), { minLength: 1, maxLength: 6 })).map(([all, picks]) => {
  const entries = Object.entries(all);
  return Object.fromEntries(picks.flatMap((pick) => (entries.length === 0 ? [] : [entries[pick % entries.length]!])));
});

const plain: GenerateOptions = { maxNewTokens: 6, temperature: 0 };
const expected = (await doge.generate("doge", plain).result()).text;

fuzz(
  "options of generate",
  400,
  fc.tuple(input, some),
  async ([prompt, given]) => {
    const result = await worksOrRefuses(codes, () =>
      doge.generate(prompt as string, given as GenerateOptions).result(),
    );
    if (result === undefined) return;
    expect(result.ids.length).toBeLessThanOrEqual(context + 1);
    for (const id of result.ids) expect(id >= 0 && id < 40).toBe(true);
    expect(typeof result.text).toBe("string");
  },
  async () => expect((await doge.generate("doge", plain).result()).text).toBe(expected),
);
