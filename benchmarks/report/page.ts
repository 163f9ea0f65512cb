// What the report of a machine says, from its results and from nothing else.
import type { GateResult, ModelResult, Results } from "../results.ts";
import { titleOf } from "../subjects.ts";
import { bars, type Chart, lines, number, PALETTE, type Series } from "./charts.ts";
import type { Block, Table } from "./document.ts";
import { peerBlocks } from "./peers.ts";

const percent = (share: number | null | undefined): string =>
  share === null || share === undefined ? "–" : `${(100 * share).toFixed(0)} %`;
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 0)} MB`;
const small = (value: number): string => (value === 0 ? "0" : value.toExponential(1));
const shapeOf = ({ shape, moe }: ModelResult): string => (moe ? `${shape} with experts` : shape);
const SHAPES = ["tiny", "20m", "60m", "160m", "320m"];
const DTYPES = ["f32", "bf16", "q8", "q4"];
const ENGINES = /^(wasm|webgpu|cuda|reference)( simd)?( x\d+)?( revectorized)?$/;

/** Smaller models first, then dtypes, engines and rows. */
function sorted(models: readonly ModelResult[]): ModelResult[] {
  const rank = (one: ModelResult): number[] => [
    ...[SHAPES.indexOf(one.shape), Number(one.moe), DTYPES.indexOf(one.dtype), colourOf(one.engine), one.rows],
  ];
  return [...models].sort((a, b) => {
    const [left, right] = [rank(a), rank(b)];
    const at = left.findIndex((value, index) => value !== right[index]);
    return at < 0 ? 0 : left[at]! - right[at]!;
  });
}

/** The place of an engine in every chart and table, and its colour. */
function colourOf(engine: string): number {
  const found = ENGINES.exec(engine);
  if (found === null) return PALETTE - 1;
  const [, backend, , threads, wide] = found;
  if (backend === "webgpu") return 4;
  if (backend === "cuda") return 5;
  if (backend === "reference") return 6;
  return (threads === undefined ? 0 : 2) + (wide === undefined ? 0 : 1);
}

export function blocksOf(results: Results, title: string, prefix: string): Block[] {
  const name = (chart: string): string => `${prefix}${chart.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
  const models = sorted(results.models);
  return [
    { level: 2, title, text: [aboutOf(results)] },
    ...failureBlock(results),
    ...agreementBlock(results),
    ...speedBlocks(models, name),
    ...gpuBlock(results),
    ...kernelBlock(results),
    ...sizeBlock(results, name),
    ...tokenizerBlock(results, name),
    ...peerBlocks(results.peers, name),
    ...engineBlock(results),
  ];
}

function aboutOf({ machine, models, gates, failures, peers, tokenizer }: Results): string {
  const commits = new Set([...models, ...gates].map(({ commit, date }) => `${commit} (${date})`));
  const others = new Set(
    [...peers, ...(tokenizer === null ? [] : [tokenizer])].map(({ commit, date }) => `${commit} (${date})`),
  );
  for (const commit of commits) others.delete(commit);
  const also = others.size === 0 ? "" : `; peers and tokenizer at ${[...others].join(", ")}`;
  const wrong = failures.filter(({ kind }) => kind === "disagrees").length;
  const verdict =
    gates.length === 0
      ? "Nothing was compared."
      : wrong === 0
        ? `**Everything that was timed agreed first**: ${gates.length} comparisons with the reference.`
        : `**${wrong} timings were refused, since the results disagree with the reference.**`;
  return `${machine.system}, Node ${machine.node} (V8 ${machine.v8}). Measured at ${[...commits].join(", ")}${also}. ${verdict}`;
}

function failureBlock({ failures }: Results): Block[] {
  if (failures.length === 0) return [];
  const rows = failures.map(({ engine, what, kind, why }) => [
    engine,
    what,
    kind === "left out" ? kind : `**${kind}**`,
    why,
  ]);
  return [
    {
      ...{ level: 3, title: "What has no speed" },
      text: ["What disagrees with the reference, died or was left out has no speed in this report."],
      tables: [{ head: ["engine", "what", "", "why"], rows }],
    },
  ];
}

/** A cell of each engine and dtype: how it agreed before it was timed. */
function agreementCell({
  dtype,
  sameTokens,
  texts,
  steps,
  ties,
  maxDifference,
  meanKl,
  alikeKl,
  agrees,
}: GateResult): string {
  const found =
    dtype === "f32"
      ? `${sameTokens} of ${texts * steps} ids${ties === 0 ? "" : ` (${ties} ties)`}, ${small(maxDifference)} σ`
      : `KL ${small(meanKl)}${alikeKl === null ? "" : `, arithmetic ${small(alikeKl)}`}`;
  return agrees ? found : `**disagrees**: ${found}`;
}

function agreementBlock({ gates }: Results): Block[] {
  if (gates.length === 0) return [];
  const engines = [...new Set(gates.map(({ engine }) => engine))].sort((a, b) => colourOf(a) - colourOf(b));
  const keys = [...new Set(gates.map(({ subject, dtype }) => `${subject}\t${dtype}`))].map((key) => key.split("\t"));
  const rank = ([subject, dtype]: string[]): number => (subject === "demo" ? 0 : 10) + DTYPES.indexOf(dtype!);
  const rows = keys
    .sort((a, b) => rank(a) - rank(b))
    .map(([subject, dtype]) => [
      ...[titleOf(subject as GateResult["subject"]), dtype!],
      ...engines.map((engine) => {
        const found = gates.find((gate) => gate.engine === engine && gate.subject === subject && gate.dtype === dtype);
        return found === undefined ? "–" : agreementCell(found);
      }),
    ]);
  return [
    {
      ...{ level: 3, title: "Agreement, before anything was timed" },
      text: [
        "f32: how many ids drawn greedily are those of the reference (a tie is a choice whose margin is below the tolerance), and how far apart logits are at most, in standard deviations. Rounded weights: mean KL in nats to the reference in f32, and to the reference with the same weights, which is what the arithmetic alone costs. The [agreement report](agreement.md) has far more.",
      ],
      tables: [{ head: ["checkpoint", "weights", ...engines], rows }],
    },
  ];
}

function speedBlocks(models: readonly ModelResult[], name: (chart: string) => string): Block[] {
  const single = models.filter(({ rows }) => rows === 1);
  if (single.length === 0) return [];
  const kinds = Map.groupBy(single, (one) => `${shapeOf(one)} ${one.dtype}`);
  const contexts: Chart[] = [];
  for (const [kind, list] of kinds) {
    const series = list
      .map(
        (one): Series => ({
          ...{ name: one.engine, colour: colourOf(one.engine) },
          points: Object.entries(one.decodeTokensPerSecond).map(([at, rate]) => [Number(at), rate] as const),
        }),
      )
      .filter(({ points }) => points.length > 2);
    if (series.length > 0) {
      contexts.push(lines(name(`context ${kind}`), `${kind}: decoding`, "tokens/s", "context, tokens", series));
    }
  }
  const rowCharts: Chart[] = [];
  for (const [shape, list] of Map.groupBy(models, (one) => `${shapeOf(one)}, ${one.engine}`)) {
    const series = [...Map.groupBy(list, ({ dtype }) => dtype)]
      .map(
        ([dtype, same]): Series => ({
          ...{ name: dtype, colour: DTYPES.indexOf(dtype) },
          points: same.flatMap((one) => {
            const rate = one.decodeTokensPerSecond["16"];
            return rate === undefined ? [] : [[one.rows, rate] as const];
          }),
        }),
      )
      .filter(({ points }) => points.length > 1);
    if (series.length > 0)
      rowCharts.push(
        lines(name(`rows ${shape}`), `${shape}: rows`, "tokens/s of all rows together, at 16", "rows", series),
      );
  }
  const by = (title: string, unit: string, value: (one: ModelResult) => number | null | undefined): Chart[] =>
    [...Map.groupBy(single, shapeOf)].flatMap(([shape, list]) => {
      const found = list.flatMap((one) => {
        const own = value(one);
        return own === null || own === undefined ? [] : [{ label: `${one.dtype}, ${one.engine}`, value: own }];
      });
      return found.length === 0 ? [] : [bars(name(`${title} ${shape}`), `${shape}: ${title}`, unit, found)];
    });
  const block = (title: string, text: string, charts: Chart[], tables: Table[] = []): Block[] =>
    charts.length === 0 && tables.length === 0 ? [] : [{ level: 3, title, text: [text], charts, tables }];
  return [
    ...block(
      "Tokens per second against context",
      "One row. Numbers behind a name are its points from left to right.",
      contexts,
    ),
    ...block(
      "Tokens per second against rows",
      "Rows are texts that step together and read the weights once.",
      rowCharts,
    ),
    ...block(
      "Every timing",
      "Tokens per second, all rows together, medians; in brackets the share of the shortest time that the ceilings of the same run allow. Equal hashes are equal logits.",
      [],
      [speedTable(models)],
    ),
    ...block(
      "Share of the ceiling",
      "The shortest time that the bandwidth or the arithmetic measured in the same process allows, over the time it took: decoding behind 16, and the prompt.",
      [
        ...by("share of the ceiling, decoding", "per cent", ({ ceilingShare: { decode } }) => decode && 100 * decode),
        ...by("share of the ceiling, prompt", "per cent", ({ ceilingShare: { prefill } }) => prefill && 100 * prefill),
      ],
    ),
    ...block(
      "Time to the first token",
      "The very first call of a process, nothing warm. Prompts differ in length between engines that are fast and those that are not: the table says how long.",
      by("first token", "milliseconds", ({ firstTokenMs }) => firstTokenMs),
    ),
    ...block(
      "Memory",
      "The most that the process had, Node and all.",
      by("memory", "MB", ({ peakBytes }) => peakBytes / 1e6),
    ),
    ...block(
      "Ceilings",
      "What the loops of the same processes reached: the range over the runs.",
      [],
      ceilingTables(models),
    ),
  ];
}

function speedTable(models: readonly ModelResult[]): Table {
  const contexts = [...new Set(models.flatMap((one) => Object.keys(one.decodeTokensPerSecond)))].sort(
    (a, b) => Number(a) - Number(b),
  );
  const at = (one: ModelResult, context: string): string => {
    const rate = one.decodeTokensPerSecond[context];
    if (rate === undefined) return "–";
    const share = one.decodeCeilingShare[context];
    return share === undefined ? number(rate) : `${number(rate)} (${percent(share)})`;
  };
  return {
    head: [
      ...["model", "weights", "engine", "rows", "prompt", "prefill"],
      ...contexts.map((context, index) => (index === 0 ? `decode @${context}` : `@${context}`)),
      ...["load", "first token", "memory", "logits"],
    ],
    rows: models.map((one) => [
      ...[shapeOf(one), one.dtype, one.engine, String(one.rows), String(one.prompt)],
      `${number(one.prefillTokensPerSecond)}${one.ceilingShare.prefill === null ? "" : ` (${percent(one.ceilingShare.prefill)})`}`,
      ...contexts.map((context) => at(one, context)),
      ...[
        `${one.loadMs.toFixed(0)} ms`,
        `${one.firstTokenMs.toFixed(0)} ms`,
        megabytes(one.peakBytes),
        `\`${one.hash}\``,
      ],
    ]),
  };
}

/** The ceilings that stood beside the models: the range over their runs. */
function ceilingTables(models: readonly ModelResult[]): Table[] {
  const measured = models.flatMap(({ ceilings, dtype, threads, backend }) =>
    ceilings === null
      ? []
      : [{ ...ceilings, name: `${backend} ${dtype}, ${threads} ${threads === 1 ? "thread" : "threads"}` }],
  );
  const rows = [...Map.groupBy(measured, ({ name }) => name)].map(([name, list]) => {
    const range = (value: (one: (typeof list)[number]) => number): string => {
      const values = list.map((one) => value(one) / 1e9);
      const [least, most] = [number(Math.min(...values)), number(Math.max(...values))];
      return least === most ? least : `${least} to ${most}`;
    };
    const loops = [...new Set(list.flatMap(({ loops }) => loops))].join(", ");
    return [name, range((one) => one.bytesPerSecond), range((one) => one.macsPerSecond), loops];
  });
  return rows.length === 0 ? [] : [{ head: ["weights, threads", "GB/s", "GMAC/s", "fastest loops"], rows }];
}

function gpuBlock({ models, gpuKernels }: Results): Block[] {
  const watched = sorted(models).filter(({ gpu }) => gpu !== null);
  if (watched.length === 0 && gpuKernels.length === 0) return [];
  const software = watched.some(({ gpu }) => gpu!.software) || gpuKernels.some((one) => one.software);
  const few = (value: number): string => (Number.isInteger(value) ? String(value) : value.toFixed(2));
  const tables: Table[] = [];
  if (watched.length > 0) {
    tables.push({
      head: [
        "model",
        "weights",
        "device",
        "dispatches",
        "submits",
        "bytes read",
        "bytes written",
        "objects made",
        "µs a dispatch",
        "of the host",
      ],
      rows: watched.map((one) => {
        const gpu = one.gpu!;
        return [
          ...[shapeOf(one), one.dtype, one.device, few(gpu.dispatchesPerToken), few(gpu.submitsPerToken)],
          ...[few(gpu.bytesReadPerToken), few(gpu.bytesWrittenPerToken), few(gpu.createsPerToken)],
          ...[number(gpu.microsecondsPerDispatch), number(gpu.encodeMicrosecondsPerDispatch)],
        ];
      }),
    });
  }
  if (gpuKernels.length > 0) {
    tables.push({
      head: ["kernel", "of a", "model", "dispatches", "µs each", "GB/s", "GMAC/s", "of all", "clock"],
      rows: gpuKernels.map((one) => [
        ...[one.kernel, one.what, `${one.shape} ${one.dtype}`, String(one.dispatches), number(one.microseconds)],
        one.bytes === 0 || one.microseconds === 0 ? "–" : number(one.bytes / one.microseconds / 1e3),
        one.macs === 0 || one.microseconds === 0 ? "–" : number(one.macs / one.microseconds / 1e3),
        ...[percent(one.share), one.clock],
      ]),
    });
  }
  const told =
    "What a token asks of the device, counted at the device, and each kernel in its place in the forward pass: the slope of the pass's time over how often the kernel's dispatches are made.";
  const not =
    "**The device is a software adapter, which computes on this machine's CPU**: the counts hold for any GPU, the times are no times of one.";
  return [{ level: 3, title: "The GPU", text: software ? [told, not] : [told], tables }];
}

function kernelBlock({ kernels }: Results): Block[] {
  if (kernels.length === 0) return [];
  const rows = kernels.map((one) => [
    ...[one.kernel, `${one.milliseconds.toFixed(3)} ms`, number(one.bytesPerSecond / 1e9)],
    ...[one.macs === 0 ? "–" : number(one.macsPerSecond / 1e9), percent(one.share), `\`${one.hash}\``],
  ]);
  const head = ["kernel", "time", "GB/s", "GMAC/s", "of ceiling", "output"];
  const text = [
    "One thread, not revectorized; shapes of Doge-60M. Each is timed where its WebAssembly export is entered and left.",
  ];
  return [{ level: 3, title: "Kernels of the CPU", text, tables: [{ head, rows }] }];
}

function sizeBlock({ sizes }: Results, name: (chart: string) => string): Block[] {
  if (sizes.length === 0) return [];
  const list = [...sizes].sort((a, b) => a.bytes - b.bytes);
  const chart = bars(
    name("install size"),
    "What an install brings",
    "MB in node_modules, dependencies included",
    list.map((one) => ({ label: `${one.name} (${one.packages} packages)`, value: one.bytes / 1e6, ours: one.ours })),
  );
  const text = [
    "Each package alone, installed from its tarball by npm with all it depends on; grey: other engines, as they lie beside the benchmark.",
  ];
  const rows = list.map((one) => [one.name, String(one.packages), megabytes(one.bytes)]);
  return [
    {
      level: 3,
      title: "Install size",
      text,
      charts: [chart],
      tables: [{ head: ["package", "packages", "size"], rows }],
    },
  ];
}

function tokenizerBlock({ tokenizer }: Results, name: (chart: string) => string): Block[] {
  if (tokenizer === null) return [];
  const { candidates, ratio, identities, hash, textHash, vocabulary, readyMs, trainMs } = tokenizer;
  const fast = candidates[0]!;
  const reached = fast.thread >= 10 && ratio >= 10;
  const chart = bars(
    name("tokenizer"),
    "The fast tokenizer beside others",
    "MB/s of one thread",
    candidates
      .filter((one) => !/^copying/.test(one.name))
      .map((one) => ({ label: one.name, value: one.thread, ours: /fast/.test(one.name) })),
  );
  return [
    {
      ...{ level: 3, title: "The tokenizer" },
      text: [
        `${number(fast.thread)} MB/s, ${ratio.toFixed(0)} times @huggingface/tokenizers in the same run (at least 10 MB/s and 10 times: ${reached ? "reached" : "**not reached**"}). Vocabulary of ${vocabulary.toLocaleString("en-US")} ids, ready after ${readyMs.toFixed(0)} ms; learning 8,000 ids took ${(trainMs / 1000).toFixed(1)} s. Ids \`${hash}\`, text \`${textHash}\`. [A million lines against the Rust library](tokenizer.md#identity).`,
      ],
      charts: [chart],
      tables: [
        {
          head: ["what", "MB/s by the clock", "MB/s of the thread", "text"],
          rows: candidates.map((one) => [one.name, number(one.clock), number(one.thread), megabytes(one.bytes)]),
        },
        {
          head: ["compared in this run", "how many", "different"],
          rows: identities.map((one) => [one.what, one.count.toLocaleString("en-US"), String(one.different)]),
        },
      ],
    },
  ];
}

function engineBlock({ engines }: Results): Block[] {
  if (engines.length === 0) return [];
  const rows = engines.map((one) => [one.engine, one.available ? one.device : `not here: ${one.why}`]);
  return [{ level: 3, title: "Engines", tables: [{ head: ["engine", "device"], rows }] }];
}
