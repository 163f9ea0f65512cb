// What choosing takes from the platform, when the caller does not hand it in.
import type { RateStore } from "./rates.ts";

export interface ChoosingPlatform {
  /** Where rates are kept between runs. */
  readonly rates: RateStore;
  /** This machine and its engine, as far as rates depend on them. */
  readonly machine: string;
  /** The backend that the environment names. */
  readonly wanted: string | undefined;
}
