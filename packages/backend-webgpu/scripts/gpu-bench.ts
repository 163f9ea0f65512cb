// What only a GPU can tell about this backend, for a machine with nothing installed: bundled by gpu-pack.mjs, run by gpu-run.sh.
// Each step has a time limit of its own and is told in a line as soon as it is done, so that a step that hangs or fails takes nothing
// of the others with it.
//
//   node bench.mjs --dawn dawn.node [--seconds 75] [--json FILE] [--fixtures FOLDER] [--only open,profile,...] [--shapes 60m,20m]
import { agreement, conformance, slicing } from "./gpu-bench/agreement.ts";
import { adapterFacts, always, gpu } from "./gpu-bench/dawn.ts";
import { decoding } from "./gpu-bench/decoding.ts";
import { opening } from "./gpu-bench/opening.ts";
import { began, mainSteps, results, save, say, step, values } from "./gpu-bench/steps.ts";
import { profile, times } from "./gpu-bench/times.ts";

const [main, ...others] = values.shapes!.split(",") as [string, ...string[]];
await mainSteps([
  ["adapter", 15, adapterFacts],
  ["agreement", 20, agreement],
  ["slices agree", 25, slicing],
  [`times ${main} q8`, 30, () => times(main, "q8")],
  ["open cold", 30, opening],
  ["open warm", 15, opening],
]);
await step(`profile ${main} q8`, 15, profile(main, "q8"));
await step("conformance", 30, conformance);

// The other dtypes and sizes.
for (const dtype of ["q8", "f32", "bf16", "q4"] as const)
  await step(`decoding ${main} ${dtype}`, 10, () => decoding(main, dtype));
for (const shape of others) await step(`decoding ${shape} q8`, shape === "320m" ? 25 : 12, () => decoding(shape, "q8"));

// What Dawn can be asked for.
for (const asked of ["disable_robustness", "skip_validation", "vulkan_enable_f16_on_nvidia"]) {
  const options = [...always, `enable-dawn-features=${asked}`];
  await step(`decoding ${main} q8, ${asked}`, 8, () => decoding(main, "q8", { gpu: gpu(options) }));
}
await step(`decoding ${main} q8, no vulkan memory model`, 8, () =>
  decoding(main, "q8", { gpu: gpu(["disable-dawn-features=timestamp_quantization,use_vulkan_memory_model"]) }),
);
for (const [name, variant] of Object.entries({ unpacked: { packed: false }, base: { subgroups: false } }))
  await step(`decoding ${main} q8, ${name}`, 8, () => decoding(main, "q8", { variant }));

await step(`profile ${main} f32`, 12, profile(main, "f32"));

say(`done in ${Math.round(performance.now() - began)} ms`);
save();
// Dawn's instances keep a process alive.
process.exit(Object.values(results).some((result) => (result as { error?: string }).error !== undefined) ? 1 : 0);
