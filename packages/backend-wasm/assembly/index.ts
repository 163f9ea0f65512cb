// What the module exports: plain numbers only. A model needs run() alone; the kernels are there for their tests and benchmarks.
export { run } from "./job";
export { attention } from "./kernels/attention";
export { draw } from "./kernels/draw";
export { embed } from "./kernels/embed";
export { experts } from "./kernels/experts";
export { keep } from "./kernels/keep";
export { matmul } from "./kernels/matmul";
export { pack, packTable } from "./kernels/pack";
export { rmsnorm } from "./kernels/rmsnorm";
export { rope } from "./kernels/rope";
export { swiglu } from "./kernels/swiglu";
