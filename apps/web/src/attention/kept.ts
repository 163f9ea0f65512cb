// Which keys a head of the dynamic mask keeps: the definition of docs/model.md, on the biases that inspect() shows.

/** Where each key of a head is dropped: the first position from which on it is no longer seen; `biases.length`: not in this text.
 *  `biases` (tokens); `window`: keys that are kept, null for all. Of equal biases the most recent key stays. */
export function droppedAt(biases: ArrayLike<number>, window: number | null): Int32Array<ArrayBuffer> {
  const { length } = biases;
  const dropped = new Int32Array(length).fill(length);
  if (window === null) return dropped;
  const kept: number[] = [];
  for (let position = 0; position < length; position++) {
    kept.push(position);
    if (kept.length <= window) continue;
    let least = 0;
    // Ascending positions: the first of equal biases is the oldest, which goes.
    for (let at = 1; at < kept.length; at++) if (biases[kept[at]!]! < biases[kept[least]!]!) least = at;
    dropped[kept[least]!] = position;
    kept.splice(least, 1);
  }
  return dropped;
}

export type Standing = "kept" | "dropped" | "not yet";

/** How a key stands when the text has come to `position`. */
export function standing(key: number, position: number, dropped: ArrayLike<number>): Standing {
  if (key > position) return "not yet";
  return position < dropped[key]! ? "kept" : "dropped";
}

/** Biases between 0, the least of them, and 1, the greatest: what one head thinks, apart from how loudly. All alike: one half. */
export function strengths(biases: ArrayLike<number>): Float32Array<ArrayBuffer> {
  let least = Number.POSITIVE_INFINITY;
  let most = Number.NEGATIVE_INFINITY;
  for (let at = 0; at < biases.length; at++) {
    least = Math.min(least, biases[at]!);
    most = Math.max(most, biases[at]!);
  }
  const span = most - least;
  return Float32Array.from(biases, (bias) => (span > 0 ? (bias - least) / span : 0.5));
}

/** The places of the `count` strongest keys up to `position`, the strongest first; of equals the most recent first. */
export function strongest(biases: ArrayLike<number>, position: number, count: number): number[] {
  return Array.from({ length: Math.min(position + 1, biases.length) }, (_, at) => at)
    .sort((a, b) => biases[b]! - biases[a]! || b - a)
    .slice(0, count);
}
