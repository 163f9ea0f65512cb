// Vector arithmetic that every kernel shares: the one place where the plain and the relaxed binary differ.

/** a · b + c. One rounding in the relaxed build where the processor has it, two in the plain one. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** The four lanes added, in a fixed order. */
// @ts-ignore: decorator
@inline
export function sum(v: v128): f32 {
  return (
    f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3))
  );
}

/** e^x in four lanes within 2 units in the last place; 0 below -87.3, where f32 runs out of normal numbers.
 *  Source: Moshier, Cephes, expf: x = n ln 2 + r, a polynomial in r, n into the exponent. */
export function exp(x: v128): v128 {
  const top = f32x4.splat(88.3762626647949);
  const low = f32x4.splat(-87.3365478515625);
  const inside = f32x4.ge(x, low);
  const clamped = f32x4.max(f32x4.min(x, top), low);
  const n = f32x4.nearest(f32x4.mul(clamped, f32x4.splat(1.44269504088896341)));
  // ln 2 in two parts, the first exact in f32, so that r keeps its bits.
  let r = f32x4.sub(clamped, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let p = f32x4.splat(1.9875691500e-4);
  p = madd(p, r, f32x4.splat(1.3981999507e-3));
  p = madd(p, r, f32x4.splat(8.3334519073e-3));
  p = madd(p, r, f32x4.splat(4.1665795894e-2));
  p = madd(p, r, f32x4.splat(1.6666665459e-1));
  p = madd(p, r, f32x4.splat(5.0000001201e-1));
  p = madd(p, f32x4.mul(r, r), f32x4.add(r, f32x4.splat(1)));
  const exponent = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return v128.and(f32x4.mul(p, exponent), inside);
}
