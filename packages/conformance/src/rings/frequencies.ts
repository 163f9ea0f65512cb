// Ring "sampling", third part: drawn frequencies follow the distribution, rare tokens included (chi-square).
import { defaultSampling, keptSet, type Sampling } from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { chiSquare, chiSquareBound } from "../compare.ts";
import { someIds, tokens } from "../random.ts";
import { forward } from "../runs.ts";
import type { Scope } from "../scope.ts";
import { tolerances } from "../tolerances.ts";
import { allowOnly } from "./contract.ts";

export const frequencyChecks: Check[] = [];
const check = inRing("sampling", frequencyChecks);

const rowsPerCall = 64;

/** Draw the token after one fixed text `draws` times, each with a seed of its own, and test the counts. */
async function frequencies(
  scope: Scope,
  setting: Partial<Sampling>,
  draws: number,
  allowed?: Uint32Array<ArrayBuffer>,
): Promise<void> {
  const model = await scope.model({ fixture: "native" });
  const ids = someIds(8, 128, 95);
  const parent = await scope.fed(model, ids.slice(0, 7));
  await forward(model, parent, ids.slice(7));
  const logits = await forward(model, parent, []);
  const kept = keptSet(logits, ids, { ...defaultSampling, ...setting, allowed });
  const probabilities = new Float64Array(128);
  for (const [at, id] of kept.ids.entries()) probabilities[id] = kept.probabilities[at]!;

  const rows = Array.from({ length: rowsPerCall }, () => scope.fork(parent));
  const counts = new Float64Array(128);
  for (let seed = 0; seed < draws; seed += rowsPerCall) {
    const drawn = await model.sample(
      rows.map((sequence, row) => ({
        sequence,
        tokens: tokens([]),
        count: 1,
        // Neighbouring seeds, as people choose them.
        sampling: { ...defaultSampling, ...setting, seed: seed + row },
        allowed,
      })),
    );
    for (const [row, { ids: one }] of drawn.entries()) {
      counts[one[0]!] = counts[one[0]!]! + 1;
      rows[row]!.rewind(8);
    }
  }
  const total = counts.reduce((sum, count) => sum + count, 0);
  same(total, Math.ceil(draws / rowsPerCall) * rowsPerCall, "Number of draws");
  for (let id = 0; id < 128; id++)
    assert(probabilities[id]! > 0 || counts[id] === 0, `Id ${id}, filtered out, was drawn.`);
  const { statistic, degrees } = chiSquare(counts, probabilities, total, tolerances.chiSquareBin);
  const bound = chiSquareBound(degrees, tolerances.chiSquareZ);
  assert(
    statistic <= bound,
    `Chi-square of ${total} draws is ${statistic.toFixed(1)} on ${degrees} degrees of freedom, allowed ${bound.toFixed(1)} (${JSON.stringify(setting)}).`,
  );
}

check("frequencies follow the softmax", (scope) => frequencies(scope, {}, 8192));

check("frequencies follow the distribution at a low temperature, where most ids are rare", (scope) =>
  frequencies(scope, { temperature: 0.45 }, 8192),
);

check("frequencies follow what filters leave", (scope) =>
  frequencies(scope, { temperature: 1.5, topK: 60, topP: 0.9, minP: 0.02 }, 4096),
);

check("rare tokens come in their proportions when only they are allowed", async (scope) => {
  const model = await scope.model({ fixture: "native" });
  const logits = await forward(model, scope.sequence(model), someIds(8, 128, 95));
  const rare = Array.from(logits.keys())
    .sort((a, b) => logits[a]! - logits[b]!)
    .slice(0, 24);
  await frequencies(scope, { temperature: 0.8 }, 4096, allowOnly(128, rare));
});

check("draws at successive positions are independent", async (scope) => {
  // Every position of one long text: the noise must not repeat itself from position to position or from seed to seed.
  const model = await scope.model({ fixture: "native" });
  const repeats = { draws: 0, equal: 0, expected: 0 };
  const sampling = { ...defaultSampling, temperature: 2 };
  const texts = await model.sample(
    [0, 1, 2, 3].map((seed) => ({
      sequence: scope.sequence(model),
      tokens: tokens([9, 8, 7]),
      count: 200,
      sampling: { ...sampling, seed },
    })),
  );
  // A draw of seed s at position p must not be the draw of seed s + 1 at position p - 1 (a hash of seed + position).
  for (let seed = 0; seed < 3; seed++) {
    for (let at = 1; at < 200; at++) {
      repeats.draws++;
      if (texts[seed]!.ids[at] === texts[seed + 1]!.ids[at - 1]) repeats.equal++;
    }
  }
  const share = repeats.equal / repeats.draws;
  assert(
    share < 0.2,
    `${repeats.equal} of ${repeats.draws} draws repeat those of the next seed, shifted by one position.`,
  );
});
