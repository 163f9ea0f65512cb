// Random programs of calls, forks, rewinds and closes, made without awaiting, against the rules of S1 applied one by one.
import fc from "fast-check";
import { expect, it } from "vitest";
import type { Floats, Sequence } from "../../src/index.ts";
import { checked, isDogeError } from "../../src/index.ts";
import { checkpoint, logitsAfter, MockBackend } from "../running/mock.ts";

type Step =
  | { readonly kind: "forward"; readonly on: readonly number[]; readonly tokens: readonly number[] }
  | { readonly kind: "fork" | "close"; readonly on: number }
  | { readonly kind: "rewind"; readonly on: number; readonly length: number };

const on = fc.nat(5);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    // Id 40 is outside the vocabulary; no ids at all are a fault on an empty sequence.
    arbitrary: fc.record({
      kind: fc.constant("forward" as const),
      on: fc.uniqueArray(on, { minLength: 1, maxLength: 3 }),
      tokens: fc.array(fc.integer({ min: 3, max: 40 }), { maxLength: 7 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("fork" as const), on }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("rewind" as const), on, length: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("close" as const), on }) },
);

/** What is known of a sequence: its ids now, and whether it was closed. */
interface Known {
  readonly sequence: Sequence;
  ids: number[];
  closed: boolean;
}

it("gives what the rules give, whatever is made in whatever order", async () => {
  const met = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(step, { maxLength: 9 }), { maxLength: 5 }), async (batches) => {
      const model = await checked(new MockBackend()).load(checkpoint({ maxPositions: 16 }));
      const all: Known[] = [0, 1].map(() => ({ sequence: model.sequence(), ids: [], closed: false }));
      for (const batch of batches) {
        const tainted = new Set<Known>();
        const pending: { readonly call: Promise<Floats[]>; readonly expected: string | Floats[] }[] = [];
        for (const action of batch) {
          if (action.kind === "forward") {
            const rows = [...new Set(action.on.map((index) => all[index % all.length]!))];
            const tokens = Int32Array.from(action.tokens);
            pending.push({
              call: model.forward(rows.map(({ sequence }) => ({ sequence, tokens }))),
              expected: apply(rows, action.tokens, tainted),
            });
            continue;
          }
          const known = all[action.on % all.length]!;
          if (action.kind === "close") {
            known.closed = true;
            known.sequence.close();
          } else if (known.closed) {
            expect(() => (action.kind === "fork" ? known.sequence.fork() : known.sequence.rewind(0))).toThrow("closed");
          } else if (action.kind === "rewind") {
            known.ids = known.ids.slice(0, action.length);
            known.sequence.rewind(action.length);
          } else {
            const child = { sequence: known.sequence.fork(), ids: [...known.ids], closed: false };
            if (tainted.has(known)) tainted.add(child);
            all.push(child);
          }
        }
        const results = await Promise.allSettled(pending.map(({ call }) => call));
        results.forEach((result, index) => {
          const { expected } = pending[index]!;
          const told = result.status === "rejected" && isDogeError(result.reason) ? result.reason.code : result.status;
          met.set(told, (met.get(told) ?? 0) + 1);
          if (result.status === "fulfilled") expect(result.value).toEqual(expected);
          else expect(told).toBe(expected);
        });
        for (const { sequence, ids, closed } of all) if (!closed) expect(sequence.length).toBe(ids.length);
      }
    }),
    { numRuns: 400, seed: 11 },
  );
  // Every ending was met often enough to mean something.
  for (const code of ["fulfilled", "superseded", "closed", "invalid-token", "empty-prompt", "context-overflow"]) {
    expect(met.get(code) ?? 0, code).toBeGreaterThan(20);
  }
});

/** One call by the rules: its logits, or the code it rejects with. */
function apply(rows: readonly Known[], tokens: readonly number[], tainted: Set<Known>): string | Floats[] {
  const fault = (): string | undefined => {
    if (rows.some((row) => tainted.has(row))) return "superseded";
    if (rows.some((row) => row.closed)) return "closed";
    if (tokens.includes(40)) return "invalid-token";
    for (const { ids } of rows) {
      if (ids.length + tokens.length === 0) return "empty-prompt";
      if (ids.length + tokens.length > 16) return "context-overflow";
    }
    return undefined;
  };
  const code = fault();
  if (code !== undefined) {
    for (const row of rows) tainted.add(row);
    return code;
  }
  return rows.map((row) => {
    row.ids.push(...tokens);
    return logitsAfter(row.ids);
  });
}
