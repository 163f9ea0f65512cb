// The measurements for a machine with a GPU, as far as they can be tried without one: on the software adapter, ended in the middle.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { memoryOf } from "../scripts/gpu-bench/memory.ts";
import { software } from "./software.ts";

const answer = await software().probe();
const why = answer.available ? "" : ` (skipped: ${answer.why})`;

test("the memory's rate is that of the device, or unknown", () => {
  for (const name of ["nvidia-h200 580.159", "NVIDIA H200"]) expect([name, memoryOf(name)]).toEqual([name, 4.3e12]);
  for (const name of ["nvidia-h100-80gb-hbm3 580.159", "NVIDIA H100 80GB HBM3"])
    expect([name, memoryOf(name)]).toEqual([name, 3.35e12]);
  for (const other of ["nvidia-h100-pcie", "nvidia-h100-nvl", "Apple M3", "swiftshader-device-subzero-"])
    expect([other, memoryOf(other)]).toEqual([other, undefined]);
});

test.skipIf(!answer.available)(`steps that were done stand in the file when the run is ended${why}`, async () => {
  const folder = mkdtempSync(join(tmpdir(), "doge-gpu-bench-"));
  const file = join(folder, "results.json");
  try {
    const bench = fileURLToPath(new URL("../scripts/gpu-bench.ts", import.meta.url));
    const args = ["--software", "--only", "adapter,times", "--seconds", "60", "--json", file];
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", bench, ...args]);
    let told = "";
    await new Promise<void>((resolve) => {
      const hear = (part: unknown) => {
        told += part;
        // The line goes out before the file is written; behind it comes a step that takes far longer.
        if (/^(ok|FAIL) {1,3}adapter/m.test(told)) setTimeout(() => child.kill("SIGKILL"), 500);
      };
      child.stdout.on("data", hear);
      child.stderr.on("data", hear);
      child.on("close", resolve);
    });
    expect(told).toMatch(/^ok {3}adapter/m);
    expect(told).not.toContain("done in");
    const results = JSON.parse(readFileSync(file, "utf8")) as object;
    expect(Object.keys(results)).toEqual(["adapter"]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
