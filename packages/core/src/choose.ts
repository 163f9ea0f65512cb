// The first of a list of providers that is available and opens; of the others it is said why not.
import type { Availability, Backend, Provider } from "./backend.ts";
import { aborted, DogeError } from "./errors.ts";

export interface Tried {
  readonly name: string;
  readonly availability: Availability;
  /** What a provider threw that should have worked: not an absence but a fault, to be shown even when another one opened. */
  readonly error?: unknown;
}
export interface Choice {
  readonly backend: Backend;
  /** Every provider asked, in order; the last one is the one that opened. */
  readonly tried: readonly Tried[];
}

/** Ask one after the other. A provider that throws is passed over like an absent one, but its error stays in `tried`.
 *  Errors: "unavailable", with the reasons of all, when none opens; "aborted". */
export async function choose(providers: readonly Provider[], signal?: AbortSignal): Promise<Choice> {
  const tried: Tried[] = [];
  for (const provider of providers) {
    if (signal?.aborted) throw aborted(signal);
    const { name } = provider;
    try {
      const availability = await provider.probe();
      if (!availability.available) {
        tried.push({ name, availability });
        continue;
      }
      const backend = await provider.open(signal);
      tried.push({ name, availability });
      return { backend, tried };
    } catch (error) {
      if (signal?.aborted) throw aborted(signal);
      const why = `It should have worked and failed: ${error instanceof Error ? error.message : String(error)}`;
      tried.push({ name, availability: { available: false, code: "broken", why }, error });
    }
  }
  const reasons = tried.map(({ name, availability }) => `${name}: ${availability.available ? "" : availability.why}`);
  const cause = tried.find(({ error }) => error !== undefined)?.error;
  throw new DogeError(
    "unavailable",
    reasons.length === 0 ? "No backend was given to choose from." : `No backend opened. ${reasons.join(" ")}`,
    cause === undefined ? {} : { cause },
  );
}
