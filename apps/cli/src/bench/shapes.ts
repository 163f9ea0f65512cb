// The shapes that `doge bench` knows: SmallDoge's published sizes, in the LEGACY layout with a vocabulary of 32768.
import type { Config, Experts } from "@doge-lm/core";
import { DogeError } from "@doge-lm/core";

interface Shape {
  readonly hidden: number;
  readonly inner: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Experts and how many of them a token takes, of the mixture of this size. */
  readonly experts?: readonly [count: number, perToken: number];
}

/** "tiny" is no Doge: it is there to try the command out. */
const shapes: { readonly [name: string]: Shape } = {
  tiny: { hidden: 128, inner: 256, layers: 2, heads: 4, kvHeads: 2, experts: [256, 8] },
  "20m": { hidden: 256, inner: 512, layers: 8, heads: 2, kvHeads: 1, experts: [1024, 16] },
  "60m": { hidden: 512, inner: 1024, layers: 16, heads: 4, kvHeads: 2, experts: [4096, 32] },
  "160m": { hidden: 768, inner: 1536, layers: 24, heads: 6, kvHeads: 3, experts: [9216, 48] },
  "320m": { hidden: 1024, inner: 2048, layers: 32, heads: 8, kvHeads: 4 },
};

export const shapeNames: readonly string[] = Object.keys(shapes);

/** The config of a known shape, or null for another word: a folder. Errors: "invalid-argument" for experts it does not have. */
export function configOf(name: string, mixture: boolean): Config | null {
  if (!Object.hasOwn(shapes, name)) return null;
  const shape = shapes[name]!;
  if (mixture && shape.experts === undefined) {
    const known = shapeNames.filter((other) => shapes[other]!.experts !== undefined).join(", ");
    throw new DogeError("invalid-argument", `There is no mixture of experts of the shape ${name}: choose ${known}.`, {
      scope: "cli",
    });
  }
  return {
    generation: "legacy",
    vocabSize: 32768,
    hiddenSize: shape.hidden,
    intermediateSize: shape.inner,
    layers: shape.layers,
    heads: shape.heads,
    kvHeads: shape.kvHeads,
    headDim: shape.hidden / shape.heads,
    normEpsilon: 1e-6,
    maxPositions: 2048,
    rope: { type: "default", theta: 10000, factor: 1 },
    qkNorm: false,
    biasHeads: shape.heads,
    window: null,
    attentionBias: false,
    mlpBias: false,
    tied: true,
    experts: mixture ? expertsOf(shape.experts!) : null,
    bosId: 0,
    eosIds: [1],
    padId: 2,
  };
}

function expertsOf([count, perToken]: readonly [number, number]): Experts {
  return { count, perToken, side: Math.floor(Math.sqrt(count)), normalize: false, indexing: "expert" };
}
