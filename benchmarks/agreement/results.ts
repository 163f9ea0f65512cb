// The filed results of `npm run agreement`: one JSON file per machine, a line for each first difference.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DType } from "@doge-lm/core";
import type { Agreement, Difference } from "../compare.ts";
import { type EngineResult, type Failure, machine, type Origin, type Results, slug, writeWhole } from "../results.ts";
import type { SubjectName } from "../subjects.ts";

export interface AgreementEntry extends Agreement, Origin {
  readonly engine: string;
  readonly subject: SubjectName;
  readonly dtype: DType;
}

/** What a run printed of a comparison, where its file did not come back from the machine it ran on. */
export interface PrintedLine extends Origin {
  readonly engine: string;
  readonly dtype: DType;
  readonly maxDifference: number;
  readonly meanKl: number;
  readonly texts: number;
  readonly steps: number;
  readonly sameTexts: number;
}

export interface AgreementResults {
  readonly machine: Results["machine"];
  /** Who drew the texts that all are compared with, and how it was held to the truth; null until the demo model was part of a run. */
  readonly baseline: {
    readonly engine: string;
    readonly truth: string;
    readonly texts: number;
    readonly steps: number;
    readonly sameTokens: number;
    readonly ties: number;
    readonly maxDifference: number;
  } | null;
  readonly engines: readonly EngineResult[];
  readonly entries: readonly AgreementEntry[];
  readonly printed?: readonly PrintedLine[];
  readonly failures: readonly Failure[];
}

/** A first difference as it is filed: numbers to four digits. */
type Line = readonly [
  text: number,
  step: number,
  expected: number,
  found: number,
  margin: number,
  deviations: number,
  flags: string,
];
const short = (value: number): number => Number(value.toPrecision(4));
const toLine = (one: Difference): Line => [
  ...([one.text, one.step, one.expected, one.found, short(one.margin), short(one.deviations)] as const),
  `${one.tie ? "tie" : ""}${one.behindEnd ? " behind end" : ""}`.trim(),
];
const ofLine = ([text, step, expected, found, margin, deviations, flags]: Line): Difference => ({
  ...{ text, step, expected, found, margin, deviations },
  ...{ tie: flags.includes("tie"), behindEnd: flags.includes("behind end") },
});

export function fileAgreement(folder: string, results: AgreementResults): string {
  const file = join(folder, `${slug(results.machine)}.json`);
  const entries = results.entries.map((entry) => ({ ...entry, differences: entry.differences.map(toLine) }));
  // A difference is one line, not eight.
  const text = JSON.stringify({ ...results, entries }, null, 1).replaceAll(
    /\[\s+(-?[\d.e-]+),\s+(-?[\d.e-]+),\s+(-?[\d.e-]+),\s+(-?[\d.e-]+),\s+(-?[\d.e-]+),\s+(-?[\d.e-]+),\s+("[a-z ]*")\s+\]/g,
    "[$1, $2, $3, $4, $5, $6, $7]",
  );
  writeWhole(file, `${text}\n`);
  return file;
}

/** The results of a machine so far, of this one when none is named. */
export function readAgreement(folder: string, of: Results["machine"] = machine()): AgreementResults {
  const file = join(folder, `${slug(of)}.json`);
  const empty = { machine: of, baseline: null, engines: [], entries: [], failures: [] };
  return existsSync(file) ? { ...parseAgreement(JSON.parse(readFileSync(file, "utf8"))), machine: of } : empty;
}

/** As filed. */
export function parseAgreement(results: AgreementResults): AgreementResults {
  const entries = results.entries.map((entry) => ({
    ...entry,
    differences: (entry.differences as unknown as Line[]).map(ofLine),
  }));
  return { ...results, entries };
}
