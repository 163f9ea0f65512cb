// Lines that a tokenizer may get wrong, the same ones for the same numbers: prose, code, every script and kind of white space,
// special strings whole and cut, contractions in any case, long runs, lone surrogates. The goldens are made from them
// (tools/tokenizer/identity.ts), so a change here asks for new ones.
import { createHash } from "node:crypto";
import { pick, random } from "../../core/test/text/support.ts";

type Draw = (limit: number) => number;

const WORDS =
  "the of and to in is it you that he was for on are with as I his they be at one have this from or had by not but what all were we when your can said there use an each which she do how their if will up other about out many then them these so some her would make like him into time has look two more write go see number no way could people my than first water been call who oil its now find long down day did get come made may part international tokenization understanding unbelievably responsibilities".split(
    " ",
  );
const SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|eot_id|>", "<|python_tag|>"];
const SPACES = [..." \t\n\r\v\f\u0085\u00a0\u1680\u2000\u2003\u2028\u2029\u202f\u205f\u3000\ufeff\u200b\u180e"];
const SHORT = ["s", "t", "re", "ve", "m", "ll", "d", "\u017f", "S", "T", "RE", "Ve", "M", "lL", "D", "sa", "rx"];
const MARKS = [..."'’`\"!?.,;:()[]{}<>|/\\@#$%^&*-_=+~\0\u00ad\u0301\u0327\ufe0f\u200d\u20ac\u2026\u00bf"];
/** First and last code point of some scripts, letters and digits, marks and symbols. */
const SCRIPTS = [
  [0xc0, 0x24f],
  [0x370, 0x3ff],
  [0x400, 0x52f],
  [0x590, 0x6ff],
  [0x900, 0x97f],
  [0xe00, 0xe7f],
  [0x1100, 0x11ff],
  [0x2070, 0x218f],
  [0x2460, 0x24ff],
  [0x3040, 0x30ff],
  [0x4e00, 0x9fff],
  [0xac00, 0xd7a3],
  [0xff00, 0xffef],
  [0x10400, 0x1044f],
  [0x1d400, 0x1d7ff],
  [0x1f300, 0x1faff],
  [0x20000, 0x2a6df],
] as const;

const codePoint = (draw: Draw): string => {
  const code = draw(0x110000 - 0x800);
  return String.fromCodePoint(code < 0xd800 ? code : code + 0x800);
};
const times = (count: number, make: () => string): string => Array.from({ length: count }, make).join("");

const PIECES: readonly ((draw: Draw) => string)[] = [
  (draw) => ` ${pick(draw, WORDS)}`,
  (draw) => ` ${pick(draw, WORDS)}${pick(draw, [",", ".", "!", "?", ";", ":", '"', ")"])}`,
  (draw) => ` ${pick(draw, WORDS)}`.toUpperCase(),
  (draw) => `${pick(draw, WORDS)}${pick(draw, ["'", "'", "'", "’"])}${pick(draw, SHORT)}`,
  (draw) => times(1 + draw(6), () => pick(draw, SPACES)),
  (draw) => times(1 + draw(9), () => String(draw(10))),
  (draw) => times(1 + draw(5), () => pick(draw, MARKS)),
  (draw) => times(1 + draw(12), () => String.fromCharCode(97 + draw(26))),
  (draw) => {
    const [first, last] = pick(draw, SCRIPTS);
    return times(1 + draw(12), () => String.fromCodePoint(first + draw(last - first + 1)));
  },
  (draw) => times(1 + draw(4), () => codePoint(draw)),
  (draw) => pick(draw, SPECIALS),
  (draw) => {
    const special = pick(draw, SPECIALS);
    const from = draw(special.length);
    return special.slice(from, from + 1 + draw(special.length));
  },
  (draw) =>
    `\n${" ".repeat(draw(12))}${pick(draw, ["if (x != null) {", "return a[i] += 0x1F;", "// TODO", "def f(self):"])}`,
  (draw) => `https://${pick(draw, WORDS)}.org/${pick(draw, WORDS)}?q=${draw(100000)}&r=%20`,
  (draw) => pick(draw, [..."ab =-.\n é中"]).repeat(2 + draw(60)),
  (draw) => String.fromCharCode(0xd800 + draw(0x800)),
  (draw) => pick(draw, ["👨‍👩‍👧‍👦", "🇩🇪", "e\u0301", "ﬃ", "İ", "ß", "Ǆ", "½", "٣", "Ⅷ", "①", "\u2126"]),
];

/** Line `index`: prose mostly, or any pieces in any order. */
export function line(index: number, seed = 0x5eed): string {
  const draw = random(seed + index);
  const kinds = draw(3) === 0 ? 3 : PIECES.length;
  return times(1 + draw(16), () => PIECES[draw(kinds)]!(draw));
}

/** Special tokens glued together, cut, one inside another, with whatever may stand between them. */
export function glued(index: number, seed = 0x91ed): string {
  const draw = random(seed + index);
  const between = [...SPACES, ...MARKS, "", "", "", "\ud800", "\udfff", "a", "1", "中", "<", "<|", "|>", "'s"];
  return times(2 + draw(10), () => {
    const special = pick(draw, SPECIALS);
    const kind = draw(4);
    const from = draw(special.length);
    if (kind === 0) return `${special.slice(0, from)}${pick(draw, SPECIALS)}${special.slice(from)}`;
    return `${kind === 1 ? special.slice(0, from) : special}${pick(draw, between)}`;
  });
}

/** A character where it can decide on the cut: alone, doubled, beside letters, digits, marks, spaces and an apostrophe. */
export function around(code: number): string {
  const c = String.fromCodePoint(code);
  return `${c}a${c}1${c}.${c} ${c}\n${c}${c} '${c} 'l${c} '${c}e x'${c}${c}1 ${c}  ${c}`;
}

/** Ids to decode: bytes in any order make broken UTF-8 of every kind. */
export function idList(index: number, size: number, seed = 0xdec0de): number[] {
  const draw = random(seed + index);
  return Array.from({ length: 1 + draw(24) }, () => (draw(2) === 0 ? draw(Math.min(size, 520)) : draw(size)));
}

/** SHA-256 of id lists, each with its length in front, as 32-bit little-endian numbers; the first 16 digits. */
export function hashOfIds(lists: Iterable<ArrayLike<number>>): string {
  const hash = createHash("sha256");
  for (const ids of lists) hash.update(Int32Array.of(ids.length)).update(Int32Array.from(ids));
  return hash.digest("hex").slice(0, 16);
}

/** The same of texts, as UTF-8 with a zero byte behind each. */
export function hashOfTexts(texts: Iterable<string>): string {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(`${text}\0`);
  return hash.digest("hex").slice(0, 16);
}
