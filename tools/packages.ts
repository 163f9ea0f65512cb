// Checks what would be published: every package is packed, linted by publint, weighed, and installed from its tarball into an
// empty folder, where @doge-lm/wasm alone must load the demo model and answer.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const packs = join(root, ".cache", "packs");

/** Bytes that a published package may unpack to, with the reason. */
const LIMITS: Record<string, { readonly bytes: number; readonly why: string }> = {
  "@doge-lm/demo-model": { bytes: 4_000_000, why: "the bundled model is a taste, not a download" },
  "@doge-lm/conformance": { bytes: 4_000_000, why: "fixtures and goldens travel with the suite" },
};
const DEFAULT_LIMIT = { bytes: 1_000_000, why: "install size is a feature: 3 MB for a backend with all it depends on" };

const run = (program: string, args: readonly string[], cwd: string): string =>
  execFileSync(program, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly scripts?: Record<string, string>;
}

function folderSize(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size;
  }
  return bytes;
}

rmSync(packs, { recursive: true, force: true });
mkdirSync(packs, { recursive: true });
const tarballs = new Map<string, string>();
let faults = 0;
const fault = (sentence: string): void => {
  faults++;
  console.error(sentence);
};

for (const group of ["packages", "apps"]) {
  for (const name of readdirSync(join(root, group))) {
    const folder = join(root, group, name);
    const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
    if (manifest.private) continue;
    const printed = JSON.parse(run("pnpm", ["pack", "--json", "--pack-destination", packs], folder)) as {
      filename: string;
    };
    const tarball = printed.filename;
    tarballs.set(manifest.name, tarball);

    const unpacked = join(packs, manifest.name.replace("/", "+"));
    mkdirSync(unpacked);
    run("tar", ["xzf", tarball, "-C", unpacked], root);
    const bytes = folderSize(unpacked);
    const limit = LIMITS[manifest.name] ?? DEFAULT_LIMIT;
    console.log(
      `${manifest.name.padEnd(24)} ${(statSync(tarball).size / 1000).toFixed(1).padStart(8)} kB packed ${(bytes / 1000).toFixed(1).padStart(8)} kB unpacked`,
    );
    if (bytes > limit.bytes) fault(`${manifest.name} unpacks to ${bytes} bytes, over ${limit.bytes}: ${limit.why}.`);
    const files = readdirSync(join(unpacked, "package"));
    for (const file of ["README.md", "LICENSE", "package.json"]) {
      if (!files.includes(file)) fault(`${manifest.name} is packed without ${file}.`);
    }
    const packed = JSON.parse(readFileSync(join(unpacked, "package", "package.json"), "utf8")) as Manifest;
    for (const hook of ["preinstall", "install", "postinstall"]) {
      if (packed.scripts?.[hook] !== undefined)
        fault(`${manifest.name} has an install script (${hook}); none may run at install.`);
    }
    try {
      run(process.execPath, [join(root, "node_modules", "publint", "src", "cli.js"), "--strict", tarball], root);
    } catch (error) {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      fault(`publint on ${manifest.name}:\n${stdout ?? ""}${stderr ?? ""}`);
    }
  }
}

/** Install tarballs into an empty folder with npm and run a script there. */
function installed(names: readonly string[], script: string): string {
  const folder = mkdtempSync(join(tmpdir(), "doge-pack-"));
  try {
    // Tarballs depend on each other by version; overrides point npm at the packed files.
    const overrides = Object.fromEntries([...tarballs].map(([name, file]) => [name, `file:${file}`]));
    const dependencies = Object.fromEntries(names.map((name) => [name, overrides[name]!]));
    writeFileSync(
      join(folder, "package.json"),
      JSON.stringify({ private: true, type: "module", dependencies, overrides }),
    );
    run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder);
    writeFileSync(join(folder, "script.mjs"), script);
    const packages = run("npm", ["ls", "--all", "--parseable"], folder).trim().split("\n").length - 1;
    console.log(
      `${names.join(" + ")}: ${packages} packages, ${(folderSize(join(folder, "node_modules")) / 1e6).toFixed(2)} MB installed`,
    );
    return run(process.execPath, ["script.mjs"], folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const demo = JSON.stringify(join(root, "packages", "demo-model"));
const answer = installed(
  ["@doge-lm/wasm"],
  `import { load } from "@doge-lm/wasm";
const doge = await load(${demo});
const answer = doge.generate([{ role: "user", content: "Hi, how are you doing today?" }], { maxNewTokens: 40 });
for await (const { text } of answer) process.stdout.write(text);
await doge.close();`,
);
if (!/[a-z]{2,}/i.test(answer)) fault(`@doge-lm/wasm, installed alone, answered ${JSON.stringify(answer)}.`);
const help = installed(
  ["@doge-lm/cli"],
  `import { spawnSync } from "node:child_process";
const result = spawnSync("npx", ["--no-install", "doge", "generate", "--prompt", "Hello", "--max-new-tokens", "4", "--json"], { encoding: "utf8" });
process.stdout.write(result.stdout || result.stderr);`,
);
if (!/"ids":\s*\[/.test(help)) fault(`@doge-lm/cli, installed alone, printed ${JSON.stringify(help)}.`);
console.log(faults === 0 ? "Every package is fit to publish." : `${faults} faults.`);
process.exitCode = faults === 0 ? 0 : 1;
