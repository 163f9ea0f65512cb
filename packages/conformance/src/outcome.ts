// What the result of a check means: expected failures, and backends that a machine is meant to have.
import { CheckFailure } from "./assert.ts";
import { type Check, matches } from "./check.ts";
import { runCheck, type Stage } from "./scope.ts";

/** Run a check under the notes of its backend: one on the list `failing` must fail, and throws when it passes, so that the
 *  list cannot rot. Returns why it was skipped, when it was. */
export async function runNoted(check: Check, stage: Stage): Promise<string | undefined> {
  const expected = stage.notes.failing?.find((note) => matches(note, check));
  if (expected === undefined) return runCheck(check, stage);
  let skipped: string | undefined;
  try {
    skipped = await runCheck(check, stage);
  } catch {
    return undefined;
  }
  if (skipped !== undefined) return skipped;
  throw new CheckFailure(
    `"${check.name}" passes, but is listed as failing ("${expected.reason}"): take it off the list.`,
  );
}

/** Whether DOGE_REQUIRE, a list of names with commas, has this backend. */
export function isRequired(name: string, list = environment("DOGE_REQUIRE")): boolean {
  return (list ?? "").split(",").some((entry) => entry.trim() === name);
}

/** An environment variable, where there is an environment. */
function environment(variable: string): string | undefined {
  const { process } = globalThis as { process?: { env?: { [name: string]: string | undefined } } };
  return process?.env?.[variable];
}
