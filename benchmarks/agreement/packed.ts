// `npm run agreement` in one file, for a checkout on a machine with nothing installed: packages/backend-cuda/scripts/gpu-bundle.mjs
// makes it, with the sources' commit put in the place of DOGE_COMMIT. The processes that compare start this same file.
import { orExplain } from "../flags.ts";
import { measuredAt } from "../results.ts";
import { runAgreement } from "./run.ts";

declare const DOGE_COMMIT: string;

if (process.send !== undefined) {
  await import("../worker.ts");
} else {
  measuredAt(DOGE_COMMIT);
  const [, self, ...args] = process.argv;
  process.exit((await orExplain(() => runAgreement(args, self))) ? 0 : 1);
}
