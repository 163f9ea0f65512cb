// What the build refuses to ship: kernels that spill registers, or want more shared memory than a block has. What nvcc's assembler
// says is read from a recorded excerpt; where a build with nvcc is here, from that too.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

interface Row {
  readonly kernel: string;
  readonly arch: string;
  readonly registers: number;
  readonly spilled: number;
  readonly shared: number;
}
interface Resources {
  readResources(log: string): { readonly rows: Row[]; readonly others: string[] };
  faultsOf(rows: readonly Row[]): string[];
  tableOf(rows: readonly Row[]): string;
}
const { readResources, faultsOf, tableOf } = (await import(
  new URL("../scripts/resources.mjs", import.meta.url).href
)) as Resources;

const log = `nvcc warning : something else
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN4doge19matmul_tiles_kernelILNS_4TypeE2ELi4EEEvPfiPKfiNS_6MatrixEiPKi' for 'sm_80'
ptxas info    : Function properties for _ZN4doge19matmul_tiles_kernelILNS_4TypeE2ELi4EEEvPfiPKfiNS_6MatrixEiPKi
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 239 registers, used 1 barriers, 41488 bytes smem, 440 bytes cmem[0]
ptxas info    : Compile time = 221.582 ms
ptxas info    : Compiling entry function '_ZN4doge12store_kernelEPKfS1_PKiS3_S3_PKNS_8RowStateES3_NS_9PageShapeENS_5HeadsE' for 'sm_90a'
ptxas info    : Function properties for _ZN4doge12store_kernelEPKfS1_PKiS3_S3_PKNS_8RowStateES3_NS_9PageShapeENS_5HeadsE
    8 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 48 registers, used 0 barriers, 488 bytes cmem[0]
`;

test("registers, spills and shared memory are read from what ptxas says", () => {
  const { rows, others } = readResources(log);
  expect(rows).toEqual([
    { kernel: "matmul_tiles_kernel<2, 4>", arch: "80", registers: 239, spilled: 0, shared: 41488 },
    { kernel: "store_kernel", arch: "90a", registers: 48, spilled: 24, shared: 0 },
  ]);
  expect(others).toEqual(["nvcc warning : something else"]);
  expect(tableOf(rows)).toContain("| matmul_tiles_kernel<2, 4> | 239 |  | 41488 |");
});

test("spills and too much shared memory are refused by name", () => {
  const [good, spilled] = readResources(log).rows as [Row, Row];
  expect(faultsOf([good])).toEqual([]);
  expect(faultsOf([good, spilled, { ...good, shared: 49153 }])).toEqual([
    "store_kernel spills 24 bytes of registers on sm_90a",
    "matmul_tiles_kernel<2, 4> has 49153 bytes of shared memory on sm_80, over 49152",
  ]);
});

const built = fileURLToPath(new URL("../build/resources.json", import.meta.url));
test.skipIf(!existsSync(built))(
  `the build that is here spills nothing${existsSync(built) ? "" : " (skipped: nothing was built with nvcc)"}`,
  () => {
    const rows = JSON.parse(readFileSync(built, "utf8")) as Row[];
    expect(faultsOf(rows)).toEqual([]);
    // The ones that every token goes through have been seen.
    for (const kernel of [
      "matmul_kernel<1, 1, 0>",
      "matmul_tiles_kernel<1, 4>",
      "attention_kernel",
      "attention_tiles_kernel<128>",
    ]) {
      expect(rows.map((row) => row.kernel)).toContain(kernel);
    }
  },
);
