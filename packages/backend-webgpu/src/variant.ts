// Which form of the kernels an adapter gets. The mathematics is one text; a variant decides how many threads share a sum and how
// they meet, and how numbers are held on their way.
import type { DType } from "@doge-lm/core";

export interface Variant {
  /** One thread works alone on each result and no kernel has a barrier: what software adapters run well, for which a barrier
   *  costs tens of microseconds. */
  readonly serial: boolean;
  /** Sums over a workgroup go through subgroup operations of whatever size; without, through workgroup memory alone. */
  readonly subgroups: boolean;
  /** Models in bf16, q8 and q4 keep their keys and values in f16. Sums stay f32. Needs "shader-f16". */
  readonly f16: boolean;
  /** Models in q8 and q4 round what goes into a matmul to 8 bits, a scale for each block of 32, and multiply four at a time
   *  (dot4I8Packed). Needs "packed_4x8_integer_dot_product". */
  readonly packed: boolean;
}

export const describeVariant = ({ serial, subgroups, f16, packed }: Variant): string =>
  [serial ? "barrier-free" : subgroups ? "subgroups" : "base", f16 ? "f16" : "", packed ? "packed" : ""]
    .filter((word) => word !== "")
    .join(" + ");

/** What an adapter can do, of what variants use. */
export interface Features {
  readonly subgroups: boolean;
  readonly f16: boolean;
  readonly packed: boolean;
}

/** `packed` is of the language, which says that a compiler knows it, not that a GPU has it. Metal does not: Tint, which compiles for it in
 *  Dawn, writes every dot4I8Packed out as shifts and four multiplications (src/tint/lang/msl/writer/raise/raise.cc: dot_4x8_packed), on top
 *  of which activations would be rounded for nothing. ONNX Runtime leaves it out by the vendor likewise (CanApplyDP4AMatrixMatMulNBits). */
export function featuresOf(
  adapter: { readonly features: ReadonlySet<string>; readonly info: { readonly vendor: string } },
  languageFeatures: ReadonlySet<string>,
): Features {
  return {
    subgroups: adapter.features.has("subgroups") && languageFeatures.has("subgroup_id"),
    f16: adapter.features.has("shader-f16"),
    packed: languageFeatures.has("packed_4x8_integer_dot_product") && adapter.info.vendor !== "apple",
  };
}

/** The best form for an adapter. Nothing in it is required of one. */
export const chooseVariant = (features: Features, software: boolean): Variant =>
  software ? { serial: true, subgroups: false, f16: false, packed: false } : { serial: false, ...features };

/** The forms to try, best first: what a driver computes wrongly is left out, until only the plainest is left. */
export function fallbacks(best: Variant): Variant[] {
  const forms = [
    best,
    { ...best, packed: false },
    { ...best, packed: false, f16: false },
    { ...best, packed: false, f16: false, subgroups: false },
    { serial: true, subgroups: false, f16: false, packed: false },
  ];
  return forms.filter(
    (form, index) => forms.findIndex((other) => describeVariant(other) === describeVariant(form)) === index,
  );
}

/** Whether a model of this dtype keeps its keys and values in f16: f32 promises more digits than that. */
export const cachesHalf = (variant: Variant, dtype: DType): boolean => variant.f16 && dtype !== "f32";
