// Looks inside a finished answer: the same ids once more through the model's inspect(), in calls of a bounded size, for the probability
// of every token, its rivals, and the bias that every layer's heads gave it.
import { type Doge, logProbabilities, mostLikely, type Tensor, type Tokens } from "@doge-lm/core";
import type { Choice, Look } from "./protocol.ts";

/** Tokens of a call: their logits are all held at once, 8 MB of them for a vocabulary of 32768. */
const CHUNK = 64;
/** Rivals shown of every token. */
const ALTERNATIVES = 8;

/** Errors: those of Model.inspect. */
export async function look(
  doge: Doge,
  promptIds: readonly number[],
  answerIds: readonly number[],
  signal: AbortSignal,
): Promise<Look> {
  const { config, model, tokenizer } = doge;
  const ids = Int32Array.from([...promptIds, ...answerIds]);
  const { layers, biasHeads: heads } = config;
  const names = Array.from({ length: layers }, (_, layer) => `layers.${layer}.bias`);
  let biases = new Float32Array(layers * heads * ids.length);
  const choices: Choice[] = [];
  const textOf = (id: number): string => tokenizer?.decode([id], { skipSpecial: false }) ?? `${id}`;

  // What the chats hold of the model's room is given back first; their beginnings are evaluated anew when they go on.
  await doge.forget(doge);
  const sequence = model.sequence();
  try {
    let before: Float32Array | undefined;
    for (const [from, to] of calls(promptIds.length, ids.length, model.routing === "reference")) {
      const row = { sequence, tokens: ids.slice(from, to) as Tokens };
      const [seen] = await model.inspect([row], ["logits", ...names], signal);
      const logits = seen!.get("logits")!;
      for (let place = from; place < to; place++) {
        if (place >= promptIds.length && before !== undefined) choices.push(choiceOf(before, ids[place]!, textOf));
        before = rowOf(logits, place - from);
      }
      for (const [layer, name] of names.entries()) {
        const bias = seen!.get(name);
        if (bias === undefined) biases = new Float32Array(0);
        else if (biases.length > 0) copyBiases(bias, biases, layer * heads, ids.length, from);
      }
    }
  } finally {
    sequence.close();
  }
  const tokens = Array.from(ids, textOf);
  return { tokens, answerFrom: promptIds.length, choices, layers, heads, window: config.window, biases };
}

/** The calls [from, to) that the ids are given in. Where experts are routed by the tokens of a call, they are the calls of the
 *  generation: the prompt, then each token by itself. */
export function calls(prompt: number, total: number, whole: boolean): [number, number][] {
  const all: [number, number][] = [];
  for (let from = 0; from < total; ) {
    const to = whole ? (from < prompt ? prompt : from + 1) : Math.min(total, from + CHUNK);
    all.push([from, to]);
    from = to;
  }
  return all;
}

function rowOf({ shape, data }: Tensor, row: number): Float32Array {
  const width = shape[1]!;
  return data.subarray(row * width, (row + 1) * width);
}

function choiceOf(logits: Float32Array, id: number, textOf: (id: number) => string): Choice {
  const logprobs = logProbabilities(logits);
  const own = logprobs[id]!;
  const rank = logprobs.reduce((count, other, at) => count + (other > own || (other === own && at < id) ? 1 : 0), 0);
  const alternatives = Array.from(mostLikely(logits, ALTERNATIVES), (other) => ({
    text: textOf(other),
    probability: Math.exp(logprobs[other]!),
  }));
  return { id, text: textOf(id), probability: Math.exp(own), rank, alternatives };
}

/** (heads, part) of a layer into (layers, heads, total), from row `row` on. */
function copyBiases({ shape, data }: Tensor, into: Float32Array, row: number, total: number, from: number): void {
  const [heads, count] = shape as [number, number];
  for (let head = 0; head < heads; head++) {
    into.set(data.subarray(head * count, (head + 1) * count), (row + head) * total + from);
  }
}
