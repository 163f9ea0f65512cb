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
  readonly serialized: boolean;
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
ptxas info    : Compiling entry function '_ZN4doge21attention_rows_kernelINS_4HalfELi2EEEvPfPt' for 'sm_90a'
ptxas info    : Used 168 registers, used 1 barriers, 4160 bytes smem
ptxas info    : Compiling entry function '_ZN4doge16attention_kernelIfEEvPfiPKfPKi' for 'sm_90a'
ptxas info    : Used 89 registers, used 1 barriers, 5668 bytes smem
ptxas info    : Compiling entry function '_ZN4doge12store_kernelEPKfS1_PKiS3_S3_PKNS_8RowStateES3_NS_9PageShapeENS_5HeadsE' for 'sm_90a'
ptxas info    : Function properties for _ZN4doge12store_kernelEPKfS1_PKiS3_S3_PKNS_8RowStateES3_NS_9PageShapeENS_5HeadsE
    8 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 48 registers, used 0 barriers, 488 bytes cmem[0]
`;

test("registers, spills and shared memory are read from what ptxas says", () => {
  const { rows, others } = readResources(log);
  expect(rows).toEqual([
    { kernel: "matmul_tiles_kernel<2, 4>", arch: "80", registers: 239, spilled: 0, shared: 41488, serialized: false },
    {
      kernel: "attention_rows_kernel<Half, 2>",
      arch: "90a",
      registers: 168,
      spilled: 0,
      shared: 4160,
      serialized: false,
    },
    { kernel: "attention_kernel<float>", arch: "90a", registers: 89, spilled: 0, shared: 5668, serialized: false },
    { kernel: "store_kernel", arch: "90a", registers: 48, spilled: 24, shared: 0, serialized: false },
  ]);
  expect(others).toEqual(["nvcc warning : something else"]);
  expect(tableOf(rows)).toContain("| matmul_tiles_kernel<2, 4> | 239 |  | 41488 |");
});

test("spills and too much shared memory are refused by name", () => {
  const [good, , , spilled] = readResources(log).rows as [Row, Row, Row, Row];
  expect(faultsOf([good])).toEqual([]);
  expect(faultsOf([good, spilled, { ...good, shared: 49153 }])).toEqual([
    "store_kernel spills 24 bytes of registers on sm_90a",
    "matmul_tiles_kernel<2, 4> has 49153 bytes of shared memory on sm_80, over 49152",
  ]);
});

test("products by warpgroups that wait for each other are refused by name, and what ptxas advises is shown", () => {
  const kernel = "_ZN4doge21attention_half_kernelILi64ELi2EEEvPti";
  const advice = `ptxas info    : (C7514) Potential Performance Loss: wgmma.mma_async instructions are serialized due to non wgmma instructions reading accumulator registers of  a wgmma between start and end of the pipeline stage in the function '${kernel}'`;
  const { rows, others } = readResources(`ptxas info    : 0 bytes gmem
${advice}
ptxas info    : Compiling entry function '${kernel}' for 'sm_90a'
ptxas info    : Used 42 registers, used 0 barriers
ptxas info    : Compiling entry function '${kernel}' for 'sm_80'
ptxas info    : Used 4 registers, used 0 barriers`);
  expect(others).toEqual([advice]);
  expect(faultsOf(rows)).toEqual([
    "attention_half_kernel<64, 2> has products by warpgroups that wait for each other on sm_90a",
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
