// Which form of the kernels an adapter gets. The mathematics is one text; a variant only decides how many threads share a sum
// and how they meet.

export interface Variant {
  /** One thread works alone on each result and no kernel has a barrier: what software adapters run well, for which a barrier
   *  costs tens of microseconds. */
  readonly serial: boolean;
  /** Sums over a workgroup go through subgroup operations of whatever size; without, through workgroup memory alone. */
  readonly subgroups: boolean;
}

export const describeVariant = ({ serial, subgroups }: Variant): string =>
  serial ? "barrier-free" : subgroups ? "subgroups" : "base";

/** The best form for an adapter. Nothing in it is required of one. */
export function chooseVariant(
  adapter: { readonly features: ReadonlySet<string> },
  languageFeatures: ReadonlySet<string>,
  software: boolean,
): Variant {
  return {
    serial: software,
    subgroups: !software && adapter.features.has("subgroups") && languageFeatures.has("subgroup_id"),
  };
}
