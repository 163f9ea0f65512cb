// `npm run agreement`: what the flags ask of the matrix, and where it is filed.
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Children } from "../child.ts";
import { importEngines } from "../engine-modules.ts";
import { allDtypes, countOf, listOf, orExplain, UsageError } from "../flags.ts";
import { committed, root } from "../results.ts";
import { subjects as allSubjects, fixtureSubjects, type SubjectName } from "../subjects.ts";
import { Filing } from "./filing.ts";
import { Matrix } from "./matrix.ts";
import { type AgreementResults, parseAgreement } from "./results.ts";

const help = `Hold every backend that is here to the reference, with every dtype, on the demo model, random checkpoints of every layout
and the shape of Doge-20M, and compare the texts it draws with 1,000 texts of 64 tokens. Takes some minutes; writes
benchmarks/results/agreement and docs/agreement.md, each comparison as soon as it is made: a run that is ended keeps what it found.

  npm run agreement

  --texts 1000 --steps 64     texts that fast backends draw, and their tokens
  --few 50 --fewer 32         the same of the reference and of software adapters, and of the logits that are looked at
  --only "wasm,webgpu"        engines by name: these alone are compared anew, as are the dtypes and checkpoints that are named
  --dtypes f32,q8             those of f32,bf16,q8,q4
  --subjects demo,fixture:native,"shape:20m moe"
  --out FOLDER                instead of the committed one: results and pages go there
  --merge FILE                compare nothing: file what another machine, or a run with --out, filed there
  --engines MODULE            engines of your own, in a module like benchmarks/engines.ts`;

const ordinary: readonly SubjectName[] = ["demo", ...fixtureSubjects, "shape:20m", "shape:20m moe"];

const say = (line: string): void => void process.stdout.write(`${line}\n`);
/** What is being done, on a terminal only. */
function tell(what: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${what.slice(0, 100)}`);
}

/** Whether all that was compared holds. `worker`: the program of the processes that compare. Errors: UsageError. */
export async function runAgreement(args: readonly string[], worker?: string): Promise<boolean> {
  const string = { type: "string" } as const;
  const { values: flags } = parseArgs({
    args: [...args],
    options: {
      texts: { ...string, default: "1000" },
      steps: { ...string, default: "64" },
      few: { ...string, default: "50" },
      fewer: { ...string, default: "32" },
      only: string,
      dtypes: { ...string, default: allDtypes.join() },
      subjects: string,
      out: string,
      merge: string,
      engines: string,
      help: { type: "boolean", default: false },
    },
  });
  if (flags.help) {
    say(help);
    return true;
  }
  const module = await importEngines(flags.engines);
  const names = module.engines.map(({ name }) => name);
  const folder = flags.out ?? join(committed, "agreement");
  const pages = flags.out ?? join(root, "docs");
  if (flags.merge !== undefined) {
    const results = filedIn(flags.merge);
    const filing = new Filing(folder, pages, names, results.machine);
    filing.merge(results);
    say(filing.files.join("\n"));
    return true;
  }
  const asked = {
    ...{ texts: countOf("--texts", flags.texts), steps: countOf("--steps", flags.steps) },
    ...{ few: countOf("--few", flags.few), fewer: countOf("--fewer", flags.fewer) },
    only: flags.only === undefined ? undefined : listOf("--only", flags.only, names),
    dtypes: listOf("--dtypes", flags.dtypes, allDtypes),
    subjects: flags.subjects === undefined ? ordinary : listOf("--subjects", flags.subjects, allSubjects),
    // A run of a part replaces that part.
    whole: flags.only === undefined && flags.subjects === undefined && flags.dtypes === allDtypes.join(),
  };
  const filing = new Filing(folder, pages, names);
  const children: Children = { engines: flags.engines, worker, tell };
  const holds = await new Matrix(module, asked, children, filing, say).run();
  tell("");
  say(filing.files.join("\n"));
  return holds;
}

function filedIn(path: string): AgreementResults {
  try {
    return parseAgreement(JSON.parse(readFileSync(resolve(path), "utf8")) as AgreementResults);
  } catch (error) {
    throw new UsageError(`--merge names ${path}, which cannot be read as results: ${(error as Error).message}`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.exit((await orExplain(() => runAgreement(process.argv.slice(2)))) ? 0 : 1);
