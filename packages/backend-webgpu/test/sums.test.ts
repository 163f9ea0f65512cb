// The order of a team's sums, read from the WGSL that the kernels get: its functions are run here, thread by thread, under subgroups
// of every width. A driver chooses widths for each kernel, and what a prompt and a step keep must be equal to the bit.
import { expect, test } from "vitest";
import { team } from "../src/kernels/kernel.ts";
import { variants } from "./support.ts";

/** What a thread hands over where it meets others: a number for the lane so far away, or null at a barrier. */
type Meeting = readonly [value: number, apart: number] | null;

/** What a function of the team gives each thread of it, for their values and subgroups of this width. */
function run(name: string, values: readonly number[], width: number): number[] {
  const wgsl = team(variants.subgroups!, values.length);
  const body = new RegExp(`fn ${name}\\(value: f32, lane: u32\\) -> f32 \\{(.*?)\\n\\}`, "s").exec(wgsl)![1]!;
  const script = body
    .replaceAll(/\b(\d+)u\b/g, "$1")
    .replaceAll(/subgroupShuffleXor\(part, (\d+)\)/g, "(yield [part, $1])")
    .replaceAll("workgroupBarrier()", "yield null")
    .replaceAll("max(", "Math.max(");
  const Generator = Object.getPrototypeOf(function* () {}).constructor;
  const thread = new Generator(
    ...["value", "lane", "meeting", "side", "subgroupWidth", "subgroupOwn", "subgroupCount"],
    ...["select", "subgroupElect", script],
  );
  const meeting: number[] = [];
  const select = (otherwise: number, value: number, when: boolean) => (when ? value : otherwise);
  const threads: Generator<Meeting, number, number>[] = values.map((value, lane) =>
    thread(
      ...[value, lane, meeting, 0, width, Math.floor(lane / width), Math.ceil(values.length / width)],
      ...[select, () => lane % width === 0],
    ),
  );
  // All threads go on together from one meeting to the next; who is not of a thread's subgroup has nothing for it.
  let heard: number[] = [];
  for (;;) {
    const steps = threads.map((each, lane) => each.next(heard[lane]!));
    if (steps.every(({ done }) => done)) return steps.map(({ value }) => value as number);
    heard = steps.map(({ value }, lane) => {
      const [, apart] = (value as Meeting) ?? [0, 0];
      const [its] = (steps[lane ^ apart]?.value as Meeting) ?? [Number.NaN];
      return apart < width ? its : Number.NaN;
    });
  }
}

test.each([64, 128, 256])("teams of %i sum in one order under subgroups of every width", (size) => {
  const values = Array.from({ length: size }, (_, lane) => Math.sin(lane + 1) * 10 ** ((lane * 7) % 9));
  const widths = [4, 8, 16, 32, 64, 128];
  const tree = (of: readonly number[]): number =>
    of.length === 1 ? of[0]! : tree(of.slice(0, of.length / 2)) + tree(of.slice(of.length / 2));
  for (const width of widths) {
    expect([width, ...new Set(run("sumOf", values, width))]).toEqual([width, tree(values)]);
    expect([width, ...new Set(run("largestOf", values, width))]).toEqual([width, Math.max(...values)]);
  }
});
