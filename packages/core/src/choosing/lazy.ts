// choose() and survey() as everybody calls them: what they are made of is a script of its own, which a program with one backend never
// loads. Nothing else may import choose.ts, or bundlers would put it among what is loaded at once.
import type { Provider } from "../backend.ts";
import type { Choice, ChooseOptions } from "./choose.ts";
import type { Tried } from "./tried.ts";

/** Open the backend that decodes a model of this shape fastest here, as far as a calibration of 300 ms can tell, and say of all why they do
 *  or do not run (docs/choosing.md). Errors: "unavailable", with the reasons of all, when none opens; "invalid-argument" for a name that
 *  is not in the list; "aborted". */
export async function choose(providers: readonly Provider[], options?: ChooseOptions): Promise<Choice> {
  const chooser = await import("./choose.ts");
  return chooser.choose(providers, options);
}

/** What choose() would say of the providers, all that can run measured. Nothing stays open, and that none can run is no error.
 *  Errors: "invalid-argument", "aborted". */
export async function survey(
  providers: readonly Provider[],
  options?: Omit<ChooseOptions, "measureAll" | "onFallback">,
): Promise<readonly Tried[]> {
  const chooser = await import("./choose.ts");
  return chooser.survey(providers, options);
}
