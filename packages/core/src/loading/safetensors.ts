// The safetensors format: one file's header, checked whole before anything is believed. Shards are in shards.ts.
//
//   byte 0        8            8 + n                          end
//        | n: u64 | JSON header | tensors, without gaps or overlaps |
//
// The rules are the format's own (github.com/huggingface/safetensors, README "Format" and tensor.rs): the header begins
// with "{", keys are not repeated, the ranges cover the whole buffer. They also keep out files that are two formats at once.

import type { TensorInfo } from "../checkpoint.ts";
import { DogeError } from "../errors.ts";
import { decodeUtf8, isJsonObject, type Json, parseJson } from "../json.ts";
import { type Files, fileChanged } from "./files.ts";
import { foreignFormat } from "./foreign-format.ts";

/** One tensor and where its bytes lie: [begin, end) of `file`. */
export interface TensorEntry extends TensorInfo {
  readonly file: string;
  readonly begin: number;
  readonly end: number;
}

const BYTES_PER_VALUE: Readonly<Record<TensorInfo["dtype"], number>> = { F32: 4, F16: 2, BF16: 2 };

/** Header bytes read unless the caller says otherwise, and at all. The format's own limit is the second. */
const HEADER_CAP = 16 * 1024 * 1024;
const HEADER_HARD_CAP = 100_000_000;
/** A Doge has some twenty tensors a layer; names are short. */
const TENSOR_CAP = 65_536;
const NAME_CAP = 512;
const RANK_CAP = 8;

export interface HeaderOptions {
  /** Largest header accepted, in bytes; default 16 MiB, never above 100,000,000. */
  readonly headerCap?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Read and check the header of one safetensors file; the tensors' bytes are not touched.
 *  @throws DogeError "header-too-small", "header-too-large", "invalid-length", "header-invalid", "limit-exceeded",
 *  "invalid-offset", "invalid-shape", "unsupported-dtype", or "unsupported-format" for a file of another kind. */
export async function readHeader(
  files: Files,
  file: string,
  options: HeaderOptions = {},
): Promise<Map<string, TensorEntry>> {
  const { signal } = options;
  const cap = Math.min(options.headerCap ?? HEADER_CAP, HEADER_HARD_CAP);
  const size = await files.size(file);
  const start = await files.read(file, 0, Math.min(size, 64), signal);
  const refuse = (
    code: "header-too-small" | "header-too-large" | "invalid-length" | "header-invalid",
    why: string,
  ): never => {
    const format = foreignFormat(start);
    if (format !== null) throw format.error(file);
    throw new DogeError(code, `${file} is not a safetensors file: ${why}.`);
  };

  if (size <= 8) refuse("header-too-small", `it has ${size} bytes, and its header alone would need 10`);
  const word = new DataView(start.buffer, start.byteOffset, 8).getBigUint64(0, true);
  if (word < 2n) refuse("header-too-small", `its header length is ${word} bytes, and even an empty header has 2`);
  if (word > BigInt(cap)) refuse("header-too-large", `its header length is ${word} bytes; at most ${cap} are accepted`);
  if (word > BigInt(size - 8)) {
    refuse(
      "invalid-length",
      `its header length is ${word} bytes, but only ${size - 8} bytes follow; it may be cut off`,
    );
  }
  const length = Number(word);
  if (start[8] !== 0x7b) refuse("header-invalid", `the header must begin with "{" at byte 8`);

  const bytes = await files.read(file, 8, 8 + length, signal);
  if (bytes.length !== length) throw fileChanged(file, "its header is no longer there");
  const json = {
    file: `The header of ${file}`,
    code: "header-invalid",
    base: 8,
    maxDepth: 8,
    maxKeys: TENSOR_CAP,
  } as const;
  const header = parseJson(decodeUtf8(bytes, { ...json, keepMark: true }), json);
  if (!isJsonObject(header)) throw new DogeError("header-invalid", `The header of ${file} is not a JSON object.`);
  return checkEntries(header, file, 8 + length, size);
}

function checkEntries(
  header: { [key: string]: Json },
  file: string,
  dataBegin: number,
  size: number,
): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  for (const name of Object.keys(header)) {
    if (name.length > NAME_CAP) {
      throw new DogeError(
        "limit-exceeded",
        `${file} has a tensor name of ${name.length} characters (${JSON.stringify(name.slice(0, 60))}…); at most ${NAME_CAP} are accepted.`,
      );
    }
    const value = header[name]!;
    if (name === "__metadata__") checkMetadata(value, file);
    else tensors.set(name, checkEntry(value, name, file, dataBegin, size));
  }
  checkCoverage(tensors, file, dataBegin, size);
  return tensors;
}

function checkMetadata(value: Json, file: string): void {
  if (!isJsonObject(value)) throw new DogeError("header-invalid", `__metadata__ of ${file} is not a JSON object.`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") {
      throw new DogeError(
        "header-invalid",
        `__metadata__ of ${file} must hold text only, but ${JSON.stringify(key.slice(0, 60))} is ${JSON.stringify(text).slice(0, 60)}.`,
      );
    }
  }
}

function checkEntry(value: Json, name: string, file: string, dataBegin: number, size: number): TensorEntry {
  const tensor = `The tensor ${JSON.stringify(name)} in ${file}`;
  if (!isJsonObject(value)) throw new DogeError("header-invalid", `${tensor} is not described by a JSON object.`);
  const dtype = Object.hasOwn(value, "dtype") ? value.dtype : undefined;
  if (typeof dtype !== "string") throw new DogeError("header-invalid", `${tensor} has no dtype.`);
  if (!Object.hasOwn(BYTES_PER_VALUE, dtype)) {
    throw new DogeError(
      "unsupported-dtype",
      `${tensor} has the dtype ${JSON.stringify(dtype.slice(0, 40))}; accepted are F32, F16 and BF16. Convert the checkpoint to one of them.`,
    );
  }

  const shape = Object.hasOwn(value, "shape") ? value.shape : undefined;
  if (!Array.isArray(shape)) throw new DogeError("invalid-shape", `${tensor} has no shape.`);
  const shown = JSON.stringify(shape).slice(0, 100);
  if (shape.length > RANK_CAP)
    throw new DogeError("invalid-shape", `${tensor} has ${shape.length} dimensions; at most ${RANK_CAP} are accepted.`);
  let bytes = BYTES_PER_VALUE[dtype as TensorInfo["dtype"]];
  for (const dimension of shape) {
    if (typeof dimension !== "number" || !Number.isSafeInteger(dimension) || dimension < 0) {
      throw new DogeError("invalid-shape", `${tensor} has the shape ${shown}; dimensions are whole numbers from 0 up.`);
    }
    bytes *= dimension;
    // A later 0 does not excuse an overflow before it: other readers would multiply in another order.
    if (!Number.isSafeInteger(bytes))
      throw new DogeError("invalid-shape", `${tensor} has the shape ${shown}, whose size overflows.`);
  }

  const offsets = Object.hasOwn(value, "data_offsets") ? value.data_offsets : undefined;
  const valid = (offset: Json | undefined): offset is number =>
    typeof offset === "number" && Number.isSafeInteger(offset) && offset >= 0;
  if (
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !valid(offsets[0]) ||
    !valid(offsets[1]) ||
    offsets[1] < offsets[0]
  ) {
    throw new DogeError(
      "invalid-offset",
      `${tensor} has the data_offsets ${(JSON.stringify(offsets) ?? "(none)").slice(0, 100)}; expected two whole numbers, the second not below the first.`,
    );
  }
  const [from, to] = offsets as [number, number];
  if (to > size - dataBegin) {
    throw new DogeError(
      "invalid-offset",
      `${tensor} ends at byte ${to} of the data, which has only ${size - dataBegin} bytes; the file may be cut off.`,
    );
  }
  if (to - from !== bytes) {
    throw new DogeError("invalid-shape", `${tensor} has ${to - from} bytes, but ${dtype} ${shown} needs ${bytes}.`);
  }
  return {
    file,
    dtype: dtype as TensorInfo["dtype"],
    shape: shape as number[],
    begin: dataBegin + from,
    end: dataBegin + to,
  };
}

/** Sorted by place, every tensor must begin where the one before ends, and the last one end with the file. */
function checkCoverage(tensors: ReadonlyMap<string, TensorEntry>, file: string, dataBegin: number, size: number): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let reached = dataBegin;
  for (const [name, { begin, end }] of ordered) {
    if (begin !== reached) {
      throw new DogeError(
        "invalid-offset",
        `The tensor ${JSON.stringify(name)} in ${file} begins at byte ${begin - dataBegin} of the data, where ${reached - dataBegin} is expected: ${
          begin < reached ? "it overlaps another tensor" : "there is a hole before it"
        }.`,
      );
    }
    reached = end;
  }
  if (reached !== size) {
    const last = ordered.at(-1)?.[0];
    throw new DogeError(
      "invalid-offset",
      `${last === undefined ? `${file} holds no tensor` : `The last tensor ${JSON.stringify(last)} in ${file} ends at byte ${reached - dataBegin} of the data`}, but ${size - dataBegin} bytes follow the header; all must belong to tensors.`,
    );
  }
}
