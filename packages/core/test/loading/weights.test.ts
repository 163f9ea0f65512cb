// Row F10 and the values: reading, decoding, files that change, quantisation.
import { mkdir, mkdtemp, rename, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { fileList as browserFileList, openSource as openBrowserSource } from "../../src/browser/index.ts";
import {
  type Checkpoint,
  dequantizeQ4,
  dequantizeQ8,
  filesFrom,
  floats,
  fromBf16,
  fromF16,
  memoryCheckpoint,
  openCheckpoint,
  QUANTIZATION_BLOCK,
  quantizable,
  quantizeQ4,
  quantizeQ8,
  readTensor,
  tensorShapes,
  toBf16,
} from "../../src/index.ts";
import { elements } from "../../src/loading/weights.ts";
import { folder, openSource } from "../../src/node/index.ts";
import { refuses } from "./errors.ts";
import {
  configJson,
  f32,
  json,
  modelFiles,
  normals,
  randomTensors,
  tinyConfig,
  tinyExperts,
  writeSafetensors,
} from "./write-safetensors.ts";

/** A checkpoint of one tensor "t" over given bytes, unaligned on purpose. */
function single(dtype: "F32" | "F16" | "BF16", count: number, bytes: Uint8Array): Checkpoint {
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  return {
    config: tinyConfig,
    tensors: new Map([["t", { dtype, shape: [count] }]]),
    read: async (_, from, to) => shifted.subarray(1 + from, 1 + to),
  };
}
const bytesOf = (array: Float32Array | Uint16Array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

describe("reading values", () => {
  test("pieces are in order, whole and at most 1 MiB", async () => {
    const values = normals(600_001, 1, 3);
    const pieces: [number, number][] = [];
    const result = new Float32Array(values.length);
    for await (const { offset, data } of floats(single("F32", values.length, bytesOf(values)), "t")) {
      pieces.push([offset, data.length]);
      result.set(data, offset);
    }
    expect(pieces).toEqual([
      [0, 262_144],
      [262_144, 262_144],
      [524_288, 75_713],
    ]);
    expect(result).toEqual(values);
  });
  test("every bf16 and f16 value widens exactly", async () => {
    const codes = Uint16Array.from({ length: 65_536 }, (_, code) => code);
    const finite = (mask: number) => codes.filter((code) => (code & mask) !== mask);
    const view = new DataView(new ArrayBuffer(4));
    const widened = (code: number) => {
      view.setUint32(0, code * 65_536);
      return view.getFloat32(0);
    };
    const brain = finite(0x7f80);
    expect(await readTensor(single("BF16", brain.length, bytesOf(brain)), "t")).toEqual(
      Float32Array.from(brain, widened),
    );
    const half = finite(0x7c00);
    const expected = (code: number) => {
      const exponent = (code >> 10) & 31;
      const magnitude = exponent === 0 ? (code & 1023) * 2 ** -24 : (1024 + (code & 1023)) * 2 ** (exponent - 25);
      return code & 0x8000 ? -magnitude : magnitude;
    };
    expect(await readTensor(single("F16", half.length, bytesOf(half)), "t")).toEqual(Float32Array.from(half, expected));
    expect(fromF16(Uint16Array.of(0x7c00, 0xfc00, 0x7e00))).toEqual(Float32Array.of(Infinity, -Infinity, Number.NaN));
    expect(fromBf16(Uint16Array.of(0x7f80, 0x7fc0))).toEqual(Float32Array.of(Infinity, Number.NaN));
  });
  test("an abort is noticed between pieces", async () => {
    const controller = new AbortController();
    const values = normals(300_000, 1, 4);
    const pieces = floats(single("F32", values.length, bytesOf(values)), "t", controller.signal);
    await pieces.next();
    controller.abort();
    await expect(pieces.next()).rejects.toMatchObject({ code: "aborted" });
  });
  test("only ranges inside a tensor, only tensors there are", async () => {
    const opened = await openCheckpoint(modelFiles(tinyConfig));
    expect((await opened.read("model.norm.weight", 60, 64)).length).toBe(4);
    await refuses(() => opened.read("model.norm.weight", 0, 65), "invalid-argument", "model.norm.weight", "64 bytes");
    await refuses(() => opened.read("model.norm.weight", -1, 4), "invalid-argument");
    await refuses(() => opened.read("model.norm.weight", 4, 2), "invalid-argument");
    await refuses(() => opened.read("no.such", 0, 1), "invalid-argument", "no.such");
    await refuses(() => readTensor(opened, "no.such"), "invalid-argument", "no.such");
  });
  test("memoryCheckpoint", async () => {
    const arrays = new Map(
      Array.from(tensorShapes(tinyConfig), ([name, shape], index) => [name, normals(elements(shape), 1, index)]),
    );
    const checkpoint = memoryCheckpoint(tinyConfig, arrays);
    for (const [name, values] of arrays) expect(await readTensor(checkpoint, name)).toEqual(values);
    arrays.delete("model.norm.weight");
    arrays.set("other", new Float32Array(1));
    await refuses(
      () => memoryCheckpoint(tinyConfig, arrays),
      "tensor-mismatch",
      "model.norm.weight is missing",
      "other is unknown",
    );
  });
});

describe("F10 NaN and infinite weights", () => {
  test.each([Number.NaN, Infinity, -Infinity])("F10 %s, counted over the whole tensor", async (bad) => {
    const values = normals(600_000, 1, 5);
    for (const at of [300_000, 300_001, 599_999]) values[at] = bad;
    const checkpoint = single("F32", values.length, bytesOf(values));
    await refuses(() => readTensor(checkpoint, "t"), "invalid-weights", "tensor t has 3", "600000");
  });
  test("F10 in a model's file, also as bf16 and f16", async () => {
    for (const [dtype, code] of [
      ["BF16", 0x7fc0],
      ["F16", 0x7c00],
    ] as const) {
      const norm = {
        dtype,
        shape: [16],
        bytes: bytesOf(Uint16Array.from({ length: 16 }, (_, index) => (index === 5 ? code : 0))),
      };
      const opened = await openCheckpoint(
        modelFiles(tinyConfig, { tensors: randomTensors(tinyConfig).set("model.norm.weight", norm) }),
      );
      await refuses(() => readTensor(opened, "model.norm.weight"), "invalid-weights", "model.norm.weight has 1 NaN");
      expect((await readTensor(opened, "model.embed_tokens.weight")).length).toBe(24 * 16);
    }
  });
  test("F10 in expert rows, noticed while they are probed", () => {
    const config = { ...tinyConfig, experts: tinyExperts };
    const rows = f32([16, 16], new Float32Array(256).fill(Number.NaN));
    const tensors = randomTensors(config).set("model.layers.1.mlp.up_embed.weight", rows);
    return refuses(
      () => openCheckpoint(modelFiles(config, { tensors })),
      "invalid-weights",
      "model.layers.1.mlp.up_embed.weight has 256",
    );
  });
});

describe("sources", () => {
  const made: string[] = [];
  afterEach(async () => {
    for (const path of made.splice(0)) await rm(path, { recursive: true });
  });
  const weights = writeSafetensors(randomTensors(tinyConfig));
  async function onDisk(): Promise<string> {
    const path = await mkdtemp(join(tmpdir(), "doge-loading-"));
    made.push(path);
    await writeFile(join(path, "config.json"), json(configJson(tinyConfig)));
    await writeFile(join(path, "model.safetensors"), weights);
    return path;
  }

  test("a folder, read lazily", async () => {
    const files = await openSource(await onDisk());
    let read = 0;
    const opened = await openCheckpoint({
      ...files,
      read: async (file, from, to, signal) => {
        if (file === "model.safetensors") read += to - from;
        return files.read(file, from, to, signal);
      },
    });
    expect(read).toBeLessThan(weights.length / 2);
    expect((await readTensor(opened, "model.embed_tokens.weight")).length).toBe(24 * 16);
    await files.close?.();
    await refuses(() => opened.read("model.norm.weight", 0, 4), "closed");
  });
  test("a file that is cut off, overwritten or replaced meanwhile", async () => {
    for (const change of [
      (file: string) => truncate(file, weights.length - 8),
      (file: string) => utimes(file, 1, 1),
      async (file: string) => {
        await writeFile(`${file}.new`, weights.subarray(0, 200));
        await rename(`${file}.new`, file);
      },
    ]) {
      const path = await onDisk();
      for (const touched of [false, true]) {
        const files = folder(path);
        const opened = touched ? await openCheckpoint(files) : null;
        if (opened === null) await files.size("model.safetensors");
        await change(join(path, "model.safetensors"));
        // An open handle still has the old file where it was replaced by renaming, and then reads it truly.
        try {
          if (opened !== null) await readTensor(opened, "model.norm.weight");
          else await files.read("model.safetensors", 0, 8);
          expect(touched && change.toString().includes("rename")).toBe(true);
        } catch (error) {
          expect(error).toMatchObject({ code: "file-changed" });
        }
        await files.close?.();
        await writeFile(join(path, "model.safetensors"), weights);
      }
    }
  });
  test("bytes that are resized meanwhile", async () => {
    const buffer = new ArrayBuffer(weights.length, { maxByteLength: weights.length });
    const bytes = new Uint8Array(buffer);
    bytes.set(weights);
    const opened = await openCheckpoint(
      filesFrom({ "config.json": json(configJson(tinyConfig)), "model.safetensors": bytes }),
    );
    buffer.resize(weights.length - 8);
    await refuses(() => readTensor(opened, "model.norm.weight"), "file-changed", "model.safetensors");
  });
  test("names that lead out of the folder", async () => {
    const files = folder(await onDisk());
    await refuses(() => files.size("../config.json"), "unsafe-path");
    await refuses(() => files.read("/etc/hosts", 0, 1), "unsafe-path");
    await refuses(() => files.size("none.json"), "file-missing", "none.json");
    await files.close?.();
  });
  test("a folder that is not there, a folder in a file's place, a hub name", async () => {
    const path = await onDisk();
    await mkdir(join(path, "sub.json"));
    await refuses(() => folder(path).size("sub.json"), "file-missing", "not a file");
    await refuses(() => folder(join(path, "none")).list(), "file-missing");
    await refuses(() => openSource(join(path, "none")), "file-missing", "no folder");
    await refuses(() => openSource("./no-such-folder"), "file-missing");
    await refuses(() => openSource(join(path, "config.json")), "invalid-argument", "is a file");
    await refuses(() => openSource("Doge-20M"), "file-missing", "owner/name");
    await refuses(
      () => openSource("SmallDoge/Doge-20M", { offline: true, cacheDir: path }),
      "offline-missing",
      "Doge-20M",
    );
    await refuses(() => openBrowserSource("Doge-20M"), "invalid-argument", "owner/name");
  });
  test("chosen files, with and without their folder", async () => {
    const parts = [
      new File([json(configJson(tinyConfig)) as Uint8Array<ArrayBuffer>], "config.json"),
      new File([weights as Uint8Array<ArrayBuffer>], "model.safetensors"),
    ];
    expect((await openCheckpoint(await openSource(parts))).config).toEqual(tinyConfig);
    expect((await openCheckpoint(await openBrowserSource(parts))).config).toEqual(tinyConfig);
    for (const part of parts) Object.defineProperty(part, "webkitRelativePath", { value: `Doge-20M/${part.name}` });
    const opened = await openCheckpoint(browserFileList(parts));
    expect(new Uint8Array((await readTensor(opened, "model.norm.weight")).buffer)).toEqual(
      randomTensors(tinyConfig).get("model.norm.weight")!.bytes,
    );
    await refuses(() => browserFileList([parts[0]!, parts[0]!]), "invalid-argument", "config.json");
  });
});

describe("quantisation", () => {
  test("what it may touch", () => {
    const names = [
      ...tensorShapes({ ...tinyConfig, tied: false, attentionBias: true, mlpBias: true, experts: tinyExperts }).keys(),
    ];
    expect(names.filter((name) => quantizable(name) && !name.startsWith("model.layers.1"))).toEqual([
      "model.embed_tokens.weight",
      ...["q", "k", "v", "o"].map((part) => `model.layers.0.self_attn.${part}_proj.weight`),
      ...["gate_proj", "up_proj", "down_proj", "down_embed", "up_embed"].map(
        (part) => `model.layers.0.mlp.${part}.weight`,
      ),
      "lm_head.weight",
    ]);
  });
  const matrix = fc
    .record({ rows: fc.integer({ min: 1, max: 4 }), columns: fc.integer({ min: 1, max: 70 }) })
    .chain(({ rows, columns }) =>
      fc.record({
        columns: fc.constant(columns),
        // From 1e-30 up: below it scales become subnormal and lose bits.
        source: fc
          .array(
            fc.oneof(
              fc.constant(0),
              fc.float({ min: Math.fround(1e-30), max: Math.fround(1e30), noNaN: true }),
              fc.float({ min: -8, max: 8, noNaN: true }),
            ),
            {
              minLength: rows * columns,
              maxLength: rows * columns,
            },
          )
          .map((values) => Float32Array.from(values, (value) => (Math.abs(value) < 1e-30 ? 0 : value))),
      }),
    );
  const blockOf = (index: number, columns: number) =>
    Math.floor(index / columns) * Math.ceil(columns / QUANTIZATION_BLOCK) +
    Math.floor((index % columns) / QUANTIZATION_BLOCK);

  test("q8 moves no value by more than half its scale, and the largest of a block has the code 127", () => {
    fc.assert(
      fc.property(matrix, ({ source, columns }) => {
        const quantized = quantizeQ8(source, columns);
        const back = dequantizeQ8(quantized, columns);
        const largest = new Map<number, number>();
        for (let index = 0; index < source.length; index++) {
          const block = blockOf(index, columns);
          const scale = quantized.scales[block]!;
          // The product is rounded to f32 once more: one part in 2^24.
          expect(Math.abs(back[index]! - source[index]!)).toBeLessThanOrEqual(
            scale * 0.5 + Math.abs(source[index]!) * 2 ** -22,
          );
          largest.set(block, Math.max(largest.get(block) ?? 0, Math.abs(quantized.values[index]!)));
        }
        for (const [block, code] of largest) expect(code).toBe(quantized.scales[block] === 0 ? 0 : 127);
        expect(largest.size).toBe(quantized.scales.length);
      }),
    );
  });
  test("q4 moves no value by more than its scale, meets the largest, and packs two to a byte", () => {
    fc.assert(
      fc.property(matrix, ({ source, columns }) => {
        const quantized = quantizeQ4(source, columns);
        expect(quantized.values.length).toBe((source.length / columns) * Math.ceil(columns / 2));
        const back = dequantizeQ4(quantized, columns);
        expect(back.length).toBe(source.length);
        const largest = new Map<number, number>();
        for (let index = 0; index < source.length; index++) {
          const block = blockOf(index, columns);
          const bound = Math.abs(quantized.scales[block]!) * (1 + 2 ** -20);
          expect(Math.abs(back[index]! - source[index]!)).toBeLessThanOrEqual(bound);
          const best = largest.get(block);
          if (best === undefined || Math.abs(source[index]!) > Math.abs(source[best]!)) largest.set(block, index);
        }
        for (const index of largest.values()) {
          expect(Math.abs(back[index]! - source[index]!)).toBeLessThanOrEqual(Math.abs(source[index]!) * 2 ** -22);
        }
      }),
    );
  });
  test("halves round away from zero, short blocks and zeros are exact", () => {
    const row = new Float32Array(34);
    row.set([127, 2.5, -2.5, 0.5, -0.5, 1.4999]);
    row[33] = -3;
    const { values, scales } = quantizeQ8(row, 34);
    expect([...values.subarray(0, 7)]).toEqual([127, 3, -3, 1, -1, 1, 0]);
    expect([...scales]).toEqual([1, Math.fround(3 / 127)]);
    expect(values[33]).toBe(-127);
    expect(quantizeQ8(new Float32Array(3), 3)).toEqual({ values: new Int8Array(3), scales: new Float32Array(1) });
    expect(quantizeQ4(new Float32Array(3), 3)).toEqual({
      values: Uint8Array.of(0x88, 0x88),
      scales: new Float32Array(1),
    });
    expect(quantizeQ4(Float32Array.of(-8, 7, 2.5), 3)).toEqual({
      values: Uint8Array.of(0xf0, 0x8b),
      scales: Float32Array.of(1),
    });
  });
  test("rows that are not whole", async () => {
    await refuses(() => quantizeQ8(new Float32Array(10), 3), "invalid-argument", "10 values", "3 columns");
    await refuses(() => quantizeQ4(new Float32Array(10), 0), "invalid-argument");
  });
  test("bf16 is the nearest, ties to even", () => {
    const encode = (value: number) => fromBf16(toBf16(Float32Array.of(value)))[0]!;
    expect(encode(1 + 2 ** -8)).toBe(1);
    expect(encode(1 + 3 * 2 ** -8)).toBe(1 + 2 ** -6);
    expect(encode(3.4e38)).toBe(Infinity);
    expect(encode(Number.NaN)).toBeNaN();
    expect(Object.is(encode(-0), -0)).toBe(true);
    fc.assert(
      fc.property(
        fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e38), max: Math.fround(1e38) }),
        (value) => {
          expect(Math.abs(encode(value) - value)).toBeLessThanOrEqual(Math.max(Math.abs(value) * 2 ** -8, 2 ** -134));
        },
      ),
    );
  });
});
