// @doge-lm/conformance: one suite that every backend runs. `conformance(wasm())` in a test file registers all of it with
// vitest; the checks themselves (./checks) need no test runner.
import { type Availability, checked, checkedProvider, type ErrorCode, type Provider } from "@doge-lm/core";
import { afterAll, describe, test } from "vitest";
import { assert, rejects } from "./assert.ts";
import { type Check, matches, rings, unknownNotes } from "./check.ts";
import { checks } from "./checks.ts";
import type { Notes, Subject } from "./notes.ts";
import { isRequired, runNoted } from "./outcome.ts";
import { Stage } from "./scope.ts";

export type { CrossingCounter, CrossingNotes, Kernels, Note, Notes } from "./notes.ts";

/** Milliseconds for one check; a slow backend on a busy machine stays far below. */
const timeout = 180_000;

/** Registers the suite for a backend. One that is not available here is skipped, which is said with code and reason; naming
 *  it in DOGE_REQUIRE ("cuda,webgpu") makes that a failure. `notes` hold what its author knows: what can never work
 *  (`unsupported`), what does not work yet (`failing`: a test of these that passes is a failure), how crossings are counted. */
export function conformance(provider: Provider, notes: Notes = {}): void {
  describe(`conformance: ${provider.name}`, async () => {
    const answer = await provider.probe(); // a throw is a fault, and fails the file
    if (!answer.available) return registerAbsence(provider, answer);
    test("every note names a test", () => {
      const unknown = unknownNotes(notes, checks).map((note) => JSON.stringify(note.test));
      assert(unknown.length === 0, `Notes on tests that do not exist: ${unknown.join(", ")}.`);
    });
    registerAll({ provider, can: answer, notes });

    const backend = await provider.open();
    const already = checked(backend) === backend;
    await backend.close();
    if (!already)
      describe("through checked()", () => registerAll({ provider: checkedProvider(provider), can: answer, notes }));
    else {
      test("open() returns what is checked() already, so a second pass through checked() would be the same", async () => {
        const again = await checkedProvider(provider).open();
        assert(checked(again) === again, "checkedProvider() opened a backend that is not checked.");
        await again.close();
      });
    }
  });
}

function registerAbsence(provider: Provider, { code, why }: Extract<Availability, { available: false }>): void {
  const sentence = `${provider.name} is not available here (${code}): ${why}`;
  if (isRequired(provider.name)) {
    test("is available, as DOGE_REQUIRE demands", () => assert(false, sentence));
    return;
  }
  console.warn(`Skipped the conformance suite: ${sentence}`);
  test.skip(`skipped: ${sentence}`, () => {});
  test("open() rejects with the code of probe()", async () => {
    await rejects(provider.open(), code as ErrorCode, "open() of a backend that is not available");
  });
}

function registerAll(subject: Subject): void {
  const stage = new Stage(subject);
  afterAll(() => stage.close());
  for (const ring of rings) {
    describe(ring, () => {
      for (const check of checks) if (check.ring === ring) registerOne(check, stage);
    });
  }
}

function registerOne(check: Check, stage: Stage): void {
  const { subject } = stage;
  const why = subject.notes.unsupported?.find((note) => matches(note, check))?.reason ?? check.skip?.(subject);
  if (why !== undefined) {
    test.skip(`${check.name} (skipped: ${why})`, () => {});
    return;
  }
  test(check.name, { timeout }, async (context) => {
    const skipped = await runNoted(check, stage);
    if (skipped !== undefined) context.skip(skipped);
  });
}
