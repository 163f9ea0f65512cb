// The programs that travel to a machine with a GPU and nothing installed, started in a checkout that is as bare: the host shim stands
// for the binding, a fake libcuda for the driver.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { machine, slug } from "../../../benchmarks/results.ts";
import { builder, withoutShim } from "./shim.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const without = withoutShim ?? (process.platform === "linux" ? undefined : "the driver that stands in is Linux's");

describe.skipIf(without !== undefined)(`agreement.mjs${without === undefined ? "" : ` (skipped: ${without})`}`, () => {
  let bare: string;
  beforeAll(async () => {
    bare = mkdtempSync(join(tmpdir(), "doge-bare-"));
    for (const part of [
      "packages/demo-model",
      "packages/conformance/fixtures/native",
      "packages/backend-wasm/build",
      "benchmarks/prompts.json",
    ])
      cpSync(join(root, part), join(bare, part), {
        recursive: true,
        filter: (path) => !path.includes("node_modules"),
      });
    const binding = join(bare, "packages", "backend-cuda", "build", "doge_cuda.node");
    mkdirSync(dirname(binding), { recursive: true });
    copyFileSync(builder.buildShim(), binding);
    const source = fileURLToPath(new URL("fake-driver.c", import.meta.url));
    execFileSync(builder.compiler()!, ["-x", "c", "-shared", "-fPIC", source, "-o", join(bare, "libcuda.so.1")]);
    const { bundle } = (await import(new URL("../scripts/gpu-bundle.mjs", import.meta.url).href)) as {
      bundle(folder: string): Promise<void>;
    };
    await bundle(join(bare, ".gpu"));
  }, 600_000);
  afterAll(() => rmSync(bare, { recursive: true, force: true }));

  test("compares CUDA with the reference by what lies in the checkout, and files where it came from", () => {
    const few = ["--texts", "2", "--steps", "3", "--few", "1", "--fewer", "2", "--dtypes", "f32,q8"];
    const args = ["--only", "cuda", ...few, "--subjects", "demo,fixture:native", "--out", "out"];
    const { stdout, stderr, status } = spawnSync(process.execPath, [join(".gpu", "agreement.mjs"), ...args], {
      ...{ cwd: bare, encoding: "utf8" },
      env: { ...process.env, LD_LIBRARY_PATH: bare },
    });
    expect([stderr, status]).toEqual(["", 0]);
    expect(stdout).toContain("cuda: Fake GPU 0\n");
    expect(stdout).toContain("wasm draws what reference draws: 2 of 2 ids");
    const filed = JSON.parse(readFileSync(join(bare, "out", `${slug()}.json`), "utf8"));
    expect(filed).toMatchObject({
      machine: machine(),
      failures: [],
      engines: [{ engine: "cuda", device: "Fake GPU 0" }],
    });
    const entries = filed.entries as { subject: string; dtype: string; agrees: boolean; commit: string }[];
    expect(entries.map(({ subject, dtype, agrees }) => `${subject} ${dtype} ${agrees}`)).toEqual([
      ...["demo f32 true", "demo q8 true", "fixture:native f32 true", "fixture:native q8 true"],
    ]);
    for (const { commit } of entries) expect(commit).toMatch(/^[0-9a-f]{10}\+?$/);
  }, 600_000);
});

test("gpu-pack.mjs says which programs it lacks before it compiles anything", () => {
  const script = fileURLToPath(new URL("../scripts/gpu-pack.mjs", import.meta.url));
  const env = { ...process.env, PATH: "/nowhere" };
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], { encoding: "utf8", env });
  expect([status, stdout, stderr]).toEqual([1, "", "gpu-pack: this machine lacks xz, strip: nothing was packed.\n"]);
});
