// The index-bug form of a mixture of experts, told by its row norms.
import { describe, expect, test } from "vitest";
import { type Config, openCheckpoint, reachableRows } from "../../src/index.ts";
import { f32, modelFiles, normals, randomTensors, tinyConfig, tinyExperts } from "./write-safetensors.ts";

const config = (side: number, perToken: number, layers: number, hiddenSize = 16): Config => ({
  ...tinyConfig,
  layers,
  hiddenSize,
  headDim: 4,
  experts: { ...tinyExperts, count: side * side, side, perToken },
});

/** A model whose expert rows are untouched normals times what `train` says of the row. */
async function open(
  shape: Config,
  seed: number,
  train: (row: number, reachable: boolean, random: () => number) => number,
) {
  const { side, perToken, count } = shape.experts!;
  const reachable = reachableRows(side, perToken);
  const tensors = randomTensors(shape, seed);
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const [index, name] of ["down_embed", "up_embed"].entries()) {
      const noise = normals(count, 1, seed * 77 + layer * 2 + index);
      let next = 0;
      const values = normals(count * shape.hiddenSize, 0.02, seed * 31 + layer * 2 + index + 5000);
      for (let row = 0; row < count; row++) {
        const factor = train(row, reachable[row] === 1, () => noise[next++]!);
        for (let column = 0; column < shape.hiddenSize; column++) values[row * shape.hiddenSize + column]! *= factor;
      }
      tensors.set(`model.layers.${layer}.mlp.${name}.weight`, f32([count, shape.hiddenSize], values));
    }
  }
  const opened = await openCheckpoint(modelFiles(shape, { tensors, config: { head_dim: 4 } }));
  return { indexing: opened.config.experts!.indexing, warnings: opened.warnings };
}
const clearly = (indexing: string) => ({ indexing, warnings: [] });

test("reachable rows are those the form can select", () => {
  const count = (side: number, perToken: number) => reachableRows(side, perToken).reduce((sum, flag) => sum + flag, 0);
  expect(count(32, 16)).toBe(50);
  expect(count(64, 32)).toBe(119);
  expect(count(4, 4)).toBe(8);
  expect([...reachableRows(2, 2)]).toEqual([1, 1, 1, 0]);
});

describe("untrained and currently trained rows", () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])(
    "random rows are the current form, also with few experts (seed %i)",
    async (seed) => {
      expect(await open(config(4, 4, 2), seed, () => 1)).toEqual(clearly("expert"));
      expect(await open(config(4, 4, 1), seed, () => 1)).toEqual(clearly("expert"));
      expect(await open(config(8, 6, 3), seed, () => 1)).toEqual(clearly("expert"));
    },
  );
  test.each([1, 2, 3])("unequally trained rows are the current form (seed %i)", async (seed) => {
    expect(await open(config(16, 8, 2), seed, (_row, _reachable, random) => Math.exp(random()))).toEqual(
      clearly("expert"),
    );
  });
  test("favoured keys, which load the grid's first row and column, are the current form", async () => {
    // The most popular key of each half lies anywhere: here it is key 0 in one layer's worth of rows only.
    const train = (row: number, _reachable: boolean, random: () => number) =>
      Math.exp(0.5 * random() + (row % 16 === 5 || row >> 4 === 9 ? 1 : 0));
    expect(await open(config(16, 8, 2), 4, train)).toEqual(clearly("expert"));
  });
});

describe("the index-bug form", () => {
  test.each([1, 2, 3])("rows that grew on the set alone (seed %i)", async (seed) => {
    const train = (_row: number, reachable: boolean, random: () => number) =>
      reachable ? 2 + Math.abs(random()) : 0.9;
    expect(await open(config(32, 16, 2), seed, train)).toEqual(clearly("grid"));
    expect(await open(config(4, 4, 2), seed, train)).toEqual(clearly("grid"));
  });
  test("some reachable rows were hardly ever selected", async () => {
    const train = (_row: number, reachable: boolean, random: () => number) => (reachable && random() > -0.7 ? 2 : 1);
    expect(await open(config(32, 16, 2), 7, train)).toEqual(clearly("grid"));
  });
  test("untouched rows without any value left", async () => {
    expect(await open(config(8, 6, 2), 7, (_row, reachable) => (reachable ? 1 : 0))).toEqual(clearly("grid"));
  });
});

describe("inconclusive weights run as the current form, with a warning", () => {
  test("the set means something, but the other rows were trained too", async () => {
    const train = (_row: number, reachable: boolean, random: () => number) =>
      (reachable ? 4 : 1) * Math.exp(0.8 * random());
    const found = await open(config(16, 8, 2), 3, train);
    expect(found.indexing).toBe("expert");
    expect(found.warnings).toEqual([expect.stringContaining("do not say clearly")]);
  });
  test("every row is reachable", async () => {
    const found = await open(config(4, 16, 2), 3, () => 1);
    expect(found.indexing).toBe("expert");
    expect(found.warnings).toEqual([expect.stringContaining("every expert is reachable")]);
  });
  test("too few experts to compare", async () => {
    const found = await open(config(2, 2, 1), 3, (_row, reachable) => (reachable ? 3 : 1));
    expect(found.indexing).toBe("expert");
    expect(found.warnings).toEqual([expect.stringContaining("too few")]);
  });
});
