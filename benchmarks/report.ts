// `npm run bench:report`: the reports of all machines, from the filed results and from nothing else: docs/performance.md with its charts,
// and beside each machine's JSON its figures as CSV, its tables as Markdown and all of it as one HTML file.
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { agreementFiles } from "./agreement/report.ts";
import { type Chart, standalone } from "./report/charts.ts";
import { csv } from "./report/csv.ts";
import { type Block, html, markdown } from "./report/document.ts";
import { blocksOf } from "./report/page.ts";
import { all, committed, type Results, root, slug, writeWhole } from "./results.ts";

const named = ({ cpu, cores }: Results["machine"]): string => `${cpu}, ${cores} ${cores === 1 ? "core" : "cores"}`;

/** Every file of the reports of `machines`, by path: beside their results in `folder`, and the pages of `docs` where there is one. */
export function reportFiles(machines: readonly Results[], folder: string, docs: string | null): Map<string, string> {
  const files = new Map<string, string>();
  const pages: Block[] = [];
  const charts: Chart[] = [];
  for (const results of machines) {
    const name = slug(results.machine);
    const blocks = blocksOf(results, named(results.machine), `${name}-`);
    const lead = "Made by `npm run bench`. Only figures of one run compare.";
    files.set(join(folder, `${name}.csv`), csv(results));
    files.set(
      join(folder, `${name}.md`),
      `# Doge on ${named(results.machine)}\n\n${lead}\n\n${detached(markdown(blocks, null))}`,
    );
    files.set(join(folder, `${name}.html`), html(`Doge on ${named(results.machine)}`, lead, blocks));
    pages.push(...blocks);
    charts.push(...blocks.flatMap((block) => block.charts ?? []));
  }
  if (docs === null) return files;
  const lead =
    "Made by `npm run bench` and `npm run bench:report` from `benchmarks/results`, where each machine also has its figures as CSV and this page as one HTML file; [how it is measured](benchmarking.md). Only figures of one run compare.";
  files.set(join(docs, "performance.md"), `# Performance\n\n${lead}\n\n${markdown(pages, "performance")}`);
  for (const chart of charts) files.set(join(docs, "performance", `${chart.name}.svg`), standalone(chart));
  return files;
}

/** Links into the documentation, as a file of another folder has them. */
const detached = (page: string): string => page.replaceAll(/\]\((\w+\.md)/g, "](../../docs/$1");

/** Write the reports of what is filed in `folder`; what was written. `only`: of this machine alone, for a folder that is not committed. */
export function writeReports(folder: string, docs: string | null, only?: string): string[] {
  const pages = docs === null ? null : join(root, docs);
  const machines = all<Results>(folder).filter(({ machine }) => docs !== null || slug(machine) === only);
  const files = reportFiles(machines, folder, pages);
  if (pages !== null) {
    for (const [file, content] of agreementFiles(join(folder, "agreement"), pages)) files.set(file, content);
    const old = join(pages, "performance");
    for (const name of existsSync(old) ? readdirSync(old) : []) {
      if (!files.has(join(old, name))) rmSync(join(old, name));
    }
  }
  for (const [file, content] of files) writeWhole(file, content);
  return [...files.keys()].filter((file) => /\.(html|md)$/.test(file)).map((file) => relative(root, file));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const written = writeReports(committed, "docs");
  if (written.length === 0) {
    console.error("There are no results under benchmarks/results: run npm run bench first.");
    process.exit(1);
  }
  console.log(written.join("\n"));
}
