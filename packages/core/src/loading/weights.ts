// The tensors of a Doge: which there are and how large, which of them quantisation may touch, and reading their values.

import type { Floats } from "../backend.ts";
import type { Checkpoint, TensorInfo } from "../checkpoint.ts";
import { type Config, keyValueWidth, queryWidth } from "../config.ts";
import { aborted, DogeError } from "../errors.ts";
import { checkRange } from "./files.ts";
import { decodeBf16, decodeF16, decodeF32 } from "./number-formats.ts";

/** Every tensor of such a model by canonical name, with its shape; linear weights are [out, in]. In the order of use. */
export function tensorShapes(config: Config): Map<string, readonly number[]> {
  const { hiddenSize: hidden, intermediateSize: inner, biasHeads, headDim, experts } = config;
  const queries = queryWidth(config);
  const values = keyValueWidth(config);
  const shapes = new Map<string, readonly number[]>();
  /** A linear layer without its own `.weight` suffix, and its bias when the config has biases there. */
  const linear = (name: string, out: number, into: number, bias: boolean) => {
    shapes.set(`${name}.weight`, [out, into]);
    if (bias) shapes.set(`${name}.bias`, [out]);
  };
  shapes.set("model.embed_tokens.weight", [config.vocabSize, hidden]);
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `model.layers.${layer}`;
    shapes.set(`${at}.input_layernorm.weight`, [hidden]);
    linear(`${at}.self_attn.q_proj`, queries, hidden, config.attentionBias);
    linear(`${at}.self_attn.k_proj`, values, hidden, config.attentionBias);
    linear(`${at}.self_attn.v_proj`, values, hidden, config.attentionBias);
    if (config.qkNorm) {
      shapes.set(`${at}.self_attn.q_norm.weight`, [headDim]);
      shapes.set(`${at}.self_attn.k_norm.weight`, [headDim]);
    }
    shapes.set(`${at}.self_attn.A`, [biasHeads]);
    linear(`${at}.self_attn.dt_proj`, biasHeads, values, config.attentionBias);
    linear(`${at}.self_attn.o_proj`, hidden, queries, config.attentionBias);
    shapes.set(`${at}.input_residual`, [hidden]);
    shapes.set(`${at}.post_attention_layernorm.weight`, [hidden]);
    linear(`${at}.mlp.gate_proj`, inner, hidden, config.mlpBias);
    linear(`${at}.mlp.up_proj`, inner, hidden, config.mlpBias);
    linear(`${at}.mlp.down_proj`, hidden, inner, config.mlpBias);
    if (experts !== null) {
      shapes.set(`${at}.mlp.router_gate.weight`, [2 * experts.side, hidden]);
      shapes.set(`${at}.mlp.down_embed.weight`, [experts.count, hidden]);
      shapes.set(`${at}.mlp.up_embed.weight`, [experts.count, hidden]);
    }
    shapes.set(`${at}.post_attention_residual`, [hidden]);
  }
  shapes.set("model.norm.weight", [hidden]);
  if (!config.tied) shapes.set("lm_head.weight", [config.vocabSize, hidden]);
  return shapes;
}

const QUANTIZABLE = /(^lm_head|\.(embed_tokens|[qkvo]_proj|gate_proj|up_proj|down_proj|down_embed|up_embed))\.weight$/;

/** Whether bf16, q8 and q4 round this tensor; all others stay f32 on every backend: norms, A, dt_proj, gates, router and
 *  biases are tiny, and what they decide (the window, the experts) must not move. */
export function quantizable(name: string): boolean {
  return QUANTIZABLE.test(name);
}

/** Values of a tensor of this shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

/** Values handed over at a time by floats(): 1 MiB of f32. */
const PIECE = 262_144;
const BYTES = { F32: 4, F16: 2, BF16: 2 } as const;
const DECODE = { F32: decodeF32, F16: decodeF16, BF16: decodeBf16 } as const;

/** A tensor's values as f32, in order, in pieces of at most 1 MiB; `offset` counts values. bf16 and f16 widen exactly.
 *  The pieces are the caller's.
 *  @throws DogeError "invalid-weights" when NaN or infinite values are met: no piece with one is ever handed over. */
export async function* floats(
  checkpoint: Checkpoint,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<{ offset: number; data: Floats }, void, undefined> {
  const info = tensorInfo(checkpoint, name);
  const total = elements(info.shape);
  for (let offset = 0; offset < total; offset += PIECE) {
    const data = await piece(checkpoint, name, info, offset, total, signal);
    if (countBad(data) > 0) throw await invalidWeights(checkpoint, name, info, offset, signal);
    yield { offset, data };
  }
}

/** A whole tensor as f32, for small ones. @throws DogeError as floats(). */
export async function readTensor(checkpoint: Checkpoint, name: string, signal?: AbortSignal): Promise<Floats> {
  const result = new Float32Array(elements(tensorInfo(checkpoint, name).shape));
  for await (const { offset, data } of floats(checkpoint, name, signal)) result.set(data, offset);
  return result;
}

export function tensorInfo(checkpoint: Checkpoint, name: string): TensorInfo {
  const info = checkpoint.tensors.get(name);
  if (info === undefined)
    throw new DogeError("invalid-argument", `The checkpoint has no tensor ${JSON.stringify(name)}.`);
  return info;
}

async function piece(
  checkpoint: Checkpoint,
  name: string,
  info: TensorInfo,
  offset: number,
  total: number,
  signal: AbortSignal | undefined,
): Promise<Floats> {
  if (signal?.aborted) throw aborted(signal);
  const width = BYTES[info.dtype];
  const count = Math.min(PIECE, total - offset);
  const bytes = await checkpoint.read(name, offset * width, (offset + count) * width, signal);
  if (bytes.length !== count * width) {
    throw new DogeError(
      "file-changed",
      `The tensor ${name} gave ${bytes.length} bytes where ${count * width} were asked for; load the model again.`,
    );
  }
  return DECODE[info.dtype](bytes);
}

function countBad(data: Floats): number {
  let bad = 0;
  // x - x is 0 for every finite x and NaN for the others.
  for (let index = 0; index < data.length; index++) if (data[index]! - data[index]! !== 0) bad++;
  return bad;
}

/** The error for a tensor whose first bad value lies at or behind `offset`: the rest is read only to count. */
async function invalidWeights(
  checkpoint: Checkpoint,
  name: string,
  info: TensorInfo,
  from: number,
  signal: AbortSignal | undefined,
): Promise<DogeError> {
  const total = elements(info.shape);
  let bad = 0;
  for (let offset = from; offset < total; offset += PIECE) {
    bad += countBad(await piece(checkpoint, name, info, offset, total, signal));
  }
  return new DogeError(
    "invalid-weights",
    `The tensor ${name} has ${bad} NaN or infinite ${bad === 1 ? "value" : "values"} among ${total}; the checkpoint is damaged, download it again.`,
  );
}

/** A checkpoint over arrays in memory, for tests and for weights that were just made.
 *  @throws DogeError "tensor-mismatch" when the arrays are not those of `config`. */
export function memoryCheckpoint(config: Config, tensors: ReadonlyMap<string, Float32Array>): Checkpoint {
  const shapes = tensorShapes(config);
  const problems: string[] = [];
  for (const [name, shape] of shapes) {
    const found = tensors.get(name)?.length;
    if (found !== elements(shape)) {
      problems.push(
        found === undefined ? `${name} is missing` : `${name} has ${found} values instead of ${elements(shape)}`,
      );
    }
  }
  for (const name of tensors.keys()) if (!shapes.has(name)) problems.push(`${name} is unknown`);
  if (problems.length > 0)
    throw new DogeError("tensor-mismatch", `The tensors do not fit the config: ${problems.join("; ")}.`);
  return {
    config,
    tensors: new Map(Array.from(shapes, ([name, shape]) => [name, { dtype: "F32", shape }])),
    read: async (name, from, to, signal) => {
      if (signal?.aborted) throw aborted(signal);
      const data = tensors.get(name);
      if (data === undefined)
        throw new DogeError("invalid-argument", `The checkpoint has no tensor ${JSON.stringify(name)}.`);
      checkRange(`the tensor ${name}`, from, to, data.byteLength);
      return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice(from, to);
    },
  };
}
