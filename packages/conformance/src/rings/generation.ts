// Ring "text", second part: core's generate() on a backend under the options of transformers' generate(), whose greedy ids are
// committed (tools/generation.py greedy), and the same draws on the device and on the host.
import { generate, type LoopOptions, type Model, Scheduler } from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { greedyAgrees } from "../compare.ts";
import { fixtureNames } from "../fixtures.ts";
import { someIds, tokens } from "../random.ts";
import { tolerances } from "../tolerances.ts";

export const generationChecks: Check[] = [];
const check = inRing("text", generationChecks);

check("golden greedy ids under every option of generation", async (scope) => {
  let compared = 0;
  for (const name of fixtureNames) {
    const { generations } = await scope.fixture(name);
    if (generations === undefined) continue;
    const model = await scope.model({ fixture: name });
    const { maxNewTokens, cases } = generations;
    for (const { prompt, options, ids, margins } of cases) {
      const { eosTokenId, ...rest } = options;
      const stop = eosTokenId === undefined ? undefined : typeof eosTokenId === "number" ? [eosTokenId] : eosTokenId;
      const result = await generate(model, tokens(prompt), { ...rest, stop, temperature: 0, maxNewTokens }).result();
      const what = `${name}, ${JSON.stringify(options)}`;
      greedyAgrees([...result.ids], ids, margins, tolerances.greedyMargin, what);
      const host = options.sequenceBias !== undefined || options.exponentialDecayLengthPenalty !== undefined;
      same(result.drawnOn, host ? "host" : "device", `${what}: where it is drawn`);
      compared++;
    }
  }
  assert(compared > 0, "No fixture has generations.");
});

check("a seed draws the same ids on the device and from the logits on the host", async (scope) => {
  const model: Model = await scope.model({ fixture: "native" });
  const prompt = tokens([13, 46, 99, 105]);
  for (const seed of [1, 2, 3]) {
    const options = {
      ...{ seed, temperature: 0.8, topK: 50, topP: 0.9, minP: 0.01, repetitionPenalty: 1.1 },
      ...{ maxNewTokens: 24, stop: [], noRepeatNgramSize: 2, suppressTokens: [7, 8], logprobs: 2 },
    };
    const device = await generate(model, prompt, options).result();
    const host = await generate(model, prompt, { ...options, logitsProcessors: [() => {}] }).result();
    same([device.drawnOn, host.drawnOn], ["device", "host"], "Where they are drawn");
    same(host.ids, device.ids, `Ids of seed ${seed}`);
    for (const [index, { id, logprob, top }] of device.logprobs!.entries()) {
      const other = host.logprobs![index]!;
      same([other.id, ...other.top.map(([id]) => id)], [id, ...top.map(([id]) => id)], "Ids that ln p is given of");
      const gap = Math.abs(other.logprob - logprob);
      assert(gap <= tolerances.logProbability, `ln p of token ${index} is ${logprob} and ${other.logprob}.`);
    }
  }
});

check("generations side by side are what each is alone", async (scope) => {
  // Prompts of one token to many slices of 64, greedy and drawn, on the device and on the host, one aborted among them.
  const kinds: readonly LoopOptions[] = [
    { temperature: 0 },
    { temperature: 0.9, topK: 30, seed: 4, logprobs: 1 },
    { temperature: 0.9, topP: 0.8, seed: 5, typicalP: 0.6 },
    { temperature: 0.7, seed: 6, noRepeatNgramSize: 2 },
  ];
  for (const spec of [
    { fixture: "native" },
    { fixture: "window" },
    { fixture: "moe", routing: "reference" },
    { fixture: "moe", routing: "per-token" },
  ] as const) {
    const model = await scope.model(spec);
    const { vocabSize } = model.config;
    const runs = [1, 7, Math.min(150, model.context - 20), 33, 5, 64].map((length, index) => ({
      prompt: someIds(length, vocabSize, index + 1),
      options: { ...kinds[index % kinds.length]!, stop: [], maxNewTokens: 12 },
    }));
    const alone = [];
    for (const { prompt, options } of runs) alone.push(await generate(model, prompt, options).result());
    const scheduler = new Scheduler(model);
    const controller = new AbortController();
    const leaving = generate(scheduler, someIds(40, vocabSize, 9), {
      ...{ stop: [], temperature: 0, maxNewTokens: 500, signal: controller.signal },
    });
    const leave = async () => {
      for await (const _ of leaving) controller.abort();
    };
    const [, ...together] = await Promise.all([
      leave(),
      ...runs.map(({ prompt, options }) => generate(scheduler, prompt, options).result()),
    ]);
    same((await leaving.result()).stopReason, "abort", "The text that is aborted");
    for (const [index, { ids }] of alone.entries()) {
      same((together[index] as { ids: unknown }).ids, ids, `${JSON.stringify(spec)}, text ${index}: ids beside others`);
    }
  }
});
