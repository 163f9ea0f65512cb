// A device that is lost in the middle of something (row G3 of the table of faults), on the null device: what rejects then, in which order and
// when the runtime tells of it. That texts survive a loss is shown on the software adapter (faults.test.ts).
import { describe, expect, test } from "vitest";
import type { DeviceLoss } from "../src/index.ts";
import { break_, fault, nullBackend, nullDawn, seeded, small, variants } from "./support.ts";

const dawn = await nullDawn();
const checkpoint = seeded({ ...small, layers: 1 });

/** Rejections that nobody heard of while `work` ran. */
async function unheard(work: () => Promise<void>): Promise<unknown[]> {
  const found: unknown[] = [];
  const hear = (reason: unknown) => found.push(reason);
  process.on("unhandledRejection", hear);
  try {
    await work();
    await new Promise((resolve) => setTimeout(resolve, 0)); // Node tells of them between tasks
  } finally {
    process.off("unhandledRejection", hear);
  }
  return found;
}

describe.skipIf(dawn === null)(`G3 on the null device${dawn === null ? " (skipped: no Dawn)" : ""}`, () => {
  test("G3: lost between the submits of a long prompt, it is a typed error, and no rejection is left that would end a process", async () => {
    const config = { ...small, window: null, layers: 6, hiddenSize: 256, intermediateSize: 512, maxPositions: 512 };
    const long = seeded(config);
    const tokens = Int32Array.from({ length: 400 }, (_, index) => index % small.vocabSize);
    const work = async () => {
      for (const submits of [1, 2]) {
        let waits = 0;
        const onDevice = (device: GPUDevice): GPUDevice => {
          const done = device.queue.onSubmittedWorkDone.bind(device.queue);
          device.queue.onSubmittedWorkDone = () => {
            if (++waits === submits) break_(device);
            return done();
          };
          return device;
        };
        const backend = await nullBackend(dawn!, variants.base!, { onDevice });
        const model = await backend.load(long);
        const { code } = await fault(model.forward([{ sequence: model.sequence(), tokens }]));
        expect([submits, code]).toEqual([submits, "device-lost"]);
        await backend.close();
      }
    };
    expect(await unheard(work)).toEqual([]);
  });

  test("G3: lost while memory is made, where both error scopes reject, it is the same", async () => {
    const work = async () => {
      let lost!: GPUDevice;
      const onDevice = (device: GPUDevice): GPUDevice => {
        lost = device;
        device.popErrorScope = () => device.lost.then(() => Promise.reject(new Error("the device is lost")));
        return device;
      };
      const backend = await nullBackend(dawn!, variants.base!, { onDevice });
      const loading = fault(backend.load(checkpoint));
      lost.destroy();
      expect((await loading).code).toBe("device-lost");
      await backend.close();
    };
    expect(await unheard(work)).toEqual([]);
  });

  test("G3: a loss is told of for what it is, also where the runtime tells of it after it has rejected what waited, or never", async () => {
    const tokens = Int32Array.from({ length: 5 }, (_, index) => index);
    const refused = () => Promise.reject(new DOMException("the buffer is gone", "AbortError"));
    for (const at of ["mapAsync", "getMappedRange", "popErrorScope"] as const) {
      for (const reason of ["unknown", "destroyed", "never told"] as const) {
        let broken = false;
        const onDevice = (device: GPUDevice): GPUDevice => {
          const { promise: lost, resolve } = Promise.withResolvers<GPUDeviceLostInfo>();
          Object.defineProperty(device, "lost", { value: lost });
          const told = () => {
            if (reason !== "never told")
              setTimeout(() => resolve({ reason, message: "told late" } as GPUDeviceLostInfo), 30);
          };
          const pop = device.popErrorScope.bind(device);
          device.popErrorScope = () => {
            if (!broken || at !== "popErrorScope") return pop();
            told();
            return refused();
          };
          const create = device.createBuffer.bind(device);
          device.createBuffer = (descriptor) => {
            const buffer = create(descriptor);
            if (at === "mapAsync")
              buffer.mapAsync = () => {
                told();
                return refused();
              };
            if (at === "getMappedRange" && !descriptor.mappedAtCreation)
              buffer.getMappedRange = () => {
                told();
                throw new DOMException("the buffer is not mapped", "OperationError");
              };
            return buffer;
          };
          return device;
        };
        const backend = await nullBackend(dawn!, variants.base!, { onDevice });
        const model = await backend.load(checkpoint);
        broken = true;
        const { code, cause } = await fault(model.forward([{ sequence: model.sequence(), tokens }]));
        const why = reason === "destroyed" ? "destroyed" : "unknown";
        expect([at, reason, code, (cause as DeviceLoss).reason]).toEqual([at, reason, "device-lost", why]);
        await backend.close();
      }
    }
  });
});
