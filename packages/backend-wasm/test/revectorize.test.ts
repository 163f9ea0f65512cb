// Wider vectors: on only after the kernels gave the same bits, off wherever that is not known, and a process that asks for neither
// keeps its flags. Each case is a process of its own, since V8's flags are the process's.
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";

const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);

/** What a program prints that has revectorize, wasm and v8. */
function run(program: string): unknown {
  const imports = `
    const { revectorize } = await import(${url("../src/revectorize.ts")});
    const { wasm } = await import(${url("../src/index.ts")});
    const v8 = await import("node:v8");`;
  const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", `${imports}\n${program}`];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8", timeout: 60_000 }));
}

test.skipIf(process.arch !== "x64")("on: the flags that are set, and a device that says so", () => {
  const found = run(`
    const flags = [];
    const set = (flag) => { flags.push(flag); v8.setFlagsFromString(flag); };
    const first = await revectorize({ set });
    const again = await revectorize({ set });
    console.log(JSON.stringify({ first, again, flags, device: (await wasm({ threads: 1, binary: "relaxed" }).probe()).device }));`);
  expect(found).toEqual({
    first: { on: true },
    again: { on: true },
    flags: ["--experimental-wasm-revectorize", "--no-liftoff", "--liftoff"],
    device: "wasm relaxed-simd revectorized",
  });
});

test.skipIf(process.arch !== "x64")("other bits than without: off again, and the device does not claim it", () => {
  const found = run(`
    const flags = [];
    // From the second binary on, every instance computes something else.
    const { Instance, instantiate } = WebAssembly;
    WebAssembly.instantiate = async (module, imports) => {
      const instance = await instantiate(module, imports);
      const { matmul, ...others } = instance.exports;
      const wrong = (...numbers) => {
        matmul(...numbers);
        new Float32Array(imports.env.memory.buffer)[numbers[0] / 4] += 1;
      };
      return { exports: flags.length === 0 ? instance.exports : { ...others, matmul: wrong } };
    };
    const { on, why } = await revectorize({ set: (flag) => flags.push(flag) });
    console.log(JSON.stringify({ on, why, flags, device: (await wasm({ threads: 1, binary: "simd" }).probe()).device }));`);
  expect(found).toEqual({
    on: false,
    why: "Revectorized code gives other results here: it is not used.",
    flags: ["--experimental-wasm-revectorize", "--no-liftoff", "--liftoff", "--no-experimental-wasm-revectorize"],
    device: "wasm simd128",
  });
});

test.each([
  ["another processor", 'Object.defineProperty(process, "arch", { value: "arm64" });', "x64 only; this is arm64"],
  [
    "an engine that has not been tried",
    'Object.defineProperty(process.versions, "v8", { value: "99.1" });',
    "this is 99.1",
  ],
  ["no Node", 'Object.defineProperty(process, "versions", { value: {} });', "in Node only"],
])("%s: off, with the reason, and no flag is touched", (_, change, why) => {
  const found = run(`
    ${change}
    const flags = [];
    const answer = await revectorize({ set: (flag) => flags.push(flag) });
    console.log(JSON.stringify({ ...answer, flags }));`);
  expect(found).toEqual({ on: false, why: expect.stringContaining(why), flags: [] });
});
