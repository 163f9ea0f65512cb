// Rows F12 and F15: config.json of every generation, and JSON that is not quite.
import { describe, expect, test } from "vitest";
import { filesFrom, openCheckpoint, parseConfig, parseJson, readJson } from "../../src/index.ts";
import { refuses } from "./errors.ts";
import {
  configJson,
  json,
  modelFiles,
  randomTensors,
  tinyConfig,
  tinyExperts,
  tinyLegacy,
  writeSafetensors,
} from "./write-safetensors.ts";

const parse = (changes: Record<string, unknown> = {}) =>
  parseConfig(parseJson(JSON.stringify({ ...configJson(tinyConfig), ...changes }), { file: "config.json" }));
const refusesConfig = (changes: Record<string, unknown>, ...words: (string | RegExp)[]) =>
  refuses(() => parse(changes), "config-invalid", "config.json", ...words);

describe("generations", () => {
  test("defaults are those of transformers 5", () => {
    expect(parseConfig({ model_type: "doge" })).toMatchObject({
      vocabSize: 32768,
      hiddenSize: 1024,
      intermediateSize: 2048,
      layers: 32,
      heads: 8,
      kvHeads: 8,
      headDim: 128,
      normEpsilon: 1e-6,
      maxPositions: 2048,
      rope: { type: "default", theta: 10000, factor: 1 },
      window: 2048,
      tied: false,
      normalizeExperts: false,
      warnings: [],
    });
  });
  test("rope of version 4 and version 5 files", () => {
    const none = { rope_parameters: undefined };
    expect(parse({ ...none, rope_theta: 40000, rope_scaling: null }).rope).toEqual({
      type: "default",
      theta: 40000,
      factor: 1,
    });
    const scaling = { factor: 4, original_max_position_embeddings: 2048 };
    const dynamic = { type: "dynamic", theta: 5e5, factor: 4 };
    expect(parse({ ...none, rope_theta: 5e5, rope_scaling: { ...scaling, rope_type: "dynamic" } }).rope).toEqual(
      dynamic,
    );
    expect(parse({ ...none, rope_theta: 5e5, rope_scaling: { ...scaling, type: "dynamic" } }).rope).toEqual(dynamic);
    expect(parse({ rope_parameters: { ...scaling, rope_type: "dynamic", rope_theta: 5e5 } }).rope).toEqual(dynamic);
    expect(parse({ rope_parameters: { rope_type: "linear", rope_theta: 100, factor: 2.5 } }).rope).toEqual({
      type: "linear",
      theta: 100,
      factor: 2.5,
    });
    expect(parse({ rope_parameters: null, rope_theta: 7 }).rope.theta).toBe(7);
    // As transformers 5 reads a file with both.
    expect(
      parse({
        rope_parameters: { rope_type: "default", rope_theta: 9 },
        rope_scaling: { rope_type: "linear", factor: 2 },
      }).rope,
    ).toEqual({ type: "linear", theta: 9, factor: 2 });
  });
  test("head_dim wins over hidden / heads; no key-value heads means all", () => {
    expect(parse({ head_dim: 6 }).headDim).toBe(6);
    expect(parse({ head_dim: null }).headDim).toBe(4);
    expect(parse({ head_dim: 6, hidden_size: 15 }).headDim).toBe(6);
    expect(parse({ num_key_value_heads: null }).kvHeads).toBe(4);
  });
  test("aliases of the authors' earlier code", () => {
    const old = { attention_bias: undefined, mlp_bias: undefined };
    expect(parse({ ...old, hidden_bias: true })).toMatchObject({ attentionBias: true, mlpBias: true });
    expect(parse({ ...old })).toMatchObject({ attentionBias: undefined, mlpBias: undefined });
    expect(parse({ num_cdmoe_experts: 64, num_cdmoe_experts_per_head: 8 })).toMatchObject({
      expertCount: 64,
      expertsPerToken: 8,
    });
    expect(parse({ num_experts: 16, num_cdmoe_experts: 64 }).expertCount).toBe(16);
  });
  test("token ids: one, several, none, outside the vocabulary", () => {
    expect(parse({ eos_token_id: 3 }).eosIds).toEqual([3]);
    expect(parse({ eos_token_id: [3, 5, 3] }).eosIds).toEqual([3, 5]);
    expect(parse({ eos_token_id: null, bos_token_id: null })).toMatchObject({ eosIds: [], bosId: null });
    const outside = parse({ eos_token_id: [3, 99], pad_token_id: -1 });
    expect(outside).toMatchObject({ eosIds: [3], padId: null });
    expect(outside.warnings).toHaveLength(2);
  });
  test("legacy files without token ids get the legacy code's", async () => {
    const silent = { bos_token_id: undefined, eos_token_id: undefined, pad_token_id: undefined };
    expect((await openCheckpoint(modelFiles(tinyLegacy, { config: silent }))).config).toMatchObject({
      bosId: 0,
      eosIds: [1],
      padId: 2,
    });
    expect((await openCheckpoint(modelFiles(tinyConfig, { config: silent }))).config).toMatchObject({
      bosId: null,
      eosIds: [],
      padId: null,
    });
  });
  test("keys that change nothing are ignored", () => {
    expect(
      parse({
        hidden_dropout: 0.5,
        attention_dropout: "x",
        expert_retrieval_size: 64,
        anything: [1],
        __proto__: { a: 1 },
      }).warnings,
    ).toEqual([]);
    expect(parse({ hidden_act: "swish" }).layers).toBe(2);
  });
});

describe("F12 config.json", () => {
  test("F12 wrong types, all at once", () =>
    refusesConfig(
      {
        hidden_size: "16",
        num_hidden_layers: 2.5,
        tie_word_embeddings: "yes",
        rms_norm_eps: -1,
        rope_parameters: 5,
        bos_token_id: "a",
        eos_token_id: ["b"],
        keep_window_size: 0,
      },
      "hidden_size",
      "num_hidden_layers",
      "tie_word_embeddings",
      "rms_norm_eps",
      "rope_parameters",
      "bos_token_id",
      "eos_token_id",
      "keep_window_size",
    ));
  test("F12 null where there must be a number", () =>
    refusesConfig({ hidden_size: null, rms_norm_eps: null }, "hidden_size is null", "rms_norm_eps is null"));
  test("F12 10^9 layers and other absurd sizes", async () => {
    await refusesConfig({ num_hidden_layers: 1e9 }, "num_hidden_layers is 1000000000", "1024");
    await refusesConfig(
      { vocab_size: 1e15, hidden_size: -4, num_experts: 1e300 },
      "vocab_size",
      "hidden_size",
      "num_experts",
    );
  });
  test("F12 head counts that do not divide", async () => {
    await refusesConfig(
      { num_attention_heads: 4, num_key_value_heads: 3 },
      "4 is not a multiple of num_key_value_heads 3",
    );
    await refusesConfig({ num_attention_heads: 3, num_key_value_heads: 3 }, "hidden_size 16 is not a multiple");
    await refusesConfig({ head_dim: 5 }, "even");
  });
  test("F12 a vocabulary that is not the embedding's", () =>
    refuses(
      () => openCheckpoint(modelFiles(tinyConfig, { config: { vocab_size: 25 } })),
      "tensor-mismatch",
      "model.embed_tokens.weight has the shape [24, 16], expected [25, 16]",
    ));
  test.each(["gelu", "relu", "constructor"])("F12 hidden_act %s", (act) =>
    refuses(() => parse({ hidden_act: act }), "unsupported", `"${act}"`, "silu"),
  );
  test.each(["yarn", "llama3", "longrope"])("F12 rope type %s", (type) =>
    refuses(() => parse({ rope_parameters: { rope_type: type, factor: 2 } }), "unsupported", `"${type}"`, "dynamic"),
  );
  test("F12 rope scaling without a factor, partial rotation", async () => {
    await refusesConfig({ rope_parameters: { rope_type: "dynamic" } }, "needs a factor");
    await refuses(() => parse({ partial_rotary_factor: 0.5 }), "unsupported", "0.5");
  });
  test("F12 options that no Doge uses", async () => {
    await refuses(() => parse({ sliding_window: 512 }), "unsupported", "sliding_window 512");
    await refuses(() => parse({ quantization_config: { bits: 4 } }), "unsupported", "quantization_config");
    await refuses(() => parse({ keep_window_size: undefined, window_size: 512 }), "unsupported", "flash-dmattn");
    await refuses(
      () => openCheckpoint(modelFiles(tinyLegacy, { config: { dynamic_mask_ratio: 0.5 } })),
      "unsupported",
      "dynamic_mask_ratio 0.5",
    );
    expect((await openCheckpoint(modelFiles(tinyLegacy, { config: { dynamic_mask_ratio: 0 } }))).warnings).toEqual([]);
  });
  test("F12 another model", async () => {
    await refuses(() => parse({ model_type: "llama" }), "unsupported-model", '"llama"');
    await refuses(() => parse({ model_type: "doge2" }), "unsupported-model", "doge2", "different architecture");
    await refuses(() => parse({ model_type: undefined }), "unsupported-model", "no model_type");
    await refuses(() => parseConfig([]), "config-invalid");
  });
  test("F12 auto_map is never executed, and said", async () => {
    const opened = await openCheckpoint(
      modelFiles(tinyConfig, { config: { auto_map: { AutoModel: "modeling_doge.DogeModel" } } }),
    );
    expect(opened.warnings).toEqual([expect.stringContaining("never executed")]);
  });
  test("F12 more experts per token than there are", () => {
    const config = { ...tinyConfig, experts: { ...tinyExperts, perToken: 17 } };
    return refuses(() => openCheckpoint(modelFiles(config)), "config-invalid", "17", "4 x 4 = 16");
  });
  test("F12 the config is refused before a header is read", () => {
    const files = filesFrom({ "config.json": json({ model_type: "llama" }), "model.safetensors": new Uint8Array(3) });
    return refuses(() => openCheckpoint(files), "unsupported-model");
  });
  test("no config.json", () =>
    refuses(
      () => openCheckpoint(filesFrom({ "model.safetensors": writeSafetensors(randomTensors(tinyConfig)) })),
      "file-missing",
      '"config.json"',
    ));
});

describe("F15 JSON files", () => {
  const text = (content: string) => filesFrom({ "config.json": new TextEncoder().encode(content) });
  test("F15 byte order mark and CRLF are accepted", async () => {
    const pretty = JSON.stringify(configJson(tinyConfig), null, 2).replaceAll("\n", "\r\n");
    const value = await readJson(text(`\ufeff${pretty}\r\n`), "config.json");
    expect(parseConfig(value).layers).toBe(2);
  });
  test.each([
    ["a line comment", '{"a": 1, // one\n"b": 2}', "byte 9", "comments"],
    ["a block comment", '{/* one */"a": 1}', "byte 1", "comments"],
    ["NaN", '{"a": NaN}', "byte 6", "NaN"],
    ["-Infinity", "[1,\r\n -Infinity]", "byte 6", "line 2, column 2"],
    ["a trailing comma", '{"a": 1,}', "byte 8", "double quotes"],
    ["a trailing comma in a list", "[1,]", "byte 3", "trailing comma"],
    ["single quotes", "{'a': 1}", "byte 1", "double quotes"],
    ["a repeated key", '{"a": 1, "é": 2, "a": 3}', "byte 18", "twice"],
    ["a Python word", '{"a": True}', "byte 6", "true, false and null"],
    ["a leading zero", '{"a": 012}', "byte 6", "malformed"],
    ["a number without an end", '{"a": 1e}', "byte 6", "malformed"],
    ["an infinite number", '{"a": 1e999}', "byte 6", "too large"],
    ["a raw line break in a string", '{"a": "x\ny"}', "byte 8", "escaped"],
    ["a bad escape", '"\\x41"', "byte 1", "no JSON escape"],
    ["half an escape", '"\\u12"', "byte 1", "hexadecimal"],
    ["nothing", "", "byte 0", "the text ends"],
    ["half a file", '{"a": [1', "byte 8", "the end of the text"],
    ["more after the end", "{} x", "byte 3", "end of the text"],
    ["deep nesting", "[".repeat(1e5), "byte 64", "deeper"],
  ])("F15 %s is a clear error", (_, content, ...words) =>
    refuses(() => readJson(text(content), "config.json"), "json-invalid", "config.json", ...words),
  );
  test("F15 not UTF-8", () =>
    refuses(
      () => readJson(filesFrom({ "config.json": new Uint8Array([0x22, 0xc3, 0xa9, 0xc3, 0x22]) }), "config.json"),
      "json-invalid",
      "offset 4",
    ));
  test("F15 a byte order mark counts in offsets, UTF-16 is refused", async () => {
    await refuses(
      () => readJson(filesFrom({ "config.json": new Uint8Array([0xff, 0xfe, 0x7b, 0, 0x7d, 0]) }), "config.json"),
      "json-invalid",
      "offset 0",
    );
  });
  test("values are those of JSON.parse", async () => {
    const value = {
      a: [1, -0.5e-3, 'x\n\u2028\ud83d\ude00"\\/', true, null, { b: {} }, []],
      "": 0,
      12: "twelve",
      constructor: 1,
    };
    for (const indent of [0, 2]) {
      const content = JSON.stringify(value, null, indent);
      expect(await readJson(text(content), "config.json")).toEqual(JSON.parse(content));
    }
    const proto = parseJson('{"__proto__": {"x": 1}}', { file: "a" }) as object;
    expect(Object.keys(proto)).toEqual(["__proto__"]);
    expect((proto as { x?: number }).x).toBeUndefined();
  });
});
