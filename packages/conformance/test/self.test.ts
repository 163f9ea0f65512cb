// The suite is itself tested: its rules on made-up numbers, and its checks on a mock that keeps the contract and on forty that
// break it in one place each.
import { readdirSync } from "node:fs";
import { defaultSampling, isDogeError, type Provider } from "@doge-lm/core";
import { afterAll, describe, expect, test } from "vitest";
import { CheckFailure, rejects, same, throws } from "../src/assert.ts";
import { unknownNotes } from "../src/check.ts";
import { type Check, checks, fixtureNames, type Notes, Stage, tolerances } from "../src/checks.ts";
import { bitEqual, chiSquare, chiSquareBound, close, divergence, greedyAgrees, logSoftmax } from "../src/compare.ts";
import { couldWin, Tally } from "../src/draws.ts";
import { isRequired, runNoted } from "../src/outcome.ts";
import { runCheck } from "../src/scope.ts";
import { type Fault, mock } from "./mock.ts";

const can = { device: "hash", dtypes: ["f32"] as const, trains: false };
const stageOf = (provider: Provider, notes: Notes = {}) => new Stage({ provider, can, notes });
const named = (name: string): Check => {
  const check = checks.find((candidate) => candidate.name === name);
  if (check === undefined) throw new Error(`There is no check "${name}".`);
  return check;
};

describe("rules", () => {
  test("check names are unique, so a note names one", () => {
    expect(new Set(checks.map(({ name }) => name)).size).toBe(checks.length);
  });

  test("every fixture folder is in the list", () => {
    const folders = readdirSync(new URL("../fixtures", import.meta.url), { withFileTypes: true });
    const names = folders.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    expect(names.sort()).toEqual([...fixtureNames].sort());
  });

  test("close: within the tolerance in standard deviations, NaN never", () => {
    const expected = [0, 1, 2, 3, 4, 5]; // standard deviation 1.708
    close([0, 1, 2, 3, 4, 5.00017], expected, 1e-4, "near");
    expect(() => close([0, 1, 2, 3, 4, 5.00018], expected, 1e-4, "far")).toThrow(/number 5/);
    expect(() => close([0, 1, Number.NaN, 3, 4, 5], expected, 1e9, "no number")).toThrow(/number 2/);
    expect(() => close([0, 1, 2, 3, 4], expected, 1e-4, "short")).toThrow(/5 numbers/);
  });

  test("bitEqual: the last bit counts, and so does the sign of zero", () => {
    const one = Float32Array.of(1, 0);
    bitEqual(one, Float32Array.of(1, 0), "same");
    expect(() => bitEqual(one, Float32Array.of(1 + 2 ** -23, 0), "bit")).toThrow(/exactly/);
    expect(() => bitEqual(one, Float32Array.of(1, -0), "zero")).toThrow(/exactly/);
  });

  test("the margin rule: texts may part at a golden tie, and only there", () => {
    greedyAgrees([1, 2, 3], [1, 2, 3], [1, 1, 1], 1e-4, "equal");
    greedyAgrees([1, 9, 9], [1, 2, 3], [1, 1e-5, 1], 1e-4, "parted at a tie");
    expect(() => greedyAgrees([1, 9, 9], [1, 2, 3], [1e-5, 1, 1e-5], 1e-4, "")).toThrow(/step 1/);
    expect(() => greedyAgrees([1, 2], [1, 2, 3], [1, 1, 1], 1e-4, "")).toThrow(/2 ids/);
  });

  test("divergence: 0 of equals, ln 2 of one against two", () => {
    expect(divergence([1, 2, 3], [2, 3, 4])).toBeCloseTo(0, 12);
    expect(divergence([0, Number.NEGATIVE_INFINITY], [0, 0])).toBeCloseTo(Math.LN2, 12);
    expect(Math.exp(logSoftmax([0, 0, 0, 0])[2]!)).toBeCloseTo(0.25, 12);
  });

  test("chi-square: bounds of the table, fair counts pass, loaded ones do not", () => {
    // Upper 0.1 % points (z = 3.0902): 10.83, 29.59, 149.4 (Abramowitz and Stegun, table 26.8).
    for (const [degrees, bound] of [
      [1, 10.83],
      [10, 29.59],
      [100, 149.45],
    ] as const) {
      expect(Math.abs(chiSquareBound(degrees, 3.0902) / bound - 1)).toBeLessThan(0.04); // the approximation is worst at 1 degree
    }
    const fair = chiSquare([2510, 2480, 2490, 2520], [0.25, 0.25, 0.25, 0.25], 10_000, 5);
    expect(fair).toEqual({ statistic: 0.4, degrees: 3 });
    const loaded = chiSquare([2700, 2400, 2450, 2450], [0.25, 0.25, 0.25, 0.25], 10_000, 5);
    expect(loaded.statistic).toBeGreaterThan(chiSquareBound(3, 2));
    expect(chiSquare([100, 1, 0], [1, 0, 0], 101, 5).statistic).toBe(Number.POSITIVE_INFINITY);
    expect(chiSquare([996, 2, 2], [0.994, 0.003, 0.003], 1000, 5).degrees).toBe(1); // rare ones share a bin
  });

  test("a draw is excused near a cut or a tie, not elsewhere", () => {
    const sampling = { ...defaultSampling, temperature: 0 };
    expect(couldWin(1, [1, 1 - 1e-4, 0], [], sampling, undefined)).toBe(true);
    expect(couldWin(2, [1, 1 - 1e-4, 0], [], sampling, undefined)).toBe(false);
    const topK = { ...defaultSampling, topK: 1 };
    expect(couldWin(1, [3, 3 - 1e-4, 0], [], topK, undefined)).toBe(true);
    expect(couldWin(1, [3, 2.9, 0], [], topK, undefined)).toBe(false);
    const topP = { ...defaultSampling, topP: 0.5 };
    expect(couldWin(1, [2, 0, 0], [], topP, undefined)).toBe(false); // the first has 0.79 of the mass
    expect(couldWin(0, [2, 0, 0], [], topP, undefined)).toBe(true);
    expect(couldWin(0, [2, 0, 0], [], topP, Uint32Array.of(0b110))).toBe(false);
  });

  test("too many excused draws are a fault", () => {
    const tally = new Tally();
    const row = { tokens: Int32Array.of(0), count: 1, sampling: { ...defaultSampling, temperature: 0 } };
    for (let turn = 0; turn < 100; turn++) tally.judge(turn < 2 ? 1 : 0, [1, 1 - 1e-5], [0], row, "tie");
    expect(() => tally.finish("ties")).toThrow(/2 of 100/);
    expect(() => tally.judge(1, [1, 0.9], [0], row, "no tie")).toThrow(/drew id 1/);
    expect(() => new Tally().finish("nothing")).toThrow(/nothing was drawn/);
  });

  test("rejects and throws tell codes apart, and faults from answers", async () => {
    await expect(rejects(Promise.resolve(1), "closed", "x")).rejects.toThrow(/resolved/);
    await expect(rejects(Promise.reject(new TypeError("oops")), "closed", "x")).rejects.toThrow(/without a code/);
    expect(() => throws(() => 1, "closed", "x")).toThrow(/returned/);
    expect(() => same([1, 2], Int32Array.of(1, 3), "x")).toThrow(/expected \[1,3\]/);
    expect(() => same([Number.NaN], Float32Array.of(Number.POSITIVE_INFINITY), "x")).toThrow(/x: got/);
  });

  test("a failing test that passes is a failure; one that fails is not", async () => {
    const check = (run: Check["run"]): Check => ({ ring: "contract", name: "made up", run });
    const notes = { failing: [{ test: "made up", reason: "not written yet" }] };
    const bad = check(async () => {
      throw new Error("no");
    });
    const good = check(async () => {});
    await runNoted(bad, stageOf(mock(), notes));
    await expect(runNoted(good, stageOf(mock(), notes))).rejects.toThrow(/take it off the list/);
    await expect(runNoted(bad, stageOf(mock()))).rejects.toThrow("no");
    await expect(
      runNoted(bad, stageOf(mock(), { failing: [{ test: "contract", reason: "a whole ring" }] })),
    ).resolves.toBe(undefined);
    expect(
      await runNoted(
        check(async (scope) => scope.skip("no demo")),
        stageOf(mock(), notes),
      ),
    ).toBe("no demo");
  });

  test("notes that name no test are found", () => {
    const notes = {
      unsupported: [{ test: "crossings", reason: "" }],
      failing: [{ test: "golden scoers", reason: "" }],
    };
    expect(unknownNotes(notes, checks).map(({ test: name }) => name)).toEqual(["golden scoers"]);
  });

  test("DOGE_REQUIRE is a list of names", () => {
    expect(["cuda", "webgpu", "wasm", ""].map((name) => isRequired(name, "cuda, webgpu"))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(isRequired("wasm", "")).toBe(false);
  });

  test("a check's sequences are closed when it ends, also when it fails", async () => {
    const stage = stageOf(mock());
    const model = await stage.model({ fixture: "native", room: 256 });
    const failing = runCheck(
      {
        async run(scope) {
          await scope.fed(model, Int32Array.of(1, 2, 3));
          throw new Error("after three tokens");
        },
      },
      stage,
    );
    await expect(failing).rejects.toThrow("after three tokens");
    expect(model.room).toBe(256);
    await stage.close();
  });
});

/** Checks that ask for the model's mathematics, which the mock has not got. */
const mathematics =
  /^golden |reference routing|rewind into a call|call of one|calls of one|routing in layer 0|exact tie|no numbers|Infinity|demo model/;
const mocked = checks.filter(
  (check) => !mathematics.test(check.name) && check.skip?.({ provider: mock(), can, notes: {} }) === undefined,
);

describe("a mock that keeps the contract passes", () => {
  const stage = stageOf(mock());
  afterAll(() => stage.close());
  for (const check of mocked) test(check.name, async () => void (await runCheck(check, stage)));
});

describe("a mock that breaks it is found", () => {
  const company = "one row alone = the same row in company";
  const draws = "draws without filters, at any temperature and seed";
  const stop = "a stop id ends the text and holds until tokens are appended or it is rewound";
  const found: { readonly [name in Fault]: readonly string[] } = {
    "mixes sequences": ["two sequences do not mix", "the same call gives the same bits"],
    "sees the company": [company],
    "sees the future": ["a change of the last token leaves earlier logits alone"],
    "forks share their state": ["a fork does not disturb its parent, nor the parent its fork"],
    "a deep rewind leaves traces": ["rewinds across the window, deep and shallow, leave what was there before"],
    "a repeated row appends again": ["a row without tokens goes on from the last one"],
    "aborted calls stay": ["an abort at any point of a long call leaves sequences as they were"],
    "aborted draws stay": ["an abort between draws takes all of them back"],
    "scores are shifted": ["score = log-softmax of forward"],
    "inspect is one off": ["a prompt in one call = single steps = calls of any length"],
    "results are reused": ["arrays returned are the caller's"],
    "capabilities change": ["capabilities are frozen and do not change"],
    "room has no end": ["what does not fit is refused with no-room, and fits again when others close"],
    "unused room is lost": ["what a sample does not use of its room returns"],
    "forks cost room": ["forks share their past: many of them fit where copies would not"],
    "ignores the seed": [draws, "frequencies follow the softmax"],
    "hashes seed plus position": [draws, "draws at successive positions are independent"],
    "counts positions from the chunk": ["chunks of any size draw the same", draws],
    "counts positions by row": ["company and the order of rows change nothing", draws],
    "noise is half as strong": [draws, "frequencies follow the softmax"],
    "temperature is ignored": [
      draws,
      "frequencies follow the distribution at a low temperature, where most ids are rare",
    ],
    "top-k is one too many": ["top-k of any size"],
    "top-p drops the crossing token": ["top-p over the whole vocabulary"],
    "top-p before top-k": ["filters together, in their order"],
    "min-p is absolute": ["min-p"],
    "penalty counts occurrences": ["repetition penalty, on prompt and drawn ids, once each"],
    "penalty forgets drawn ids": ["repetition penalty, on prompt and drawn ids, once each"],
    "penalty after logprobs": [
      "logprobs and alternatives are those of the logits, before penalty, temperature and filters",
    ],
    "mask holds for one draw": ["masks: only what is allowed is drawn, with filters over what is left"],
    "mask after the filters": ["masks: only what is allowed is drawn, with filters over what is left"],
    "stop is left out": [stop],
    "stop does not hold": [stop],
    "stop outlives a rewind": [stop],
    "stops in the prompt": [stop],
    "one stop ends all rows": ["rows of one call stop each for itself"],
    "count 0 draws": ["count 0 only appends"],
    "alternatives are unsorted": [
      "logprobs and alternatives are those of the logits, before penalty, temperature and filters",
    ],
    "unasked logprobs": ["logprobs and alternatives are those of the logits, before penalty, temperature and filters"],
  };
  for (const [fault, names] of Object.entries(found)) {
    test(fault, async () => {
      const stage = stageOf(mock(fault as Fault));
      for (const name of names) {
        const outcome = await runCheck(named(name), stage).catch((error: unknown) => error);
        // Found by the check, or refused by the mock where it should have answered; not an accident.
        const meant = outcome instanceof CheckFailure || isDogeError(outcome);
        expect(meant, `"${name}" should find it; it ended with ${String(outcome)}`).toBe(true);
      }
      await stage.close();
    });
  }

  test("wrong numbers are found by the goldens", async () => {
    const stage = stageOf(mock());
    for (const name of ["golden logits: native", "golden greedy text: window", "golden scores"]) {
      await expect(runCheck(named(name), stage)).rejects.toThrow();
    }
    expect(tolerances.logits).toBeLessThan(4e-3); // another choice of keys at the window moves logits by more
    await stage.close();
  });
});
