// GPT-2's byte-level alphabet: every byte has one printable character, so that a vocabulary of bytes can be written as
// text. Printable bytes stand for themselves, the other 68 take U+0100 and up in order.

const symbols: string[] = [];
const bytes = new Int16Array(0x144).fill(-1); // character code -> byte, -1 where there is none
for (let byte = 0, next = 0x100; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const code = printable ? byte : next++;
  symbols.push(String.fromCharCode(code));
  bytes[code] = byte;
}

/** The 256 characters, by byte. */
export const byteSymbols: readonly string[] = symbols;

/** The byte that a character code stands for, or -1. */
export function byteOfSymbol(code: number): number {
  return code < bytes.length ? bytes[code]! : -1;
}

const encoder = new TextEncoder();

/** The UTF-8 bytes of `text`, each written as its symbol. */
export function toByteSymbols(text: string): string {
  let written = "";
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code >= 0x80) return written + encoded(text.slice(index));
    written += symbols[code];
  }
  return written;
}

function encoded(text: string): string {
  let written = "";
  for (const byte of encoder.encode(text)) written += symbols[byte];
  return written;
}
