// Every kernel in every form that a variant has: what a device compiles is one of these.
import type { Variant } from "../variant.ts";
import { attention, copy, reset } from "./attention.ts";
import { draw, score } from "./draw.ts";
import { embed } from "./embed.ts";
import { choose, down, sort, up } from "./experts.ts";
import { formats } from "./formats.ts";
import type { Kernel } from "./kernel.ts";
import { matmul } from "./matmul.ts";
import { rmsnorm } from "./rmsnorm.ts";

/** `tokens`: how many a workgroup of matmul takes. */
export function everyKernel(variant: Variant, tokens: readonly number[]): Kernel[] {
  const kernels: Kernel[] = [copy, reset, rmsnorm, choose, sort, score(variant)];
  for (const part of ["keep", "attend", "step"] as const) {
    for (const widest of [128, 256]) kernels.push(attention(variant, part, widest));
  }
  for (const filtered of [false, true]) for (const told of [false, true]) kernels.push(draw(variant, filtered, told));
  for (const format of Object.values(formats)) {
    kernels.push(embed(format), down(format), up(format));
    for (const count of tokens) {
      kernels.push(
        matmul(variant, { format, ending: "store", norm: true, tokens: count }),
        matmul(variant, { format, ending: "residual", norm: false, tokens: count }),
        matmul(variant, { format, ending: "gated", norm: true, tokens: count }),
        matmul(variant, { format, ending: "head", norm: true, tokens: count }),
      );
    }
  }
  return kernels;
}
