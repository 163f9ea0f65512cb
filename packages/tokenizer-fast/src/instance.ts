// One instance of the binary and the traffic with it: texts and numbers in, numbers and bytes out, whole batches at a time.
import { type Exports, fault } from "./binary.ts";

/** Results of a call, in the instance's memory: read before the next call. */
export interface Results {
  readonly ids: Uint32Array<ArrayBuffer>;
  readonly ends: Uint32Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

const encoder = new TextEncoder();

export class Instance {
  readonly exports: Exports;

  /** Errors: "out-of-memory". */
  constructor(module: WebAssembly.Module) {
    this.exports = this.guard(() => new WebAssembly.Instance(module)).exports as unknown as Exports;
  }

  /** Bytes of its memory. */
  get size(): number {
    return this.exports.memory.buffer.byteLength;
  }

  /** What `work` returns. Errors: "out-of-memory", after which the instance is of no use. */
  guard<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      // An allocation that fails inside is a trap, outside a RangeError.
      if (!(cause instanceof WebAssembly.RuntimeError || cause instanceof RangeError)) throw cause;
      const sentence = `The tokenizer ran out of memory (${cause.message}); smaller texts need less.`;
      throw fault("out-of-memory", sentence, cause);
    }
  }

  /** Put texts where `encode`, `feed_counts` and `learn` read them. */
  writeTexts(texts: readonly string[]): void {
    const lengths = new Uint32Array(texts.length);
    let units = 0;
    for (const text of texts) units += text.length;
    let room = units;
    let bytes = this.#bytes(room);
    let end = 0;
    texts.forEach((text, index) => {
      const start = end;
      // encodeInto stops where the room ends; most texts need one byte for each unit, none more than three.
      for (let rest = text; ; ) {
        const { read, written } = encoder.encodeInto(rest, bytes.subarray(end));
        end += written;
        units -= read;
        if (read === rest.length) break;
        rest = rest.slice(read);
        room = end + 3 * units;
        bytes = this.#bytes(room);
      }
      lengths[index] = end - start;
    });
    this.writeWords([lengths]);
  }

  #bytes(room: number): Uint8Array<ArrayBuffer> {
    const at = this.exports.reserve_bytes(room) >>> 0;
    return new Uint8Array(this.exports.memory.buffer, at, room);
  }

  writeBytes(bytes: Uint8Array): void {
    this.#bytes(bytes.length).set(bytes);
  }

  /** Put numbers, list behind list, where the exports read them. */
  writeWords(lists: readonly ArrayLike<number>[]): void {
    const length = lists.reduce((sum, list) => sum + list.length, 0);
    const at = this.exports.reserve_words(length) >>> 0;
    const words = new Uint32Array(this.exports.memory.buffer, at, length);
    let end = 0;
    for (const list of lists) {
      words.set(list, end);
      end += list.length;
    }
  }

  /** What stands where a call says its results are. */
  results(address: number): Results {
    const { buffer } = this.exports.memory;
    const [ids, idCount, ends, endCount, bytes, byteCount] = new Uint32Array(
      buffer,
      address >>> 0,
      6,
    ) as unknown as number[];
    return {
      ids: new Uint32Array(buffer, ids, idCount),
      ends: new Uint32Array(buffer, ends, endCount),
      bytes: new Uint8Array(buffer, bytes, byteCount),
    };
  }
}
