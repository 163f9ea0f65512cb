// A WebAssembly memory with views that are never stale: growing detaches the buffer (or, when it is shared, leaves views that end
// too early), so every use asks for the view anew.
import { DogeError } from "@doge-lm/core";

const PAGE = 65536;
/** What 32-bit addresses reach. */
const ADDRESSABLE = 65536 * PAGE;
/** What a memory grows by at least. */
const STEP = 16 * PAGE;
/** For what calls need beside the model: 64 MiB. */
const SPARE_PAGES = 1024;

export class Heap {
  readonly memory: WebAssembly.Memory;
  readonly #limit: number;
  #buffer: ArrayBuffer | undefined;
  #bytes = new Uint8Array(0);
  #floats = new Float32Array(0);
  #words = new Int32Array(0);
  #data = new DataView(new ArrayBuffer(0));

  /** `bytes` at once, and at most `most` later. Errors: "out-of-memory", with needed and available. */
  constructor(bytes: number, what: string, { shared = false, most = bytes }: { shared?: boolean; most?: number } = {}) {
    if (most > ADDRESSABLE) throw outOfMemory(most, what, ADDRESSABLE);
    const initial = Math.ceil(bytes / PAGE);
    // Engines set addresses aside for the whole maximum of a shared memory: some devices have none left for all of 4 GiB.
    let maximum = ADDRESSABLE / PAGE;
    for (;;) {
      try {
        this.memory = new WebAssembly.Memory({ initial, maximum, shared });
        this.#limit = maximum * PAGE;
        return;
      } catch (cause) {
        if (maximum / 2 < Math.ceil(most / PAGE) + SPARE_PAGES) throw outOfMemory(bytes, what, undefined, cause);
        maximum /= 2;
      }
    }
  }

  get size(): number {
    return this.memory.buffer.byteLength;
  }

  /** Grow to at least `bytes`. Errors: "out-of-memory"; nothing is lost then. */
  reserve(bytes: number, what: string): void {
    if (bytes <= this.size) return;
    if (bytes > this.#limit) throw outOfMemory(bytes, what, this.#limit);
    const end = Math.min(this.#limit, Math.ceil(bytes / STEP) * STEP);
    try {
      this.memory.grow((end - this.size) / PAGE);
    } catch (cause) {
      throw outOfMemory(bytes, what, this.size, cause);
    }
  }

  get bytes(): Uint8Array {
    this.#refresh();
    return this.#bytes;
  }
  get floats(): Float32Array {
    this.#refresh();
    return this.#floats;
  }
  get words(): Int32Array {
    this.#refresh();
    return this.#words;
  }
  get data(): DataView {
    this.#refresh();
    return this.#data;
  }

  #refresh(): void {
    const buffer = this.memory.buffer as ArrayBuffer;
    if (buffer === this.#buffer) return;
    this.#buffer = buffer;
    this.#bytes = new Uint8Array(buffer);
    this.#floats = new Float32Array(buffer);
    this.#words = new Int32Array(buffer);
    this.#data = new DataView(buffer);
  }
}

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function outOfMemory(bytes: number, what: string, available: number | undefined, cause?: unknown): DogeError {
  const had = available === undefined ? "the machine did not give that much" : `${megabytes(available)} are available`;
  return new DogeError(
    "out-of-memory",
    `${what} needs ${megabytes(bytes)} and ${had}: ask for a smaller \`room\` or \`context\`, or for dtype "q8".`,
    { scope: "wasm", cause },
  );
}
