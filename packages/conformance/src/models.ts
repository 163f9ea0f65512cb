// The models of a backend's own tests, which have no golden: a small dense one to begin from, and weights that follow from their places.
import { type Checkpoint, type Config, memoryCheckpoint, tensorShapes } from "@doge-lm/core";

export const small: Config = {
  generation: "native",
  vocabSize: 40,
  hiddenSize: 32,
  intermediateSize: 48,
  layers: 3,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  normEpsilon: 1e-6,
  maxPositions: 256,
  rope: { type: "default", theta: 10000, factor: 1 },
  qkNorm: true,
  biasHeads: 2,
  window: 256,
  attentionBias: false,
  mlpBias: false,
  tied: true,
  experts: null,
  bosId: null,
  eosIds: [],
  padId: null,
};

/** Weights in -1 ... 1; those of a matrix times `scale(columns)`. */
export function sines(config: Config, scale: (columns: number) => number = () => 1): Checkpoint {
  return memoryCheckpoint(
    config,
    new Map(
      Array.from(tensorShapes(config), ([name, shape]) => {
        const count = shape.reduce((product, size) => product * size, 1);
        const its = shape.length > 1 ? scale(shape.at(-1)!) : 1;
        return [name, Float32Array.from({ length: count }, (_, index) => its * Math.sin(index * 7 + name.length))];
      }),
    ),
  );
}
