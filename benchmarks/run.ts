// `npm run bench`: every backend that is here, checked and then timed, each configuration in a process of its own; files the results
// of this machine and makes its report.
import { parseArgs } from "node:util";
import { help, runBench } from "./bench.ts";
import { orExplain } from "./flags.ts";
import { committed } from "./results.ts";

const string = { type: "string" } as const;
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    shapes: string,
    dtypes: string,
    contexts: string,
    rows: string,
    moe: { type: "boolean", default: false },
    reps: string,
    only: string,
    minutes: string,
    out: string,
    through: string,
    engines: string,
    // Where the peers find what they need.
    models: string,
    python: string,
    chromium: string,
    peers: string,
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(help);
  process.exit(0);
}
process.exit((await orExplain(() => runBench({ ...flags, committed }, positionals))) ? 0 : 1);
