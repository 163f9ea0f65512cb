// The conformance suite without a test runner, for a machine with a GPU and nothing installed: bundled by gpu-pack.mjs.
//
//   node conformance.mjs doge_cuda.node FIXTURES
import { join } from "node:path";
import { checks, fixtureNames, runCheck, Stage } from "@doge-lm/conformance/checks";
import { folder } from "@doge-lm/core/node";
import { type BindingWithKernels, loadBinding } from "../src/binding.ts";
import { cuda } from "../src/index.ts";
import { kernelsOf } from "../test/kernels.ts";

const [binary, fixtures] = process.argv.slice(2) as [string, string];
const provider = cuda({ binary });
const answer = await provider.probe();
if (!answer.available) {
  console.error(answer.why);
  process.exit(1);
}
console.log(`${answer.device}: ${checks.length} checks over ${fixtureNames.length} fixtures`);
const binding = loadBinding(binary) as BindingWithKernels;
const notes = {
  fixtures: async (name: string) => folder(join(fixtures, name)),
  kernels: kernelsOf(binding, binding.open(0)),
};
const subject = { provider, can: answer, notes };
const stage = new Stage(subject);
let [passed, failed, skipped] = [0, 0, 0];
for (const check of checks) {
  // Texts need the demo model's package, which does not travel.
  const why = check.ring === "text" ? "the demo model is not here" : check.skip?.(subject);
  if (why !== undefined) {
    skipped++;
    console.log(`skip ${check.ring}: ${check.name} (${why})`);
    continue;
  }
  try {
    await runCheck(check, stage);
    passed++;
  } catch (error) {
    failed++;
    console.log(`FAIL ${check.ring}: ${check.name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
await stage.close();
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 ? 0 : 1;
