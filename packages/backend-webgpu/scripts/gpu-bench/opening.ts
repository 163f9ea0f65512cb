// How long a caller waits for the backend and for the pipelines of a model, without the weights.
import type { Config } from "@doge-lm/core";
import { randomCheckpoint } from "../../../../apps/cli/src/bench/random-checkpoint.ts";
import { configOf } from "../../../../apps/cli/src/bench/shapes.ts";
import { provider } from "./dawn.ts";
import { round, values } from "./steps.ts";

/** Probe, known answer and pipelines of a model: what a caller waits for, without the weights. */
export async function opening(): Promise<object> {
  const config: Config = { ...configOf(values.shapes!.split(",")[0]!, false)!, layers: 1, vocabSize: 256 };
  const checkpoint = randomCheckpoint(config);
  let mark = performance.now();
  const since = () => {
    const now = performance.now();
    const taken = round(now - mark);
    mark = now;
    return taken;
  };
  const begin = performance.now();
  let deviceAt = 0;
  const compiled: { name: string; from: number; ms: number }[] = [];
  const onDevice = (device: GPUDevice): GPUDevice => {
    deviceAt = performance.now();
    const compile = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = async (descriptor) => {
      const start = performance.now();
      const pipeline = await compile(descriptor);
      compiled.push({
        name: descriptor.label ?? "",
        from: Math.round(start - begin),
        ms: Math.round(performance.now() - start),
      });
      return pipeline;
    };
    return device;
  };
  const own = provider({ onDevice });
  const answer = await own.probe();
  if (!answer.available) throw new Error(answer.why);
  const probeMs = since();
  const opened = performance.now();
  const backend = await own.open();
  const openMs = since();
  const model = await backend.load(checkpoint, { dtype: "q8", context: 64 });
  const pipelinesMs = since();
  model.close();
  const { device, warnings } = backend.can;
  await backend.close();
  compiled.sort((a, b) => b.ms - a.ms);
  const slowest = compiled.slice(0, 6).map(({ name, from, ms }) => `${name} @${from} ${ms} ms`);
  const deviceMs = round(deviceAt - opened);
  return {
    device,
    warnings,
    probeMs,
    deviceMs,
    openMs,
    pipelinesMs,
    pipelines: compiled.length,
    slowest,
    totalMs: round(probeMs + openMs + pipelinesMs),
  };
}
