// The tokenizer's work by the binary: a checked tokenizer.json put into an instance, and calls on it.
import type { TokenizerEngine, TokenizerParts, Tokens } from "@doge-lm/core";
import { Instance } from "./instance.ts";

/** Ids of many texts: those of text `i` are ids[ends[i - 1] ?? 0] to ids[ends[i]]. */
export interface Batch {
  readonly ids: Tokens;
  readonly ends: Uint32Array<ArrayBuffer>;
}

/** UTF-16 units that cross in one call, unless a single text is longer: memory stays small, and the crossings few. */
export const CROSSING = 1 << 20;
/** Memory that stays when a long text is done, beyond what there was at first. */
const KEPT_BYTES = 64 << 20;
/** Their numbers in crate/src/exports.rs. */
export const PATTERNS = { llama3: 0, gpt2: 1 };

export interface FastEngine extends TokenizerEngine {
  encodeBatch(texts: readonly string[], addSpecial: boolean, parseSpecial: boolean): Batch;
}

export function wasmEngine(module: WebAssembly.Module, parts: TokenizerParts): FastEngine {
  const use = reusing(() => {
    const instance = new Instance(module);
    instance.guard(() => {
      instance.writeBytes(parts.bytes);
      instance.writeWords(describe(parts));
      instance.exports.build();
    });
    return instance;
  });
  const crossing = (texts: readonly string[], addSpecial: boolean, parseSpecial: boolean): Batch =>
    use((instance) => {
      instance.writeTexts(texts);
      const { exports } = instance;
      const { ids, ends } = instance.results(exports.encode(texts.length, Number(addSpecial), Number(parseSpecial)));
      return { ids: new Int32Array(ids), ends: ends.slice() };
    });
  return {
    encode: (text, addSpecial, parseSpecial) => crossing([text], addSpecial, parseSpecial).ids,
    encodeBatch(texts, addSpecial, parseSpecial) {
      const batches = cut(texts).map((some) => crossing(some, addSpecial, parseSpecial));
      if (batches.length === 1) return batches[0]!;
      return join(batches);
    },
    bytes: (ids, skipSpecial) =>
      use((instance) => {
        instance.writeWords([ids]);
        return instance.results(instance.exports.decode(ids.length, Number(skipSpecial))).bytes;
      }),
  };
}

/** An instance for call after call: a new one when the last broke or a long text has left it large. */
function reusing(create: () => Instance) {
  let kept: Instance | undefined;
  let limit = 0;
  return <T>(work: (instance: Instance) => T): T => {
    if (kept === undefined) {
      kept = create();
      limit = kept.size + KEPT_BYTES;
    }
    const instance = kept;
    kept = undefined;
    const result = instance.guard(() => work(instance));
    if (instance.size <= limit) kept = instance;
    return result;
  };
}

/** The words that `build` in crate/src/exports.rs reads. */
function describe(parts: TokenizerParts): ArrayLike<number>[] {
  const { vocabulary, added, offsets } = parts;
  const lists = [
    parts.patterns.map(({ name }) => PATTERNS[name]),
    byteIds(parts),
    added.map(({ id }) => id),
    added.filter(({ special }) => special).map(({ id }) => id),
    parts.prefix,
    parts.suffix,
    Uint32Array.from(
      parts.merges.flatMap(([left, right]) => [vocabulary[left]!, vocabulary[right]!, vocabulary[left + right]!]),
    ),
  ];
  return [[Number(parts.ignoreMerges)], ...lists.flatMap((list) => [[list.length], list]), offsets];
}

/** The ids of the 256 bytes: the tokens of one byte that are no special strings. */
function byteIds({ added, bytes, offsets, size }: TokenizerParts): number[] {
  const special = new Set(added.map(({ id }) => id));
  const ids = new Array<number>(256);
  for (let id = 0; id < size; id++) {
    if (offsets[id + 1]! - offsets[id]! === 1 && !special.has(id)) ids[bytes[offsets[id]!]!] = id;
  }
  return ids;
}

/** The texts in groups that each cross at once. */
export function cut(texts: readonly string[]): string[][] {
  const groups: string[][] = [];
  let units = 0;
  for (const text of texts) {
    if (groups.length === 0 || units + text.length > CROSSING) {
      groups.push([]);
      units = 0;
    }
    groups.at(-1)!.push(text);
    units += text.length;
  }
  return groups;
}

function join(batches: readonly Batch[]): Batch {
  const ids = new Int32Array(batches.reduce((sum, batch) => sum + batch.ids.length, 0));
  const ends = new Uint32Array(batches.reduce((sum, batch) => sum + batch.ends.length, 0));
  let [idCount, endCount] = [0, 0];
  for (const batch of batches) {
    ids.set(batch.ids, idCount);
    for (const end of batch.ends) ends[endCount++] = idCount + end;
    idCount += batch.ids.length;
  }
  return { ids, ends };
}
