// Every kernel in every form that a variant has: what a device compiles is one of these.
import type { Variant } from "../variant.ts";
import { attention } from "./attention.ts";
import { draw, score } from "./draw.ts";
import { embed } from "./embed.ts";
import { choose, down, up } from "./experts.ts";
import { formats } from "./formats.ts";
import type { Kernel } from "./kernel.ts";
import { matmul, SPANS } from "./matmul.ts";
import { MERGE_WIDTHS } from "./merge.ts";
import { mlp } from "./mlp.ts";
import { copy, reset } from "./page.ts";
import { rmsnorm } from "./rmsnorm.ts";
import { slices } from "./slices.ts";

export function everyKernel(variant: Variant): Kernel[] {
  const kernels: Kernel[] = [copy, reset, rmsnorm, choose(variant, 128, 64), score(variant)];
  for (const part of ["keep", "attend", "step"] as const) {
    for (const widest of [128, 256]) {
      for (const half of variant.f16 ? [false, true] : [false]) {
        for (const together of part === "keep" ? ([1] as const) : ([1, 2] as const))
          kernels.push(attention(variant, { part, widest, half, together }));
      }
    }
  }
  for (const filtered of [false, true]) for (const told of [false, true]) kernels.push(draw(variant, filtered, told));
  for (const format of Object.values(formats)) {
    kernels.push(embed(format), down(variant, format), up(format));
    if (!variant.serial) {
      kernels.push(mlp(variant, format));
      for (const count of [4, 8]) {
        for (const widest of MERGE_WIDTHS) {
          for (const addends of [1, 24]) {
            const merge = { slices: count, widest, addends };
            kernels.push(matmul(variant, { format, ending: "residual", norm: false, span: "one", merge }));
          }
        }
        for (const half of variant.f16 && format.name !== "f32" ? [false, true] : [false]) {
          for (const widest of [32, 64, 128, 256]) kernels.push(slices(variant, { format, widest, half, count }));
        }
      }
    }
    for (const span of SPANS) {
      kernels.push(
        matmul(variant, { format, ending: "store", norm: true, span }),
        matmul(variant, { format, ending: "residual", norm: false, span }),
        matmul(variant, { format, ending: "gated", norm: true, span }),
        matmul(variant, { format, ending: "head", norm: true, span }),
      );
    }
  }
  return kernels;
}
