// Ring "text": from a prompt to the exact golden text, greedily, 200 tokens, on the demo model.
import { defaultSampling } from "@doge-lm/core";
import { assert, same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { greedyAgrees } from "../compare.ts";
import { tokens } from "../random.ts";
import { tolerances } from "../tolerances.ts";

export const textChecks: Check[] = [];
const check = inRing("text", textChecks);

check("greedy texts of the demo model are those of transformers", async (scope) => {
  const demo = await scope.stage.demo();
  if (typeof demo === "string") return scope.skip(demo);
  assert(demo.texts.length > 0, "The demo model has no golden texts.");
  const longest = Math.max(...demo.texts.map(({ ids, continuation }) => ids.length + continuation.length));
  const backend = await scope.stage.backend();
  const model = await backend.load(demo.checkpoint, {
    context: Math.max(demo.checkpoint.config.maxPositions, longest),
  });
  scope.later(() => model.close());
  const sampling = { ...defaultSampling, temperature: 0 };
  for (const { text, messages, ids, continuation, margins, answer, endsAfter } of demo.texts) {
    const prompt = demo.tokenizer.encode(text, { addSpecial: messages === null });
    same(prompt, ids, `Ids of the prompt ${JSON.stringify(text.slice(-60))}`);
    const sequence = scope.sequence(model);
    const found: number[] = [];
    for (let chunk = 1; found.length < continuation.length; chunk *= 2) {
      const count = Math.min(chunk, continuation.length - found.length);
      const [drawn] = await model.sample([
        { sequence, tokens: found.length === 0 ? tokens(ids) : tokens([]), count, sampling },
      ]);
      same(drawn!.ids.length, count, "Number of draws");
      found.push(...drawn!.ids);
    }
    greedyAgrees(found, continuation, margins, tolerances.textMargin, `Text after ${JSON.stringify(text.slice(-60))}`);
    const tie = margins.slice(0, endsAfter).some((margin) => margin <= tolerances.textMargin);
    if (!tie)
      same(demo.tokenizer.decode(found.slice(0, endsAfter), { skipSpecial: false }), answer, "The answer as text");
    sequence.close();
  }
});
