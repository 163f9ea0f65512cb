// Files what a run of `npm run agreement` finds, each comparison as it is made: a run that is ended keeps what it found.
import { relative } from "node:path";
import type { DType } from "@doge-lm/core";
import { allDtypes } from "../flags.ts";
import { type EngineResult, type Failure, type Results, replaced, root, writeWhole } from "../results.ts";
import { type SubjectName, subjects, titleOf } from "../subjects.ts";
import { agreementFiles } from "./report.ts";
import { type AgreementEntry, type AgreementResults, fileAgreement, readAgreement } from "./results.ts";

/** One comparison of the matrix. */
export interface Cell {
  readonly engine: string;
  readonly dtype: DType;
  readonly subject: SubjectName;
}

/** As a failure names it. */
export const whatOf = ({ dtype, subject }: Cell): string => `${dtype} on the ${titleOf(subject)}`;
/** What is wrong with an engine that answers nothing. */
export const OPENING = "being opened";

const cellKey = ({ engine, dtype, subject }: Cell): string => `${engine}, ${whatOf({ engine, dtype, subject })}`;
const failureKey = ({ engine, what }: Pick<Failure, "engine" | "what">): string => `${engine}, ${what}`;

/** The results of one machine in a folder, and what is made of them. */
export class Filing {
  readonly #folder: string;
  readonly #pages: string;
  readonly #engines: readonly string[];
  #results: AgreementResults;

  /** `pages`: the folder of agreement.md; `engines`: their order; `of`: this machine when it is left out. */
  constructor(folder: string, pages: string, engines: readonly string[], of?: Results["machine"]) {
    this.#folder = folder;
    this.#pages = pages;
    this.#engines = engines;
    this.#results = readAgreement(folder, of);
  }

  /** What an engine says of itself. */
  engine(result: EngineResult): void {
    const engines = replaced(this.#results.engines, result, ({ engine }) => engine);
    this.#file({ engines, failures: this.#without(failureKey({ engine: result.engine, what: OPENING })) });
  }

  baseline(baseline: AgreementResults["baseline"]): void {
    this.#file({ baseline });
  }

  /** A comparison, in place of an earlier one of the same cell; and what it failed by, when it does not hold. */
  entry(entry: AgreementEntry, failure?: Failure): void {
    const entries = replaced(this.#results.entries, entry, cellKey);
    this.#file({ entries, failures: [...this.#without(cellKey(entry)), ...(failure === undefined ? [] : [failure])] });
  }

  /** What could not be compared: an earlier comparison says nothing of it any more. */
  failure(failure: Failure): void {
    const key = failureKey(failure);
    const entries = this.#results.entries.filter((one) => cellKey(one) !== key);
    this.#file({ entries, failures: [...this.#without(key), failure] });
  }

  /** Another filing of this machine, over this one. */
  merge({ baseline, engines, entries, failures }: AgreementResults): void {
    for (const one of engines) this.engine(one);
    if (baseline !== null) this.baseline(baseline);
    for (const entry of entries) {
      this.entry(
        entry,
        failures.find((failure) => failureKey(failure) === cellKey(entry)),
      );
    }
    const compared = new Set(entries.map(cellKey));
    for (const failure of failures) if (!compared.has(failureKey(failure))) this.failure(failure);
  }

  /** A run of everything was made of `cells` with `engines`: what else was filed is of earlier runs. */
  keepOnly(cells: readonly Cell[], engines: readonly string[]): void {
    const keys = new Set([...cells.map(cellKey), ...engines.map((engine) => failureKey({ engine, what: OPENING }))]);
    this.#file({
      engines: this.#results.engines.filter(({ engine }) => engines.includes(engine)),
      entries: this.#results.entries.filter((entry) => keys.has(cellKey(entry))),
      failures: this.#results.failures.filter((failure) => keys.has(failureKey(failure))),
    });
  }

  #without(key: string): Failure[] {
    return this.#results.failures.filter((failure) => failureKey(failure) !== key);
  }

  /** By checkpoint, engine and dtype, whoever was done first. */
  #rank({ engine, subject, dtype }: Cell): number {
    return 10_000 * subjects.indexOf(subject) + 10 * this.#engines.indexOf(engine) + allDtypes.indexOf(dtype);
  }

  #file(change: Partial<AgreementResults>): void {
    const results = { ...this.#results, ...change };
    const entries = [...results.entries].sort((a, b) => this.#rank(a) - this.#rank(b));
    const engines = [...results.engines].sort(
      (a, b) => this.#engines.indexOf(a.engine) - this.#engines.indexOf(b.engine),
    );
    this.#results = { ...results, entries, engines };
    fileAgreement(this.#folder, this.#results);
    for (const [path, content] of agreementFiles(this.#folder, this.#pages)) writeWhole(path, content);
  }

  /** What was written, for people. */
  get files(): string[] {
    return [...agreementFiles(this.#folder, this.#pages).keys()].map((path) => relative(root, path));
  }
}
