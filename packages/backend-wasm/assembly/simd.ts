// Vector arithmetic that every kernel shares: the one place where the plain and the relaxed binary differ.

/** a · b + c. One rounding in the relaxed build where the processor has it, two in the plain one. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** c - a · b, rounded as madd() rounds. */
// @ts-ignore: decorator
@inline
function nmadd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_nmadd(a, b, c);
  return f32x4.sub(c, f32x4.mul(a, b));
}

/** Two neighbouring vectors, the upper first. V8 joins them to one of 256 bits either way; but where it meets the lower first, it stores
 *  that apart as well, so that it stands there should the upper trap. */
// @ts-ignore: decorator
@inline
export function storeTwo(out: usize, low: v128, high: v128): void {
  v128.store(out, high, 16);
  v128.store(out, low);
}

/** The same for the 16 numbers of a panel. */
// @ts-ignore: decorator
@inline
export function storeFour(out: usize, a: v128, b: v128, c: v128, d: v128): void {
  v128.store(out, b, 16);
  v128.store(out, a);
  v128.store(out, d, 48);
  v128.store(out, c, 32);
}

/** The four lanes added, in a fixed order. */
// @ts-ignore: decorator
@inline
export function sum(v: v128): f32 {
  return (
    f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3))
  );
}

/** Constants of exp, in memory: V8 builds a constant vector anew at each use, out of three instructions. */
const EXP = memory.data<f32>([
  88.3762626647949, -87.3365478515625, 1.44269504088896341, 12582912, 0.693359375, -2.1219444e-4, 1.98756915e-4, 1.3981999507e-3,
  8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1,
]);

/** e^x in four lanes within 2 units in the last place; 0 below -87.3, where f32 runs out of normal numbers.
 *  Source: Moshier, Cephes, expf: x = n ln 2 + r, a polynomial in r, n into the exponent. */
// @ts-ignore: decorator
@inline
export function exp(x: v128): v128 {
  const low = v128.load32_splat(EXP, 4);
  const clamped = f32x4.pmax(f32x4.pmin(x, v128.load32_splat(EXP)), low);
  // The sum with 1.5 · 2^23 has no room for a fraction: its low bits are the integer n.
  const magic = v128.load32_splat(EXP, 12);
  const shifted = madd(clamped, v128.load32_splat(EXP, 8), magic);
  const n = f32x4.sub(shifted, magic);
  // ln 2 in two parts, the first exact in f32, so that r keeps its bits.
  let r = nmadd(n, v128.load32_splat(EXP, 16), clamped);
  r = nmadd(n, v128.load32_splat(EXP, 20), r);
  const one = v128.load32_splat(EXP, 48);
  let p = madd(v128.load32_splat(EXP, 24), r, v128.load32_splat(EXP, 28));
  p = madd(p, r, v128.load32_splat(EXP, 32));
  p = madd(p, r, v128.load32_splat(EXP, 36));
  p = madd(p, r, v128.load32_splat(EXP, 40));
  p = madd(p, r, v128.load32_splat(EXP, 44));
  p = madd(p, f32x4.mul(r, r), f32x4.add(r, one));
  const power = i32x4.add(i32x4.shl(shifted, 23), one); // 2^n: the bits of 1 with n more in the exponent
  return v128.andnot(f32x4.mul(p, power), f32x4.lt(x, low));
}
