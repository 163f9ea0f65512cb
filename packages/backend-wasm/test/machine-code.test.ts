// What V8 makes of the hot loops: it prints its machine code, and the loops of the tiles are looked up in it. They must multiply with the
// instructions they are written for, and keep their vectors in registers.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { flags } from "../scripts/flags.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "doge-machine-code-"));
const binary = join(folder, "named.wasm");

/** Every tile of every dtype runs once, so that V8 compiles it: 13 rows are tiles of all heights. */
const script = (wide: boolean) => `
  import { readFileSync } from "node:fs";
  import { openKernels } from ${JSON.stringify(join(root, "src/kernels.ts"))};
  const relaxed = new Uint8Array(readFileSync(${JSON.stringify(binary)}));
  const kernels = await openKernels({ binary: "relaxed", assets: { relaxed } });
  const numbers = (count) => new Float32Array(count).fill(1);
  for (const dtype of ["f32", "bf16", "q8", "q4"]) {
    for (const rows of [1, 13]) {
      kernels.matmulAs(dtype, ${wide})(numbers(rows * 64), numbers(64 * 64), null, rows, 64, 64);
      if (dtype !== "q4") kernels.attentionAs(dtype, ${wide})(numbers(rows * 64), numbers(80 * 64), numbers(80 * 64), numbers(80), 64);
    }
  }
`;

interface Loop {
  /** The function it stands in. */
  readonly name: string;
  readonly code: readonly string[];
}

/** The innermost loops of matmul and attention that multiply at least eight vectors. */
function hotLoops(wide: boolean): Loop[] {
  const flags = wide ? ["--experimental-wasm-revectorize"] : [];
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ["--no-liftoff", "--no-wasm-inlining", "--print-wasm-code", ...flags, "--input-type=module", "-e", script(wide)],
    { encoding: "utf8", maxBuffer: 2 ** 28 },
  );
  expect(status, stderr).toBe(0);
  return stdout.split("--- WebAssembly code ---").flatMap(loopsOf);
}

function loopsOf(text: string): Loop[] {
  const name = /^name: .*kernels\/(?:matmul|attention).*\/(\w+)$/m.exec(text)?.[1];
  if (name === undefined) return [];
  const lines = [...text.matchAll(/^0x[0-9a-f]+\s+([0-9a-f]+)\s+[0-9a-f]+\s+(.*)$/gm)].map(([, at, code]) => ({
    at: Number.parseInt(at!, 16),
    code: code!,
  }));
  const jumps = lines.flatMap(({ at, code }, index) => {
    const target = Number.parseInt(/^j\w+ .*<\+0x([0-9a-f]+)>/.exec(code)?.[1] ?? "7fffffff", 16);
    return target < at ? [{ index, target }] : [];
  });
  return jumps.flatMap(({ index, target }) => {
    const from = lines.findIndex(({ at }) => at === target);
    const innermost = !jumps.some((other) => other.index >= from && other.index < index);
    const code = lines.slice(from, index + 1).map((line) => line.code);
    return from >= 0 && innermost && code.filter((line) => multiplies.test(line)).length >= 8 ? [{ name, code }] : [];
  });
}

const multiplies = /^v(pmaddubsw|pmaddwd|fmadd\d+ps) /;
const onStack = ({ code }: Loop) => code.filter((line) => /[xy]mm/.test(line) && /\[r[bs]p/.test(line));

const [major] = process.versions.v8.split(".").map(Number);
const prints = process.arch === "x64" && (major === 13 || major === 14);

describe.skipIf(!prints)("machine code of matmul and attention, as V8 13 and 14 make it for x64", () => {
  beforeAll(async () => {
    // The same as the binary that ships, with the names of its functions.
    const { default: asc } = await import("assemblyscript/asc");
    const { error, stderr } = await asc.main(
      [
        "assembly/index.ts",
        "--baseDir",
        root,
        "-o",
        relative(root, binary),
        "--enable",
        "simd,relaxed-simd",
        "--debug",
        ...flags,
      ],
      {},
    );
    expect(error, String(stderr)).toBe(null);
  }, 240_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([
    ["128", false],
    ["256", true],
  ])(
    "%s bits: multiplies vectors of that width, and none is on the stack",
    (_, wide) => {
      // Without wider vectors the tiles that are for them have sums for twice the registers; they are never called then.
      const loops = hotLoops(wide).filter(({ name }) => wide || !/4x16/.test(name));
      const names = new Set(loops.map(({ name }) => name));
      for (const name of wide
        ? ["f32Tile4x16", "bf16Tile4x16", "q8Tile2x16", "q4Tile4x16", "valuesTile4x16"]
        : ["f32Tile6x8", "bf16Tile4x8", "q8Tile2x16", "q4Tile4x8", "valuesTile2x16"]) {
        expect(names).toContain(name);
      }
      for (const loop of loops) {
        const narrow = loop.code.filter((line) => multiplies.test(line) && !line.includes(wide ? "ymm" : "xmm"));
        expect(narrow, loop.name).toEqual([]);
        // The tiles of q4 hold one vector too many: it is written and read once in 16 dots. A block of q8Tile2x16 is one piece of
        // code: at 128 bits the sums of its first half wait there for the second, and a constant comes back behind the dots.
        const most = /^q4Tile4/.test(loop.name) ? 2 : loop.name !== "q8Tile2x16" ? 0 : wide ? 1 : 16;
        expect(onStack(loop).length, loop.name).toBeLessThanOrEqual(most);
      }
    },
    240_000,
  );
});
