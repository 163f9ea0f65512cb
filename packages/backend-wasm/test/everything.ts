// What every verb of a model gives, on rows in company: to compare ways of computing with each other, to the bit.
import type { Model, SampleRow } from "@doge-lm/core";

export const ids = (length: number, vocabulary: number, seed: number) =>
  Int32Array.from({ length }, (_, index) => (index * index * 31 + seed * 17) % vocabulary);

/** On fresh sequences: long ones, short ones, and draws. */
export async function everything(model: Model) {
  const { vocabSize } = model.config;
  const rows = [70, 1, 9].map((length, seed) => ({
    sequence: model.sequence(),
    tokens: ids(length, vocabSize, seed),
  }));
  const forward = await model.forward(rows);
  const score = await model.score(rows);
  const drawn = await model.sample(
    rows.map(
      (row, index): SampleRow => ({
        ...row,
        tokens: row.tokens.slice(0, index),
        count: 5 + index,
        sampling: { temperature: 0.9, topK: 0, topP: 0.95, minP: 0, repetitionPenalty: 1.1, seed: index, stop: [] },
        alternatives: 3,
      }),
    ),
  );
  const inside = await model.inspect(rows.slice(0, 2), ["hidden", "logits", "layers.0.bias", "layers.1.value"]);
  return { forward, score, drawn, inside };
}
