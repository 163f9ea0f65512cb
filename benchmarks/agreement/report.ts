// docs/agreement.md and each machine's list of first differences, from the filed results and from nothing else.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createTokenizer, type Tokenizer } from "@doge-lm/core";
import { tolerances } from "../../packages/conformance/src/tolerances.ts";
import type { Difference } from "../compare.ts";
import { type Block, markdown, type Table } from "../report/document.ts";
import { all, root, slug } from "../results.ts";
import { titleOf } from "../subjects.ts";
import { type AgreementEntry, type AgreementResults, type PrintedLine, parseAgreement } from "./results.ts";

const small = (value: number): string => (value === 0 ? "0" : value.toExponential(1));
const DTYPES = ["f32", "bf16", "q8", "q4"];
const percent = (share: number): string => `${(100 * share).toFixed(share > 0.999 && share < 1 ? 2 : 1)} %`;

let tokenizer: Tokenizer | undefined;
/** A token as it is written. */
function piece(id: number): string {
  const read = (name: string) => JSON.parse(readFileSync(join(root, "packages", "demo-model", name), "utf8"));
  tokenizer ??= createTokenizer(read("tokenizer.json"), read("tokenizer_config.json"));
  if (id < 0) return "nothing";
  return `\`${JSON.stringify(tokenizer.decode([id], { skipSpecial: false })).replaceAll("`", "'")}\``;
}

/** Every file that is made of the results in `folder`: the lists beside them, and the page in `docs`. */
export function agreementFiles(folder: string, docs: string): Map<string, string> {
  const files = new Map<string, string>();
  const machines = all<AgreementResults>(folder).map(parseAgreement);
  if (machines.length === 0) return files;
  const blocks: Block[] = [];
  for (const results of machines) {
    const title = `${results.machine.cpu}, ${results.machine.cores} cores`;
    blocks.push(...blocksOf(results, title));
    if (results.entries.length > 0) files.set(join(folder, `${slug(results.machine)}.md`), listOf(results, title));
  }
  files.set(join(docs, "agreement.md"), `${LEAD}${markdown(blocks, null)}`);
  return files;
}

const LEAD = `# Do the backends agree?

Made by \`npm run agreement\` from what it files under \`benchmarks/results/agreement\`; do not edit the numbers.

Every backend, with every dtype, against the reference, on the demo model, on the random checkpoints of the conformance suite (one for
every layout: native, legacy, odd sizes, rope scaling, keep windows, mixtures of experts) and on the shape of Doge-20M.

- **Logits**: every token given, how far logits are from the reference's in f32 at most, in standard deviations of a text's logits: the unit of the
  table of tolerances (\`packages/conformance/src/tolerances.ts\`).
- **KL**: nats a token from the reference's distribution in f32. *Arithmetic*: from the reference with the same rounded weights, while the texts
  are the same, so that only activations and caches lie between.
- **Same choice**: steps whose most likely id is the same.
- **Ids**: texts that the backend draws by itself, greedily, end of text ignored; ids up to the first difference of each text. Behind a difference
  texts go their own ways and are not compared.
- **Tie**: the reference's margin there is at most ${tolerances.textMargin} logits on the demo model, ${tolerances.greedyMargin} standard deviations elsewhere: twice what logits may differ.
  Only f32 is held to equal ids; weights that are rounded are other weights, and their differences are listed, not excused.
- **Held to**: what the table of tolerances says; and whatever a backend draws must be what its own logits choose. Where rounding may turn which keys
  or experts are chosen the table says nothing of random models.

The prompts are 1,000 different chats of the demo model's domain (\`tools/demo/prompts.py\`), half of them single questions, a few longer than the
keep window.

`;

function blocksOf(results: AgreementResults, title: string): Block[] {
  const { machine, baseline, engines, entries, failures } = results;
  const demo = entries.filter(({ subject }) => subject === "demo");
  const others = entries.filter(({ subject }) => subject !== "demo");
  const wrong = entries.filter(({ agrees }) => !agrees).length;
  const texts = Math.max(0, ...[...demo, ...(results.printed ?? [])].map((one) => one.texts));
  const verdict =
    entries.length === 0 && failures.length === 0
      ? "Of its comparisons only what was printed is here."
      : wrong === 0 && failures.length === 0
        ? `**All ${entries.length} comparisons hold.**`
        : `**${wrong} of ${entries.length} comparisons do not hold${failures.length > wrong ? `; ${failures.length - wrong} could not be made` : ""}.**`;
  const here = engines.flatMap((one) => (one.available ? [`${one.engine} (${one.device})`] : []));
  return [
    {
      ...{ level: 2, title },
      text: [
        `${machine.system}, Node ${machine.node}, at ${measuredAt(results)}. ${verdict}`,
        ...(baseline === null
          ? []
          : [
              `The ${texts.toLocaleString("en-US")} texts are those that ${baseline.engine} draws in f32, which is held to the ${baseline.truth} on ${baseline.texts} of them, ${baseline.steps} tokens each: ${baseline.sameTokens.toLocaleString("en-US")} of ${(baseline.texts * baseline.steps).toLocaleString("en-US")} ids equal, ${baseline.ties} ties, logits ${small(baseline.maxDifference)} σ apart at most. Logits and KL are against the ${baseline.truth} itself.`,
            ]),
        `Compared: ${here.join(", ")}.`,
        ...engines.flatMap((one) => (one.available ? [] : [`Not here: ${one.engine}. ${one.why}`])),
      ],
      tables:
        failures.length === 0
          ? []
          : [
              {
                head: ["engine", "what", "", "why"],
                rows: failures.map((one) => [one.engine, one.what, `**${one.kind}**`, one.why]),
              },
            ],
    },
    ...(demo.length === 0
      ? []
      : [{ level: 3 as const, title: "The demo model", tables: [demoTable(demo)] }, ...differenceBlock(demo)]),
    ...printedBlock(results),
    ...(others.length === 0
      ? []
      : [{ level: 3 as const, title: "Random checkpoints, dense and with experts", tables: randomTables(others) }]),
  ];
}

/** Lines of runs whose files are not here, until a filed comparison takes their place. */
function printedBlock({ printed = [], entries }: AgreementResults): Block[] {
  const alone = printed.filter(
    ({ engine, dtype }) =>
      !entries.some((one) => one.subject === "demo" && one.engine === engine && one.dtype === dtype),
  );
  if (alone.length === 0) return [];
  const row = ({ engine, dtype, maxDifference, meanKl, sameTexts, texts, steps }: PrintedLine): string[] => [
    ...[engine, dtype, `${small(maxDifference)} σ`, small(meanKl)],
    ...[`${sameTexts} of ${texts.toLocaleString("en-US")}`, String(steps)],
  ];
  return [
    {
      ...{ level: 3, title: "The demo model, as it was printed" },
      text: [
        "The same comparison, run on that machine; of its results only the lines it printed are at hand, not the file with every difference.",
      ],
      tables: [
        { head: ["engine", "weights", "logits", "mean KL", "texts equal", "tokens of each"], rows: alone.map(row) },
      ],
    },
  ];
}

const measuredAt = ({ entries, printed = [] }: AgreementResults): string =>
  [...new Set([...entries, ...printed].map(({ commit, date }) => `${commit} (${date})`))].join(", ");

const heldTo = ({ bound, agrees }: AgreementEntry): string =>
  bound === null ? "–" : agrees ? "holds" : "**does not hold**";

function demoTable(entries: readonly AgreementEntry[]): Table {
  return {
    head: [
      "engine",
      "weights",
      "logits",
      "mean KL",
      "worst KL",
      "same choice",
      "of steps",
      "texts equal",
      "ids equal",
      "ties",
      "held to",
    ],
    rows: entries.map((one) => [
      ...[
        one.engine,
        one.dtype,
        `${small(one.maxDifference)} σ`,
        small(one.meanKl),
        small(one.worstKl),
        percent(one.sameChoice),
      ],
      ...[one.rows.toLocaleString("en-US"), `${one.sameTexts} of ${one.texts.toLocaleString("en-US")}`],
      `${one.sameTokens.toLocaleString("en-US")} of ${(one.texts * one.steps).toLocaleString("en-US")}`,
      ...[String(one.differences.filter(({ tie }) => tie).length), heldTo(one)],
    ]),
  };
}

/** Rows: checkpoints; columns: engines; one table for each dtype. */
function randomTables(entries: readonly AgreementEntry[]): Table[] {
  const engines = [...new Set(entries.map(({ engine }) => engine))];
  const subjects = [...new Set(entries.map(({ subject }) => subject))];
  return DTYPES.flatMap((dtype) => {
    const own = entries.filter((one) => one.dtype === dtype);
    if (own.length === 0) return [];
    const rows = subjects.map((subject) => [
      titleOf(subject),
      ...engines.map((engine) => {
        const one = own.find((entry) => entry.engine === engine && entry.subject === subject);
        if (one === undefined) return "–";
        const ids = `${one.sameTokens} of ${one.texts * one.steps} ids`;
        const ties = one.differences.filter(({ tie }) => tie).length;
        const found =
          dtype === "f32"
            ? `${small(one.maxDifference)} σ, ${ids}${ties === 0 ? "" : ` (${ties} ties)`}`
            : `KL ${small(one.meanKl)}${one.alikeKl === null ? "" : `, arithmetic ${small(one.alikeKl)}`}, ${ids}`;
        return one.agrees ? found : `**${found}**`;
      }),
    ]);
    return [{ head: [dtype, ...engines], rows }];
  });
}

/** Margins below which first differences are counted. */
const BELOW = [tolerances.textMargin, 0.01, 0.1, 0.5, 1, Number.POSITIVE_INFINITY] as const;
const MOST_LISTED = 8;

/** Engines that drew the very same ids are told of once, by all their names. */
function together(entries: readonly AgreementEntry[]): AgreementEntry[] {
  const alike = Map.groupBy(entries, ({ subject, dtype, hash, texts }) => `${subject} ${dtype} ${texts} ${hash}`);
  return [...alike.values()].map((same) => ({ ...same[0]!, engine: same.map(({ engine }) => engine).join(", ") }));
}

function differenceBlock(entries: readonly AgreementEntry[]): Block[] {
  const parted = together(entries).filter(({ differences }) => differences.length > 0);
  if (parted.length === 0) {
    return [{ level: 3, title: "First differences", text: ["There are none."] }];
  }
  const counted: Table = {
    head: [
      "engine",
      "weights",
      ...BELOW.map((most) => (most === BELOW[0] ? `tie (≤ ${most})` : Number.isFinite(most) ? `≤ ${most}` : "more")),
      "behind an end of text",
    ],
    rows: parted.map(({ engine, dtype, differences }) => [
      ...[engine, dtype],
      ...BELOW.map((most, index) =>
        String(differences.filter(({ margin }) => margin <= most && margin > (BELOW[index - 1] ?? -1)).length),
      ),
      `${differences.filter(({ behindEnd }) => behindEnd).length} of ${differences.length}`,
    ]),
  };
  const clearest: Table = {
    head: ["engine", "weights", "text", "step", "the reference's", "found", "margin, logits", "margin, σ", ""],
    rows: parted.flatMap(({ engine, dtype, differences }) =>
      [...differences]
        .sort((a, b) => b.margin - a.margin)
        .slice(0, dtype === "f32" ? differences.length : MOST_LISTED)
        .map((one) => [engine, dtype, ...cellsOf(one)]),
    ),
  };
  return [
    {
      ...{ level: 3, title: "First differences" },
      text: [
        "How many texts first part at which margin of the baseline, in logits. A difference needs logits that moved by the margin: rounding to 8 bits moves them by hundredths, to 4 bits by tenths.",
        `Engines in one row drew the very same ids. The clearest differences, at most ${MOST_LISTED} for each engine with rounded weights and all in f32; every one is listed in \`benchmarks/results/agreement\`.`,
      ],
      tables: [counted, clearest],
    },
  ];
}

const cellsOf = ({ text, step, expected, found, margin, deviations, tie, behindEnd }: Difference): string[] => [
  ...[String(text), String(step), piece(expected), piece(found), margin.toPrecision(3), deviations.toPrecision(3)],
  [...(tie ? ["tie"] : []), ...(behindEnd ? ["behind an end of text"] : [])].join(", "),
];

/** All first differences of a machine; those of random checkpoints by their ids. */
function listOf(results: AgreementResults, title: string): string {
  const lines = [
    `# First differences on ${title}`,
    "",
    `Made by \`npm run agreement\` at ${measuredAt(results)}; [what this is](../../../docs/agreement.md). Text, step: id of the baseline, id found, the baseline's margin there in logits and in standard deviations.`,
    "",
  ];
  for (const { engine, dtype, subject, differences } of together(results.entries)) {
    if (differences.length === 0) continue;
    lines.push(`## ${engine}, ${dtype}, ${titleOf(subject)}`, "", "```text");
    for (const { text, step, expected, found, margin, deviations, tie, behindEnd } of differences) {
      const flags = `${tie ? " tie" : ""}${behindEnd ? " behind an end of text" : ""}`;
      lines.push(
        `${text}, ${step}: ${expected} ${found} ${margin.toPrecision(3)} ${deviations.toPrecision(3)}${flags}`,
      );
    }
    lines.push("```", "");
  }
  return `${lines.join("\n").trimEnd()}\n`;
}
