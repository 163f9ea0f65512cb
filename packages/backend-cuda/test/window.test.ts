// Attention under a window of several slices: prompts, steps, and steps in company sum in one order, whatever number of blocks shares the
// slices. A bit of difference would drop another key in the next layer.
import { sines, small } from "@doge-lm/conformance/models";
import { type Config, checked } from "@doge-lm/core";
import { describe, expect, test } from "vitest";
import { CudaBackend, dtypes } from "../src/backend.ts";
import { shimBinding, withoutShim } from "./shim.ts";

/** Slots for three slices of 128; on eight processors a step of one row has a block for each, two rows share two, and a prompt's token has one. */
const config: Config = { ...small, heads: 2, kvHeads: 2, biasHeads: 2, headDim: 16, maxPositions: 512, window: 200 };
const text = Int32Array.from({ length: 280 }, (_, index) => (index * index * 7 + index) % config.vocabSize);
const checkpoint = sines(config, (columns) => 1 / Math.sqrt(columns));

describe.skipIf(withoutShim !== undefined)(`under a window${withoutShim ? ` (skipped: ${withoutShim})` : ""}`, () => {
  test.each(["f32", "bf16"] as const)(
    "%s: logits of a prompt, of steps and of steps in company are equal to the bit",
    async (dtype) => {
      const raw = new CudaBackend("cuda-on-host-shim", shimBinding(), 0, {
        device: "host shim",
        dtypes,
        trains: false,
      });
      const backend = checked(raw);
      const model = await backend.load(checkpoint, { dtype, room: 4096, context: 512 });
      const whole = model.sequence();
      const [prompt] = await model.forward([{ sequence: whole, tokens: text }]);
      for (const rows of [1, 2]) {
        const sequences = Array.from({ length: rows }, () => model.sequence());
        const tokens = (from: number, to: number) =>
          sequences.map((sequence) => ({ sequence, tokens: text.subarray(from, to) }));
        await model.forward(tokens(0, 240));
        for (let at = 240; at < text.length - 1; at++) await model.forward(tokens(at, at + 1));
        for (const logits of await model.forward(tokens(text.length - 1, text.length))) expect(logits).toEqual(prompt);
      }
      await backend.close();
    },
  );
});
