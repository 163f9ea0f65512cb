// Streams a checkpoint's tensors to the device, piece by piece, each rounded to the dtype by the native side.
import { aborted, type Checkpoint, floats, nextTask, tensorShapes, trace, tracing } from "@doge-lm/core";
import type { Binding, ModelHandle } from "./binding.ts";
import { fault } from "./faults.ts";

/** Longest stretch of work without letting other work run. */
const BREATH_MS = 25;

/** Sends every tensor; errors are core's ("invalid-weights", "aborted", those of the files) and the device's. */
export async function sendWeights(
  binding: Binding,
  model: ModelHandle,
  checkpoint: Checkpoint,
  signal?: AbortSignal,
): Promise<void> {
  let breathed = performance.now();
  for (const name of tensorShapes(checkpoint.config).keys()) {
    for await (const { data } of floats(checkpoint, name, signal)) {
      try {
        binding.write(model, name, data);
      } catch (error) {
        throw fault(error, signal);
      }
      if (tracing()) trace({ scope: "cuda", kind: "upload", name, bytes: data.byteLength });
      if (performance.now() - breathed < BREATH_MS) continue;
      await nextTask();
      if (signal?.aborted) throw aborted(signal, "cuda");
      breathed = performance.now();
    }
  }
  binding.ready(model);
}
