// doge bench: what it prints, and that its parts are what they say: weights, costs of a token, loops. Nothing here is timed.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { floats } from "@doge-lm/core";
import { webgpu } from "@doge-lm/webgpu";
import { describe, expect, test } from "vitest";
import { loopsFor, moduleOf } from "../src/bench/loops.ts";
import { randomCheckpoint, randomIds } from "../src/bench/random-checkpoint.ts";
import { configOf, shapeNames } from "../src/bench/shapes.ts";
import { workOf } from "../src/bench/work.ts";

const main = fileURLToPath(new URL("../src/bin.ts", import.meta.url));
const native = fileURLToPath(new URL("../../../packages/conformance/fixtures/native", import.meta.url));

const { num_hidden_layers: layers } = JSON.parse(readFileSync(`${native}/config.json`, "utf8")) as {
  num_hidden_layers: number;
};

/** Why the GPU backend cannot be tried here, or undefined. */
const adapter = await webgpu({ software: true }).probe();
const noGpu = adapter.available ? undefined : ` (skipped: ${adapter.why})`;

function doge(...args: string[]) {
  const { DOGE_BACKEND: _, ...env } = process.env;
  const all = ["--disable-warning=ExperimentalWarning", main, "bench", ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: "utf8", env });
  return { status, out: stdout, err: stderr };
}
const small = ["--prompt", "24", "--decode", "6", "--contexts", "16,40", "--reps", "2"];

describe("the command", () => {
  test("--json prints one object with the agreed names; the same run has the same hash", () => {
    const [first, second] = [1, 2].map(() => {
      const { status, out, err } = doge("--shape", "tiny", "--json", ...small);
      expect([status, err]).toEqual([0, ""]);
      return JSON.parse(out);
    });
    for (const name of [
      ...["shape", "params", "backend", "device", "dtype", "threads", "rows", "prefillTokensPerSecond"],
      ...["decodeTokensPerSecond", "firstTokenMs", "loadMs", "peakBytes", "kvDtype", "binary", "revectorized"],
      ...["ceilingShare", "hash"],
    ]) {
      expect(first).toHaveProperty(name);
    }
    expect(first).toMatchObject({ shape: "tiny", params: 4490888, backend: "wasm", dtype: "f32", rows: 1 });
    expect(Object.keys(first.decodeTokensPerSecond)).toEqual(["16", "40"]);
    expect(first.samples.prefillMs).toHaveLength(2);
    expect(first.hash).toMatch(/^[0-9a-f]{16}$/);
    expect(second.hash).toBe(first.hash);
    // As held: the padding of panels comes on top.
    expect(first.weightBytes / (4 * first.params)).toBeCloseTo(1, 2);
  });

  test("takes rows, experts, dtypes, the reference and folders", () => {
    const rows = doge("--shape", "tiny", "--moe", "--rows", "3", "--dtype", "q8", "--json", ...small);
    expect(JSON.parse(rows.out)).toMatchObject({ moe: true, rows: 3, dtype: "q8" });
    const folder = doge("--shape", native, "--backend", "reference", ...small);
    expect([folder.status, folder.err]).toEqual([0, ""]);
    expect(folder.out).toMatch(/^prompt of 24 +[\d.]+ /m);
    expect(folder.out).toMatch(/^decode up to 40 +[\d.]+ /m);
    expect(folder.out).toMatch(/^hash [0-9a-f]{16}$/m);
  });

  test.skipIf(noGpu !== undefined)(`counts what a GPU is asked for${noGpu ?? ""}`, () => {
    // Five dispatches a layer and three more for each token, and nothing made in the loop.
    const { status, out } = doge("--shape", native, "--backend", "webgpu", "--json", ...small);
    expect(status).toBe(0);
    const { gpu, device, ceilings, ceilingShare, decodeTokensPerSecond } = JSON.parse(out);
    expect(Object.keys(decodeTokensPerSecond)).toEqual(["16", "40"]);
    expect(gpu).toMatchObject({ dispatchesPerToken: 5 * layers + 3, bytesReadPerToken: 4, createsPerToken: 0 });
    expect(gpu.submitsPerToken).toBeGreaterThan(0);
    expect(gpu.submitsPerToken).toBeLessThanOrEqual(1);
    expect(gpu.software).toBe(/\(software\)/.test(device));
    // By the device's own clock, or not at all.
    expect(ceilings === null).toBe(!gpu.timestamps);
    expect(ceilingShare.decode === null).toBe(!gpu.timestamps);
    const table = doge("--shape", native, "--backend", "webgpu", ...small).out;
    expect(table).toMatch(/^a token: \d+ dispatches of [\d.]+ µs, /m);
    expect(/^a software adapter: /m.test(table)).toBe(gpu.software);
  });

  test("says in a sentence what cannot be", () => {
    expect(doge("--shape", "320m", "--moe").err).toBe(
      "doge: There is no mixture of experts of the shape 320m: choose tiny, 20m, 60m, 160m.\n",
    );
    expect(doge("--shape", "tiny", "--prompt", "2048").err).toMatch(/^doge: --prompt is 2048: .*\n$/);
    expect(doge("--shape", "./nowhere").status).toBe(1);
    expect(doge("--shape", "61m").err).toBe(
      'doge: There is no shape "61m": --shape takes tiny, 20m, 60m, 160m, 320m, the folder of a model, or its name on a hub.\n',
    );
    expect(doge("--reps", "0").err).toContain("0 must be 1 or more.");
  });
});

describe("what is measured", () => {
  test("costs of a token are those of the shapes as published", () => {
    const expected: { [shape: string]: [parameters: number, layers: number, head: number, f32: number] } = {
      "20m": [13.1, 4.7, 8.4, 52.5],
      "60m": [54.6, 37.8, 16.8, 218.3],
      "160m": [152.7, 127.5, 25.2, 610.7],
      "320m": [335.8, 302.1, 33.6, 1343],
    };
    for (const [shape, [parameters, layers, head, bytes]] of Object.entries(expected)) {
      const config = configOf(shape, false)!;
      expect(config.headDim).toBe(128);
      const work = workOf(config, "f32", 4);
      expect(work.parameters / 1e6).toBeCloseTo(parameters, 0);
      expect(work.layerMacs / 1e6).toBeCloseTo(layers, 0);
      expect(work.headMacs / 1e6).toBeCloseTo(head, 0);
      expect(Math.abs(work.weightBytes / 1e6 - bytes)).toBeLessThan(1);
      expect(work.stateBytes(10)).toBe(10 * work.stateBytes(1));
    }
    // A mixture reads the experts it takes.
    const [dense, mixture] = [false, true].map((moe) => workOf(configOf("60m", moe)!, "f32", 4)) as [
      ReturnType<typeof workOf>,
      ReturnType<typeof workOf>,
    ];
    expect(mixture.layerMacs - dense.layerMacs).toBe(16 * 512 * (2 * 32 + 2 * 64));
  });

  test("random weights are the same whatever pieces they are read in", async () => {
    for (const shape of shapeNames) expect(configOf(shape, false)).not.toBeNull();
    const checkpoint = randomCheckpoint(configOf("tiny", true)!);
    const name = "model.layers.1.mlp.gate_proj.weight";
    const whole = await checkpoint.read(name, 0, 65536);
    for (const [from, to] of [
      [0, 1],
      [8190, 8195],
      [3, 60000],
      [65535, 65536],
    ] as const) {
      expect(await checkpoint.read(name, from, to)).toEqual(whole.slice(from, to));
    }
    expect(await randomCheckpoint(checkpoint.config, 2).read(name, 0, 65536)).not.toEqual(whole);
    let [count, sum, squares] = [0, 0, 0];
    for await (const { data } of floats(checkpoint, "model.embed_tokens.weight")) {
      for (const value of data) {
        count++;
        sum += value;
        squares += value * value;
      }
    }
    expect(count).toBe(32768 * 128);
    expect(Math.abs(sum / count)).toBeLessThan(1e-4);
    expect(Math.sqrt(squares / count)).toBeCloseTo(0.02, 3);
    const ids = randomIds(1000, 50, 3);
    expect(Math.min(...ids)).toBe(0);
    expect(Math.max(...ids)).toBe(49);
  });

  test("the loops of the ceilings compute what they are named after", () => {
    const seen = new Set<string>();
    for (const loop of [...loopsFor("loads"), ...loopsFor("f32"), ...loopsFor("q4")]) {
      const bytes = moduleOf(loop);
      expect(bytes.length).toBeLessThan(1000);
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
      const { memory, run } = exports as unknown as { memory: WebAssembly.Memory; run(...args: number[]): void };
      const float = loop.name.startsWith("f32");
      // Ones throughout, also as factors and as the accumulators' beginning.
      if (float) new Float32Array(memory.buffer, 0, 512).fill(1);
      else if (loop.name === "i16 dot") new Int16Array(memory.buffer, 0, 1024).fill(1);
      else new Uint8Array(memory.buffer, 0, 2048).fill(1);
      const [turns, rounds] = [4, 3];
      run(0, turns * loop.accumulators * 16, rounds);
      const steps = turns * rounds;
      const [word] = new Int32Array(memory.buffer);
      const ones = 0x01010101;
      const expected: { [name: string]: number } = {
        loads: (1 + steps) * ones,
        "i16 dot": 0x00010001 + 2 * steps,
        "i8 dot, widened": ones + 4 * 0x0101 * steps, // the factor of the second dot is 0x0101 here
        "i8 dot and add": ones + 4 * steps,
        "i4 dot in 16 bits": ones + 2 * 0x00010001 * steps,
      };
      seen.add(loop.name);
      if (float) expect(new Float32Array(memory.buffer)[0]).toBe(1 + steps);
      else expect(word, loop.name).toBe(expected[loop.name]);
    }
    expect(seen.size).toBeGreaterThanOrEqual(4);
  });
});
