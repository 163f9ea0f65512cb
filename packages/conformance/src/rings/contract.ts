// Ring "contract", first part: probing, what a backend and a model say of themselves, lifetime, whose memory arrays are.
import { defaultSampling } from "@doge-lm/core";
import { assert, rejects, same, throws } from "../assert.ts";
import { type Check, inRing } from "../check.ts";
import { bitEqual } from "../compare.ts";
import { someIds, tokens } from "../random.ts";
import { forward } from "../runs.ts";

export const contractChecks: Check[] = [];
const check = inRing("contract", contractChecks);

check("probe tells device, dtypes and whether it trains", async ({ stage }) => {
  const answer = await stage.provider.probe();
  assert(answer.available, "probe() first said available, then not.");
  assert(typeof answer.device === "string" && answer.device.length > 0, "The device has no name.");
  assert(typeof answer.trains === "boolean", `trains is ${String(answer.trains)}, not true or false.`);
  assert(answer.dtypes.includes("f32"), `f32, the default, is not among the dtypes ${answer.dtypes.join(", ")}.`);
  for (const dtype of answer.dtypes) assert(["f32", "bf16", "q8", "q4"].includes(dtype), `Unknown dtype ${dtype}.`);
  same(new Set(answer.dtypes).size, answer.dtypes.length, "Different dtypes");
});

check("capabilities are frozen and do not change", async ({ stage, model }) => {
  const backend = await stage.backend();
  assert(Object.isFrozen(backend.can), "backend.can is not frozen.");
  assert(Object.isFrozen(backend.can.dtypes), "backend.can.dtypes is not frozen.");
  const before = JSON.stringify(backend.can);
  const answer = await stage.provider.probe();
  assert(answer.available, "probe() first said available, then not.");
  const { available: _, ...capabilities } = answer;
  same(backend.can, capabilities, "backend.can against probe()");
  await model({ fixture: "native" });
  same(JSON.stringify(backend.can), before, "backend.can after a load");
  same(backend.name, stage.provider.name, "backend.name");
});

check("open() gives independent backends, and close() is final", async ({ stage, fixture }) => {
  const [one, two] = await Promise.all([stage.provider.open(), stage.provider.open()]);
  const { checkpoint } = await fixture("native");
  const doomed = await one.load(checkpoint, { context: 16 });
  const sequence = doomed.sequence();
  await one.close();
  await one.close();
  await rejects(one.load(checkpoint, { context: 16 }), "closed", "load() after the backend was closed");
  await rejects(
    doomed.forward([{ sequence, tokens: tokens([1]) }]),
    "closed",
    "forward() after the backend was closed",
  );
  const model = await two.load(checkpoint, { context: 16 });
  await forward(model, model.sequence(), [1, 2, 3]);
  await two.close();
});

check("an aborted signal stops open() and load()", async ({ stage, fixture }) => {
  const { checkpoint } = await fixture("native");
  const backend = await stage.backend();
  await rejects(stage.provider.open(AbortSignal.abort()), "aborted", "open() with an aborted signal");
  await rejects(backend.load(checkpoint, { signal: AbortSignal.abort() }), "aborted", "load() with an aborted signal");
  // In the middle: at the third piece of the weights.
  const controller = new AbortController();
  let pieces = 0;
  const watched: typeof checkpoint = {
    ...checkpoint,
    config: checkpoint.config,
    tensors: checkpoint.tensors,
    read(name, from, to, signal) {
      if (++pieces === 3) controller.abort();
      return checkpoint.read(name, from, to, signal);
    },
  };
  await rejects(backend.load(watched, { signal: controller.signal }), "aborted", "load() aborted while it reads");
  const model = await backend.load(checkpoint, { context: 16 });
  await forward(model, model.sequence(), [1, 2, 3]);
  model.close();
});

check("weights are read once, a piece at a time", async ({ stage, fixture, later }) => {
  const backend = await stage.backend();
  for (const name of ["native", "odd", "moe"]) {
    const { checkpoint } = await fixture(name);
    let read = 0;
    let all = 0;
    for (const { dtype, shape } of checkpoint.tensors.values()) {
      all += shape.reduce((product, size) => product * size, dtype === "F32" ? 4 : 2);
    }
    const counted: typeof checkpoint = {
      ...checkpoint,
      config: checkpoint.config,
      tensors: checkpoint.tensors,
      read(tensor, from, to, signal) {
        assert(to - from <= 2 ** 20, `${tensor} was asked for ${to - from} bytes at once; a piece is 1 MiB at most.`);
        read += to - from;
        return checkpoint.read(tensor, from, to, signal);
      },
    };
    const model = await backend.load(counted, { context: 16 });
    later(() => model.close());
    assert(read <= all, `${name}: ${read} bytes were read of tensors that have ${all}.`);
  }
});

check("a fault while reading weights reaches the caller, and the backend works on", async ({ stage, fixture }) => {
  const { checkpoint } = await fixture("native");
  const backend = await stage.backend();
  let pieces = 0;
  const broken: typeof checkpoint = {
    ...checkpoint,
    config: checkpoint.config,
    tensors: checkpoint.tensors,
    async read(name, from, to, signal) {
      if (++pieces === 4) throw new Error("the disk is on fire");
      return checkpoint.read(name, from, to, signal);
    },
  };
  const outcome = await backend.load(broken).then(
    () => "loaded",
    (error: unknown) => String(error),
  );
  assert(outcome.includes("on fire"), `The reader's error should come through; load() gave: ${outcome}`);
  const model = await backend.load(checkpoint, { context: 16 });
  await forward(model, model.sequence(), [1, 2, 3]);
  model.close();
});

check(
  "load options default to f32, the routing to reference, the context to the config's",
  async ({ stage, fixture, later }) => {
    const backend = await stage.backend();
    const [dense, mixed] = await Promise.all([fixture("native"), fixture("moe")]);
    const model = await backend.load(dense.checkpoint);
    later(() => model.close());
    same(
      [model.dtype, model.routing, model.context],
      ["f32", "per-token", dense.checkpoint.config.maxPositions],
      "Dense",
    );
    same(model.config, dense.checkpoint.config, "model.config");
    assert(model.room >= model.context, `Room for ${model.room} tokens is less than one context of ${model.context}.`);
    const experts = await backend.load(mixed.checkpoint);
    later(() => experts.close());
    same(experts.routing, "reference", "Default routing of a mixture of experts");
    const clean = await backend.load(mixed.checkpoint, { routing: "per-token", context: 33, room: 70 });
    later(() => clean.close());
    same([clean.routing, clean.context], ["per-token", 33], "Options of a mixture of experts");
    assert(clean.room >= 70, `Asked for room for 70 tokens, got ${clean.room}.`);
  },
);

check("load refuses options that make no sense", async ({ stage, fixture }) => {
  const backend = await stage.backend();
  const { checkpoint } = await fixture("native");
  const bad: [string, object][] = [
    ["dtype f64", { dtype: "f64" }],
    ["routing sideways", { routing: "sideways" }],
    ["context 0", { context: 0 }],
    ["context 1.5", { context: 1.5 }],
    ["room -1", { room: -1 }],
  ];
  for (const [what, options] of bad) await rejects(backend.load(checkpoint, options), "invalid-argument", what);
  const missing = (["bf16", "q8", "q4"] as const).find((dtype) => !backend.can.dtypes.includes(dtype));
  if (missing !== undefined) {
    await rejects(
      backend.load(checkpoint, { dtype: missing }),
      "unsupported",
      `dtype ${missing}, which it has not got`,
    );
  }
});

check("a sequence counts what was passed in and what was drawn", async ({ model, sequence }) => {
  const native = await model({ fixture: "native" });
  const one = sequence(native);
  same(one.length, 0, "Length of a new sequence");
  await forward(native, one, [1, 2, 3]);
  same(one.length, 3, "After forward() of 3");
  const [ln] = await native.score([{ sequence: one, tokens: tokens([4, 5]) }]);
  same([one.length, ln!.length], [5, 2], "After score() of 2");
  const [drawn] = await native.sample([{ sequence: one, tokens: tokens([6]), count: 4, sampling: defaultSampling }]);
  same([one.length, drawn!.ids.length], [10, 4], "After sample() of 1 and 4 draws");
  await native.inspect([{ sequence: one, tokens: tokens([7, 8]) }], []);
  same(one.length, 12, "After inspect() of 2");
  one.rewind(99);
  same(one.length, 12, "After a rewind to more than there is");
  one.rewind(5);
  await forward(native, one, [9]);
  same(one.length, 6, "After a rewind to 5 and one token");
});

check("arrays passed in are read before the call returns", async ({ model, sequence }) => {
  const native = await model({ fixture: "native" });
  const expected = await forward(native, sequence(native), [5, 6, 7, 8]);
  const ids = tokens([5, 6, 7, 8]);
  const rows = [{ sequence: sequence(native), tokens: ids }];
  const blocker = native.forward([{ sequence: sequence(native), tokens: someIds(60, native.config.vocabSize, 1) }]);
  const call = native.forward(rows);
  ids.fill(0);
  rows.length = 0;
  await blocker;
  bitEqual((await call)[0]!, expected, "Logits of ids overwritten while the call waited");

  const stop = [3];
  const allowed = allowOnly(native.config.vocabSize, [3, 4]);
  const fresh = sequence(native);
  const second = native.sample([
    { sequence: fresh, tokens: tokens([5, 6]), count: 3, sampling: { ...defaultSampling, stop }, allowed },
  ]);
  stop[0] = 4;
  allowed.fill(0);
  const [drawn] = await second;
  const early = drawn!.ids.indexOf(3);
  same(
    drawn!.ids.length,
    early === -1 ? 3 : early + 1,
    "Draws under a stop list and a mask overwritten after the call",
  );
});

check("arrays returned are the caller's", async ({ model, sequence }) => {
  const native = await model({ fixture: "native" });
  const one = sequence(native);
  const first = await forward(native, one, [1, 2, 3]);
  const kept = first.slice();
  assert(!(first.buffer instanceof (globalThis.SharedArrayBuffer ?? class {})), "Logits lie in shared memory.");
  await forward(native, sequence(native), someIds(40, native.config.vocabSize, 2));
  const [drawn] = await native.sample([{ sequence: one, tokens: tokens([4]), count: 5, sampling: defaultSampling }]);
  const ids = drawn!.ids.slice();
  await native.sample([
    { sequence: sequence(native), tokens: tokens([9]), count: 5, sampling: { ...defaultSampling, seed: 9 } },
  ]);
  bitEqual(first, kept, "Logits after later calls");
  same(drawn!.ids, ids, "Drawn ids after later calls");
  // Writing into them changes nothing on the device.
  first.fill(7);
  drawn!.ids.fill(0);
  one.rewind(3);
  bitEqual(
    await forward(native, one, [4]),
    await forward(native, await fedCopy(), [4]),
    "Logits after writing into results",
  );

  async function fedCopy() {
    const copy = sequence(native);
    await forward(native, copy, [1, 2, 3]);
    return copy;
  }
});

check("closed means closed, and earlier calls still finish", async ({ ownModel, sequence }) => {
  const model = await ownModel({ fixture: "native", context: 64 });
  const one = model.sequence();
  const call = model.forward([{ sequence: one, tokens: tokens([1, 2, 3]) }]);
  one.close();
  one.close();
  same((await call)[0]!.length, model.config.vocabSize, "A call made before its sequence was closed");
  await rejects(model.forward([{ sequence: one, tokens: tokens([1]) }]), "closed", "forward() on a closed sequence");
  throws(() => one.fork(), "closed", "fork() of a closed sequence");
  throws(() => one.rewind(0), "closed", "rewind() of a closed sequence");

  const two = sequence(model);
  const last = model.sample([{ sequence: two, tokens: tokens([1, 2]), count: 2, sampling: defaultSampling }]);
  model.close();
  model.close();
  same((await last)[0]!.ids.length, 2, "A call made before its model was closed");
  throws(() => model.sequence(), "closed", "sequence() of a closed model");
  await rejects(model.forward([{ sequence: two, tokens: tokens([1]) }]), "closed", "forward() on a closed model");
  await rejects(model.score([{ sequence: two, tokens: tokens([1]) }]), "closed", "score() on a closed model");
  await rejects(model.inspect([{ sequence: two, tokens: tokens([1]) }], []), "closed", "inspect() on a closed model");
  await rejects(
    model.sample([{ sequence: two, tokens: tokens([1]), count: 1, sampling: defaultSampling }]),
    "closed",
    "sample() on a closed model",
  );
});

/** A mask with only these ids, as SampleRow.allowed wants it. */
export function allowOnly(vocabulary: number, ids: readonly number[]): Uint32Array<ArrayBuffer> {
  const mask = new Uint32Array((vocabulary + 31) >> 5);
  for (const id of ids) mask[id >> 5] = (mask[id >> 5]! | (1 << (id & 31))) >>> 0;
  return mask;
}
