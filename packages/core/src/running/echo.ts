// The prompt as the first part of a generation's result: ln p of its tokens, and of the most likely ones at their places.
import type { Floats, Model, Sequence, Tokens } from "../backend.ts";
import { logSumExp, mostLikely } from "../sampling/sampling.ts";
import type { TokenLogprob } from "./generation.ts";

/** Positions looked at in one call where a call may be cut: bounds the logits on the host. */
const piece = 64;

/** Append `tokens`; ln p of each given all before it (0 for a sequence's first), and the `top` most likely at each place (none
 *  at a sequence's first). Under "reference" routing the tokens must be evaluated in one call, so all their logits are held. */
export async function promptLogprobs(
  model: Model,
  sequence: Sequence,
  tokens: Tokens,
  top: number,
  signal: AbortSignal,
): Promise<TokenLogprob[]> {
  if (top === 0) {
    const [logprobs] = await model.score([{ sequence, tokens }], signal);
    return Array.from(tokens, (id, index) => ({ id, logprob: logprobs![index]!, top: [] }));
  }
  let before: Floats | undefined; // the logits before the next token
  if (sequence.length > 0) [before] = await model.forward([{ sequence, tokens: new Int32Array(0) }], signal);
  const all: TokenLogprob[] = [];
  const step = model.routing === "per-token" ? piece : tokens.length;
  for (let from = 0; from < tokens.length; from += step) {
    const part = tokens.slice(from, from + step);
    const [seen] = await model.inspect([{ sequence, tokens: part }], ["logits"], signal);
    const { data, shape } = seen!.get("logits")!;
    const vocabulary = shape[1]!;
    for (const [index, id] of part.entries()) {
      all.push(before === undefined ? { id, logprob: 0, top: [] } : entry(id, before, top));
      before = data.subarray(index * vocabulary, (index + 1) * vocabulary);
    }
  }
  return all;
}

function entry(id: number, logits: Floats, top: number): TokenLogprob {
  const normalizer = logSumExp(logits);
  const logprob = (other: number): number => Math.fround(logits[other]! - normalizer);
  return {
    id,
    logprob: logprob(id),
    top: Array.from(mostLikely(logits, top), (other): readonly [number, number] => [other, logprob(other)]),
  };
}
