// What is seen of a driver that is wrong: when it is opened, of loops over keys; when filters are first drawn by, of those.
import { sines, small } from "@doge-lm/conformance/models";
import { type Backend, defaultSampling } from "@doge-lm/core";
import { assertAgreesWithItself, assertDraws } from "@doge-lm/core/backend-kit";
import { reference } from "@doge-lm/reference";
import { expect, test } from "vitest";
import { software } from "./software.ts";

test("the step of a single text that forgets its keys behind 512 is refused by a text of 600 tokens, and by no shorter one", async () => {
  const backend = await reference().open();
  const forgetful: Backend = {
    name: backend.name,
    can: backend.can,
    load: async (...from) => {
      const model = await backend.load(...from);
      const forward = model.forward.bind(model);
      model.forward = async (rows) => {
        const [{ sequence, tokens }] = rows as [(typeof rows)[number]];
        if (rows.length > 1 || tokens.length > 1 || sequence.length < 512) return forward(rows);
        return forward([{ sequence: model.sequence(), tokens }]);
      };
      return model;
    },
    close: async () => {},
  };
  const check = (on: Backend, tokens: number) =>
    assertAgreesWithItself(on, { engine: "This GPU", dtypes: ["f32"], apart: 0.1, tokens });
  await check(backend, 600);
  await check(forgetful, 80);
  await expect(check(forgetful, 600)).rejects.toThrow(/the step of a single text/);
  await backend.close();
});

test("a backend that leaves out a filter of a draw is refused", async () => {
  const backend = await reference().open();
  const without = (option: "topK" | "topP" | "seed"): Backend => ({
    name: backend.name,
    can: backend.can,
    load: async (...from) => {
      const model = await backend.load(...from);
      const sample = model.sample.bind(model);
      const { [option]: plain } = defaultSampling;
      model.sample = (rows) => sample(rows.map((row) => ({ ...row, sampling: { ...row.sampling, [option]: plain } })));
      return model;
    },
    close: async () => {},
  });
  await assertDraws(backend, "This GPU");
  for (const option of ["topK", "topP", "seed"] as const) {
    const refusal = {
      code: "known-answer",
      message: expect.stringMatching(/This GPU draws the id \d+ where \d+ is right/),
    };
    await expect(assertDraws(without(option), "This GPU"), option).rejects.toMatchObject(refusal);
  }
  await backend.close();
});

const answer = await software().probe();
const why = answer.available ? "" : ` (skipped: ${answer.why})`;

test.skipIf(!answer.available)(
  `a driver that draws wrongly by topK is found when it is first asked to, and goes on without${why}`,
  { timeout: 300_000 },
  async () => {
    const judged: string[] = [];
    const onDevice = (device: GPUDevice): GPUDevice => {
      const create = device.createShaderModule.bind(device);
      device.createShaderModule = (descriptor) => {
        const { label, code } = descriptor;
        if (label !== "draw filtered") return create(descriptor);
        judged.push(label);
        return create({ label, code: code.replace(/let topK = select\(/, "let topK = 0u * select(") });
      };
      return device;
    };
    const backend = await software({ onDevice }).open();
    expect(judged).toEqual([]);
    const model = await backend.load(sines(small));
    const sequence = model.sequence();
    const row = { sequence, tokens: Int32Array.of(1, 2), count: 2 };
    const filtered = { ...row, sampling: { ...defaultSampling, topK: 3 } };
    for (let turn = 0; turn < 2; turn++) {
      await expect(model.sample([filtered])).rejects.toMatchObject({ code: "known-answer" });
      expect(sequence.length).toBe(0);
    }
    expect(judged).toEqual(["draw filtered"]);
    const [drawn] = await model.sample([{ ...row, sampling: { ...defaultSampling, seed: 3 } }]);
    expect(drawn!.ids).toHaveLength(2);
    await backend.close();
  },
);
