// The eight kernels, by the names they have in every backend.
export { attention } from "./attention.ts";
export { draw } from "./draw.ts";
export { embed } from "./embed.ts";
export { experts } from "./experts.ts";
export { matmul } from "./matmul.ts";
export { rmsnorm } from "./rmsnorm.ts";
export { rope } from "./rope.ts";
export { swiglu } from "./swiglu.ts";
