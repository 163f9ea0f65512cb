// What every measurement draws, and how results are told apart.
import { createHash } from "node:crypto";
import { defaultSampling, type Floats } from "@doge-lm/core";

export const greedy = { ...defaultSampling, temperature: 0, stop: [] };
export const nothing = new Int32Array(0);
export const hash = (data: Int32Array | Floats): string =>
  createHash("sha256")
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest("hex")
    .slice(0, 12);
