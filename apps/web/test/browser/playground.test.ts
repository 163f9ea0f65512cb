// The playground in a real browser: built once, served twice (with the headers for threads and without), used by many.
import { afterAll, beforeAll, describe } from "vitest";
import { absence, browserPath } from "../../../../tools/browser.ts";
import { chatTests } from "./chat.ts";
import { modelTests } from "./models.ts";
import { offlineTests } from "./offline.ts";
import { openPlayground, type Playground } from "./playground.ts";

/** Milliseconds: each takes seconds, and many times that on a machine that is busy with others. */
const timeout = 180_000;

describe.skipIf(browserPath === undefined)(`the playground in a browser${absence}`, { timeout }, () => {
  let playground: Playground;
  beforeAll(async () => {
    playground = await openPlayground();
  }, timeout);
  afterAll(() => playground?.close());

  describe.concurrent("as a person uses it", () => chatTests(() => playground));
  describe("its models", () => modelTests(() => playground));
  describe("without its host", () => offlineTests(() => playground));
});
