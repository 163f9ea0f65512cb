// What `inspect` looks at: the named tensors of the appended tokens, copied while the forward pass makes them.
import type { Tensor } from "@doge-lm/core";

export class Recorder {
  readonly #names: ReadonlySet<string>;
  readonly #first: number;
  readonly #count: number;
  readonly #tensors = new Map<string, { width: number; data: Float32Array<ArrayBuffer> }>();

  /** @param first position of the first appended token; earlier ones, evaluated on the way, are not recorded */
  constructor(names: readonly string[], first: number, count: number) {
    this.#names = new Set(names);
    this.#first = first;
    this.#count = count;
  }

  wants(name: string): boolean {
    return this.#names.has(name);
  }

  /** Copy what is wanted of `data` (rows, width), whose row 0 stands at `position`. */
  record(name: string, position: number, width: number, data: Float32Array): void {
    if (!this.wants(name)) return;
    let tensor = this.#tensors.get(name);
    if (tensor === undefined) {
      tensor = { width, data: new Float32Array(this.#count * width) };
      this.#tensors.set(name, tensor);
    }
    const skipped = Math.max(0, this.#first - position);
    const rows = data.length / width;
    if (skipped < rows) {
      tensor.data.set(data.subarray(skipped * width), (position + skipped - this.#first) * width);
    }
  }

  /** The tensors, (tokens, width) but for the biases, which are (bias heads, tokens) as in the papers. */
  tensors(): ReadonlyMap<string, Tensor> {
    const named = new Map<string, Tensor>();
    for (const [name, { width, data }] of this.#tensors) {
      const tensor = { shape: [this.#count, width], data };
      named.set(name, name.endsWith(".bias") ? transposed(tensor) : tensor);
    }
    return named;
  }
}

function transposed({ shape: [rows, columns], data }: Tensor): Tensor {
  const turned = new Float32Array(data.length);
  for (let row = 0; row < rows!; row++) {
    for (let column = 0; column < columns!; column++) turned[column * rows! + row] = data[row * columns! + column]!;
  }
  return { shape: [columns!, rows!], data: turned };
}
