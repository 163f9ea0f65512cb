// The two loops that ceilings are measured with, as WebAssembly put together here: loads that are only summed, and multiply-adds
// on data that stays in the nearest cache. Each is a module of under 1 kB with one exported function run(from, to, rounds).

/** A loop over [from, to), `rounds` times: every vector of 16 bytes there is loaded once and combined into an accumulator. */
export interface Loop {
  readonly name: string;
  /** Multiply-adds per vector loaded; 0: the loop only loads. */
  readonly macs: number;
  /** Accumulators, each waiting for itself alone. */
  readonly accumulators: number;
  /** (accumulator, vector loaded) -> accumulator. */
  readonly combine: readonly number[];
}

const simd = (opcode: number): number[] => [0xfd, ...leb(opcode)];
const get = (local: number): number[] => [0x20, ...leb(local)];

// Locals of every loop: three parameters, the running address, then vectors.
const [FROM, TO, ROUNDS, AT] = [0, 1, 2, 3];
const [FACTOR_LEFT, FACTOR_RIGHT, ONES, VECTOR, FIRST] = [4, 5, 6, 7, 8];

const [I16_ADD, I32_ADD, F32_ADD, F32_MUL, I32_DOT, AND] = [0x8e, 0xae, 0xe4, 0xe6, 0xba, 0x4e].map(simd) as number[][];
const [MADD, RELAXED_DOT, RELAXED_DOT_ADD] = [0x105, 0x112, 0x113].map(simd) as number[][];

/** Stands for the factor of this accumulator: they alternate between two neighbours in memory, as kernels' do, so that an engine
 *  may join two of these operations to a wider one. */
const FACTOR = -1;
const ACCUMULATOR = -2;

const loops: readonly Loop[] = [
  { name: "loads", macs: 0, combine: [ACCUMULATOR, ...get(VECTOR), ...I32_ADD!] },
  { name: "f32 multiply, add", macs: 4, combine: [ACCUMULATOR, FACTOR, ...get(VECTOR), ...F32_MUL!, ...F32_ADD!] },
  { name: "f32 fused multiply-add", macs: 4, combine: [FACTOR, ...get(VECTOR), ACCUMULATOR, ...MADD!] },
  { name: "i16 dot", macs: 8, combine: [ACCUMULATOR, FACTOR, ...get(VECTOR), ...I32_DOT!, ...I32_ADD!] },
  {
    name: "i8 dot, widened",
    macs: 16,
    combine: [ACCUMULATOR, FACTOR, ...get(VECTOR), ...RELAXED_DOT!, ...get(ONES), ...I32_DOT!, ...I32_ADD!],
  },
  { name: "i8 dot and add", macs: 16, combine: [FACTOR, ...get(VECTOR), ACCUMULATOR, ...RELAXED_DOT_ADD!] },
  {
    name: "i4 dot in 16 bits",
    macs: 16,
    combine: [ACCUMULATOR, FACTOR, ...get(VECTOR), ...get(ONES), ...AND!, ...RELAXED_DOT!, ...I16_ADD!],
  },
  // 8 accumulators stay in 128-bit registers; 16 keep an engine busy that joins them in pairs.
].flatMap((loop) => [8, 16].map((accumulators) => ({ ...loop, accumulators })));

/** The loops that this engine can run, of those that stand for a dtype: loads, or its multiply-adds. */
export function loopsFor(kind: "loads" | "f32" | "q8" | "q4"): Loop[] {
  const names = {
    loads: /^loads/,
    f32: /^f32/,
    q8: /^i(16|8) dot/,
    q4: /^i\d+ dot/,
  };
  return loops.filter((loop) => names[kind].test(loop.name) && WebAssembly.validate(moduleOf(loop)));
}

/** The module of a loop: (memory (export "memory") 1) and (func (export "run") (param from to rounds)). */
export function moduleOf({ accumulators, combine }: Loop): Uint8Array<ArrayBuffer> {
  const load = (address: number, offset: number): number[] => [...get(address), ...simd(0x00), 4, ...leb(offset)];
  const set = (local: number): number[] => [0x21, ...leb(local)];
  const constant = (value: number): number[] => [0x41, ...signedLeb(value)];
  const each = (make: (index: number) => number[]): number[] =>
    Array.from({ length: accumulators }, (_, index) => make(index)).flat();
  const body = [
    ...[...load(FROM!, 0), ...set(FACTOR_LEFT!), ...load(FROM!, 16), ...set(FACTOR_RIGHT!)],
    ...[...load(FROM!, 32), ...set(ONES!)],
    ...each((index) => [...load(FROM!, 16 * index), ...set(FIRST! + index)]),
    ...[0x03, 0x40], // loop: a round
    ...[...get(FROM!), ...set(AT!)],
    ...[0x03, 0x40], // loop: a vector for every accumulator
    ...each((index) => [
      ...[...load(AT!, 16 * index), ...set(VECTOR!)],
      ...combine.flatMap((code) => {
        if (code === ACCUMULATOR) return get(FIRST! + index);
        return code === FACTOR ? get(index % 2 === 0 ? FACTOR_LEFT! : FACTOR_RIGHT!) : [code];
      }),
      ...set(FIRST! + index),
    ]),
    ...[...get(AT!), ...constant(16 * accumulators), 0x6a, 0x22, ...leb(AT!)], // at += …
    ...[...get(TO!), 0x49, 0x0d, 0x00], // br_if at < to
    0x0b,
    ...[...get(ROUNDS!), ...constant(1), 0x6b, 0x22, ...leb(ROUNDS!), 0x0d, 0x00], // br_if --rounds
    0x0b,
    // What is kept is not optimised away.
    ...each((index) => [...get(FROM!), ...get(FIRST! + index), ...simd(0x0b), 4, ...leb(16 * index)]),
    0x0b,
  ];
  const locals = [2, 1, 0x7f, ...leb(4 + accumulators), 0x7b];
  const code = [...locals, ...body];
  const name = (text: string): number[] => [text.length, ...Array.from(text, (letter) => letter.charCodeAt(0))];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 3, 0x7f, 0x7f, 0x7f, 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, 1]),
    ...section(7, [2, ...name("memory"), 2, 0, ...name("run"), 0, 0]),
    ...section(10, [1, ...leb(code.length), ...code]),
  ]);
}

const section = (id: number, content: readonly number[]): number[] => [id, ...leb(content.length), ...content];

/** Unsigned LEB128. */
function leb(value: number): number[] {
  const bytes: number[] = [];
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>>= 7;
  } while (value > 0);
  return bytes;
}

/** Signed LEB128 of a number that is not negative. */
function signedLeb(value: number): number[] {
  const bytes = leb(value);
  if ((bytes.at(-1)! & 0x40) === 0) return bytes;
  return [...bytes.slice(0, -1), bytes.at(-1)! | 0x80, 0];
}
