// The front door: `npm run chat`, `npm test` and the other root commands start here, on any Node >= 20 with npm.
//
// It brings what is missing (a current Node, pnpm, the packages, the compiled WebAssembly), each once and with one line on
// stderr, then hands over. When everything is in place it costs a few milliseconds. No dependencies: it runs before them.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { softwareGpu } from "./software-gpu.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tools = join(root, ".tools");
const NODE_VERSION = "24.21.0";
const PNPM_VERSION = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).packageManager.split("@")[1];

const say = (line) => process.stderr.write(`doge: ${line}\n`);

function fail(line) {
  say(line);
  process.exit(1);
}

/** Run a program with the brought tools first in PATH; its exit status. */
function run(program, args, options = {}) {
  const path = [join(root, "node_modules", ".bin"), binFolder(), pnpmFolder(), process.env.PATH]
    .filter(Boolean)
    .join(delimiter);
  const result = spawnSync(program, args, {
    cwd: root,
    stdio: options.stdio ?? "inherit",
    env: { ...process.env, PATH: path, TURBO_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", ...options.env },
  });
  if (result.error) fail(`${program} could not be started: ${result.error.message}.`);
  return result.status ?? 1;
}

/** Install exact npm packages into .tools, outside the workspace and its lockfile. */
function bring(what, packages) {
  say(`bringing ${what} (once)`);
  mkdirSync(tools, { recursive: true });
  if (!existsSync(join(tools, "package.json"))) writeFileSync(join(tools, "package.json"), '{ "private": true }\n');
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  const args = [
    "install",
    "--prefix",
    tools,
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    "--loglevel=error",
    ...packages,
  ];
  const result = spawnSync(npm, args, { cwd: tools, stdio: ["ignore", 2, 2], shell: process.platform === "win32" });
  if (result.status !== 0) fail(`npm could not install ${packages.join(" ")}: see its message above.`);
}

// A current Node: type stripping without a flag, and what the tools ask for.

const broughtNode = () =>
  join(tools, "node_modules", `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`, "bin");

function currentEnough(version) {
  const [major, minor] = version.split(".").map(Number);
  return (major === 22 && minor >= 18) || (major === 24 && minor >= 11) || major >= 26;
}

function binFolder() {
  return currentEnough(process.versions.node) ? dirname(process.execPath) : broughtNode();
}

function ensureNode() {
  if (currentEnough(process.versions.node)) return process.execPath;
  const node = join(broughtNode(), process.platform === "win32" ? "node.exe" : "node");
  if (!existsSync(node)) {
    const name = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
    bring(`Node ${NODE_VERSION}, because this is ${process.versions.node}`, [`${name}@${NODE_VERSION}`]);
  }
  return node;
}

// pnpm and the packages.

/** The folder of pnpm's own binary: what npm links is a script that not every program can start. */
function pnpmFolder() {
  const scope = join(tools, "node_modules", "@pnpm");
  const folder = existsSync(scope) && readdirSync(scope).find((name) => name.startsWith("exe."));
  return folder ? join(scope, folder) : null;
}

function pnpm(args, options) {
  const manifest = join(tools, "node_modules", "pnpm", "package.json");
  if (!existsSync(manifest) || JSON.parse(readFileSync(manifest, "utf8")).version !== PNPM_VERSION) {
    bring(`pnpm ${PNPM_VERSION}`, [`pnpm@${PNPM_VERSION}`]);
  }
  const folder = pnpmFolder() ?? fail(`pnpm has no binary for ${process.platform} ${process.arch}.`);
  return run(join(folder, process.platform === "win32" ? "pnpm.exe" : "pnpm"), args, options);
}

/** What an install depends on: the lockfile and every manifest. */
function manifestHash() {
  const hash = createHash("sha256");
  const folders = ["packages", "apps"].flatMap((group) =>
    readdirSync(join(root, group)).map((name) => join(group, name)),
  );
  for (const file of [
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    ...["", ...folders, "benchmarks", "docs", "tools"].map((folder) => join(folder, "package.json")),
  ]) {
    const path = join(root, file);
    if (existsSync(path)) hash.update(readFileSync(path));
  }
  return hash.digest("hex");
}

/** Install the packages the command line needs ("cli"), or everything ("all"). */
function ensureInstalled(scope) {
  const stamp = join(root, "node_modules", ".doge-install.json");
  const wanted = manifestHash();
  const found = existsSync(stamp) ? JSON.parse(readFileSync(stamp, "utf8")) : {};
  // Installing for the command line alone would take the test tools away again: ours, or those of a `pnpm install` by hand.
  const byHand = found.scope === undefined && existsSync(join(root, "node_modules", ".modules.yaml"));
  if (found.scope === "all" || byHand) scope = "all";
  if (found.hash === wanted && found.scope === scope) return;
  say(scope === "all" ? "installing the packages" : "installing what the command line needs");
  const filter = scope === "all" ? [] : ["--filter-prod", "@doge-lm/cli..."];
  const status = pnpm(["install", "--frozen-lockfile", "--reporter=append-only", "--loglevel=warn", ...filter], {
    stdio: ["ignore", 2, 2],
    env: { CI: "true" },
  });
  if (status !== 0) fail("pnpm could not install the packages: see its message above.");
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, JSON.stringify({ scope, hash: wanted }));
}

function ensureBuilt(node) {
  const status = run(node, [join(root, "packages", "backend-wasm", "scripts", "build.mjs")], {
    stdio: ["ignore", 2, 2],
  });
  if (status !== 0) fail("the WebAssembly backend could not be built: see the message above.");
}

/** Whether `--backend webgpu`, or DOGE_BACKEND, names the GPU. */
function asksForWebgpu(words) {
  const at = words.lastIndexOf("--backend");
  const named = words.findLast((word) => word.startsWith("--backend="))?.slice("--backend=".length);
  const { DOGE_BACKEND } = process.env;
  return (at >= 0 ? words[at + 1] : (named ?? DOGE_BACKEND)) === "webgpu";
}

const strip = ["--disable-warning=ExperimentalWarning"];
const [command, ...args] = process.argv.slice(2);
const node = ensureNode();

switch (command) {
  case "cli": {
    // WebGPU in Node is a package of 130 MB that only those who name it need; with it comes a GPU for machines without one.
    const gpu = asksForWebgpu(args);
    ensureInstalled(gpu ? "all" : "cli");
    ensureBuilt(node);
    const env = gpu ? softwareGpu().env : undefined;
    process.exit(run(node, [...strip, join(root, "apps", "cli", "src", "bin.ts"), ...args], { env }));
    break;
  }
  case "test": {
    ensureInstalled("all");
    ensureBuilt(node);
    process.exit(run(node, [...strip, join(root, "tools", "test.ts"), ...args]));
    break;
  }
  case "build": {
    ensureInstalled("all");
    process.exit(run("turbo", ["run", "build", ...args]));
    break;
  }
  case "check": {
    ensureInstalled("all");
    ensureBuilt(node);
    process.exit(run(node, [...strip, join(root, "tools", "check.ts"), ...args]));
    break;
  }
  case "release": {
    ensureInstalled("all");
    ensureBuilt(node);
    process.exit(run(node, [...strip, join(root, "tools", "release.ts"), ...args]));
    break;
  }
  case "bench":
  case "agreement": {
    ensureInstalled("all");
    ensureBuilt(node);
    const script = command === "bench" ? "run.ts" : join("agreement", "run.ts");
    process.exit(run(node, [...strip, join(root, "benchmarks", script), ...args], { env: softwareGpu().env }));
    break;
  }
  case "report": {
    ensureInstalled("all");
    process.exit(run(node, [...strip, join(root, "benchmarks", "report.ts"), ...args]));
    break;
  }
  case "peers": {
    ensureInstalled("cli");
    ensureBuilt(node);
    process.exit(run(node, [...strip, join(root, "benchmarks", "peers", "run.mjs"), ...args]));
    break;
  }
  case "soak": {
    ensureInstalled("all");
    ensureBuilt(node);
    process.exit(run(node, [...strip, "--expose-gc", join(root, "tools", "soak.ts"), ...args]));
    break;
  }
  case "tokenizer": {
    ensureInstalled("all");
    const [what = "--force", ...rest] = args;
    const script = what === "benchmark" ? "benchmark.ts" : "crate.ts";
    const given = what === "benchmark" ? rest : [what, ...rest];
    process.exit(run(node, [...strip, join(root, "tools", "tokenizer", script), ...given]));
    break;
  }
  case "demo-html": {
    ensureInstalled("all");
    ensureBuilt(node);
    process.exit(run(node, [...strip, join(root, "tools", "demo-html.ts"), ...args]));
    break;
  }
  case "web": {
    ensureInstalled("all");
    ensureBuilt(node);
    process.exit(run(node, [...strip, join(root, "apps", "web", "scripts", "web.ts"), ...args]));
    break;
  }
  case "exec": {
    ensureInstalled("all");
    process.exit(run(args[0], args.slice(1)));
    break;
  }
  default:
    fail(
      `unknown command ${JSON.stringify(command)}: use cli, test, check, build, release, bench, agreement, report, peers, soak, tokenizer, demo-html, web or exec.`,
    );
}
