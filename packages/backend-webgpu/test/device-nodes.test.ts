// Whether Linux shows a GPU: without one, Dawn is not even loaded.
import { expect, test } from "vitest";
import { mayHaveGpu } from "../src/device-nodes.ts";

test.each([
  ["a render node", ["null", "dri", "card0", "renderD128"], true],
  ["NVIDIA", ["nvidia0", "nvidiactl"], true],
  ["WSL", ["dxg"], true],
  ["an Android's", ["kgsl-3d0"], true],
  ["a display without a GPU", ["dri", "card0", "fb0"], false],
  ["the driver without a GPU", ["nvidiactl", "nvidia-uvm"], false],
  ["none", ["null", "tty"], false],
] as const)("%s", (_, nodes, expected) => {
  expect(mayHaveGpu("linux", () => nodes)).toBe(expected);
  expect(mayHaveGpu("darwin", () => nodes)).toBe(true);
});
