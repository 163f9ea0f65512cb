// The pipelines of a model: every kernel it needs, compiled at once or when it is first asked for.
import type { Config, DType } from "@doge-lm/core";
import type { Gpu, Pipeline } from "./device.ts";
import { headsTogether } from "./kernels/attend.ts";
import { attention } from "./kernels/attention.ts";
import { draw, score } from "./kernels/draw.ts";
import { embed } from "./kernels/embed.ts";
import { choose, down, up } from "./kernels/experts.ts";
import { formats } from "./kernels/formats.ts";
import type { Kernel } from "./kernels/kernel.ts";
import { matmul, SPANS } from "./kernels/matmul.ts";
import { mlp } from "./kernels/mlp.ts";
import { copy, reset } from "./kernels/page.ts";
import { rmsnorm } from "./kernels/rmsnorm.ts";
import { addendsOf, mergeWidthOf, slicesOf, widestOf } from "./kernels/slice-plan.ts";
import { slices } from "./kernels/slices.ts";
import { cachesHalf } from "./variant.ts";

/** Every kernel of a model, by what the program calls it. */
function kernelsOf(gpu: Gpu, config: Config, dtype: DType): Record<string, Kernel> {
  const { variant } = gpu;
  const format = formats[dtype];
  const widest = config.headDim <= 128 ? 128 : 256;
  const half = cachesHalf(variant, dtype);
  const together = headsTogether(config);
  const kernels: Record<string, Kernel> = {
    embed: embed(format),
    rmsnorm,
    copy,
    keep: attention(variant, { part: "keep", widest, half, together }),
    attend: attention(variant, { part: "attend", widest, half, together }),
    step: attention(variant, { part: "step", widest, half, together }),
    score: score(variant),
    draw: draw(variant, false, false),
    "draw filtered": draw(variant, true, false),
    "draw told": draw(variant, false, true),
    "draw filtered told": draw(variant, true, true),
  };
  for (const span of SPANS) {
    kernels[`qkv ${span}`] = matmul(variant, { format, ending: "store", norm: true, span });
    kernels[`residual ${span}`] = matmul(variant, { format, ending: "residual", norm: false, span });
    kernels[`gated ${span}`] = matmul(variant, { format, ending: "gated", norm: true, span });
    kernels[`head ${span}`] = matmul(variant, { format, ending: "head", norm: true, span });
    if (config.experts !== null) {
      kernels[`router ${span}`] = matmul(variant, { format: formats.f32, ending: "store", norm: true, span });
    }
  }
  const count = slicesOf(gpu, config, dtype);
  if (count > 0) {
    kernels.slices = slices(variant, { format, widest: widestOf(config.headDim), half, count });
    const addends = addendsOf(gpu, config, dtype);
    if (addends > 0) kernels.mlp = mlp(variant, format);
    const merge = { slices: count, widest: mergeWidthOf(config), addends: Math.max(1, addends) };
    kernels["merged one"] = matmul(variant, { format, ending: "residual", norm: false, span: "one", merge });
  }
  if (config.window !== null) kernels.reset = reset;
  if (config.experts !== null) {
    const { side, perToken } = config.experts;
    kernels.choose = choose(variant, side, perToken);
    kernels["experts down"] = down(variant, format);
    kernels["experts up"] = up(format);
  }
  return kernels;
}

/** Kernels that not every text needs. A software adapter, which takes a quarter of a second for each, and engines where the first prompt would
 *  wait for them compile them when they are first asked for; any other behind the rest, which nobody waits for. */
const OCCASIONAL: readonly string[] = ["score", "draw filtered", "draw told", "draw filtered told", "rmsnorm"];

/** A model's pipelines, by what the program calls them. */
export class Pipelines {
  readonly #gpu: Gpu;
  readonly #kernels: Record<string, Kernel>;
  readonly #ready = new Map<string, Pipeline>();

  constructor(gpu: Gpu, config: Config, dtype: DType) {
    this.#gpu = gpu;
    this.#kernels = kernelsOf(gpu, config, dtype);
  }

  /** Compile all that every text needs, at once, and then what some may need. */
  async compile(): Promise<void> {
    await this.need(Object.keys(this.#kernels).filter((name) => !OCCASIONAL.includes(name)));
    if (!this.#gpu.lazy) this.need(OCCASIONAL).catch(() => {}); // who needs it is told
  }

  async need(names: readonly string[]): Promise<void> {
    const missing = names.filter((name) => !this.#ready.has(name));
    if (missing.length === 0) return;
    const made = await this.#gpu.alive(Promise.all(missing.map((name) => this.#gpu.pipeline(this.#kernels[name]!))));
    for (const [index, name] of missing.entries()) this.#ready.set(name, made[index]!);
  }

  has(name: string): boolean {
    return name in this.#kernels;
  }

  /** One that was needed before. */
  get(name: string): Pipeline {
    return this.#ready.get(name)!;
  }
}
