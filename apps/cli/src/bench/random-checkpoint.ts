// A checkpoint of seeded random weights that is nowhere: every piece of a tensor is made when it is read, as fast as memory is
// copied, in bf16 as published files are. Loading it measures a loader, not a disk.
import { type Checkpoint, type Config, DogeError, pcg3d, type TensorInfo, tensorShapes, toBf16 } from "@doge-lm/core";

/** Values that all tensors are put together from, in blocks that begin anywhere in them. */
const poolSize = 1 << 18;
const block = 4096;
/** The standard deviation that Doge's weights are initialised with (initializer_range). */
const deviation = 0.02;

export function randomCheckpoint(config: Config, seed = 1): Checkpoint {
  const normals = normalNumbers(poolSize, seed);
  const plain = bytesOf(toBf16(normals.map((value) => value * deviation)));
  const nearOne = bytesOf(toBf16(normals.map((value) => 1 + value * deviation)));
  const names = [...tensorShapes(config)];
  const tensors = new Map(names.map(([name, shape]): [string, TensorInfo] => [name, { dtype: "BF16", shape }]));
  return {
    config,
    tensors,
    async read(name, from, to, signal) {
      signal?.throwIfAborted();
      const index = names.findIndex(([other]) => other === name);
      if (index < 0) throw new DogeError("invalid-argument", `The checkpoint has no tensor ${JSON.stringify(name)}.`);
      // Norms and gates multiply: around 1 the numbers of a deep model stay in bounds.
      const pool = /norm\.weight$|_residual$/.test(name) ? nearOne : plain;
      const bytes = new Uint8Array(to - from);
      for (let at = from; at < to; ) {
        const number = Math.floor(at / (2 * block));
        const end = Math.min(to, (number + 1) * 2 * block);
        const start = 2 * (pcg3d(index, number, seed) % (poolSize - block)) + (at - number * 2 * block);
        bytes.set(pool.subarray(start, start + end - at), at - from);
        at = end;
      }
      return bytes;
    },
  };
}

const bytesOf = (halves: Uint16Array): Uint8Array =>
  new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength);

/** Independent standard normal numbers (Box and Muller, 1958) from a counter and a seed. */
function normalNumbers(count: number, seed: number): Float32Array {
  const numbers = new Float32Array(count);
  for (let index = 0; index < count; index += 2) {
    const radius = Math.sqrt(-2 * Math.log((pcg3d(index, 0, seed) + 0.5) / 2 ** 32));
    const angle = (2 * Math.PI * pcg3d(index, 1, seed)) / 2 ** 32;
    numbers[index] = radius * Math.cos(angle);
    numbers[index + 1] = radius * Math.sin(angle);
  }
  return numbers;
}

/** Seeded ids of a prompt. */
export const randomIds = (count: number, vocabulary: number, seed: number): Int32Array<ArrayBuffer> =>
  Int32Array.from({ length: count }, (_, index) => pcg3d(index, 2, seed) % vocabulary);
