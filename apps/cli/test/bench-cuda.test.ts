// doge bench beside CUDA's own counts: the fields of a GPU from a meter, without a GPU.
import type { DeviceCounts, Meter } from "@doge-lm/cuda";
import { expect, test } from "vitest";
import { costsOf, Watch } from "../src/bench/gpu.ts";

test("CUDA's launches, submissions and bytes become the costs of a token, its loops the ceilings", async () => {
  let counts: DeviceCounts = {
    launches: 100,
    submissions: 10,
    bytesIn: 4000,
    bytesOut: 300,
    allocations: 7,
    bytesHeld: 1e6,
  };
  const asked: number[] = [];
  const meter: Meter = {
    counts: () => counts,
    rates(bytes) {
      asked.push(bytes);
      return { bytes: 4e12, macs: 3e13, tensorMacs: 4e14 };
    },
  };
  const watch = new Watch();
  expect(watch.watched).toBeUndefined();
  watch.onMeter(meter);
  const { watched } = watch;
  watched!.counter.reset();
  counts = { launches: 740, submissions: 12, bytesIn: 4000, bytesOut: 364, allocations: 7, bytesHeld: 1e6 };
  expect(costsOf(watched!.counter.counts, 16, 3.2, watched!.clock, false)).toEqual({
    software: false,
    dispatchesPerToken: 40,
    submitsPerToken: 2 / 16,
    bytesReadPerToken: 4,
    bytesWrittenPerToken: 0,
    createsPerToken: 0,
    microsecondsPerDispatch: 5,
    encodeMicrosecondsPerDispatch: 0,
    timestamps: true,
  });
  const ceilings = await watched!.ceilings("bf16", false, 12345);
  expect(ceilings).toMatchObject({ bytesPerSecond: 4e12, macsPerSecond: 4e14 });
  expect((await watched!.ceilings("f32", false, 1))!.macsPerSecond).toBe(3e13);
  expect(asked).toEqual([12345, 1]);
});
