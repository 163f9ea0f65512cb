// A model's files -> a Checkpoint. Only config.json, the headers and what the probes need is read; the tensors follow piece by
// piece, when a backend asks for them.

import type { Checkpoint, TensorInfo } from "../checkpoint.ts";
import type { Config, Experts } from "../config.ts";
import { DogeError } from "../errors.ts";
import { type Hyperparameters, parseConfig } from "./config-json.ts";
import { probeExpertsForm } from "./experts-form.ts";
import { checkRange, type Files, readJson } from "./files.ts";
import { checkShapes, type Layout, type NamedTensors, nameTensors, probeLayout } from "./layout.ts";
import type { TensorEntry } from "./safetensors.ts";
import { findWeights, readTensorEntries } from "./shards.ts";
import { floats, tensorShapes } from "./weights.ts";

export interface OpenOptions {
  readonly signal?: AbortSignal | undefined;
  /** Largest safetensors header accepted, in bytes; default 16 MiB, never above 100,000,000. */
  readonly headerCap?: number | undefined;
}

/** A checkpoint in files: what `doge inspect` tells about them besides. */
export interface FileCheckpoint extends Checkpoint {
  readonly source: {
    readonly name: string;
    /** The weight files and their sizes in bytes. */
    readonly files: readonly { readonly name: string; readonly bytes: number }[];
    /** Whose layer names the files use. */
    readonly names: "current" | "old" | "mixed";
  };
}

/** Open the Doge in `files`: config.json and model.safetensors, or its shards. The caller closes `files`, when it no longer
 *  reads from the checkpoint.
 *  @throws DogeError with a code for everything that can be wrong with the files; the message names file, tensor and value. */
export async function openCheckpoint(files: Files, options: OpenOptions = {}): Promise<FileCheckpoint> {
  const { signal } = options;
  const weights = await findWeights(files);
  const hyper = parseConfig(await readJson(files, "config.json", signal));
  const named = nameTensors(await readTensorEntries(files, weights, options));
  const layout = probeLayout(named, hyper);
  const warnings = [...hyper.warnings, ...layoutWarnings(hyper, layout)];

  let config = completeConfig(hyper, layout, warnings);
  const expected = tensorShapes(config);
  const copiedHead = config.tied && named.tensors.has("lm_head.weight");
  if (copiedHead) expected.set("lm_head.weight", [config.vocabSize, config.hiddenSize]);
  checkShapes(named, expected, config.tied);

  const read = reader(files, named.tensors);
  const probe = { config, tensors: named.tensors, read };
  if (copiedHead) {
    await checkTiedCopy(probe, signal);
    named.tensors.delete("lm_head.weight");
  }
  if (config.experts !== null) {
    const form = await probeExpertsForm(probe, config.experts, signal);
    if (form.warning !== null) warnings.push(form.warning);
    config = { ...config, experts: { ...config.experts, indexing: form.indexing } };
  }

  const tensors = new Map<string, TensorInfo>();
  for (const name of expected.keys()) {
    const entry = named.tensors.get(name);
    if (entry !== undefined) tensors.set(name, { dtype: entry.dtype, shape: entry.shape });
  }
  return { config, tensors, warnings, read, source: await describeSource(files, named) };
}

function reader(files: Files, tensors: ReadonlyMap<string, TensorEntry>): Checkpoint["read"] {
  return async (name, from, to, signal) => {
    const entry = tensors.get(name);
    if (entry === undefined)
      throw new DogeError("invalid-argument", `The checkpoint has no tensor ${JSON.stringify(name)}.`);
    checkRange(`the tensor ${name}`, from, to, entry.end - entry.begin);
    return files.read(entry.file, entry.begin + from, entry.begin + to, signal);
  };
}

async function describeSource(files: Files, named: NamedTensors<TensorEntry>): Promise<FileCheckpoint["source"]> {
  const names = [...new Set(Array.from(named.tensors.values(), (entry) => entry.file))];
  const sizes = await Promise.all(names.map(async (name) => ({ name, bytes: await files.size(name) })));
  return { name: files.name, files: sizes, names: named.names };
}

/** The config as backends see it. */
function completeConfig(hyper: Hyperparameters, layout: Layout, warnings: string[]): Config {
  const legacy = layout.generation === "legacy";
  if (legacy && hyper.maskRatio > 0 && hyper.maskRatio < 1) {
    throw new DogeError(
      "unsupported",
      `config.json has the dynamic_mask_ratio ${hyper.maskRatio}, which drops keys by a rule that no published Doge uses; only 0 is supported.`,
    );
  }
  // The legacy code had these ids as defaults; transformers has none.
  const fallback = (id: number) => (legacy && id < hyper.vocabSize ? id : null);
  const end = fallback(1);
  return {
    generation: layout.generation,
    vocabSize: hyper.vocabSize,
    hiddenSize: hyper.hiddenSize,
    intermediateSize: hyper.intermediateSize,
    layers: hyper.layers,
    heads: hyper.heads,
    kvHeads: hyper.kvHeads,
    headDim: hyper.headDim,
    normEpsilon: hyper.normEpsilon,
    maxPositions: hyper.maxPositions,
    rope: hyper.rope,
    qkNorm: layout.qkNorm,
    biasHeads: layout.biasHeads,
    window: legacy ? null : hyper.window,
    attentionBias: layout.attentionBias,
    mlpBias: layout.mlpBias,
    tied: hyper.tied,
    experts: layout.expertRows === null ? null : completeExperts(hyper, layout.expertRows, warnings),
    bosId: hyper.bosId === undefined ? fallback(0) : hyper.bosId,
    eosIds: hyper.eosIds ?? (end === null ? [] : [end]),
    padId: hyper.padId === undefined ? fallback(2) : hyper.padId,
  };
}

function completeExperts(hyper: Hyperparameters, rows: number, warnings: string[]): Experts {
  const count = hyper.expertCount ?? rows;
  const side = Math.floor(Math.sqrt(count));
  if (hyper.expertsPerToken === undefined) {
    warnings.push(
      "config.json does not say num_experts_per_tok; transformers' default of 64 is assumed, older code had 8.",
    );
  }
  const perToken = hyper.expertsPerToken ?? Math.min(64, side * side);
  if (perToken > side * side) {
    throw new DogeError(
      "config-invalid",
      `config.json has num_experts_per_tok ${perToken}, but ${count} experts make ${side} x ${side} = ${side * side} to choose from.`,
    );
  }
  // The form is probed once the shapes are known to be right.
  return { count, perToken, side, normalize: hyper.normalizeExperts, indexing: "expert" };
}

function layoutWarnings(hyper: Hyperparameters, layout: Layout): string[] {
  const warnings: string[] = [];
  const moe = layout.expertRows !== null;
  if (hyper.moe !== undefined && hyper.moe !== moe) {
    warnings.push(
      `config.json says is_moe ${hyper.moe}, but the tensors are those of a ${moe ? "mixture of experts" : "dense model"}; the tensors are followed.`,
    );
  }
  if (layout.generation === "native" && hyper.maskRatio !== 0) {
    warnings.push(
      `config.json has the dynamic_mask_ratio ${hyper.maskRatio}, which this generation no longer has; it is ignored.`,
    );
  }
  return warnings;
}

/** @throws DogeError "invalid-weights" when lm_head.weight is not the embedding it is said to be. */
async function checkTiedCopy(checkpoint: Checkpoint, signal?: AbortSignal): Promise<void> {
  const head = floats(checkpoint, "lm_head.weight", signal);
  const columns = checkpoint.config.hiddenSize;
  // Both have one shape, so both come in the same pieces.
  for await (const { offset, data } of floats(checkpoint, "model.embed_tokens.weight", signal)) {
    const other = (await head.next()).value!.data;
    const at = data.findIndex((value, index) => value !== other[index]);
    if (at < 0) continue;
    const row = Math.floor((offset + at) / columns);
    throw new DogeError(
      "invalid-weights",
      `config.json ties lm_head.weight to the embedding, but they differ, first in row ${row}, column ${(offset + at) % columns}: ${other[at]} against ${data[at]}. Set tie_word_embeddings to false if both are meant.`,
    );
  }
}
