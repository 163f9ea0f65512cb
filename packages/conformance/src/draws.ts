// Draws judged: what a backend drew against core's draw() on the logits of forward(), the definition of sample().
import { draw, isAllowed, type Model, noise, type SampleRow, type Sampling, type Tokens } from "@doge-lm/core";
import { assert, CheckFailure } from "./assert.ts";
import { tokens } from "./random.ts";
import type { Scope } from "./scope.ts";
import { tolerances } from "./tolerances.ts";

/** A row of a sample() call on an empty sequence. */
export type Drawing = Omit<SampleRow, "sequence">;

interface Scored {
  readonly id: number;
  readonly score: number;
}

/** Whether `id` could win when every score moves by up to the draw margin: it must not lie clearly outside a filter, nor lose
 *  clearly to an id that lies clearly inside all of them. Sorted, in plain steps: a second witness of S3 beside core's. */
export function couldWin(
  id: number,
  logits: ArrayLike<number>,
  past: ArrayLike<number>,
  sampling: Sampling,
  allowed: Uint32Array | undefined,
): boolean {
  const { temperature, topK, topP, minP, repetitionPenalty, seed } = sampling;
  const seen = new Set(Array.from(past));
  const margin = tolerances.drawMargin / (temperature === 0 ? 1 : temperature);
  const ranked: Scored[] = [];
  for (let token = 0; token < logits.length; token++) {
    if (allowed !== undefined && !isAllowed(allowed, token)) continue;
    let score = logits[token]!;
    if (seen.has(token)) score = score < 0 ? score * repetitionPenalty : score / repetitionPenalty;
    ranked.push({ id: token, score: temperature === 0 ? score : score / temperature });
  }
  ranked.sort((a, b) => b.score - a.score || a.id - b.id);
  const mine = ranked.find((scored) => scored.id === id);
  if (mine === undefined) return false;
  const best = ranked[0]!.score;
  if (temperature === 0) return mine.score >= best - margin;

  let loose = ranked; // may be kept
  let tight = ranked; // surely kept
  if (topK > 0 && topK < ranked.length) {
    const last = ranked[topK - 1]!.score;
    const next = ranked[topK]!.score;
    loose = loose.filter(({ score }) => score >= last - margin);
    tight = tight.filter(({ score }) => score >= next + margin);
  }
  if (topP < 1) {
    const mass = loose.reduce((sum, { score }) => sum + Math.exp(score - best), 0);
    let before = 0; // share of the mass in front of an id
    const shares = new Map<number, number>();
    for (const scored of loose) {
      shares.set(scored.id, before);
      before += Math.exp(scored.score - best) / mass;
    }
    // An id is kept while what stands in front of it has not reached topP yet; ids within the margin may change places.
    const slack = (mine: Scored): number => {
      const near = loose.filter((other) => other !== mine && Math.abs(other.score - mine.score) <= margin);
      return tolerances.cutMargin + near.reduce((sum, other) => sum + Math.exp(other.score - best) / mass, 0);
    };
    loose = loose.filter((scored) => shares.get(scored.id)! < topP + slack(scored));
    tight = tight.filter((scored) => (shares.get(scored.id) ?? 1) < topP - slack(scored));
  }
  if (minP > 0) {
    loose = loose.filter(({ score }) => Math.exp(score - best) >= minP * (1 - tolerances.cutMargin) - margin * minP);
    tight = tight.filter(({ score }) => Math.exp(score - best) >= minP * (1 + tolerances.cutMargin) + margin * minP);
  }
  if (!loose.some((scored) => scored.id === id)) return false;
  const perturbed = ({ id: token, score }: Scored): number => score + noise(token, past.length, seed);
  return tight.every((other) => perturbed(mine) >= perturbed(other) - margin);
}

/** Counts draws that follow the definition, and those that rounding excuses. */
export class Tally {
  draws = 0;
  flips = 0;

  judge(id: number, logits: ArrayLike<number>, past: ArrayLike<number>, row: Drawing, what: string): void {
    const expected = draw(logits, past, past.length, row.sampling, row.allowed);
    this.draws++;
    if (id === expected) return;
    if (expected >= 0 && couldWin(id, logits, past, row.sampling, row.allowed)) {
      this.flips++;
      return;
    }
    throw new CheckFailure(
      `${what}: position ${past.length} drew id ${id}, core's draw on the logits of forward() gives ${expected} (${describeSampling(row.sampling)}).`,
    );
  }

  /** No more excused draws than rounding explains. */
  finish(what: string): void {
    assert(this.draws > 0, `${what}: nothing was drawn.`);
    const most = Math.max(1, Math.floor(this.draws * tolerances.drawFlips));
    assert(
      this.flips <= most,
      `${what}: ${this.flips} of ${this.draws} draws differ from core's within the margin; rounding explains ${most}.`,
    );
  }
}

function describeSampling(sampling: Sampling): string {
  return Object.entries(sampling)
    .map(([name, value]) => `${name} ${JSON.stringify(value)}`)
    .join(", ");
}

/** Draw all rows in one call, each on a fresh sequence. */
export async function sampleRows(scope: Scope, model: Model, rows: readonly Drawing[]): Promise<Tokens[]> {
  const drawn = await model.sample(rows.map((row) => ({ ...row, sequence: scope.sequence(model) })));
  return drawn.map(({ ids }) => ids);
}

/** Judge draws that began on empty sequences: the same text again, by forward(), one token at a time. */
export async function judgeRows(
  scope: Scope,
  model: Model,
  rows: readonly Drawing[],
  drawn: readonly ArrayLike<number>[],
  tally: Tally,
  name: (row: number) => string,
): Promise<void> {
  let active = rows.map((row, index) => ({
    index,
    row,
    sequence: scope.sequence(model),
    past: Array.from(row.tokens),
  }));
  for (let step = 0; ; step++) {
    active = active.filter(({ index }) => step < drawn[index]!.length);
    if (active.length === 0) return;
    const logits = await model.forward(
      active.map(({ sequence, past }) => ({ sequence, tokens: step === 0 ? tokens(past) : tokens(past.slice(-1)) })),
    );
    for (const [at, { index, row, past }] of active.entries()) {
      const id = drawn[index]![step]!;
      tally.judge(id, logits[at]!, past, row, name(index));
      past.push(id);
    }
  }
}
