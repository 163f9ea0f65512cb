// A tokenizer for the mock: 40 ids, a few characters each; ids 5 and 6 are the halves of one code point.
import type { TextStream } from "../../src/text/text-stream.ts";
import type { Tokenizer } from "../../src/text/tokenizer.ts";

const bytes: Uint8Array[] = Array.from({ length: 40 }, (_, id) =>
  new TextEncoder().encode(`${String.fromCharCode(97 + (id % 26))}${id} `),
);
bytes[5] = Uint8Array.of(0xc3);
bytes[6] = Uint8Array.of(0xa9); // é
export const word = (id: number): string => new TextDecoder().decode(bytes[id]);

export function mockTokenizer(): Tokenizer {
  const join = (ids: ArrayLike<number>, skip: boolean) =>
    Uint8Array.from(Array.from(ids).flatMap((id) => (skip && id < 3 ? [] : [...bytes[id]!])));
  return {
    size: 38,
    bosId: 0,
    eosId: 1,
    special: new Map([
      ["a0 ", 0],
      ["b1 ", 1],
    ]),
    roles: new Map(),
    /** One id per character, by its code. */
    encode: (text, { addSpecial = true } = {}) =>
      Int32Array.from([...(addSpecial ? [0] : []), ...Array.from(text, (char) => 7 + (char.charCodeAt(0) % 30))]),
    decode: (ids, { skipSpecial = true } = {}) => new TextDecoder().decode(join(ids, skipSpecial)),
    stream: ({ skipSpecial = true } = {}): TextStream => {
      const decoder = new TextDecoder();
      return {
        push: (ids) => decoder.decode(join(ids, skipSpecial), { stream: true }),
        end: () => decoder.decode(),
      };
    },
  };
}
