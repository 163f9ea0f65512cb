// A Doge model's hyperparameters and layout, as every backend needs them: what config.json says, completed by what the
// tensors show (docs/model.md, "Layouts").

/** How the rotary frequencies grow with the position (transformers' `rope_type`). */
export interface Rope {
  readonly type: "default" | "linear" | "dynamic";
  readonly theta: number;
  /** Scaling factor; 1 under "default". */
  readonly factor: number;
}

/** Cross Domain Mixture of Experts: product keys over side x side one-neuron experts. */
export interface Experts {
  readonly count: number;
  readonly perToken: number;
  /** floor(sqrt(count)): the router yields 2 x side logits. */
  readonly side: number;
  /** Divide the routing weights by their sum. */
  readonly normalize: boolean;
  /** "expert": the id is i * side + j of the pair of keys (i, j). "grid": the form of March 2025, whose id is the position in
   *  the grid of both halves sorted, rank(i) * side + rank(j). */
  readonly indexing: "expert" | "grid";
}

export interface Config {
  readonly generation: "native" | "legacy";
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  /** Query heads. */
  readonly heads: number;
  /** Key and value heads: divides `heads`. */
  readonly kvHeads: number;
  readonly headDim: number;
  readonly normEpsilon: number;
  /** max_position_embeddings: the trained length, and where dynamic RoPE begins. */
  readonly maxPositions: number;
  readonly rope: Rope;
  /** RMSNorm over each query and key head before RoPE. */
  readonly qkNorm: boolean;
  /** Width of the dynamic mask: `kvHeads` (native) or `heads` (legacy). */
  readonly biasHeads: number;
  /** Keys kept per bias head by the dynamic mask, or null where none is ever dropped (legacy). */
  readonly window: number | null;
  /** Biases on q, k, v, dt and o projections. */
  readonly attentionBias: boolean;
  /** Biases on gate, up and down projections. */
  readonly mlpBias: boolean;
  /** The LM head is the embedding: no `lm_head.weight`. */
  readonly tied: boolean;
  /** null: dense. */
  readonly experts: Experts | null;
  readonly bosId: number | null;
  /** Ids that end a text; may be empty. */
  readonly eosIds: readonly number[];
  readonly padId: number | null;
}

/** Width of one key or one value over all its heads, and of the queries. */
export const keyValueWidth = (config: Config): number => config.kvHeads * config.headDim;
export const queryWidth = (config: Config): number => config.heads * config.headDim;
