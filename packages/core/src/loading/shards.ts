// All tensors of a checkpoint: model.safetensors, or the shards that model.safetensors.index.json names.

import { DogeError, isDogeError } from "../errors.ts";
import { isJsonObject } from "../json.ts";
import { checkFileName, type Files, readJson } from "./files.ts";
import { foreignWeights } from "./foreign-format.ts";
import { type HeaderOptions, readHeader, type TensorEntry } from "./safetensors.ts";

export const WEIGHTS_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";
/** The largest Doge has 1.6 billion parameters: a handful of shards. */
const SHARD_CAP = 1024;

/** Which file to begin with. The single file wins over an index, as in transformers.
 *  @throws DogeError "unsupported-format" when there are only weights in another format, "file-missing" when there are none. */
export async function findWeights(files: Files): Promise<string> {
  const names = await files.list();
  for (const file of [WEIGHTS_FILE, INDEX_FILE]) if (names.includes(file)) return file;
  throw (
    foreignWeights(names) ??
    new DogeError(
      "file-missing",
      `There is neither ${WEIGHTS_FILE} nor ${INDEX_FILE} in ${files.name}${
        names.length === 0
          ? ", which is empty"
          : `; it has ${names.slice(0, 10).sort().join(", ")}${names.length > 10 ? ", …" : ""}`
      }.`,
    )
  );
}

/** The tensors by the names the files give them. @throws DogeError as readHeader(); "unsafe-path", "limit-exceeded",
 *  "file-missing" and "tensor-mismatch" for an index that does not fit its shards. */
export async function readTensorEntries(
  files: Files,
  weights: string,
  options: HeaderOptions = {},
): Promise<Map<string, TensorEntry>> {
  if (weights !== INDEX_FILE) return readHeader(files, weights, options);
  const map = await readWeightMap(files, options.signal);
  const shards = [...new Set(map.values())];
  // Shards may lie in subfolders, which list() need not look into: each is asked for.
  const missing: string[] = [];
  for (const shard of shards) {
    await files.size(shard).catch((error) => {
      if (!isDogeError(error, "file-missing")) throw error;
      missing.push(shard);
    });
  }
  if (missing.length > 0) {
    throw new DogeError(
      "file-missing",
      `${INDEX_FILE} names ${shards.length} shards, of which ${missing.length === 1 ? "this one is" : "these are"} not in ${files.name}: ${missing
        .slice(0, 20)
        .join(", ")}${missing.length > 20 ? ", …" : ""}.`,
    );
  }

  const tensors = new Map<string, TensorEntry>();
  const problems: string[] = [];
  for (const shard of shards) {
    for (const [name, entry] of await readHeader(files, shard, options)) {
      const other = tensors.get(name);
      if (other !== undefined) problems.push(`${name} stands in ${other.file} and again in ${shard}`);
      else if (map.get(name) === undefined) problems.push(`${name} stands in ${shard} but not in the index`);
      tensors.set(name, other ?? entry);
    }
  }
  for (const [name, shard] of map) {
    const found = tensors.get(name);
    if (found === undefined) problems.push(`${name} is not in ${shard}`);
    else if (found.file !== shard) problems.push(`${name} is in ${found.file} instead of ${shard}`);
  }
  if (problems.length > 0) {
    throw new DogeError(
      "tensor-mismatch",
      `${INDEX_FILE} does not fit its shards: ${problems.slice(0, 50).join("; ")}.`,
    );
  }
  return tensors;
}

/** The shards that the index of `files` names; they need not be there yet. @throws DogeError as readTensorEntries(). */
export async function shardNames(files: Files, signal?: AbortSignal): Promise<string[]> {
  return [...new Set((await readWeightMap(files, signal)).values())];
}

async function readWeightMap(files: Files, signal?: AbortSignal): Promise<Map<string, string>> {
  const index = await readJson(files, INDEX_FILE, signal);
  const map = isJsonObject(index) && Object.hasOwn(index, "weight_map") ? index.weight_map : undefined;
  if (!isJsonObject(map))
    throw new DogeError(
      "json-invalid",
      `${INDEX_FILE} has no object "weight_map" that says which shard holds which tensor.`,
    );
  const result = new Map<string, string>();
  const shards = new Set<string>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== "string") {
      throw new DogeError(
        "json-invalid",
        `${INDEX_FILE} gives no file name for the tensor ${JSON.stringify(tensor.slice(0, 100))}.`,
      );
    }
    if (!shards.has(shard)) {
      checkFileName(shard, INDEX_FILE);
      if (!shard.endsWith(".safetensors")) {
        throw (
          foreignWeights([shard]) ??
          new DogeError(
            "unsupported-format",
            `${INDEX_FILE} names ${JSON.stringify(shard)}, which is not a .safetensors file.`,
          )
        );
      }
      shards.add(shard);
      if (shards.size > SHARD_CAP)
        throw new DogeError("limit-exceeded", `${INDEX_FILE} names more than ${SHARD_CAP} shards.`);
    }
    result.set(tensor, shard);
  }
  return result;
}
