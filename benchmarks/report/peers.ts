// Other engines beside ours: charts, every figure, and the ratios that are goals.
import type { PeerResult } from "../results.ts";
import { bars, type Chart, number } from "./charts.ts";
import type { Block, Table } from "./document.ts";

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

function goalTable(peers: readonly PeerResult[]): Table[] {
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
  return rows.length === 0 ? [] : [{ head: ["", "ours", "against", "ratio", "goal", ""], rows }];
}

export function peerBlocks(peers: readonly PeerResult[], name: (chart: string) => string): Block[] {
  return [...Map.groupBy(peers, ({ shape, threads }) => `${shape}-${threads}`).values()].map((list): Block => {
    const { shape, threads } = list[0]!;
    const measures = ["prefill", ...Object.keys(list[0]!.decodeTokensPerSecond)];
    const title = (measure: string): string => (measure === "prefill" ? "prompt of 512" : `decoding at ${measure}`);
    const charts = measures.map((measure): Chart => {
      const order = [...list].sort((a, b) => rateOf(b, measure)! - rateOf(a, measure)!);
      return bars(
        name(`peers ${shape} ${threads} ${measure}`),
        `${shape} beside others: ${title(measure)}`,
        "tokens/s",
        order.map((one) => ({ label: named(one), value: rateOf(one, measure)!, ours: one.engine.startsWith("doge") })),
      );
    });
    const rows = list.map((result) => [
      ...[named(result), result.version],
      ...measures.map((measure) => {
        const times = result.samples[measure]!;
        const fastest = Math.min(...times);
        const spread = `${((100 * (Math.max(...times) - fastest)) / fastest).toFixed(0)} %`;
        return `${number(rateOf(result, measure)!)} (${spread})`;
      }),
    ]);
    const plural = threads === 1 ? "thread" : "threads";
    return {
      ...{ level: 3, title: `${shape} beside other engines, ${threads} ${plural}`, charts },
      text: [
        "All of one kind of weights were loaded at once and took turns, repetition by repetition. In brackets how far the slowest repetition lies behind the fastest.",
      ],
      tables: [
        { head: ["engine", "version", ...measures.map(title)], rows },
        ...(shape === "60m" && threads === 1 ? goalTable(list) : []),
      ],
    };
  });
}
