// Ring "contract", second part: calls take effect in the order made, and sequences do not touch each other.
import { defaultSampling, type Floats, type Model } from "@doge-lm/core";
import { same } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { bitEqual, close } from "../compare.ts";
import { someIds, tokens } from "../random.ts";
import { forward } from "../runs.ts";
import { tolerances } from "../tolerances.ts";

export const orderChecks: Check[] = [];
const check = inRing("contract", orderChecks);

const near = (actual: Floats, expected: Floats, what: string) => close(actual, expected, tolerances.repeated, what);

check(
  "calls, forks, rewinds and closes take effect in the order made, without awaiting",
  async ({ model, sequence, fork, fed }) => {
    // The window of 24 is crossed, so rewinds and forks meet evictions.
    const window = await model({ fixture: "window" });
    const vocabulary = window.config.vocabSize;
    const [a, b, c] = [someIds(20, vocabulary, 1, 9), someIds(10, vocabulary, 2, 9), someIds(7, vocabulary, 3, 9)];
    const joined = (...parts: ArrayLike<number>[]) => tokens(parts.flatMap((part) => Array.from(part)));

    const one = sequence(window);
    const first = window.forward([{ sequence: one, tokens: a }]);
    const branch = fork(one);
    const second = window.forward([{ sequence: one, tokens: b }]);
    one.rewind(20);
    const third = window.forward([{ sequence: one, tokens: c }]);
    const fourth = window.forward([{ sequence: branch, tokens: c }]);
    const late = fork(branch);
    branch.close();
    const fifth = window.forward([{ sequence: late, tokens: b }]);
    one.rewind(0);
    const sixth = window.forward([{ sequence: one, tokens: c }]);
    const results = (await Promise.all([first, second, third, fourth, fifth, sixth])).map(([logits]) => logits!);
    same([one.length, late.length], [7, 37], "Lengths at the end");

    const texts = [a, joined(a, b), joined(a, c), joined(a, c), joined(a, c, b), c];
    for (const [index, ids] of texts.entries()) {
      near(
        results[index]!,
        await forward(window, await fed(window, ids.slice(0, -1)), ids.slice(-1)),
        `Call ${index + 1}`,
      );
    }
  },
);

check("the same call gives the same bits", async ({ model, sequence }) => {
  for (const fixture of ["native", "odd", "window"]) {
    const one = await model({ fixture });
    const ids = someIds(30, one.config.vocabSize, 4, 12);
    const first = await forward(one, sequence(one), ids);
    bitEqual(await forward(one, sequence(one), ids), first, `Logits of the same ids, ${fixture}`);
  }
});

check("two sequences do not mix", async ({ model, sequence }) => {
  for (const fixture of ["window", "odd"]) {
    const one = await model({ fixture });
    const texts = [5, 6].map((seed) => someIds(40, one.config.vocabSize, seed, 10));
    const alone: Floats[][] = [];
    for (const ids of texts) alone.push(await steps(one, ids, 10));
    // The same calls, turn by turn.
    const both = texts.map(() => sequence(one));
    for (let from = 0, turn = 0; from < 40; from += 10, turn++) {
      for (const [index, ids] of texts.entries()) {
        const logits = await forward(one, both[index]!, ids.slice(from, from + 10));
        bitEqual(logits, alone[index]![turn]!, `${fixture}: sequence ${index}, tokens ${from} to ${from + 10}`);
      }
    }
  }

  async function steps(one: Model, ids: ArrayLike<number>, size: number): Promise<Floats[]> {
    const whole = sequence(one);
    const found: Floats[] = [];
    for (let from = 0; from < ids.length; from += size) {
      found.push(await forward(one, whole, Array.from(ids).slice(from, from + size)));
    }
    return found;
  }
});

check("a fork does not disturb its parent, nor the parent its fork", async ({ model, fork, fed }) => {
  // Before, at and beyond the window of 24: a shared past must not be evicted under the other's feet.
  const window = await model({ fixture: "window" });
  const vocabulary = window.config.vocabSize;
  for (const length of [10, 24, 40, 90]) {
    const past = someIds(length, vocabulary, length, 11);
    const left = someIds(30, vocabulary, 101, 11);
    const right = someIds(30, vocabulary, 102, 11);
    const parent = await fed(window, past);
    const child = fork(parent);
    const grandchild = fork(child);
    for (let from = 0; from < 30; from += 6) {
      await window.forward([{ sequence: parent, tokens: left.slice(from, from + 6) }]);
      await window.forward([{ sequence: child, tokens: right.slice(from, from + 6) }]);
    }
    child.close();
    const plain = async (more: ArrayLike<number>) =>
      forward(window, await fed(window, tokens([...past, ...Array.from(more)])), [7]);
    near(await forward(window, parent, [7]), await plain(left), `Parent of ${length} tokens`);
    near(await forward(window, grandchild, [7]), await plain([]), `Fork of a fork at ${length} tokens`);
  }
});

check("a fork carries on where its parent stands, drawn tokens included", async ({ model, sequence, fork }) => {
  const native = await model({ fixture: "native" });
  const parent = sequence(native);
  const sampling = { ...defaultSampling, seed: 5 };
  await native.sample([{ sequence: parent, tokens: tokens([1, 2, 3]), count: 6, sampling }]);
  const child = fork(parent);
  const [next] = await native.sample([{ sequence: child, tokens: tokens([]), count: 6, sampling }]);
  const [same_] = await native.sample([{ sequence: parent, tokens: tokens([]), count: 6, sampling }]);
  same(next!.ids, same_!.ids, "Draws of the fork and of its parent");
  same([child.length, parent.length], [15, 15], "Lengths");
});

check("a row without tokens goes on from the last one", async ({ model, fed }) => {
  for (const fixture of ["native", "window", "odd"]) {
    const one = await model({ fixture });
    const ids = someIds(40, one.config.vocabSize, 8, 10);
    const whole = await fed(one, ids.slice(0, -1));
    const expected = await forward(one, whole, ids.slice(-1));
    near(await forward(one, whole, []), expected, `${fixture}: forward() of nothing`);
    near(await forward(one, whole, []), expected, `${fixture}: once more`);
    same(whole.length, 40, "Length");
    const [ln] = await one.score([{ sequence: whole, tokens: tokens([]) }]);
    same(ln!.length, 0, "score() of nothing");
    near(await forward(one, whole, []), expected, `${fixture}: after score() of nothing`);
    whole.rewind(30);
    const again = await fed(one, ids.slice(0, 29));
    near(await forward(one, whole, []), await forward(one, again, ids.slice(29, 30)), `${fixture}: after a rewind`);
  }
});

check("a rewind to more than there is does nothing", async ({ model, fed }) => {
  const window = await model({ fixture: "window" });
  const ids = someIds(50, window.config.vocabSize, 9, 10);
  const one = await fed(window, ids);
  for (const length of [50, 51, 1e6]) one.rewind(length);
  same(one.length, 50, "Length");
  bitEqual(await forward(window, one, [3]), await forward(window, await fed(window, ids), [3]), "Logits");
});

check("two models of one backend do not mix, and closing one leaves the other", async (scope) => {
  const [left, right] = [await scope.ownModel({ fixture: "window" }), await scope.ownModel({ fixture: "odd" })];
  const ids = someIds(40, 64, 10, 12);
  const expected = [];
  for (const one of [left, right]) expected.push(await forward(one, scope.sequence(one), ids));
  const sequences = [left, right].map((one) => scope.sequence(one));
  const calls = [];
  for (let from = 0; from < 40; from += 8) {
    for (const [index, one] of [left, right].entries()) {
      calls.push(one.forward([{ sequence: sequences[index]!, tokens: ids.slice(from, from + 8) }]));
    }
  }
  const results = await Promise.all(calls);
  near(results.at(-2)![0]!, expected[0]!, "The first model, calls of both at once");
  near(results.at(-1)![0]!, expected[1]!, "The second model, calls of both at once");
  left.close();
  near(await forward(right, scope.sequence(right), ids), expected[1]!, "The second after the first was closed");
});
