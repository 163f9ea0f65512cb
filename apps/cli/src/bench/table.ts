// The result of doge bench for a person: rates beside their ceilings, what a token costs, and under which conditions.
import { sizeText } from "../output.ts";
import type { BenchResult } from "./run.ts";

export function table(result: BenchResult): string {
  const { rows, threads, prompt, decode, reps, machine, ceilings, ceilingShare, samples } = result;
  const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;
  const lines: string[][] = [["", "tokens/s", "spread", "of ceiling", "bytes/token", "MAC/token"]];
  const line = (
    name: string,
    rate: number,
    times: readonly number[],
    share: number | null | undefined,
    bytes: number | undefined,
    macs: number | undefined,
  ) =>
    lines.push([
      name,
      rate.toFixed(1),
      spread(times),
      share === null || share === undefined ? "–" : `${(100 * share).toFixed(0)} %`,
      bytes === undefined ? "–" : sizeText(bytes),
      macs === undefined ? "–" : `${(macs / 1e6).toFixed(1)} M`,
    ]);
  line(
    `prompt of ${prompt}`,
    result.prefillTokensPerSecond,
    samples.prefillMs,
    ceilingShare.prefill,
    undefined,
    result.macsPerToken.prefill,
  );
  for (const [context, rate] of Object.entries(result.decodeTokensPerSecond)) {
    const name = context === "16" ? `decode behind 16` : `decode up to ${context}`;
    const times = samples.decodeMs[context]!;
    const share = result.decodeCeilingShare[context];
    line(name, rate, times, share, result.bytesPerToken[context], result.macsPerToken[context]);
  }
  const facts = [
    `binary ${result.binary ?? "not told"}`,
    `keys and values ${result.kvDtype ?? "not told"}`,
    ...(result.revectorized === null ? [] : [result.revectorized ? "revectorized" : "not revectorized"]),
  ];
  const limits =
    ceilings === null
      ? "no ceiling: nothing here tells the time on this device"
      : `ceilings measured ${result.gpu === null ? "here" : "on the device"}: ${(ceilings.bytesPerSecond / 1e9).toFixed(1)} GB/s, ${(ceilings.macsPerSecond / 1e9).toFixed(1)} GMAC/s (${ceilings.loops.join(", ")})`;
  return [
    `${result.shape}${result.moe ? " with experts" : ""}, ${(result.params / 1e6).toFixed(1)} M parameters as ${result.dtype}`,
    `${result.backend}: ${result.device}, ${plural(threads, "thread")}, ${plural(rows, "row")}; ${facts.join(", ")}`,
    `${machine.cpu}, ${plural(machine.cores, "core")}, ${machine.system}, Node ${machine.node}`,
    "",
    ...align(lines),
    "",
    `medians of ${plural(reps, "repetition")}; decoding timed over ${plural(decode, "token")}`,
    limits,
    ...gpuLines(result.gpu),
    `load ${result.loadMs.toFixed(0)} ms, first token ${result.firstTokenMs.toFixed(0)} ms behind ${plural(prompt, "token")}, nothing warm`,
    `memory ${sizeText(result.peakBytes)} at most, ${sizeText(result.grownBytes)} of it for the model (weights ${sizeText(result.weightBytes)}, state ${sizeText(result.stateBytes)})`,
    `hash ${result.hash}`,
    "",
  ].join("\n");
}

/** What driving a GPU takes. */
function gpuLines(gpu: BenchResult["gpu"]): string[] {
  if (gpu === null) return [];
  const few = (value: number): string => value.toFixed(Number.isInteger(value) ? 0 : 2);
  return [
    `a token: ${few(gpu.dispatchesPerToken)} dispatches of ${gpu.microsecondsPerDispatch.toFixed(1)} µs, ${gpu.encodeMicrosecondsPerDispatch.toFixed(1)} µs of each for the host to encode it; ${few(gpu.submitsPerToken)} submits, ${few(gpu.bytesReadPerToken)} bytes read back, ${few(gpu.bytesWrittenPerToken)} written, ${few(gpu.createsPerToken)} objects made`,
    ...(gpu.software ? ["a software adapter: it computes on this machine's CPU, and these are no times of a GPU"] : []),
  ];
}

/** How far the slowest repetition lies from the fastest, in parts of the fastest. */
function spread(times: readonly number[]): string {
  if (times.length < 2) return "–";
  const fastest = Math.min(...times);
  return `${((100 * (Math.max(...times) - fastest)) / fastest).toFixed(0)} %`;
}

/** The first column to the left, numbers to the right. */
function align(lines: readonly (readonly string[])[]): string[] {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines.map((line) =>
    line
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]! + 2)))
      .join("")
      .trimEnd(),
  );
}
