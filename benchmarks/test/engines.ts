// Engines for the tests of the benchmark: one that is honest, those that are not, and one that does not live long.
import type { Backend, Model, Provider } from "@doge-lm/core";
import { reference } from "@doge-lm/reference";
import type { Engine } from "../engines.ts";

/** The reference with some of a model's verbs replaced. */
function altered(name: string, alter: (model: Model) => Partial<Model>): Provider {
  const own = reference();
  return {
    name,
    probe: () => own.probe(),
    async open() {
      const backend = await own.open();
      return {
        ...{ name, can: backend.can },
        async load(checkpoint, options) {
          const model = await backend.load(checkpoint, options);
          const verbs: Model = {
            ...{ config: model.config, dtype: model.dtype, routing: model.routing, context: model.context },
            get room() {
              return model.room;
            },
            sequence: () => model.sequence(),
            forward: (rows) => model.forward(rows),
            score: (rows) => model.score(rows),
            sample: (rows) => model.sample(rows),
            inspect: (rows, names) => model.inspect(rows, names),
            close: () => model.close(),
          };
          return Object.assign(verbs, alter(model));
        },
        close: () => backend.close(),
      } satisfies Backend;
    },
  };
}

/** Logits that are a little wrong: no choice changes. */
const blurred = altered("blurred", (model) => ({
  async forward(rows) {
    const all = await model.forward(rows);
    for (const logits of all) logits[7] = logits[7]! + 0.01;
    return all;
  },
}));

/** Right logits, and draws that are not made from them. */
const lying = altered("lying", (model) => ({
  async sample(rows) {
    const drawn = await model.sample(rows);
    return drawn.map((one) => ({ ...one, ids: one.ids.map((id, index) => (index === 3 ? id + 1 : id)) }));
  },
}));

/** Right until it is asked for many tokens of a shape that is timed: then its process ends. */
const dying = altered("dying", (model) => ({
  async sample(rows) {
    const timed = model.config.vocabSize > 10_000 && model.context > 40;
    if (timed && rows.some(({ count }) => count > 0)) process.kill(process.pid, "SIGKILL");
    return model.sample(rows);
  },
}));

/** Never comes to an end. */
const endless = altered("endless", () => ({ forward: () => new Promise(() => {}) }));

const absent: Provider = {
  name: "absent",
  probe: async () => ({ available: false, code: "unavailable", why: "There is none here." }),
  open: () => Promise.reject(new Error("There is none here.")),
};

export const truth: Engine = { name: "reference", slow: true, provider: () => reference() };
export const baseline: Engine = { name: "honest", slow: true, provider: () => reference() };
const slow = (name: string, provider: Provider): Engine => ({ name, slow: true, provider: () => provider });
export const engines: readonly Engine[] = [
  baseline,
  slow("blurred", blurred),
  slow("lying", lying),
  slow("dying", dying),
  slow("endless", endless),
  slow("absent", absent),
  truth,
];
