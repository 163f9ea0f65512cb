// Programs in one file each, for a checkout on a machine with a GPU where nothing can be installed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { origin } from "../../../benchmarks/results.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const scripts = join(root, "packages", "backend-cuda", "scripts");

/** Sources look for files beside themselves: in the bundle, which lies in a folder of the checkout, they still do. */
const inPlace = {
  name: "in-place",
  setup(build) {
    build.onLoad({ filter: /\.m?[jt]s$/ }, ({ path }) => {
      const source = readFileSync(path, "utf8");
      const file = relative(root, path).split(sep).join("/");
      if (file.startsWith("..") || file.includes("node_modules/") || !source.includes("import.meta.url")) return null;
      const place = `new URL(${JSON.stringify(`../${file}`)}, import.meta.url).href`;
      return { contents: source.replaceAll("import.meta.url", place), loader: file.endsWith("ts") ? "ts" : "js" };
    });
  },
};

/** Writes conformance.mjs and agreement.mjs into `folder`, a folder of the checkout's root. */
export async function bundle(folder) {
  // esbuild comes with the development tools.
  const { build } = await import(createRequire(join(root, "tools", "package.json")).resolve("esbuild"));
  const programs = {
    conformance: join(scripts, "gpu-conformance.ts"),
    agreement: join(root, "benchmarks", "agreement", "packed.ts"),
  };
  for (const [name, entry] of Object.entries(programs)) {
    await build({
      entryPoints: [entry],
      outfile: join(folder, `${name}.mjs`),
      bundle: true,
      platform: "node",
      format: "esm",
      logLevel: "error",
      plugins: [inPlace],
      // A package of 130 MB for GPUs that are not of CUDA.
      external: ["webgpu"],
      define: { DOGE_COMMIT: JSON.stringify(origin().commit) },
      banner: { js: 'import { createRequire as doge } from "node:module"; const require = doge(import.meta.url);' },
    });
  }
}
