// What opening sees of a driver that is right until a loop over keys takes its second turn.
import type { Backend } from "@doge-lm/core";
import { assertAgreesWithItself } from "@doge-lm/core/backend-kit";
import { reference } from "@doge-lm/reference";
import { expect, test } from "vitest";

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
