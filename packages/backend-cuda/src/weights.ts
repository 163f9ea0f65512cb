// Streams a checkpoint's tensors to the device, piece by piece, each rounded to the dtype by the native side.
import { type Checkpoint, tensorShapes } from "@doge-lm/core";
import { TensorReader } from "@doge-lm/core/backend-kit";
import type { Binding, ModelHandle } from "./binding.ts";
import { fault } from "./faults.ts";

/** Sends every tensor; errors are core's ("invalid-weights", "aborted", those of the files) and the device's. */
export async function sendWeights(
  binding: Binding,
  model: ModelHandle,
  checkpoint: Checkpoint,
  signal?: AbortSignal,
): Promise<void> {
  const reader = new TensorReader(checkpoint, "cuda", signal);
  for (const name of tensorShapes(checkpoint.config).keys()) {
    for await (const { data } of reader.pieces(name)) {
      try {
        binding.write(model, name, data);
      } catch (error) {
        throw fault(error, signal);
      }
    }
  }
  binding.ready(model);
}
