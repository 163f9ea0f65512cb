// lavapipe, Mesa's Vulkan driver that computes on the CPU: beside SwiftShader it has f16 and subgroups of eight. Debian's own
// package where it is new enough for Dawn; Debian 12's is not (it has no dynamic indexing of arrays), so there the package of
// its backports is unpacked into the cache, without being installed.
import { execFileSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, Skipped } from "../packages/steps.ts";

const cache = join(root, ".cache", "lavapipe");
const icd = join(cache, "lvp_icd.json");

/** The file that makes Vulkan load lavapipe and nothing else. @throws Skipped when it is not here and may not, or cannot, be
 *  brought. */
export function lavapipe(bring: boolean): string {
  if (existsSync(icd)) return icd;
  const { platform, arch, getuid } = process;
  if (platform !== "linux" || arch !== "x64") throw new Skipped("lavapipe is brought for Linux on x64 only");
  if (!bring) throw new Skipped("lavapipe is not in the cache; node tools/adapters.ts --bring brings it");
  if (getuid?.() !== 0) throw new Skipped("lavapipe's libraries are installed by apt-get, which needs root");
  try {
    unpack();
  } catch (error) {
    const { stderr = "", message } = error as Error & { stderr?: string };
    throw new Skipped(`lavapipe cannot be had: ${(stderr || message).trim().split("\n").at(-1)}`);
  }
  return icd;
}

function unpack(): void {
  const half = `${cache}.${process.pid}`;
  try {
    for (const folder of ["lists/partial", "cache/archives/partial", "root"])
      mkdirSync(join(half, folder), { recursive: true });
    const packages = ["libvulkan1", "mesa-vulkan-drivers"]; // for the libraries that the driver loads
    apt(["update", "-qq"]);
    apt(["install", "-y", "-qq", "--no-install-recommends", ...packages]);
    const release = execFileSync("sh", ["-c", ". /etc/os-release; echo $VERSION_CODENAME"], {
      encoding: "utf8",
    }).trim();
    const own = globSync("/usr/lib/*/libvulkan_lvp.so")[0];
    // Where another one is unpacked, only the libraries of the system's own are wanted: Dawn warns of a driver that is too old.
    if (release === "bookworm") apt(["remove", "-y", "-qq", "mesa-vulkan-drivers"]);
    const library = release === "bookworm" ? backported(half) : own;
    if (library === undefined) throw new Error("the package holds no libvulkan_lvp.so");
    const place = library.startsWith(half) ? library.replace(half, cache) : library;
    const description = { file_format_version: "1.0.0", ICD: { library_path: place, api_version: "1.4.305" } };
    writeFileSync(join(half, "lvp_icd.json"), JSON.stringify(description));
    rmSync(cache, { recursive: true, force: true });
    renameSync(half, cache);
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
}

/** The driver of Debian 12's backports, with lists and settings of apt of our own. */
function backported(folder: string): string | undefined {
  const [address] = apt(["indextargets", "--format", "$(REPO_URI)"])
    .split("\n")
    .filter((line) => !line.includes("security"));
  const sources = join(folder, "sources.list");
  const key = "/usr/share/keyrings/debian-archive-keyring.gpg";
  writeFileSync(sources, `deb [signed-by=${key}] ${address} bookworm-backports main\n`);
  const settings = [
    `Dir::Etc::sourcelist=${sources}`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${join(folder, "lists")}`,
    `Dir::Cache=${join(folder, "cache")}`,
    "APT::Sandbox::User=root",
  ].flatMap((setting) => ["-o", setting]);
  apt([...settings, "update", "-qq"]);
  execFileSync("apt-get", [...settings, "download", "-qq", "mesa-vulkan-drivers/bookworm-backports"], {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const [archive] = globSync("mesa-vulkan-drivers_*.deb", { cwd: folder });
  execFileSync("dpkg", ["-x", archive!, "root"], { cwd: folder });
  return globSync(join(folder, "root", "usr", "lib", "*", "libvulkan_lvp.so"))[0];
}

const apt = (args: readonly string[]): string =>
  execFileSync("apt-get", args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
  });
