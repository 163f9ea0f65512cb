// How much goes into one submit: on a device that is simulated, with a clock that only its work moves on.
import type { Sampling } from "@doge-lm/core";
import { defaultSampling } from "@doge-lm/core";
import type { Task } from "@doge-lm/core/backend-kit";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Unit } from "../src/encoder.ts";
import type { Job } from "../src/job.ts";
import type { Machine } from "../src/machine.ts";
import type { PageQueue } from "../src/pages.ts";
import { Submits } from "../src/submits.ts";

/** Milliseconds. */
let now = 0;
beforeEach(() => {
  now = 0;
  vi.spyOn(performance, "now").mockImplementation(() => now);
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** A device that does one submit after the other, and a host that takes no time. */
class Device {
  /** Of every submit, in milliseconds: what it takes, and when all that was submitted is done. */
  readonly submits: { readonly takes: number; readonly allDone: number }[] = [];
  /** What the command buffer that is being written will take. */
  writing = 0;
  readonly #waiting: { readonly at: number; readonly resolve: () => void }[] = [];
  #done = 0;

  get machine(): Machine {
    const encoder = () => ({ copyBufferToBuffer() {}, finish() {} });
    const submit = () => {
      this.#done = Math.max(now, this.#done) + this.writing;
      this.submits.push({ takes: this.writing, allDone: this.#done - now });
      this.writing = 0;
    };
    const finished = () => new Promise<void>((resolve) => this.#waiting.push({ at: this.#done, resolve }));
    const read = async (_: unknown, bytes: number) => {
      await finished();
      return new ArrayBuffer(bytes);
    };
    const gpu = { device: { createCommandEncoder: encoder, queue: { submit } }, finished, read };
    return { gpu, group: 256, staging: [{}, {}, {}], ensure: async () => {}, write() {} } as unknown as Machine;
  }

  /** Until `work` is done: whenever nobody has anything to do, the clock goes on to the next that the device finishes. */
  async run(work: Promise<unknown>): Promise<void> {
    let over = false;
    const settled = work.finally(() => {
      over = true;
    });
    while (!over) {
      for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
      const next = this.#waiting.shift();
      if (next === undefined) continue;
      now = Math.max(now, next.at);
      next.resolve();
    }
    await settled;
  }
}

interface Shape {
  /** Multiply-adds of a token. */
  readonly token: number;
  /** Milliseconds of a token's step; one of several texts takes no longer. */
  readonly step: number;
  /** How many times as fast a multiply-add of a prompt is. */
  readonly faster: number;
}

/** A call: a prompt of so many tokens in 16 layers, and so many draws of each text. */
async function call(submits: Submits, device: Device, shape: Shape, prompt: number, draws: number, texts = 1) {
  const unit = (cost: number, takes: number): Unit => ({
    cost,
    encode: () => {
      device.writing += takes;
    },
  });
  const { token, step, faster } = shape;
  const units = Array.from({ length: Math.ceil(prompt / 256) }, (_, group) => {
    const tokens = Math.min(256, prompt - 256 * group);
    const part = unit((tokens * token) / 16, Math.max(step, (tokens * step) / faster) / 16);
    return Array.from({ length: 16 }, () => part);
  }).flat();
  const one = [unit(texts * token, step)];
  const memory = { words: new Uint32Array(4), grids: new Uint32Array(4) };
  const job = {
    memory,
    units,
    step: () => one,
    ending: null,
    width: 1,
    largest: 1,
    resultBytes: (n: number) => 4 * n * texts,
  };
  const sampling: Sampling = { ...defaultSampling, temperature: 0, stop: [] };
  const tasks = Array.from({ length: texts }, () => ({ count: draws, drawing: { sampling } }));
  await device.run(submits.draw(job as unknown as Job, tasks as unknown as Task[], undefined));
}

const open = () => {
  const device = new Device();
  const pages = { work: { copies: [], resets: [] }, workDone() {} } as unknown as PageQueue;
  return { device, submits: new Submits(device.machine, pages, undefined) };
};

/** The longest submit, and the longest that whoever comes next would wait. */
const worst = ({ submits }: Device, from = 0) => ({
  submit: Math.max(...submits.slice(from).map(({ takes }) => takes)),
  all: Math.max(...submits.slice(from).map(({ allDone }) => allDone)),
});

// An M1 as it might be; no such device has been measured.
const m1: { readonly [name: string]: Shape } = {
  "60M": { token: 60e6, step: 2, faster: 30 },
  "320M": { token: 320e6, step: 9, faster: 30 },
};

test.each(Object.keys(m1))("behind a prompt steps of %s are no longer in a submit than without one", async (name) => {
  const shape = m1[name]!;
  const { device, submits } = open();
  for (let text = 0; text < 3; text++) await call(submits, device, shape, 2048, 150);
  const { submit, all } = worst(device);
  expect(submit).toBeLessThan(20);
  expect(all).toBeLessThan(50);
  // Nor are they shorter than they may be: the submits of a text are of many steps.
  const before = device.submits.length;
  await call(submits, device, shape, 0, 160);
  expect(device.submits.length - before).toBeLessThan((160 * shape.step) / 8);
});

test("behind sixteen texts a single one is not written ahead for longer", async () => {
  const { device, submits } = open();
  const shape = m1["60M"]!;
  await call(submits, device, shape, 0, 100, 16);
  const from = device.submits.length;
  await call(submits, device, shape, 0, 200);
  expect(worst(device, from).submit).toBeLessThan(20);
});
