// `npm run bench:report`: docs/performance.md and its plots, from the results under benchmarks/results and from nothing else.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bars, type Group, number } from "./plot.ts";
import { all, type ModelResult, type PeerResult, type Results, root } from "./results.ts";

const percent = (share: number | null | undefined): string =>
  share === null || share === undefined ? "–" : `${(100 * share).toFixed(0)} %`;
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
const shapeOf = ({ shape, moe }: ModelResult): string => (moe ? `${shape} with experts` : shape);
const order = ["tiny", "20m", "60m", "160m", "320m"];
const dtypes = ["f32", "bf16", "q8", "q4"];

/** Smaller models first, then dtypes, threads and rows. */
function sorted(models: readonly ModelResult[]): ModelResult[] {
  const rank = (one: ModelResult): number[] => [
    ...[order.indexOf(one.shape), Number(one.moe), dtypes.indexOf(one.dtype), one.threads, one.rows],
  ];
  return [...models].sort((a, b) => {
    const [left, right] = [rank(a), rank(b)];
    const at = left.findIndex((value, index) => value !== right[index]);
    return at < 0 ? 0 : left[at]! - right[at]!;
  });
}

function modelTable(models: readonly ModelResult[]): string[] {
  const at = (one: ModelResult, context: string): string => {
    const rate = one.decodeTokensPerSecond[context];
    return rate === undefined ? "–" : `${number(rate)} (${percent(one.decodeCeilingShare[context])})`;
  };
  return table(
    [
      "model",
      "weights",
      "threads",
      "rows",
      "prefill",
      "decode @16",
      "@512",
      "@2048",
      "load",
      "first token",
      "memory",
      "logits",
    ],
    sorted(models).map((one) => [
      ...[shapeOf(one), one.dtype, String(one.threads), String(one.rows)],
      `${number(one.prefillTokensPerSecond)} (${percent(one.ceilingShare.prefill)})`,
      ...[at(one, "16"), at(one, "512"), at(one, "2048")],
      ...[
        `${one.loadMs.toFixed(0)} ms`,
        `${one.firstTokenMs.toFixed(0)} ms`,
        megabytes(one.peakBytes),
        `\`${one.hash}\``,
      ],
    ]),
  );
}

/** What must be reached at 60M on one thread, and against whom: ours, theirs, the measure, at least. */
const goals: readonly (readonly [own: string, other: string, measure: string, least: number])[] = [
  ["doge q8", "llama.cpp q8_0", "16", 1.2],
  ["doge q4", "llama.cpp q4_0", "16", 1.5],
  ["doge f32", "llama.cpp f32", "16", 1.0],
  ["doge q8", "llama.cpp q8_0", "512", 1.2],
  ["doge q4", "llama.cpp q4_0", "512", 1.4],
  ["doge f32", "llama.cpp f32", "512", 1.0],
  ["doge q8", "llama.cpp q8_0", "prefill", 1.0],
  ["doge revectorized q8", "llama.cpp q8_0", "prefill", 1.8],
  ["doge revectorized q8", "onnxruntime-node int8", "prefill", 0.55],
  ["doge f32", "onnxruntime-web fp32", "prefill", 4],
  ["doge f32", "PyTorch f32", "prefill", 0.7],
];

const rateOf = (result: PeerResult, measure: string): number | undefined =>
  measure === "prefill" ? result.prefillTokensPerSecond : result.decodeTokensPerSecond[measure];
const named = ({ engine, kind }: PeerResult): string => `${engine} ${kind}`;

function goalTable(peers: readonly PeerResult[]): string[] {
  const rows = goals.flatMap(([own, other, measure, least]) => {
    const rate = (name: string): number | undefined => {
      const found = peers.find((result) => named(result) === name);
      return found === undefined ? undefined : rateOf(found, measure);
    };
    const [ours, theirs] = [rate(own), rate(other)];
    if (ours === undefined || theirs === undefined) return [];
    const what = measure === "prefill" ? "prefill 512" : `decode @${measure}`;
    const ratio = ours / theirs;
    return [[what, own, other, number(ratio), number(least), ratio >= least ? "reached" : "**not reached**"]];
  });
  return rows.length === 0 ? [] : ["", ...table(["", "ours", "against", "ratio", "goal", ""], rows)];
}

/** Peers of one shape and thread count: a plot, every figure, and the ratios that are goals. */
function peerSection(peers: readonly PeerResult[], file: string): string[] {
  const { shape, threads } = peers[0]!;
  const measures = ["prefill", ...Object.keys(peers[0]!.decodeTokensPerSecond)];
  const title = (measure: string): string => (measure === "prefill" ? "prompt of 512" : `decoding at ${measure}`);
  const groups: Group[] = measures.map((measure) => ({
    title: `${title(measure)}, tokens/s`,
    bars: [...peers]
      .sort((a, b) => rateOf(b, measure)! - rateOf(a, measure)!)
      .map((result) => ({
        label: named(result),
        value: rateOf(result, measure)!,
        ours: result.engine.startsWith("doge"),
      })),
  }));
  const plural = threads === 1 ? "thread" : "threads";
  plot(file, bars(`${shape}, ${threads} ${plural}`, groups));
  return [
    `### ${shape} beside other engines, ${threads} ${plural}`,
    "",
    `![Tokens per second of every engine](performance/${file})`,
    "",
    "In brackets how far the slowest repetition lies behind the fastest.",
    "",
    ...table(
      ["engine", "version", ...measures.map(title)],
      peers.map((result) => [
        named(result),
        result.version,
        ...measures.map((measure) => {
          const times = result.samples[measure]!;
          const fastest = Math.min(...times);
          const spread = `${((100 * (Math.max(...times) - fastest)) / fastest).toFixed(0)} %`;
          return `${number(rateOf(result, measure)!)} (${spread})`;
        }),
      ]),
    ),
    ...(shape === "60m" && threads === 1 ? goalTable(peers) : []),
    "",
  ];
}

const plots = join(root, "docs", "performance");
function plot(file: string, svg: string): void {
  mkdirSync(plots, { recursive: true });
  writeFileSync(join(plots, file), svg);
}

function section({ machine, models, kernels, peers }: Results, index: number): string[] {
  const lines = [
    `## ${machine.cpu}, ${machine.cores} cores`,
    "",
    `${machine.system}, Node ${machine.node} (V8 ${machine.v8}).`,
    "",
  ];
  if (models.length > 0) {
    const single = sorted(models).filter(({ threads, rows, moe }) => threads === 1 && rows === 1 && !moe);
    const file = `models-${index}.svg`;
    const chart = (title: string, value: (one: ModelResult) => number | undefined): Group => ({
      title,
      bars: single.flatMap((one) => {
        const rate = value(one);
        return rate === undefined ? [] : [{ label: `${one.shape} ${one.dtype}`, value: rate, ours: true }];
      }),
    });
    const groups = [
      chart("prompt of 512, tokens/s", (one) => one.prefillTokensPerSecond),
      ...["16", "512", "2048"].map((at) =>
        chart(`decoding at ${at}, tokens/s`, (one) => one.decodeTokensPerSecond[at]),
      ),
    ].filter((group) => group.bars.length > 0);
    if (groups.length > 0) plot(file, bars("Doge, one thread, one row", groups));
    lines.push(
      "### Models",
      "",
      ...(groups.length > 0 ? [`![Tokens per second of every size](performance/${file})`, ""] : []),
      "Tokens per second, all rows together; in brackets the share of the shortest time that the ceilings of the same run allow.",
      "",
      ...modelTable(models),
      "",
      ...ceilingLines(models),
    );
  }
  const runs = Map.groupBy(peers, ({ shape, threads }) => `${shape}-${threads}`);
  for (const [name, group] of runs) lines.push(...peerSection(group, `peers-${index}-${name}.svg`));
  if (kernels.length > 0) {
    lines.push(
      "### Kernels",
      "",
      ...table(
        ["kernel", "time", "GB/s", "GMAC/s", "of ceiling", "output"],
        kernels.map((one) => [
          ...[one.kernel, `${one.milliseconds.toFixed(3)} ms`, number(one.bytesPerSecond / 1e9)],
          ...[one.macs === 0 ? "–" : number(one.macsPerSecond / 1e9), percent(one.share), `\`${one.hash}\``],
        ]),
      ),
      "",
    );
  }
  const commits = new Set([...models, ...kernels, ...peers].map(({ commit, date }) => `${commit} (${date})`));
  lines.push(`Measured at ${[...commits].join(", ")}.`, "");
  return lines;
}

/** The ceilings that stood beside the models: the range over their runs. */
function ceilingLines(models: readonly ModelResult[]): string[] {
  const measured = models.flatMap(({ ceilings, dtype, threads }) =>
    ceilings === null ? [] : [{ ...ceilings, dtype, threads }],
  );
  const rows = [...Map.groupBy(measured, ({ dtype, threads }) => `${dtype}, ${threads}`)].map(([name, list]) => {
    const range = (value: (one: (typeof list)[number]) => number): string => {
      const values = list.map((one) => value(one) / 1e9);
      const [least, most] = [number(Math.min(...values)), number(Math.max(...values))];
      return least === most ? least : `${least} to ${most}`;
    };
    return [
      name,
      range((one) => one.bytesPerSecond),
      range((one) => one.macsPerSecond),
      [...new Set(list.flatMap(({ loops }) => loops))].join(", "),
    ];
  });
  return rows.length === 0 ? [] : [...table(["weights, threads", "GB/s", "GMAC/s", "fastest loops"], rows), ""];
}

const machines = all();
if (machines.length === 0) {
  console.error("There are no results under benchmarks/results: run npm run bench first.");
  process.exit(1);
}
const page = [
  "# Performance",
  "",
  "Made by `npm run bench:report` from `benchmarks/results`; [how it is measured](benchmarking.md). Only figures of one run compare.",
  "",
  ...machines.flatMap(section),
];
writeFileSync(join(root, "docs", "performance.md"), page.join("\n"));
console.log(`docs/performance.md: ${machines.length} ${machines.length === 1 ? "machine" : "machines"}`);
