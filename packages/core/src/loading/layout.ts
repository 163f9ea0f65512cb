// Which Doge a set of tensors is. Three families share the model_type, so the tensors decide, not the config's keys:
//
//                          q_norm, k_norm   width of A and dt_proj   experts
//   NATIVE  (2025-07 on)   yes              key-value heads          router_gate.weight, or none
//   LEGACY  (until then)   no               query heads              router_gate.weight, or none
//
// LEGACY comes with old or new layer names. Older forms of the router and of dt_proj are recognised and refused by name.

import type { TensorInfo } from "../checkpoint.ts";
import { DogeError } from "../errors.ts";
import type { Hyperparameters } from "./config-json.ts";

const LAYER = String.raw`^(model\.layers\.\d+\.)`;
/** Names of the authors' own code until June 2025, and what they are called now. */
const OLD_NAMES: readonly (readonly [RegExp, string])[] = [
  [/^model\.word_embed\.weight$/, "model.embed_tokens.weight"],
  [/^model\.final_layernorm\.weight$/, "model.norm.weight"],
  [new RegExp(`${LAYER}pre_layernorm\\.weight$`), "$1input_layernorm.weight"],
  [new RegExp(`${LAYER}pre_residual(\\.weight)?$`), "$1input_residual"],
  [new RegExp(`${LAYER}post_layernorm\\.weight$`), "$1post_attention_layernorm.weight"],
  [new RegExp(`${LAYER}post_residual(\\.weight)?$`), "$1post_attention_residual"],
  [new RegExp(`${LAYER}feed_forward\\.`), "$1mlp."],
];
/** The gates are bare parameters; one converter gave them a suffix that they do not have. */
const SUFFIXED_GATE = new RegExp(`${LAYER}(input_residual|post_attention_residual)\\.weight$`);
const CURRENT_NAME = new RegExp(`^model\\.(embed_tokens|norm)\\.|${LAYER}(input_|post_attention_|mlp\\.)`);

/** The canonical name of a tensor, whichever generation named it; names that no generation has stay as they are. */
export function canonicalName(name: string): string {
  for (const [pattern, replacement] of OLD_NAMES) if (pattern.test(name)) return name.replace(pattern, replacement);
  return name.replace(SUFFIXED_GATE, "$1$2");
}

/** Position tables that old files carry and nobody needs. */
const isIgnored = (name: string): boolean => name.startsWith("model.rotary_emb.");

export interface NamedTensors<Entry extends TensorInfo> {
  /** By canonical name. */
  readonly tensors: Map<string, Entry>;
  /** Canonical name -> the file's own. */
  readonly originals: ReadonlyMap<string, string>;
  readonly names: "current" | "old" | "mixed";
}

/** Give every tensor its canonical name. @throws DogeError "tensor-mismatch" when two tensors are the same one. */
export function nameTensors<Entry extends TensorInfo>(entries: ReadonlyMap<string, Entry>): NamedTensors<Entry> {
  const tensors = new Map<string, Entry>();
  const originals = new Map<string, string>();
  const twice: string[] = [];
  let old = false;
  let current = false;
  for (const [name, entry] of entries) {
    if (isIgnored(name)) continue;
    const canonical = canonicalName(name);
    const other = originals.get(canonical);
    if (other !== undefined) twice.push(`${other} and ${name} are both ${canonical}`);
    old ||= OLD_NAMES.some(([pattern]) => pattern.test(name));
    current ||= CURRENT_NAME.test(name);
    tensors.set(canonical, entry);
    originals.set(canonical, name);
  }
  if (twice.length > 0)
    throw new DogeError("tensor-mismatch", `Some tensors are there under two names: ${twice.slice(0, 20).join("; ")}.`);
  return { tensors, originals, names: old ? (current ? "mixed" : "old") : "current" };
}

/** Tensors of router forms that this engine does not run, and the code that made them (small-doge, 2025). */
const OLD_ROUTERS: readonly (readonly [RegExp, string])[] = [
  [/\.queries\.(weight|bias)$/, "the retrieval by queries and keys per head of early February 2025"],
  [/\.queries_proj\.(weight|bias)$/, "the retrieval by projected queries and keys of February and March 2025"],
  [/\.keys(\.weight)?$/, "the retrieval by queries and keys of February and March 2025"],
  [/\.(mlp|moe)_scaling$/, "the scaled sum of dense part and experts of March 2025"],
  [/\.router_gate\.bias$/, "the biased router of 17 to 20 March 2025"],
];

export interface Layout {
  readonly generation: "native" | "legacy";
  readonly qkNorm: boolean;
  readonly biasHeads: number;
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  /** Rows of the first down_embed, or null for a dense model. */
  readonly expertRows: number | null;
}

/** Recognise the layout.
 *  @throws DogeError "unsupported-layout" naming tensor and form for a Doge that this engine does not run. */
export function probeLayout(named: NamedTensors<TensorInfo>, hyper: Hyperparameters): Layout {
  const { tensors, originals } = named;
  const first = (suffix: string): readonly [string, TensorInfo] | undefined => {
    for (const entry of tensors) if (entry[0].endsWith(suffix)) return entry;
    return undefined;
  };
  const refuse = (name: string, form: string): never => {
    throw new DogeError(
      "unsupported-layout",
      `The tensor ${originals.get(name)} belongs to ${form}, which is recognised but not supported. Ask for a newer checkpoint of this model.`,
    );
  };
  for (const name of tensors.keys()) {
    for (const [pattern, form] of OLD_ROUTERS)
      if (pattern.test(name)) refuse(name, `an older mixture of experts: ${form}`);
  }
  const { heads, kvHeads, headDim } = hyper;
  const decay = first(".self_attn.dt_proj.weight");
  if (decay !== undefined && heads > kvHeads && decay[1].shape[1] === heads * headDim) {
    refuse(
      decay[0],
      `the attention of December 2024 and January 2025, whose dt_proj reads the values of all ${heads} query heads (${heads * headDim} columns instead of ${kvHeads * headDim})`,
    );
  }

  const qkNorm = first(".self_attn.q_norm.weight") !== undefined;
  const biasHeads = qkNorm ? kvHeads : heads;
  const scale = first(".self_attn.A");
  const width = scale?.[1].shape[0];
  if (scale !== undefined && heads > kvHeads && width === (qkNorm ? heads : kvHeads)) {
    refuse(
      scale[0],
      qkNorm
        ? `no known Doge: it is as wide as the query heads (${width}), although there is a q_norm`
        : `no known Doge: it is as wide as the key-value heads (${width}), although there is no q_norm`,
    );
  }
  return {
    generation: qkNorm ? "native" : "legacy",
    qkNorm,
    biasHeads,
    // Where the config is silent, the tensors say whether there are biases.
    attentionBias: hyper.attentionBias ?? first(".self_attn.q_proj.bias") !== undefined,
    mlpBias: hyper.mlpBias ?? first(".mlp.gate_proj.bias") !== undefined,
    expertRows: first(".mlp.down_embed.weight")?.[1].shape[0] ?? null,
  };
}

/** Differences listed in one message; a file of another model differs in everything. */
const LISTED = 200;

/** Compare all tensors with those expected.
 *  @throws DogeError "tensor-mismatch" with every missing, unknown and wrongly shaped tensor. */
export function checkShapes(
  named: NamedTensors<TensorInfo>,
  expected: ReadonlyMap<string, readonly number[]>,
  tied: boolean,
): void {
  const problems: string[] = [];
  for (const [name, shape] of expected) {
    const found = named.tensors.get(name)?.shape;
    if (found === undefined) {
      const why =
        name === "lm_head.weight" && !tied
          ? " (config.json does not tie it to the embedding: tie_word_embeddings is not true)"
          : "";
      problems.push(`${name} is missing${why}`);
    } else if (found.length !== shape.length || found.some((dimension, index) => dimension !== shape[index])) {
      problems.push(`${named.originals.get(name)} has the shape [${found.join(", ")}], expected [${shape.join(", ")}]`);
    }
  }
  for (const name of named.tensors.keys())
    if (!expected.has(name)) problems.push(`${named.originals.get(name)} is unknown`);
  if (problems.length === 0) return;
  const more = problems.length > LISTED ? `; and ${problems.length - LISTED} more` : "";
  throw new DogeError(
    "tensor-mismatch",
    `The tensors do not fit config.json, ${problems.length} ${problems.length === 1 ? "difference" : "differences"}: ${problems.slice(0, LISTED).join("; ")}${more}.`,
  );
}
