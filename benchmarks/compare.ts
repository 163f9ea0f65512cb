// A backend on the texts of a truth: logits where every token is given, and texts that it draws by itself.
import { createHash } from "node:crypto";
import { type Checkpoint, type DType, defaultSampling, type Model, type Tokens } from "@doge-lm/core";
import { argmax, divergence, largestDifference } from "../packages/conformance/src/compare.ts";
import { tolerances } from "../packages/conformance/src/tolerances.ts";
import type { Subject, SubjectName } from "./subjects.ts";
import { common, type Expected, few, lead, spread, step } from "./truth.ts";

/** Where a text first parts from the truth's. */
export interface Difference {
  readonly text: number;
  readonly step: number;
  readonly expected: number;
  readonly found: number;
  /** Of the truth there: in logits, and in standard deviations of the step's logits. */
  readonly margin: number;
  readonly deviations: number;
  /** The margin is below the tolerance. */
  readonly tie: boolean;
  /** An end of text stands before it: what follows was never trained. */
  readonly behindEnd: boolean;
}

export interface Agreement {
  /** Steps whose logits were looked at, each token given. */
  readonly rows: number;
  /** In standard deviations of a text's logits, as the tolerances are. */
  readonly maxDifference: number;
  /** Nats from the truth's distribution to this one, a token. */
  readonly meanKl: number;
  readonly worstKl: number;
  /** Share of these steps whose most likely id is the same. */
  readonly sameChoice: number;
  /** Mean KL from the truth with weights held alike: what the arithmetic costs, without the weights. */
  readonly alikeKl: number | null;
  /** Texts drawn, and tokens of each. */
  readonly texts: number;
  readonly steps: number;
  /** Tokens up to the first difference of each text, and how many of all texts have none. */
  readonly sameTokens: number;
  readonly sameTexts: number;
  readonly differences: readonly Difference[];
  /** Of all ids drawn. */
  readonly hash: string;
  /** What it is held to, and whether that holds; null: nothing in the table of tolerances speaks of it. */
  readonly bound: string | null;
  readonly agrees: boolean;
  readonly why: string | null;
}

const greedy = { ...defaultSampling, temperature: 0, stop: [] };
const nothing: Tokens = new Int32Array(0);

/** Tokens that the longest text takes. */
const longest = (prompts: readonly Tokens[], steps: number): number =>
  Math.max(...prompts.map(({ length }) => length)) + steps;

/** Loads a checkpoint with room for these texts, several at a time. */
export interface Loader {
  load(checkpoint: Checkpoint, options: { dtype: DType; context: number; room: number }): Promise<Model>;
}

/** Texts that are drawn together. */
const ROWS = 8;

/** How `backend` with weights of `dtype` does what is expected. */
export async function agree(
  backend: Loader,
  name: SubjectName,
  subject: Subject,
  dtype: DType,
  expected: Expected,
  alike: Expected | undefined,
  tell: (what: string) => void,
): Promise<Agreement> {
  const { texts, steps } = expected.extent;
  const prompts = subject.prompts(texts, 0);
  const context = longest(prompts, steps);
  const model = await backend.load(subject.checkpoint, { dtype, context, room: ROWS * context });
  try {
    tell("logits");
    const { own, ...looked } = await look(model, prompts, expected, alike);
    tell("drawing");
    const drawn = await draw(model, prompts, steps);
    const stray = strayed(drawn, expected, own, dtype);
    const { eosIds } = subject.checkpoint.config;
    const margin = name === "demo" ? { of: expected.margins, least: tolerances.textMargin } : undefined;
    const seen = partings(
      drawn,
      expected,
      eosIds,
      margin ?? { of: expected.deviations, least: tolerances.greedyMargin },
    );
    return {
      ...looked,
      texts,
      steps,
      ...seen,
      ...judge(name, subject, context, dtype, looked, seen.differences, stray),
    };
  } finally {
    model.close();
  }
}

/** What a model's own logits choose at a step, and by how much, in standard deviations. */
interface Choice {
  readonly id: number;
  readonly margin: number;
}

/** Logits of every step, the expected token given whatever was more likely. */
async function look(
  model: Model,
  prompts: readonly Tokens[],
  { logits, ids, vocabulary }: Expected,
  alike: Expected | undefined,
): Promise<
  Pick<Agreement, "rows" | "maxDifference" | "meanKl" | "worstKl" | "sameChoice" | "alikeKl"> & {
    readonly own: readonly (readonly Choice[])[];
  }
> {
  const choices: Choice[][] = [];
  let [rows, maxDifference, sum, worstKl, same, alikeSum, alikeRows] = [0, 0, 0, 0, 0, 0, 0];
  for (const [number, exact] of logits.entries()) {
    const chosen: Choice[] = [];
    choices.push(chosen);
    if (exact.length === 0) continue;
    const unit = spread(exact);
    const count = exact.length / vocabulary;
    // A truth in another dtype chose other ids: it is compared while the texts are the same.
    const own = alike?.logits[number];
    const shared = own === undefined ? 0 : common(alike!.ids[number]!, ids[number]!) + 1;
    const sequence = model.sequence();
    let tokens = prompts[number]!;
    for (let at = 0; at < count; at++) {
      const row = await step(model, sequence, tokens);
      const expected = exact.subarray(at * vocabulary, (at + 1) * vocabulary);
      maxDifference = Math.max(maxDifference, largestDifference(row, expected).difference / unit);
      const apart = divergence(expected, row);
      sum += apart;
      worstKl = Math.max(worstKl, apart);
      const id = argmax(row);
      chosen.push({ id, margin: lead(row, id) / spread(row) });
      if (id === ids[number]![at]) same++;
      rows++;
      if (own !== undefined && at < shared && at < own.length / vocabulary) {
        alikeSum += divergence(own.subarray(at * vocabulary, (at + 1) * vocabulary), row);
        alikeRows++;
      }
      tokens = Int32Array.of(ids[number]![at]!);
    }
    sequence.close();
  }
  const meanKl = rows === 0 ? 0 : Math.max(0, sum / rows);
  const alikeKl = alikeRows === 0 ? null : Math.max(0, alikeSum / alikeRows);
  return { rows, maxDifference, meanKl, worstKl, sameChoice: rows === 0 ? 1 : same / rows, alikeKl, own: choices };
}

/** Where a device drew what its own logits do not choose, in a sentence; null when it never did. Rounded weights draw other texts
 *  than the truth, and yet their own. */
function strayed(
  drawn: readonly Tokens[],
  expected: Expected,
  own: readonly (readonly Choice[])[],
  dtype: DType,
): string | null {
  const least = dtype === "f32" ? tolerances.greedyMargin : tolerances.roundedRepeat;
  for (const [text, choices] of own.entries()) {
    const last = Math.min(common(drawn[text]!, expected.ids[text]!), choices.length - 1);
    for (const [step, { id, margin }] of choices.slice(0, last + 1).entries()) {
      if (drawn[text]![step] === id || margin <= least) continue;
      return `text ${text} has the id ${drawn[text]![step]} at step ${step} where its own logits choose ${id}, by ${few(margin)} σ`;
    }
  }
  return null;
}

/** The ids that a caller gets, drawn by the device, several texts at a time. */
async function draw(model: Model, prompts: readonly Tokens[], steps: number): Promise<Tokens[]> {
  const drawn: Tokens[] = [];
  for (let from = 0; from < prompts.length; from += ROWS) {
    const sequences = prompts.slice(from, from + ROWS).map(() => model.sequence());
    // Prompts differ in length: each is read by itself, then all step together.
    for (const [row, sequence] of sequences.entries()) {
      await model.sample([{ sequence, tokens: prompts[from + row]!, count: 0, sampling: greedy }]);
    }
    const rows = sequences.map((sequence) => ({ sequence, tokens: nothing, count: steps, sampling: greedy }));
    drawn.push(...(await model.sample(rows)).map(({ ids }) => ids));
    for (const sequence of sequences) sequence.close();
  }
  return drawn;
}

function partings(
  drawn: readonly Tokens[],
  expected: Expected,
  ends: readonly number[],
  margin: { readonly of: readonly Float32Array[]; readonly least: number },
): Pick<Agreement, "sameTokens" | "sameTexts" | "differences" | "hash"> {
  const differences: Difference[] = [];
  const hash = createHash("sha256");
  let sameTokens = 0;
  for (const [text, ids] of drawn.entries()) {
    hash.update(ids);
    const exact = expected.ids[text]!;
    const at = common(ids, exact);
    sameTokens += at;
    if (at === exact.length) continue;
    differences.push({
      ...{ text, step: at, expected: exact[at]!, found: ids[at] ?? -1 },
      margin: expected.margins[text]![at]!,
      deviations: expected.deviations[text]![at]!,
      tie: margin.of[text]![at]! <= margin.least,
      behindEnd: exact.slice(0, at).some((id) => ends.includes(id)),
    });
  }
  const sameTexts = drawn.length - differences.length;
  return { sameTokens, sameTexts, differences, hash: hash.digest("hex").slice(0, 16) };
}

/** What the table of tolerances asks of this. Rounding may turn which keys or experts are chosen, and a random model has no reason
 *  to be robust to that: there the table says nothing of rounded weights. */
function judge(
  name: SubjectName,
  { checkpoint: { config } }: Subject,
  longest: number,
  dtype: DType,
  { maxDifference, meanKl, alikeKl }: Pick<Agreement, "maxDifference" | "meanKl" | "alikeKl">,
  differences: readonly Difference[],
  stray: string | null,
): Pick<Agreement, "bound" | "agrees" | "why"> {
  const strays = stray === null ? [] : [stray];
  if (dtype === "f32") {
    const bound = `logits within ${few(tolerances.logits)} σ, ids equal but for ties`;
    const real = differences.filter(({ tie }) => !tie);
    const faults = [
      ...(maxDifference <= tolerances.logits ? [] : [`logits are ${few(maxDifference)} σ apart`]),
      ...real
        .slice(0, 1)
        .map(
          ({ text, step, found, expected, margin }) =>
            `text ${text} has the id ${found} at step ${step} where ${expected} leads by ${few(margin)}`,
        ),
    ];
    return verdict(bound, faults.length === 0 ? strays : faults);
  }
  if (name === "demo") {
    const most = tolerances.klDemo[dtype];
    return verdict(
      `mean KL to f32 at most ${few(most)}`,
      meanKl <= most ? strays : [`the mean KL to f32 is ${few(meanKl)}`],
    );
  }
  const chosen = config.experts !== null || (config.window !== null && config.window < longest);
  if (chosen || alikeKl === null) {
    const faults = Number.isFinite(meanKl) ? strays : ["the KL is no number"];
    return { ...verdict("draws from its own logits", faults), bound: null };
  }
  const most = tolerances.klActivations[dtype];
  return verdict(
    `mean KL to the same weights in f32 arithmetic at most ${few(most)}`,
    alikeKl <= most ? strays : [`the mean KL to the same weights is ${few(alikeKl)}`],
  );
}

function verdict(bound: string, faults: readonly string[]): Pick<Agreement, "bound" | "agrees" | "why"> {
  const agrees = faults.length === 0;
  return { bound, agrees, why: agrees ? null : `${faults.join("; ")} (allowed: ${bound}).` };
}
