// What the report of a machine says, from its results and from nothing else.
import type { GateResult, Results } from "../results.ts";
import { titleOf } from "../subjects.ts";
import { bars, number } from "./charts.ts";
import type { Block, Table } from "./document.ts";
import { colourOf, DTYPES, megabytes, percent, shapeOf, small, sorted } from "./order.ts";
import { peerBlocks } from "./peers.ts";
import { speedBlocks } from "./speeds.ts";

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

function aboutOf(results: Results): string {
  const { machine, models, gates, failures, peers, tokenizer, sizes, kernels, gpuKernels } = results;
  const commits = new Set([...models, ...gates].map(({ commit, date }) => `${commit} (${date})`));
  const parts = {
    peers,
    tokenizer: tokenizer === null ? [] : [tokenizer],
    sizes,
    kernels: [...kernels, ...gpuKernels],
  };
  const also = Object.entries(parts).flatMap(([part, list]) => {
    const others = new Set(list.map(({ commit, date }) => `${commit} (${date})`));
    for (const commit of commits) others.delete(commit);
    return others.size === 0 ? [] : [`; ${part} at ${[...others].join(", ")}`];
  });
  const wrong = failures.filter(({ kind }) => kind === "disagrees").length;
  const verdict =
    gates.length === 0
      ? "Nothing was compared with the reference in this run."
      : wrong === 0
        ? `**Everything that was timed agreed first**: ${gates.length} comparisons with the reference.`
        : `**${wrong} timings were refused, since the results disagree with the reference.**`;
  return `${machine.system}, Node ${machine.node} (V8 ${machine.v8}). Measured at ${[...commits].join(", ")}${also.join("")}. ${verdict}`;
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

/** What is missing, without what to do about it: that is for who measured, in the words of the day. */
const reason = (why: string): string => `${why.split(/[;:] /)[0]!.replace(/\.$/, "")}.`;

function engineBlock({ engines }: Results): Block[] {
  if (engines.length === 0) return [];
  const rows = engines.map((one) => [one.engine, one.available ? one.device : `not here: ${reason(one.why)}`]);
  return [{ level: 3, title: "Engines", tables: [{ head: ["engine", "device"], rows }] }];
}
