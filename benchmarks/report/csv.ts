// Every figure of a machine as one line, for those who draw their own plots.
import type { Results } from "../results.ts";

const HEAD = [
  ...["engine", "backend", "device", "shape", "experts", "dtype", "threads", "rows", "what", "context", "status"],
  ...[
    "tokensPerSecond",
    "microseconds",
    "ceilingShare",
    "bytesPerToken",
    "firstTokenMs",
    "loadMs",
    "peakBytes",
    "weightBytes",
  ],
  ...["dispatchesPerToken", "maxDifference", "meanKl", "hash", "why", "commit", "date"],
] as const;
type Line = Partial<Record<(typeof HEAD)[number], string | number | boolean | null | undefined>>;

const field = (value: string | number | boolean | null | undefined): string => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function csv({ models, gates, failures, kernels, gpuKernels, peers }: Results): string {
  const lines: Line[] = [];
  for (const one of models) {
    const { engine, backend, device, shape, moe, dtype, threads, rows, hash, commit, date } = one;
    const gate = gates.find((gate) => gate.engine === engine && gate.dtype === dtype && gate.subject === "demo");
    const { firstTokenMs, loadMs, peakBytes, weightBytes } = one;
    const common = {
      ...{ engine, backend, device, shape, experts: moe, dtype, threads, rows, hash, commit, date, status: "ok" },
      ...{ firstTokenMs, loadMs, peakBytes, weightBytes, dispatchesPerToken: one.gpu?.dispatchesPerToken },
      ...{ maxDifference: gate?.maxDifference, meanKl: gate?.meanKl },
    };
    lines.push({
      ...{ ...common, what: "prefill", context: one.prompt },
      ...{ tokensPerSecond: one.prefillTokensPerSecond, ceilingShare: one.ceilingShare.prefill },
    });
    for (const [context, tokensPerSecond] of Object.entries(one.decodeTokensPerSecond)) {
      const share = { ceilingShare: one.decodeCeilingShare[context], bytesPerToken: one.bytesPerToken[context] };
      lines.push({ ...common, what: "decode", context, tokensPerSecond, ...share });
    }
  }
  for (const { engine, what, kind, why, commit, date } of failures) {
    lines.push({ engine, what, status: kind, why, commit, date });
  }
  for (const { kernel, milliseconds, share, hash, commit, date } of kernels) {
    const microseconds = 1000 * milliseconds;
    lines.push({ engine: "wasm", what: kernel, status: "ok", microseconds, ceilingShare: share, hash, commit, date });
  }
  for (const { device, shape, dtype, what, kernel, microseconds, commit, date } of gpuKernels) {
    const name = `${kernel}, of a ${what}`;
    lines.push({ engine: "webgpu", device, shape, dtype, what: name, status: "ok", microseconds, commit, date });
  }
  for (const { engine, kind, shape, threads, commit, date, ...one } of peers) {
    const common = { engine, dtype: kind, shape, threads, rows: 1, status: "ok", commit, date };
    lines.push({ ...common, what: "prefill", context: one.prompt, tokensPerSecond: one.prefillTokensPerSecond });
    for (const [context, tokensPerSecond] of Object.entries(one.decodeTokensPerSecond)) {
      lines.push({ ...common, what: "decode", context, tokensPerSecond });
    }
  }
  return `${[HEAD.join(","), ...lines.map((line) => HEAD.map((name) => field(line[name])).join(","))].join("\n")}\n`;
}
