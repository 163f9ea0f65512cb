// Ring "contract", third part: a call happens whole or not at all. Aborts, what comes behind a rejected call, limits.
import { defaultSampling, isDogeError, type Model, type Sequence, type Tokens } from "@doge-lm/core";
import { assert, rejects, same, settled } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { close } from "../compare.ts";
import { someIds, tokens } from "../random.ts";
import { forward } from "../runs.ts";
import type { Scope } from "../scope.ts";
import { tolerances } from "../tolerances.ts";

export const abortChecks: Check[] = [];
const check = inRing("contract", abortChecks);

/** `sequence` still is what a fresh one with `ids` is. Destroys it. */
async function unchanged(scope: Scope, model: Model, sequence: Sequence, ids: Tokens, what: string): Promise<void> {
  same(sequence.length, ids.length, `${what}: length`);
  const fresh = await scope.fed(model, ids);
  close(await forward(model, sequence, [5]), await forward(model, fresh, [5]), tolerances.repeated, `${what}: logits`);
}

/** A signal that fires by itself the `count`-th time anyone asks whether it has: a deterministic abort inside a call. */
function firesWhenAsked(count: number): { signal: AbortSignal; asked(): number } {
  const controller = new AbortController();
  let asked = 0;
  const { signal } = controller;
  const fired = Object.getOwnPropertyDescriptor(AbortSignal.prototype, "aborted")!.get!;
  Object.defineProperty(signal, "aborted", {
    get() {
      if (++asked === count) controller.abort();
      return fired.call(signal) as boolean;
    },
  });
  return { signal, asked: () => asked };
}

check("a signal aborted before the call changes nothing", async (scope) => {
  const model = await scope.model({ fixture: "window" });
  const past = someIds(40, model.config.vocabSize, 1, 10);
  const sequence = await scope.fed(model, past);
  const signal = AbortSignal.abort(new Error("the user left"));
  const rows = [{ sequence, tokens: tokens([1, 2, 3]) }];
  const error = await rejects(model.forward(rows, signal), "aborted", "forward()");
  same((error.cause as Error | undefined)?.message, "the user left", "The cause of the rejection");
  await rejects(model.score(rows, signal), "aborted", "score()");
  await rejects(model.inspect(rows, ["logits"], signal), "aborted", "inspect()");
  await rejects(model.sample([{ ...rows[0]!, count: 4, sampling: defaultSampling }], signal), "aborted", "sample()");
  await unchanged(scope, model, sequence, past, "After four aborted calls");
});

check("an abort while the call waits its turn changes nothing", async (scope) => {
  const model = await scope.model({ fixture: "window" });
  const past = someIds(30, model.config.vocabSize, 2, 10);
  const sequence = await scope.fed(model, past);
  const other = scope.sequence(model);
  const controller = new AbortController();
  const busy = model.forward([{ sequence: other, tokens: someIds(200, model.config.vocabSize, 3) }]);
  const waiting = model.forward([{ sequence, tokens: tokens([1, 2]) }], controller.signal);
  controller.abort();
  await rejects(waiting, "aborted", "forward() behind another call");
  await busy;
  same(other.length, 200, "The call in front");
  await unchanged(scope, model, sequence, past, "After the abort");
});

check("an abort at any point of a long call leaves sequences as they were", async (scope) => {
  const model = await scope.ownModel({ fixture: "window", context: 4096, room: 10_000 });
  const vocabulary = model.config.vocabSize;
  const past = someIds(60, vocabulary, 4, 12);
  const long = someIds(3000, vocabulary, 5);
  const sequence = scope.sequence(model);
  await model.forward([{ sequence, tokens: past }]);
  const company = scope.sequence(model);
  await model.forward([{ sequence: company, tokens: past.slice(0, 20) }]);
  for (const count of [1, 2, 3, 4, 6, 9, 14]) {
    const { signal } = firesWhenAsked(count);
    const rows = [
      { sequence, tokens: long },
      { sequence: company, tokens: tokens([3, 4, 5]) },
    ];
    const outcome = await model.forward(rows, signal).then(
      () => "done" as const,
      (error: unknown) => error,
    );
    // A device may finish before anyone asks that often. Otherwise the abort must have been heard.
    if (outcome === "done") {
      same(
        [sequence.length, company.length],
        [3060, 23],
        `Lengths after a call that was asked fewer than ${count} times`,
      );
      sequence.rewind(60);
      company.rewind(20);
      continue;
    }
    assert(isDogeError(outcome, "aborted"), `Aborted when asked ${count} times: rejected with ${String(outcome)}.`);
    same([sequence.length, company.length], [60, 20], `Lengths, aborted when asked ${count} times`);
    const branch = scope.fork(sequence);
    await unchanged(scope, model, branch, past, `Aborted when asked ${count} times`);
  }
  await unchanged(scope, model, sequence, past, "After all aborts");
  await unchanged(scope, model, company, past.slice(0, 20), "The other row after all aborts");
});

check("an abort is noticed during a long prefill", async (scope) => {
  const model = await scope.ownModel({ fixture: "native", context: 16_384, room: 20_000 });
  const sequence = scope.sequence(model);
  const controller = new AbortController();
  const started = performance.now();
  setTimeout(() => controller.abort(), 20);
  const outcome = await model.forward([{ sequence, tokens: someIds(16_000, 128, 6) }], controller.signal).then(
    () => "done" as const,
    (error: unknown) => error,
  );
  if (outcome === "done") {
    // Not a measure of speed: only a backend that never looks at its signal can still be busy two seconds after an abort
    // that it had 50 ms to notice, and then finish.
    const after = performance.now() - started;
    assert(after < 2000, `The call ran on to its end for ${after.toFixed()} ms, though it was aborted after 20 ms.`);
    return;
  }
  assert(isDogeError(outcome, "aborted"), `Rejected with ${String(outcome)}, expected "aborted".`);
  same(sequence.length, 0, "Length after the abort");
  await unchanged(scope, model, await scope.fed(model, tokens([1, 2])), tokens([1, 2]), "Another sequence afterwards");
});

check("an abort between draws takes all of them back", async (scope) => {
  const model = await scope.model({ fixture: "window" });
  const past = someIds(50, model.config.vocabSize, 7, 12);
  const sequence = await scope.fed(model, past);
  for (const count of [2, 3, 5, 10, 40]) {
    const { signal } = firesWhenAsked(count);
    const row = { sequence, tokens: tokens([9]), count: 150, sampling: { ...defaultSampling, seed: count } };
    const outcome = await model.sample([row], signal).then(
      ([drawn]) => drawn!.ids.length,
      (error: unknown) => error,
    );
    if (typeof outcome === "number") {
      same(sequence.length, 51 + outcome, "Length after draws that nobody aborted");
      sequence.rewind(50);
    } else assert(isDogeError(outcome, "aborted"), `sample() rejected with ${String(outcome)}, expected "aborted".`);
    const branch = scope.fork(sequence);
    await unchanged(scope, model, branch, past, `Aborted when asked ${count} times`);
  }
});

check("calls made behind a rejected one, on its sequences or on theirs, are superseded", async (scope) => {
  const model = await scope.model({ fixture: "native" });
  const [one, two, three, four] = [0, 1, 2, 3].map(() => scope.sequence(model)) as [
    Sequence,
    Sequence,
    Sequence,
    Sequence,
  ];
  for (const sequence of [one, two, three, four]) await forward(model, sequence, [1, 2, 3]);
  const controller = new AbortController();
  const more = tokens([4, 5]);
  const calls = [
    model.forward([{ sequence: four, tokens: someIds(200, 128, 1) }]), // keeps the queue busy
    model.forward([{ sequence: one, tokens: more }], controller.signal), // the one that is aborted
    model.score([{ sequence: one, tokens: more }]), // behind it
    model.forward([
      { sequence: one, tokens: more },
      { sequence: two, tokens: more },
    ]), // behind it, with company
    model.sample([{ sequence: two, tokens: more, count: 1, sampling: defaultSampling }]), // behind the company
    model.forward([{ sequence: three, tokens: more }]), // has nothing to do with it
  ];
  controller.abort();
  const found = (await settled(calls as Promise<unknown>[])).map((result) =>
    result.status === "fulfilled" ? "done" : isDogeError(result.reason) ? result.reason.code : String(result.reason),
  );
  same(found, ["done", "aborted", "superseded", "superseded", "superseded", "done"], "Six calls");
  same([one.length, two.length, three.length], [3, 3, 5], "Lengths");
  // Once the rejections are known, new calls work.
  await unchanged(scope, model, one, tokens([1, 2, 3]), "The aborted sequence");
  await unchanged(scope, model, two, tokens([1, 2, 3]), "Its company");
});

check("more tokens than the context are refused before anything runs; all of it can be used", async (scope) => {
  const model = await scope.ownModel({ fixture: "window", context: 40, room: 200 });
  const ids = someIds(40, model.config.vocabSize, 8, 12);
  const full = await scope.fed(model, ids);
  same(full.length, 40, "A full context");
  const expected = await forward(
    await scope.model({ fixture: "window" }),
    await scope.fed(await scope.model({ fixture: "window" }), ids),
    [],
  );
  close(await forward(model, full, []), expected, tolerances.repeated, "Logits at the end of a full context");
  const over = await rejects(
    model.forward([{ sequence: full, tokens: tokens([1]) }]),
    "context-overflow",
    "Token 41 of 40",
  );
  assert(/40/.test(over.message), `The message should name the context of 40: ${over.message}`);
  same(full.length, 40, "Length after the refusal");

  const half = await scope.fed(model, ids.slice(0, 20));
  const error = await rejects(
    model.score([
      { sequence: half, tokens: tokens([1]) },
      { sequence: full, tokens: tokens([1]) },
    ]),
    "context-overflow",
    "Two rows of which the second does not fit",
  );
  assert(/row 1\b/.test(error.message), `The message should name row 1: ${error.message}`);
  await unchanged(scope, model, half, ids.slice(0, 20), "The row that would have fitted");
});

check("draws end quietly where the context is full", async (scope) => {
  const model = await scope.ownModel({ fixture: "native", context: 40, room: 200 });
  const sequence = await scope.fed(model, someIds(37, 128, 9));
  const row = { sequence, tokens: tokens([1]), count: 10, sampling: defaultSampling, alternatives: 2 };
  const [drawn] = await model.sample([row]);
  same(
    [drawn!.ids.length, drawn!.logprobs.length, drawn!.topIds.length, sequence.length],
    [2, 2, 4, 40],
    "38 + 10 of 40",
  );
  const [none] = await model.sample([{ ...row, tokens: tokens([]) }]);
  same([none!.ids.length, none!.logprobs.length, sequence.length], [0, 0, 40], "Draws from a full context");
  await rejects(model.sample([row]), "context-overflow", "A token to append to a full context");
});

check("what does not fit is refused with no-room, and fits again when others close", async (scope) => {
  const model = await scope.ownModel({ fixture: "native", context: 64, room: 160 });
  assert(model.room >= 160, `Room for ${model.room} tokens, asked for 160.`);
  const ids = someIds(60, 128, 10);
  const open: Sequence[] = [];
  const limit = Math.ceil(model.room / 60) + 1;
  let refused: Sequence | undefined;
  while (refused === undefined) {
    assert(open.length < limit, `${open.length} sequences of 60 tokens fit into a room of ${limit - 1} x 60 at most.`);
    const sequence = scope.sequence(model);
    const outcome = await model.forward([{ sequence, tokens: ids }]).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (outcome === undefined) open.push(sequence);
    else {
      assert(isDogeError(outcome, "no-room"), `Rejected with ${String(outcome)}, expected "no-room".`);
      refused = sequence;
    }
  }
  assert(open.length >= 2, `Only ${open.length} sequences of 60 tokens fit into a room of 160.`);
  same(refused.length, 0, "Length of the refused sequence");
  assert(model.room < 60, `The model says ${model.room} tokens fit, and refuses 60.`);
  open.pop()!.close();
  same((await forward(model, refused, ids)).length, 128, "The same call after another sequence closed");
  refused.rewind(10);
  const small = scope.sequence(model);
  await forward(model, small, ids.slice(0, 40));
  small.close();
  refused.close();
  await unchanged(scope, model, open[0]!, ids, "A sequence that was there all the time");
});

check("what a sample does not use of its room returns", async (scope) => {
  const model = await scope.ownModel({ fixture: "native", context: 64, room: 64 });
  const sequence = scope.sequence(model);
  const everything = Array.from({ length: 128 }, (_, id) => id);
  const row = { sequence, tokens: tokens([1, 2]), count: 60, sampling: { ...defaultSampling, stop: everything } };
  const [drawn] = await model.sample([row]);
  same(drawn!.ids.length, 1, "Draws when every id stops");
  const other = scope.sequence(model);
  await forward(model, other, someIds(50, 128, 11));
  same([sequence.length, other.length], [3, 50], "Lengths");
});

check("forks share their past: many of them fit where copies would not", async (scope) => {
  // 128: enough for the past once more, should a backend copy it when the parent moves on, but not for eight copies.
  const model = await scope.ownModel({ fixture: "native", context: 64, room: 128 });
  const parent = await scope.fed(model, someIds(50, 128, 12));
  const forks = Array.from({ length: 8 }, () => scope.fork(parent));
  for (const fork of forks) same(fork.length, 50, "Length of a fork");
  same((await forward(model, parent, [1])).length, 128, "A call on the parent of eight forks");
  for (const fork of forks.slice(1)) fork.close();
  same(forks[0]!.length, 50, "Length of the fork after its parent went on");
});
