// Strict JSON. JSON.parse keeps the last of two equal keys and nests without end; files from strangers get neither.

import { DogeError, type ErrorCode } from "./errors.ts";

/** Any JSON value, as parseJson() returns it. Objects are plain; "__proto__" is an ordinary own key. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface JsonOptions {
  /** What the text is, as an error should call it: "config.json". */
  readonly file: string;
  /** Code of the errors thrown; default "json-invalid". */
  readonly code?: ErrorCode;
  /** Byte offset of the text inside its file, added to the offsets in errors; default 0. */
  readonly base?: number;
  /** Levels of nesting allowed; default 64. */
  readonly maxDepth?: number;
  /** Keys one object may have; default no limit. More throw "limit-exceeded" before they take memory. */
  readonly maxKeys?: number;
}

/** What stands where a value is expected, and the sentence for it. Sticky, so that nothing is scanned twice. */
const COMMON_MISTAKES: readonly (readonly [RegExp, string])[] = [
  [/[+-]?(NaN|Infinity)\b/y, "NaN and Infinity are no JSON numbers"],
  [/\/[/*]|#/y, "comments are not allowed in JSON"],
  [/'/y, "JSON strings stand in double quotes"],
  [/(True|False|None|undefined)\b/y, "only true, false and null are JSON words"],
  [/\+|\./y, "a JSON number begins with a digit or a minus sign"],
  [/[\]}]/y, "a value is missing (a trailing comma is not allowed)"],
];
const WORDS: readonly (readonly [string, boolean | null])[] = [
  ["true", true],
  ["false", false],
  ["null", null],
];
const NUMBER = /-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

/** One parse: the text and where in it we are. */
class Reader {
  readonly text: string;
  readonly options: JsonOptions;
  readonly maxDepth: number;
  at = 0;

  constructor(text: string, options: JsonOptions) {
    this.text = text;
    this.options = options;
    this.maxDepth = options.maxDepth ?? 64;
  }

  fail(why: string, at = this.at): never {
    const before = this.text.slice(0, at);
    const byte = (this.options.base ?? 0) + new TextEncoder().encode(before).length;
    const line = before.split("\n").length;
    const column = at - before.lastIndexOf("\n");
    throw new DogeError(
      this.options.code ?? "json-invalid",
      `${this.options.file} is not valid JSON at byte ${byte} (line ${line}, column ${column}): ${why}.`,
    );
  }

  space(): void {
    for (; ; this.at++) {
      const code = this.text.charCodeAt(this.at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    }
  }

  value(depth: number): Json {
    this.space();
    const first = this.text[this.at];
    switch (first) {
      case "{":
        return this.object(depth + 1);
      case "[":
        return this.array(depth + 1);
      case '"':
        return this.string();
      case undefined:
        return this.fail("the text ends where a value is expected");
    }
    NUMBER.lastIndex = this.at;
    const number = NUMBER.exec(this.text);
    if (number !== null) {
      const parsed = Number(number[0]);
      if (!Number.isFinite(parsed)) this.fail(`the number ${number[0].slice(0, 32)} is too large`);
      const next = this.text[NUMBER.lastIndex] ?? "";
      if (/[\w.+]/.test(next)) this.fail("malformed number");
      this.at = NUMBER.lastIndex;
      return parsed;
    }
    for (const [word, value] of WORDS) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    for (const [pattern, why] of COMMON_MISTAKES) {
      pattern.lastIndex = this.at;
      if (pattern.test(this.text)) this.fail(why);
    }
    return this.fail(`${JSON.stringify(first)} does not begin a value`);
  }

  object(depth: number): Json {
    if (depth > this.maxDepth) this.fail(`nesting is deeper than ${this.maxDepth} levels`);
    const result: { [key: string]: Json } = {};
    this.at++;
    this.space();
    if (this.text[this.at] === "}") {
      this.at++;
      return result;
    }
    const { file, maxKeys = Number.POSITIVE_INFINITY } = this.options;
    for (let count = 1; ; count++) {
      this.space();
      if (count > maxKeys)
        throw new DogeError("limit-exceeded", `${file} has more than ${maxKeys} keys in one object.`);
      const start = this.at;
      if (this.text[start] !== '"') this.expected("a key in double quotes");
      const key = this.string();
      if (Object.hasOwn(result, key))
        this.fail(`the key ${JSON.stringify(key.slice(0, 100))} stands there twice`, start);
      this.space();
      if (this.text[this.at] !== ":") this.expected("a colon");
      this.at++;
      const value = this.value(depth);
      // Assigning "__proto__" would set the prototype instead of making a key.
      if (key === "__proto__") {
        Object.defineProperty(result, key, { value, enumerable: true, configurable: true, writable: true });
      } else result[key] = value;
      if (this.ends("}")) return result;
    }
  }

  array(depth: number): Json {
    if (depth > this.maxDepth) this.fail(`nesting is deeper than ${this.maxDepth} levels`);
    const result: Json[] = [];
    this.at++;
    this.space();
    if (this.text[this.at] === "]") {
      this.at++;
      return result;
    }
    for (;;) {
      result.push(this.value(depth));
      if (this.ends("]")) return result;
    }
  }

  /** After a member: true behind the closing bracket, false behind a comma. */
  ends(bracket: string): boolean {
    this.space();
    const next = this.text[this.at];
    if (next !== "," && next !== bracket) this.expected(`a comma or "${bracket}"`);
    this.at++;
    return next === bracket;
  }

  expected(what: string): never {
    const found = this.text[this.at];
    if (found === "/" || found === "#") return this.fail("comments are not allowed in JSON");
    return this.fail(`expected ${what}, found ${found === undefined ? "the end of the text" : JSON.stringify(found)}`);
  }

  string(): string {
    const start = this.at++;
    let result = "";
    for (;;) {
      const from = this.at;
      for (let code: number; ; this.at++) {
        code = this.text.charCodeAt(this.at);
        // A quote, a backslash, a control character, or NaN at the end of the text.
        if (code === 0x22 || code === 0x5c || !(code >= 0x20)) break;
      }
      result += this.text.slice(from, this.at);
      const next = this.text[this.at];
      if (next === undefined) this.fail("a string without an end", start);
      if (next === '"') {
        this.at++;
        return result;
      }
      if (next !== "\\") this.fail("a control character inside a string must be escaped");
      const letter = this.text[this.at + 1] ?? "";
      if (letter === "u") {
        const digits = this.text.slice(this.at + 2, this.at + 6);
        if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail("\\u needs four hexadecimal digits");
        result += String.fromCharCode(Number.parseInt(digits, 16));
        this.at += 6;
      } else {
        const plain = ESCAPES[letter];
        if (plain === undefined) this.fail(`\\${letter} is no JSON escape`);
        result += plain;
        this.at += 2;
      }
    }
  }
}

/** Parse one JSON text. Whitespace, CRLF included, may surround it; a byte order mark must be gone already.
 *  @throws DogeError `options.code`, with the byte offset, for anything JSON does not allow, for a repeated key and for
 *  nesting deeper than `options.maxDepth`. */
export function parseJson(text: string, options: JsonOptions): Json {
  const reader = new Reader(text, options);
  const value = reader.value(0);
  reader.space();
  if (reader.at < text.length) reader.expected("the end of the text");
  return value;
}

/** UTF-8 to text, refusing bytes that are not UTF-8; a byte order mark is dropped unless `keepMark`.
 *  @throws DogeError `options.code` with the offset of the first byte at fault. */
export function decodeUtf8(bytes: Uint8Array, options: JsonOptions & { readonly keepMark?: boolean }): string {
  const decode = (length: number, stream: boolean) =>
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: options.keepMark === true }).decode(bytes.subarray(0, length), {
      stream,
    });
  try {
    return decode(bytes.length, false);
  } catch {
    // Prefixes decode up to the fault and never beyond it, so the fault can be bisected.
    let good = 0;
    let bad = bytes.length + 1;
    while (bad - good > 1) {
      const middle = (good + bad) >> 1;
      try {
        if (middle > bytes.length) throw new RangeError();
        decode(middle, true);
        good = middle;
      } catch {
        bad = middle;
      }
    }
    throw new DogeError(
      options.code ?? "json-invalid",
      `${options.file} is not UTF-8 text: decoding fails at byte offset ${(options.base ?? 0) + good}.`,
    );
  }
}

/** Whether a JSON value is an object (not an array, not null). */
export function isJsonObject(value: unknown): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
