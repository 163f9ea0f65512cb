// A GPU that is none: SwiftShader, the software Vulkan that a package on npm carries, so that the WebGPU backend runs and is
// tested on machines without a GPU and without anything installed. No dependencies: tools/run.mjs runs it.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const archive = join(root, "tools", "node_modules", "@sparticuz", "chromium", "bin", "swiftshader.tar.br");
const folder = join(root, ".cache", "swiftshader");
const WANTED = ["libvk_swiftshader.so", "libvulkan.so.1", "vk_swiftshader_icd.json"];

/** Whether drivers of the system could have a GPU here: else they would only complain. */
const hasGpu = () =>
  [...(existsSync("/dev/dri") ? readdirSync("/dev/dri") : []), ...readdirSync("/dev")].some((name) =>
    /^(renderD|nvidia\d|dxg)/.test(name),
  );

/** Variables with which a new process finds SwiftShader, beside the GPUs of the machine where there are any (a real one is preferred);
 *  or why it cannot be had here. */
export function softwareGpu() {
  if (process.platform !== "linux" || process.arch !== "x64")
    return { why: "SwiftShader is brought for Linux on x64 only" };
  if (!existsSync(folder)) {
    if (!existsSync(archive)) return { why: "the development tools, which bring SwiftShader, are not installed" };
    unpack();
  }
  const { LD_LIBRARY_PATH: libraries } = process.env;
  return {
    env: {
      LD_LIBRARY_PATH: libraries ? `${folder}${delimiter}${libraries}` : folder,
      [hasGpu() ? "VK_ADD_DRIVER_FILES" : "VK_DRIVER_FILES"]: join(folder, "vk_swiftshader_icd.json"),
    },
  };
}

/** The files we want out of a tar archive: headers of 512 bytes, name at 0, size in octal at 124. */
function unpack() {
  const tar = brotliDecompressSync(readFileSync(archive));
  const half = `${folder}.${process.pid}`;
  rmSync(half, { recursive: true, force: true });
  mkdirSync(half, { recursive: true });
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const name = tar.toString("utf8", at, at + 100).replace(/\0.*$/s, "");
    const size = Number.parseInt(tar.toString("latin1", at + 124, at + 136), 8);
    if (WANTED.includes(name))
      writeFileSync(join(half, name), tar.subarray(at + 512, at + 512 + size), { mode: 0o755 });
    at += 512 + Math.ceil(size / 512) * 512;
  }
  mkdirSync(dirname(folder), { recursive: true });
  try {
    renameSync(half, folder);
  } catch (error) {
    rmSync(half, { recursive: true, force: true }); // another process was faster
    if (!existsSync(folder)) throw error;
  }
}
