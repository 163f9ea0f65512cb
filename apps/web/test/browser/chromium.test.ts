// The playground in Chromium: built once, served twice (with the headers for threads and without), used by many at a time.
import { afterAll, beforeAll, describe } from "vitest";
import { chromium } from "../../../../tools/browser.ts";
import { accessibilityTests } from "./accessibility.ts";
import { chatTests } from "./chat.ts";
import { faultTests } from "./faults.ts";
import { keptTests } from "./kept.ts";
import { listTests, touchTests } from "./list.ts";
import { mannersTests } from "./manners.ts";
import { modelTests } from "./models.ts";
import { offlineTests } from "./offline.ts";
import { openPlayground, type Playground } from "./playground.ts";

/** Milliseconds: each takes seconds, and many times that on a machine that is busy with others. */
const timeout = 180_000;

describe.skipIf(chromium.path === undefined)(`the playground in Chromium${chromium.absence}`, { timeout }, () => {
  let playground: Playground;
  beforeAll(async () => {
    playground = await openPlayground(chromium, true);
  }, timeout);
  afterAll(() => playground?.close());

  describe.concurrent("as a person uses it", () => {
    chatTests(() => playground);
    listTests(() => playground);
    touchTests(() => playground);
    keptTests(() => playground);
    mannersTests(() => playground);
    accessibilityTests(() => playground);
  });
  describe("its models", () => modelTests(() => playground));
  describe("when something breaks", () => faultTests(() => playground));
  describe("without its host", () => offlineTests(() => playground));
});
