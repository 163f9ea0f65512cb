// C1 of the reliability table: why the backend cannot be used, each reason tested without a GPU. The driver's answers come from a
// fake libcuda, those of the machine from a made-up one.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ABI, type Binding } from "../src/binding.ts";
import { cuda, load } from "../src/index.ts";
import { locate, type Machine, thisMachine } from "../src/locate.ts";
import { builder, shimBinding, withoutShim } from "./shim.ts";

describe.skipIf(withoutShim !== undefined)(`the driver${withoutShim ? ` (skipped: ${withoutShim})` : ""}`, () => {
  let folder: string;
  let driver: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "doge-cuda-"));
    driver = join(folder, "libcuda.so.1");
    const source = fileURLToPath(new URL("fake-driver.c", import.meta.url));
    execFileSync(builder.compiler()!, ["-x", "c", "-shared", "-fPIC", source, "-o", driver]);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  afterEach(() => {
    for (const name of Object.keys(process.env)) if (name.startsWith("FAKE_")) delete process.env[name];
  });

  function probe(answers: Record<string, string | number>, device = 0) {
    for (const [name, value] of Object.entries(answers)) process.env[`FAKE_${name}`] = String(value);
    return shimBinding().probe(device, driver);
  }

  test("C1: no driver", () => {
    const { available, reason, why } = shimBinding().probe(0, join(folder, "nothing.so"));
    expect([available, reason]).toEqual([false, "no-driver"]);
    expect(why).toMatch(/no CUDA driver: .*nothing\.so.*Install the NVIDIA driver/);
  });

  test("C1: a library of that name that is no driver", () => {
    const source = join(folder, "empty.c");
    writeFileSync(source, "int nothing;\n");
    const other = join(folder, "empty.so");
    execFileSync(builder.compiler()!, ["-x", "c", "-shared", "-fPIC", source, "-o", other]);
    expect(shimBinding().probe(0, other)).toMatchObject({ available: false, reason: "no-driver" });
  });

  test("C1: the way out is there behind a long path too", () => {
    const { why } = shimBinding().probe(0, join(folder, `${"far/".repeat(200)}libcuda.so.1`));
    expect(why).toMatch(/container start it with the NVIDIA runtime\.$/);
  });

  test("C1: a driver that is too old, with found and needed versions", () => {
    const { reason, why, driver: version } = probe({ VERSION: 12040 });
    expect([reason, version]).toEqual(["driver-too-old", 12040]);
    expect(why).toMatch(/supports CUDA 12\.4 and this build needs 13\.x.*580/);
  });

  test("C1: a driver without a device, and one that says why", () => {
    expect(probe({ COUNT: 0 })).toMatchObject({ available: false, reason: "no-device" });
    const { reason, why } = probe({ INIT: 100 });
    expect(reason).toBe("no-device");
    expect(why).toContain("no CUDA-capable device is detected");
    expect(why).toMatch(/nvidia-smi.*CUDA_VISIBLE_DEVICES.*container/);
    expect(probe({ INIT: 0, GET: 101, COUNT: 1 })).toMatchObject({ available: false, reason: "no-device" });
  });

  test("C1: a device that is not there", () => {
    for (const device of [2, 7, -1]) {
      const { reason, why } = probe({ COUNT: 2 }, device);
      expect(reason).toBe("wrong-device");
      expect(why).toMatch(new RegExp(`Device ${device} was asked for; the driver lists 2`));
    }
    expect(probe({ COUNT: 2 }, 1)).toMatchObject({ available: true, name: "Fake GPU 1" });
  });

  test("C1: a GPU that this build has no code for, and those it has code or PTX for", () => {
    for (const capability of [50, 61, 70, 72]) {
      const { available, reason, why } = probe({ CAPABILITY: capability });
      expect([available, reason], String(capability)).toEqual([false, "no-image"]);
      expect(why).toContain(`compute capability ${Math.floor(capability / 10)}.${capability % 10}`);
      // CUDA 13 compiles for no such GPU.
      expect(why).toMatch(/needs 7\.5 or newer: use another device or another backend\.$/);
    }
    // 8.7 runs code for 8.6; 9.1 would take PTX for 9.0, 11.0 too, 13.0 that for 12.0.
    for (const capability of [75, 80, 86, 87, 89, 90, 91, 100, 103, 110, 120, 121, 130]) {
      expect(probe({ CAPABILITY: capability }), String(capability)).toMatchObject({ available: true, capability });
    }
  });

  test("C1: 9.0 takes code for 9.0a alone: in all other the products that it is given are empty", () => {
    const own = (name: string) => fileURLToPath(new URL(`../native/${name}`, import.meta.url));
    const main = join(folder, "main.cc");
    writeFileSync(
      main,
      `#include <cstdio>\n#include "${own("doge.h")}"\nint main(int, char** a) { doge_probe_result r; doge_probe(0, a[1], &r); std::puts(r.reason); }\n`,
    );
    const reason = (code: string, ptx: string) => {
      const program = join(folder, "probe");
      const built = [`-DDOGE_CODE="${code}"`, `-DDOGE_PTX="${ptx}"`];
      execFileSync(builder.compiler()!, [
        "-std=c++17",
        "-DDOGE_SHIM",
        ...built,
        main,
        "-x",
        "c++",
        own("probe.cu"),
        "-ldl",
        "-o",
        program,
      ]);
      return execFileSync(program, [driver], {
        encoding: "utf8",
        env: { ...process.env, FAKE_CAPABILITY: "90" },
      }).trim();
    };
    expect(reason("80,90a", "")).toBe("");
    expect(reason("80,90", "90")).toBe("no-image");
  });
});

describe("the binary", () => {
  const binding = { abi: ABI } as Binding;
  const machine = (changes: Partial<Machine>): Machine => ({
    platform: "linux",
    arch: "x64",
    glibc: () => "2.36",
    exists: () => true,
    resolve: (specifier) => `/modules/${specifier}`,
    load: () => binding,
    ...changes,
  });
  const installed: Partial<Machine> = { exists: (path) => path.startsWith("/modules/") };
  const why = (changes: Partial<Machine>, asked?: string): string => {
    const found = locate(asked, machine({ ...installed, ...changes }));
    return "why" in found ? found.why : `found ${found.path}`;
  };

  test("a build from source comes first, then the platform's package", () => {
    expect(locate(undefined, machine({}))).toMatchObject({ path: expect.stringMatching(/build.doge_cuda\.node$/) });
    expect(why({})).toBe("found /modules/@doge-lm/cuda-linux-x64/doge_cuda.node");
  });

  test("C1: another platform, and another C library", () => {
    // The sources are for Linux.
    expect(why({ platform: "win32" })).toMatch(/no binary for win32-x64.*: use another backend\.$/);
    expect(why({ platform: "darwin", arch: "arm64" })).not.toContain("build");
    expect(why({ arch: "arm64" })).toMatch(/no binary for linux-arm64.*npx @doge-lm\/cuda build/);
    expect(why({ glibc: () => undefined })).toMatch(/need glibc.*musl/);
  });

  test("C1: the platform's package was left out", () => {
    const resolve = () => {
      throw new Error("Cannot find module");
    };
    expect(why({ resolve })).toMatch(/cuda-linux-x64 is not installed.*--omit=optional/);
    expect(why({ exists: () => false })).toMatch(/has no binary in it.*checkout/);
  });

  test("C1: the platform's package as it is installed, and as it is in a checkout, without its binary", () => {
    const place = mkdtempSync(join(tmpdir(), "doge-cuda-"));
    try {
      const installed = join(place, "node_modules", "@doge-lm", "cuda-linux-x64");
      const { resolve } = createRequire(join(place, "index.js"));
      // A build from these sources, which may be here, would come first.
      const exists = (path: string) => path.includes(installed) && thisMachine.exists(path);
      const asked: Partial<Machine> = { resolve, exists };
      expect(why(asked)).toContain("is not installed");
      mkdirSync(installed, { recursive: true });
      const manifest = fileURLToPath(new URL("../../cuda-linux-x64/package.json", import.meta.url));
      copyFileSync(manifest, join(installed, "package.json"));
      expect(why(asked)).toContain("has no binary in it");
      writeFileSync(join(installed, "doge_cuda.node"), "");
      expect(why(asked)).toMatch(/^found .*cuda-linux-x64.doge_cuda\.node$/);
    } finally {
      rmSync(place, { recursive: true, force: true });
    }
  });

  test("C1: the C library is too old, with found and needed versions", () => {
    const load = () => {
      throw new Error("/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by doge_cuda.node)");
    };
    expect(why({ load, glibc: () => "2.31" })).toMatch(/needs glibc 2\.38 and this system has 2\.31/);
  });

  test("C1: a file that cannot be loaded, one of another version, and one that is not there", () => {
    const load = () => {
      throw new Error("invalid ELF header");
    };
    expect(why({ load })).toContain("could not be loaded: invalid ELF header. Install it again, or build it");
    const lines = () => {
      throw new Error("Cannot find module '/etc'\nRequire stack:\n- /modules/binding.js");
    };
    expect(why({ load: lines })).toMatch(
      /could not be loaded: Cannot find module '\/etc'\. Install it again.*compiler\.$/,
    );
    expect(why({ load: () => ({ abi: 99 }) as Binding })).toMatch(
      new RegExp(`version 99 of doge\\.h and this package version ${ABI}:`),
    );
    expect(why({}, "/nowhere/doge.node")).toContain("There is no file /nowhere/doge.node");
  });

  test("a broken file is an answer of the real system too", async () => {
    const path = join(mkdtempSync(join(tmpdir(), "doge-cuda-")), "doge_cuda.node");
    writeFileSync(path, "not a library");
    const answer = await cuda({ binary: path }).probe();
    expect(answer).toMatchObject({ available: false, code: "unavailable" });
    expect(answer.available ? "" : answer.why).toContain("could not be loaded");
    await expect(cuda({ binary: path }).open()).rejects.toMatchObject({ code: "unavailable" });
  });

  test.skipIf(withoutShim !== undefined)("a path is one from the working directory", async () => {
    const here = relative(process.cwd(), builder.buildShim());
    for (const path of [here, `./${here}`]) {
      const answer = await cuda({ binary: path }).probe();
      expect(answer.available ? "" : answer.why).not.toContain("could not be loaded");
    }
  });

  test("a device that is no number of one is refused, not taken for another", async () => {
    const refusal = expect.objectContaining({
      code: "invalid-argument",
      message: expect.stringMatching(/device is .*; it must be a whole number from 0 on/),
    });
    for (const device of [0.5, -1, Number.NaN, 2 ** 32, "1", null]) {
      expect(() => cuda({ device: device as number }), String(device)).toThrow(refusal);
      await expect(load({}, { device: device as number }), String(device)).rejects.toEqual(refusal);
    }
  });

  test("asking for the C library looks up no names in the network", () => {
    const report = process.report as NodeJS.ProcessReport & { excludeNetwork: boolean };
    const { getReport, excludeNetwork } = report;
    let during: boolean | undefined;
    report.getReport = () => {
      during = report.excludeNetwork;
      return { header: { glibcVersionRuntime: "2.36" } };
    };
    try {
      expect(thisMachine.glibc()).toBe("2.36");
    } finally {
      report.getReport = getReport;
    }
    expect([during, report.excludeNetwork]).toEqual([true, excludeNetwork]);
  });

  test("this machine knows its C library", () => {
    if (process.platform === "linux") expect(thisMachine.glibc() ?? "musl").toMatch(/^\d+\.\d+|musl/);
    else expect(thisMachine.glibc()).toBeUndefined();
  });
});
