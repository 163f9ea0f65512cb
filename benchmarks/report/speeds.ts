// Speeds in the report: charts over context and rows, shares of the ceiling, first token, memory, and every figure.
import type { ModelResult } from "../results.ts";
import { bars, type Chart, lines, number, type Series } from "./charts.ts";
import type { Block, Table } from "./document.ts";
import { colourOf, DTYPES, megabytes, percent, shapeOf } from "./order.ts";

export function speedBlocks(models: readonly ModelResult[], name: (chart: string) => string): Block[] {
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
      .filter(({ points }) => points.length > 1);
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
  const by = (
    title: string,
    unit: string,
    value: (one: ModelResult) => number | null | undefined,
    prompted = false,
  ): Chart[] =>
    [...Map.groupBy(single, shapeOf)].flatMap(([shape, list]) => {
      const usual = Math.max(...list.map(({ prompt }) => prompt));
      const found = list.flatMap((one) => {
        const own = value(one);
        // What was asked less would look faster than it is.
        const less = prompted && one.prompt < usual ? `, prompt of ${one.prompt} only` : "";
        return own === null || own === undefined ? [] : [{ label: `${one.dtype}, ${one.engine}${less}`, value: own }];
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
        ...by(
          "share of the ceiling, prompt",
          "per cent",
          ({ ceilingShare: { prefill } }) => prefill && 100 * prefill,
          true,
        ),
      ],
    ),
    ...block(
      "Time to the first token",
      "The very first call of a process, nothing warm, from the prompt to its first token. Slow engines are given a shorter prompt, which then stands beside their name.",
      by("first token", "milliseconds", ({ firstTokenMs }) => firstTokenMs, true),
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
