// That Dawn's binding sleeps between its questions in tests (tools/patient-dawn.ts), which leans on how it asks them.
import { expect, test, vi } from "vitest";
import { nullDawn } from "./support.ts";

const gpu = await nullDawn();

test.skipIf(gpu === null)("Dawn's binding sleeps while it waits, and what the tests run at once does not", async () => {
  const wait = vi.spyOn(Atomics, "wait");
  await new Promise<void>((resolve) => setImmediate(() => resolve()));
  await new Promise<void>((resolve) => setImmediate(resolve));
  expect(wait).not.toHaveBeenCalled();
  const device = await (await gpu!.requestAdapter())!.requestDevice();
  await device.queue.onSubmittedWorkDone();
  expect(wait).toHaveBeenCalled();
});
