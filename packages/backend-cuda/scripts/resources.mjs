// What ptxas says of every kernel: registers, spills and shared memory for each architecture, as a table and as a gate of the build.

/** Static shared memory that a block may have. */
const SHARED = 48 * 1024;

/** "matmul_tiles_kernel<1, 4>" for its mangled name. */
function nameOf(mangled) {
  const [, length, rest] = /^_ZN4doge(\d+)(.*)$/.exec(mangled) ?? [];
  if (length === undefined) return mangled;
  const name = rest.slice(0, Number(length));
  const [, values] = /^I((?:f|NS_\d+[A-Z][a-z]+E|L(?:NS_4TypeE|i|b)\d+E)+)E/.exec(rest.slice(Number(length))) ?? [];
  if (values === undefined) return name;
  const its = [...values.matchAll(/L(?:NS_4TypeE|i|b)(\d+)E|NS_\d+([A-Z][a-z]+)E|f/g)];
  return `${name}<${its.map(([, number, type]) => number ?? type ?? "float").join(", ")}>`;
}

/** Rows { kernel, arch, registers, spilled, shared, serialized } of the messages of nvcc -Xptxas -v, and the lines that are no part of
 *  them. `serialized`: whether products by warpgroups wait for each other, which ptxas tells before it tells of their kernel. */
export function readResources(log) {
  const rows = [];
  const others = [];
  const warned = new Set();
  for (const line of log.split("\n")) {
    const [, serialized] = /wgmma\.mma_async instructions are serialized .* in the function '(\S+)'/.exec(line) ?? [];
    if (serialized !== undefined) warned.add(serialized);
    const [, mangled, arch] = /Compiling entry function '(\S+)' for 'sm_(\w+)'/.exec(line) ?? [];
    if (mangled !== undefined) {
      rows.push({
        kernel: nameOf(mangled),
        arch,
        registers: 0,
        spilled: 0,
        shared: 0,
        serialized: warned.delete(mangled),
      });
      continue;
    }
    const row = rows.at(-1);
    const [, stores, loads] = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line) ?? [];
    const [, registers] = /Used (\d+) registers/.exec(line) ?? [];
    if (row !== undefined && stores !== undefined) row.spilled = Number(stores) + Number(loads);
    else if (row !== undefined && registers !== undefined) {
      row.registers = Number(registers);
      row.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
    } else if (line.trim() !== "" && !/^ptxas info\s*: (?!\(C\d+\))/.test(line)) others.push(line);
  }
  return { rows, others };
}

/** What must not be shipped: a kernel that spills registers to memory, whose products wait for each other, or that has more shared
 *  memory than a block may. */
export function faultsOf(rows) {
  return rows.flatMap(({ kernel, arch, spilled, shared, serialized }) => [
    ...(serialized ? [`${kernel} has products by warpgroups that wait for each other on sm_${arch}`] : []),
    ...(spilled > 0 ? [`${kernel} spills ${spilled} bytes of registers on sm_${arch}`] : []),
    ...(shared > SHARED ? [`${kernel} has ${shared} bytes of shared memory on sm_${arch}, over ${SHARED}`] : []),
  ]);
}

/** The rows as a table in Markdown: registers for each architecture, and the most shared memory. */
export function tableOf(rows) {
  const archs = [...new Set(rows.map(({ arch }) => arch))];
  const kernels = [...new Set(rows.map(({ kernel }) => kernel))].sort();
  const found = (kernel, arch) => rows.find((row) => row.kernel === kernel && row.arch === arch);
  return [
    `| kernel | ${archs.map((arch) => `sm_${arch}`).join(" | ")} | shared bytes |`,
    `| --- | ${archs.map(() => "---").join(" | ")} | --- |`,
    ...kernels.map((kernel) => {
      const shared = Math.max(...rows.filter((row) => row.kernel === kernel).map((row) => row.shared));
      return `| ${kernel} | ${archs.map((arch) => found(kernel, arch)?.registers ?? "").join(" | ")} | ${shared} |`;
    }),
  ].join("\n");
}
