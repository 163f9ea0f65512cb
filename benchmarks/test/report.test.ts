// Reports: those in the repository are what its results give, and charts are to scale.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { agreementFiles } from "../agreement/report.ts";
import { bars, lines, number, standalone } from "../report/charts.ts";
import { html, markdown } from "../report/document.ts";
import { reportFiles } from "../report.ts";
import { all, committed, type Results, root } from "../results.ts";
import { malformed, parseCsv } from "./markup.ts";

const docs = join(root, "docs");

const machines = all<Results>(committed);

describe("the committed reports", () => {
  const agreement = agreementFiles(join(committed, "agreement"), docs);
  const files = new Map([...reportFiles(machines, committed, docs), ...agreement]);

  test.each([...files.keys()].map((file) => [basename(file), file]))("%s is what the results give", (_name, file) => {
    expect(readFileSync(file, "utf8")).toBe(files.get(file));
  });

  test("there is no chart that no report has", () => {
    const folder = join(docs, "performance");
    const known = [...files.keys()].map((file) => basename(file));
    expect((existsSync(folder) ? readdirSync(folder) : []).filter((name) => !known.includes(name))).toEqual([]);
  });

  test("every file is well-formed", () => {
    for (const [file, content] of files) {
      if (/\.(svg|html)$/.test(file)) expect([file, malformed(content)]).toEqual([file, undefined]);
      if (!file.endsWith(".csv")) continue;
      const table = parseCsv(content);
      expect(table.length).toBeGreaterThan(1);
      for (const line of table) expect(line).toHaveLength(table[0]!.length);
    }
  });

  test("of an engine that was not there the reason stands, not what to do about it", () => {
    const [results] = machines;
    const engines = [
      { engine: "cuda", available: false, why: "The driver is not installed; install it with `npx something`." },
      { engine: "webgpu", available: false, why: "There is no GPU: Linux shows none." },
    ] as unknown as Results["engines"];
    const page = [...reportFiles([{ ...results!, engines }], committed, null)].find(([file]) =>
      file.endsWith(".md"),
    )![1];
    expect(page).toContain("| cuda | not here: The driver is not installed. |");
    expect(page).toContain("| webgpu | not here: There is no GPU. |");
  });

  test("no speed stands beside what failed to agree", () => {
    const title = ({ shape, moe, dtype, rows }: Results["models"][number]) =>
      `${shape}${moe ? " with experts" : ""} ${dtype}${rows === 1 ? "" : `, ${rows} rows`}`;
    for (const { failures, models } of machines) {
      for (const { engine, what, kind } of failures) {
        if (kind === "left out") continue;
        expect(models.filter((one) => one.engine === engine && title(one) === what)).toEqual([]);
      }
    }
  });
});

describe("charts", () => {
  test("bars are as long as their numbers, and labels are text", () => {
    const { svg } = bars("one", "Speeds of <a> & b", "tokens/s", [
      { label: "a < b", value: 100 },
      { label: "other", value: 25, ours: false },
    ]);
    expect(malformed(svg)).toBeUndefined();
    const found = [...svg.matchAll(/<rect class="(?:ours|other)"[^>]* width="([\d.]+)" height="10"/g)];
    const [first, second] = found.map((match) => Number(match[1]));
    expect(second! / first!).toBeCloseTo(0.25, 2);
    expect(svg).toContain("a &lt; b 100; other 25.0.");
    expect(malformed(standalone({ name: "one", svg }))).toBeUndefined();
  });

  test("lines rise with their numbers from 0, over an axis that doubles", () => {
    const up = [
      [16, 10],
      [64, 20],
      [1024, 40],
    ] as const;
    const down = [
      [16, 40],
      [1024, 20],
    ] as const;
    const { svg } = lines("two", "Decoding", "tokens/s", "context", [
      { name: "up", colour: 0, points: up },
      { name: "down", colour: 1, points: down },
    ]);
    expect(malformed(svg)).toBeUndefined();
    const path = /<path class="line c0" d="([^"]*)"/.exec(svg)![1]!;
    const points = path.split(/[ML]/).slice(1);
    const [[x0, y0], [x1, y1], [x2, y2]] = points.map((point) => point.split(" ").map(Number)) as [
      [number, number],
      [number, number],
      [number, number],
    ];
    // 16 to 64 are two doublings of six; from 10 to 40 is half as much again as from 20 to 40.
    expect((x1 - x0) / (x2 - x0)).toBeCloseTo(1 / 3, 2);
    expect((y0 - y2) / (y1 - y2)).toBeCloseTo(1.5, 1);
    expect(svg).toContain("up: 10.0 at 16, 20.0 at 64, 40.0 at 1024; down: 40.0 at 16, 20.0 at 1024.");
  });

  test("figures stand behind a name, or below it where they would run into it", () => {
    const points = (value: number) => [16, 128, 512, 1024, 2048].map((x) => [x, value] as const);
    const { svg } = lines("three", "Decoding", "tokens/s", "context", [
      { name: "wasm", colour: 0, points: points(1000) },
      { name: "wasm x2 revectorized", colour: 1, points: points(1000) },
    ]);
    const at = (content: string): number[] =>
      [...svg.matchAll(/<text x="[^"]*" y="([^"]*)"[^>]*>([^<]*)</g)]
        .filter(([, , found]) => found === content)
        .map(([, y]) => Number(y));
    const figures = at(Array(5).fill("1,000").join("\u2002"));
    expect(figures[0]).toBe(at("wasm")[0]);
    expect(figures[1]).toBeGreaterThan(at("wasm x2 revectorized")[0]!);
  });

  test("every engine stands in the plots, and what was given a shorter prompt says so", () => {
    for (const results of machines) {
      const text = [...reportFiles([results], "r", "d")].map(([, content]) => content).join("\n");
      for (const { engine, dtype, shape, moe, rows, prompt, decodeTokensPerSecond } of results.models) {
        if (rows !== 1 || moe) continue;
        const name = `${dtype}, ${engine}`;
        const most = Math.max(
          ...results.models.filter((one) => one.shape === shape && one.rows === 1 && !one.moe).map((one) => one.prompt),
        );
        expect(text).toContain(`>${name}${prompt < most ? `, prompt of ${prompt} only` : ""}</text>`);
        const points = Object.entries(decodeTokensPerSecond).map(([at, rate]) => `${number(rate)} at ${at}`);
        if (points.length > 1) expect(text).toContain(`${engine}: ${points.join(", ")}`);
      }
    }
  });

  test("columns of figures are set to the right, names and sentences to the left", () => {
    const rows = [
      ["wasm", "1,234 (56 %)", "12.5 ms", "1 of 2", "–"],
      ["webgpu", "9.10", "–", "x", "1.5 MB"],
    ];
    const page = html("M", "", [
      { level: 2, title: "M" },
      { level: 3, title: "T", tables: [{ head: ["engine", "speed", "load", "ids", "memory"], rows }] },
    ]);
    expect([...page.matchAll(/<th scope="col"( class="figure")?>/g)].map(([, kind]) => kind !== undefined)).toEqual([
      ...[false, true, true, false, true],
    ]);
    expect(page.match(/<td class="figure">/g)).toHaveLength(6);
  });

  test("cells cannot break out of a table, in Markdown or HTML", () => {
    const blocks = [
      { level: 2, title: "M" },
      { level: 3, title: "T", tables: [{ head: ["a"], rows: [["x | y\n<script>"]] }] },
    ] as const;
    expect(markdown(blocks, null)).toContain("| x \\| y &lt;script&gt; |");
    const page = html("M", "", blocks);
    expect(page).toContain("&lt;script&gt;");
    expect(malformed(page)).toBeUndefined();
  });
});
