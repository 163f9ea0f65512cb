// Row F11 and the layouts: which Doge the tensors are, which are refused by name, and every difference at once.
import { expect, describe as group, test } from "vitest";
import {
  type Config,
  canonicalName,
  describe,
  filesFrom,
  openCheckpoint,
  readTensor,
  tensorShapes,
} from "../../src/index.ts";
import { refuses } from "./errors.ts";
import {
  configJson,
  f32,
  json,
  modelFiles,
  normals,
  randomTensors,
  type TensorData,
  tinyConfig,
  tinyExperts,
  tinyLegacy,
  writeSafetensors,
} from "./write-safetensors.ts";

const tinyMoe: Config = { ...tinyConfig, experts: tinyExperts };
/** Old name of a canonical one, as the authors' code wrote it. */
const oldName = (name: string) =>
  name
    .replace("embed_tokens", "word_embed")
    .replace(/^model\.norm\./, "model.final_layernorm.")
    .replace("input_layernorm", "pre_layernorm")
    .replace("post_attention_layernorm", "post_layernorm")
    .replace(/input_residual$/, "pre_residual.weight")
    .replace(/post_attention_residual$/, "post_residual.weight")
    .replace(".mlp.", ".feed_forward.");
const renamed = (tensors: ReadonlyMap<string, TensorData>, rename: (name: string) => string) =>
  new Map(Array.from(tensors, ([name, tensor]) => [rename(name), tensor]));
/** A model with some tensors set, or removed with null. */
function changed(config: Config, changes: Record<string, TensorData | null>, json?: Record<string, unknown>) {
  const tensors = randomTensors(config);
  for (const [name, tensor] of Object.entries(changes)) {
    if (tensor === null) tensors.delete(name);
    else tensors.set(name, tensor);
  }
  return modelFiles(config, { tensors, ...(json === undefined ? {} : { config: json }) });
}
const zeros = (...shape: number[]) => f32(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));

group("layouts", () => {
  const untied = { ...tinyConfig, tied: false, attentionBias: true, mlpBias: true };
  test.each<[string, Config]>([
    ["native", tinyConfig],
    ["native, untied, with biases", untied],
    ["native mixture of experts", tinyMoe],
    ["legacy", tinyLegacy],
    ["legacy mixture of experts", { ...tinyLegacy, experts: tinyExperts }],
    ["native with equal head counts", { ...tinyConfig, kvHeads: 4, biasHeads: 4 }],
  ])("%s", async (_, config) => {
    const opened = await openCheckpoint(modelFiles(config));
    expect(opened.config).toEqual(config);
    expect(Object.fromEntries(Array.from(opened.tensors, ([name, { shape }]) => [name, shape]))).toEqual(
      Object.fromEntries(tensorShapes(config)),
    );
    expect(opened.warnings).toEqual([]);
    expect(opened.source.names).toBe("current");
  });
  test("old names are the same model", async () => {
    const config = { ...tinyLegacy, experts: tinyExperts };
    const tensors = randomTensors(config);
    const opened = await openCheckpoint(modelFiles(config, { tensors: renamed(tensors, oldName) }));
    expect(opened.config).toEqual(config);
    expect(opened.source.names).toBe("old");
    for (const [name, { bytes }] of tensors) {
      expect(new Uint8Array((await readTensor(opened, name)).buffer)).toEqual(bytes);
    }
  });
  test("gates with a suffix, and position tables, are understood", async () => {
    const tensors = renamed(randomTensors(tinyConfig), (name) =>
      name.endsWith("_residual") ? `${name}.weight` : name,
    );
    tensors.set("model.rotary_emb.inv_freq", zeros(2));
    const opened = await openCheckpoint(modelFiles(tinyConfig, { tensors }));
    expect(opened.tensors.has("model.layers.1.input_residual")).toBe(true);
    expect(opened.tensors.has("model.rotary_emb.inv_freq")).toBe(false);
  });
  test("canonicalName", () => {
    for (const name of tensorShapes({ ...tinyMoe, tied: false }).keys()) {
      expect(canonicalName(name)).toBe(name);
      expect(canonicalName(oldName(name))).toBe(name);
    }
    expect(canonicalName("model.layers.7.input_residual.weight")).toBe("model.layers.7.input_residual");
    expect(canonicalName("model.layers.7.post_attention_residual.weight")).toBe(
      "model.layers.7.post_attention_residual",
    );
    expect(canonicalName("something.else")).toBe("something.else");
  });
  test("biases that config.json does not mention", async () => {
    const config = { ...tinyLegacy, attentionBias: true, mlpBias: true };
    const silent = { attention_bias: undefined, mlp_bias: undefined };
    expect((await openCheckpoint(modelFiles(config, { config: silent }))).config).toMatchObject({
      attentionBias: true,
      mlpBias: true,
    });
    await refuses(
      () => openCheckpoint(modelFiles(config, { config: { attention_bias: false } })),
      "tensor-mismatch",
      "q_proj.bias is unknown",
    );
  });
  test("the tensors win over is_moe, with a warning", async () => {
    for (const config of [tinyConfig, tinyMoe]) {
      const opened = await openCheckpoint(modelFiles(config, { config: { is_moe: config.experts === null } }));
      expect(opened.config.experts).toEqual(config.experts);
      expect(opened.warnings).toEqual([expect.stringContaining("is_moe")]);
    }
  });
  test.each([
    ["beside the index", "b.safetensors"],
    ["in a subfolder", "more/of/b.safetensors"],
  ])("shards are one model: %s", async (_where, second) => {
    const tensors = [...randomTensors(tinyConfig)];
    const half = tensors.length >> 1;
    const map = Object.fromEntries(tensors.map(([name], index) => [name, index < half ? "a.safetensors" : second]));
    const opened = await openCheckpoint(
      filesFrom({
        "config.json": json(configJson(tinyConfig)),
        "model.safetensors.index.json": json({ weight_map: map }),
        "a.safetensors": writeSafetensors(new Map(tensors.slice(0, half))),
        [second]: writeSafetensors(new Map(tensors.slice(half))),
      }),
    );
    expect(opened.config).toEqual(tinyConfig);
    for (const [name, { bytes }] of tensors)
      expect(new Uint8Array((await readTensor(opened, name)).buffer)).toEqual(bytes);
  });
});

group("older forms are refused by name", () => {
  const moe = { ...tinyLegacy, experts: tinyExperts };
  test.each([
    ["queries.weight", [8, 16]],
    ["queries_proj.weight", [8, 16]],
    ["keys", [2, 4, 4]],
    ["mlp_scaling", [16]],
    ["moe_scaling", [16]],
    ["router_gate.bias", [8]],
  ])("%s", async (suffix, shape) => {
    for (const part of ["mlp", "feed_forward"]) {
      const name = `model.layers.0.${part}.${suffix}`;
      await refuses(
        () => openCheckpoint(changed(moe, { [name]: zeros(...shape) })),
        "unsupported-layout",
        name,
        /2025/,
      );
    }
  });
  test("dt_proj over all query heads", () =>
    refuses(
      () => openCheckpoint(changed(tinyLegacy, { "model.layers.0.self_attn.dt_proj.weight": zeros(4, 16) })),
      "unsupported-layout",
      "model.layers.0.self_attn.dt_proj.weight",
      "16 columns instead of 8",
    ));
  test("widths that no Doge has", async () => {
    await refuses(
      () => openCheckpoint(changed(tinyConfig, { "model.layers.0.self_attn.A": zeros(4) })),
      "unsupported-layout",
      "model.layers.0.self_attn.A",
    );
    await refuses(
      () => openCheckpoint(changed(tinyLegacy, { "model.layers.0.self_attn.A": zeros(2) })),
      "unsupported-layout",
      "model.layers.0.self_attn.A",
    );
  });
});

group("F11 differences", () => {
  test("F11 missing, unknown and wrongly shaped tensors are listed together", () =>
    refuses(
      () =>
        openCheckpoint(
          changed(tinyConfig, {
            "model.layers.0.self_attn.A": null,
            "model.layers.1.mlp.up_proj.weight": zeros(20, 15),
            "model.norm.weight": zeros(16, 1),
            "model.layers.2.input_residual": zeros(16),
            "transformer.h.0": zeros(1),
          }),
        ),
      "tensor-mismatch",
      "5 differences",
      "model.layers.0.self_attn.A is missing",
      "model.layers.1.mlp.up_proj.weight has the shape [20, 15], expected [20, 16]",
      "model.norm.weight has the shape [16, 1], expected [16]",
      "model.layers.2.input_residual is unknown",
      "transformer.h.0 is unknown",
    ));
  test("F11 old names in the list are the file's own", () => {
    const tensors = renamed(randomTensors(tinyLegacy), oldName);
    tensors.set("model.layers.0.feed_forward.up_proj.weight", zeros(1));
    return refuses(
      () => openCheckpoint(modelFiles(tinyLegacy, { tensors })),
      "tensor-mismatch",
      "model.layers.0.feed_forward.up_proj.weight has the shape [1]",
    );
  });
  test("F11 an untied head that is absent", () =>
    refuses(
      () => openCheckpoint(modelFiles(tinyConfig, { config: { tie_word_embeddings: false } })),
      "tensor-mismatch",
      "lm_head.weight is missing",
      "tie_word_embeddings",
    ));
  test("F11 a tied embedding that is absent", () =>
    refuses(
      () => openCheckpoint(changed(tinyConfig, { "model.embed_tokens.weight": null })),
      "tensor-mismatch",
      "model.embed_tokens.weight is missing",
    ));
  test("F11 two names of one tensor", () =>
    refuses(
      () => openCheckpoint(changed(tinyConfig, { "model.word_embed.weight": zeros(24, 16) })),
      "tensor-mismatch",
      "model.word_embed.weight are both model.embed_tokens.weight",
    ));
  test("F11 an expert count that is not the tensors'", () =>
    refuses(
      () => openCheckpoint(modelFiles(tinyMoe, { config: { num_experts: 25 } })),
      "tensor-mismatch",
      "down_embed.weight has the shape [16, 16], expected [25, 16]",
      "router_gate.weight",
    ));
  test("F11 another model altogether gives a bounded message", async () => {
    const many = new Map(Array.from({ length: 5000 }, (_, index) => [`x.${index}`, zeros(1)]));
    const opening = openCheckpoint(modelFiles(tinyConfig, { tensors: many }));
    const error = await opening.catch((caught: Error) => caught as Error);
    await refuses(() => opening, "tensor-mismatch", "5028 differences", "and 4828 more");
    expect((error as Error).message.length).toBeLessThan(30_000);
  });
});

group("a tied head beside the embedding", () => {
  const embedding = normals(24 * 16, 1, 9);
  const model = (head: ArrayLike<number>) =>
    changed(tinyConfig, {
      "model.embed_tokens.weight": f32([24, 16], embedding),
      "lm_head.weight": f32([24, 16], Float32Array.from(head)),
    });
  test("an equal copy is dropped", async () => {
    const opened = await openCheckpoint(model(embedding));
    expect(opened.tensors.has("lm_head.weight")).toBe(false);
    expect(opened.config.tied).toBe(true);
  });
  test("another one is refused", () => {
    const other = embedding.slice();
    other[37] = 7;
    return refuses(() => openCheckpoint(model(other)), "invalid-weights", "lm_head.weight", "row 2, column 5");
  });
  test("a wrongly shaped one is listed", () =>
    refuses(
      () => openCheckpoint(changed(tinyConfig, { "lm_head.weight": zeros(24, 15) })),
      "tensor-mismatch",
      "lm_head.weight has the shape [24, 15]",
    ));
});

test("describe: sizes, formats, memory and state, from the headers alone", async () => {
  const described = describe(await openCheckpoint(modelFiles(tinyMoe)));
  const count = [...tensorShapes(tinyMoe).values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  expect(described).toMatchObject({
    layout: "NATIVE-MoE",
    names: "current",
    parameters: count,
    activeParameters: count - 12 * 2 * 16 * 2,
    stored: { F32: { tensors: tensorShapes(tinyMoe).size, bytes: 4 * count } },
    bytes: 4 * count,
    state: { bytesPerToken: 4 * 2 * (2 * 8 + 2), boundedAt: 32, bytesAtMaximum: 32 * 144 },
    warnings: [],
  });
  const { f32: whole, bf16, q8, q4 } = described.memory;
  expect(whole).toBe(4 * count);
  expect(whole > bf16 && bf16 > q8 && q8 > q4).toBe(true);
  expect(JSON.parse(JSON.stringify(described))).toEqual(described);
});
