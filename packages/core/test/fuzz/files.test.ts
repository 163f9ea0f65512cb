// Model files under random damage: safetensors bytes and headers, config.json, whole checkpoints.
import fc from "fast-check";
import { expect } from "vitest";
import { type ErrorCode, filesFrom, openCheckpoint, parseConfig, parseJson, readHeader } from "../../src/index.ts";
import {
  configJson,
  f32,
  json,
  modelFiles,
  rawSafetensors,
  tinyConfig,
  writeSafetensors,
} from "../loading/write-safetensors.ts";
import { changed, cut, cuts, fuzz, jsonChanges, worksOrRefuses } from "./fuzz.ts";

const goodFile = writeSafetensors(
  new Map([
    ["a", f32([2, 3], [1, 2, 3, 4, 5, 6])],
    ["b.weight", f32([], [7])],
    ["c", f32([0, 4], [])],
  ]),
  { format: "pt" },
);
const headerLength = Number(new DataView(goodFile.buffer).getBigUint64(0, true));
const goodHeader = JSON.parse(new TextDecoder().decode(goodFile.subarray(8, 8 + headerLength)));

const headerCodes: ErrorCode[] = [
  "header-too-small",
  "header-too-large",
  "invalid-length",
  "header-invalid",
  "limit-exceeded",
  "invalid-offset",
  "invalid-shape",
  "unsupported-dtype",
  "unsupported-format",
];
const configCodes: ErrorCode[] = ["config-invalid", "unsupported-model", "unsupported"];

/** Reads the header: every tensor lies in the file and has the bytes of its shape, and no more is read than the header. */
async function checkHeader(bytes: Uint8Array): Promise<void> {
  const files = filesFrom({ m: bytes });
  let read = 0;
  const counting = {
    ...files,
    read: (file: string, from: number, to: number) => {
      read += to - from;
      return files.read(file, from, to);
    },
  };
  const tensors = await worksOrRefuses(headerCodes, () => readHeader(counting, "m"));
  expect(read).toBeLessThanOrEqual(64 + bytes.length);
  let covered = 0;
  for (const { begin, end, shape, dtype } of tensors?.values() ?? []) {
    expect(end - begin).toBe(shape.reduce((product, side) => product * side, dtype === "F32" ? 4 : 2));
    expect(begin >= 8 && end <= bytes.length).toBe(true);
    covered += end - begin;
  }
  if (tensors !== undefined)
    expect(8 + Number(new DataView(bytes.buffer).getBigUint64(0, true)) + covered).toBe(bytes.length);
}
const readsGood = async () => expect((await readHeader(filesFrom({ m: goodFile }), "m")).size).toBe(3);

fuzz(
  "safetensors, bytes",
  600,
  fc.tuple(cuts, fc.boolean()),
  async ([places, keepLength]) => {
    const bytes = Uint8Array.from(cut([...goodFile], places, (number) => [number]));
    if (keepLength && bytes.length >= 8) bytes.set(goodFile.subarray(0, 8));
    await checkHeader(bytes);
  },
  readsGood,
);

fuzz(
  "safetensors, header entries",
  600,
  jsonChanges,
  async (changes) => {
    const header = JSON.stringify(changed(goodHeader, changes)) ?? "";
    await checkHeader(rawSafetensors(header, goodFile.slice(8 + headerLength)));
  },
  readsGood,
);

const goodConfig = configJson(tinyConfig);
const parsesGood = () =>
  expect(parseConfig(parseJson(JSON.stringify(goodConfig), { file: "config.json" })).heads).toBe(4);

fuzz(
  "config.json, entries",
  1000,
  jsonChanges,
  async (changes) => {
    const text = JSON.stringify(changed(goodConfig, changes)) ?? "null";
    const hyper = await worksOrRefuses([...configCodes, "json-invalid"], () =>
      parseConfig(parseJson(text, { file: "config.json" })),
    );
    if (hyper === undefined) return;
    for (const name of [
      "vocabSize",
      "hiddenSize",
      "intermediateSize",
      "layers",
      "heads",
      "kvHeads",
      "headDim",
      "maxPositions",
    ] as const) {
      expect(Number.isSafeInteger(hyper[name]) && hyper[name] > 0 && hyper[name] <= 2 ** 28, name).toBe(true);
    }
    expect(hyper.heads % hyper.kvHeads).toBe(0);
    for (const id of hyper.eosIds ?? []) expect(id >= 0 && id < hyper.vocabSize).toBe(true);
  },
  parsesGood,
);

fuzz(
  "config.json, text",
  600,
  cuts,
  async (places) => {
    const text = cut([...JSON.stringify(goodConfig)], places, (number) => [String.fromCharCode(number)]).join("");
    await worksOrRefuses([...configCodes, "json-invalid"], () => parseConfig(parseJson(text, { file: "config.json" })));
  },
  parsesGood,
);

const files = modelFiles(tinyConfig);
const weights = await files.read("model.safetensors", 0, await files.size("model.safetensors"));

fuzz(
  "a checkpoint with another config.json",
  150,
  jsonChanges,
  async (changes) => {
    const config = json(changed(goodConfig, changes) ?? null);
    const codes: ErrorCode[] = [
      ...configCodes,
      "json-invalid",
      "tensor-mismatch",
      "unsupported-layout",
      "invalid-weights",
    ];
    const checkpoint = await worksOrRefuses(codes, () =>
      openCheckpoint(filesFrom({ "config.json": config, "model.safetensors": weights })),
    );
    // What opens has the sizes that its tensors have.
    if (checkpoint !== undefined) {
      const { vocabSize, hiddenSize } = checkpoint.config;
      expect(checkpoint.tensors.get("model.embed_tokens.weight")?.shape).toEqual([vocabSize, hiddenSize]);
    }
  },
  async () => expect((await openCheckpoint(modelFiles(tinyConfig))).config.layers).toBe(2),
);
