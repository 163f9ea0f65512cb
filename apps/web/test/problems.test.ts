// What a person is told of an error.
import { describe, expect, test } from "vitest";
import { EngineError } from "../src/engine/client.ts";
import { explain } from "../src/state/problems.ts";

describe("problems", () => {
  test.each(["out-of-memory", "disk-full", "hub-unreachable", "offline-missing", "unavailable", "no-such-code"])(
    "are whole sentences with a way out: %s",
    (code) => {
      const { title, text, ways } = explain(new EngineError({ code, message: "It has 3 bytes" }), "loading the model");
      expect(title.length).toBeGreaterThan(5);
      expect(text).toMatch(/^It has 3 bytes\. ?/);
      expect(text).toMatch(/\.$/);
      expect(ways.length).toBeGreaterThan(0);
    },
  );
});
