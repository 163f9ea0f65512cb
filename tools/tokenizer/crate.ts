// The fast tokenizer's binary and the crate it is built from. wasm/sources.json says which sources the committed binary belongs
// to: a hash over them and the lockfile, not over the binary, since compilers differ. Nobody needs Rust to install or test.
//
//   node tools/tokenizer/crate.ts            fails when the sources have changed since the binary was built
//   node tools/tokenizer/crate.ts --build    builds it then, and in continuous integration (CI) too; --force builds it anyway
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { digest, hashOfSources } from "./sources.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const crate = join(root, "packages", "tokenizer-fast", "crate");
const wasm = join(root, "packages", "tokenizer-fast", "wasm");
const tools = join(root, ".tools");
const out = join(root, ".cache", "tokenizer-fast");

const WASM_PACK = "0.15.1";
const BINARYEN = "132.0.0";
const TARGET = "wasm32-unknown-unknown";

const env: NodeJS.ProcessEnv = {
  ...process.env,
  CARGO_TARGET_DIR: join(root, ".cache", "cargo"),
  PATH: [
    join(tools, "cargo", "bin"),
    join(tools, "binaryen", "node_modules", ".bin"),
    process.env.PATH,
    join(process.env.HOME ?? "", ".cargo", "bin"),
  ].join(delimiter),
};

const binary = join(wasm, "tokenizer.wasm");
const stamp = join(wasm, "sources.json");

/** What is wrong with the committed binary, or null. */
function fault(): string | null {
  if (!existsSync(binary) || !existsSync(stamp)) return "there is no binary";
  const recorded = JSON.parse(readFileSync(stamp, "utf8")) as { sources: string; binary: string };
  if (recorded.sources !== hashOfSources(crate)) return "the crate's sources have changed since it was built";
  if (recorded.binary !== digest(readFileSync(binary))) return "it is not the one that was built from these sources";
  return null;
}

function run(program: string, args: readonly string[], cwd = root, extra: NodeJS.ProcessEnv = {}): void {
  console.error(`doge: ${program} ${args.join(" ")}`);
  execFileSync(program, args, { cwd, stdio: ["ignore", 2, 2], env: { ...env, ...extra } });
}
const works = (program: string, args: readonly string[]): boolean => spawnSync(program, args, { env }).status === 0;
const prints = (program: string, args: readonly string[]): string =>
  spawnSync(program, args, { env, encoding: "utf8" }).stdout ?? "";

/** Install a command of crates.io; by its own lockfile, where the registry has all that is in it. */
function bringCommand(name: string, version: string, command: string): void {
  if (prints(command, ["--version"]).includes(version)) return;
  // Unoptimised: they compile in a third of the time, and have little to do.
  const args = ["install", name, "--version", version, "--root", join(tools, "cargo"), "--debug"];
  if (!works("cargo", [...args, "--locked"])) run("cargo", args);
}

/** The arguments for cargo, once there is a compiler for WebAssembly: rustup's, or else Debian's with the standard library built along. */
function bringCompiler(): { mode: string; args: readonly string[]; extra: NodeJS.ProcessEnv } {
  if (works("rustup", ["target", "add", TARGET])) return { mode: "normal", args: [], extra: {} };
  console.error("doge: rustup's target cannot be had: taking Debian's rustc-web, cargo-web and rust-web-src");
  run("apt-get", ["install", "-y", "--no-install-recommends", "rustc-web", "cargo-web", "rust-web-src"]);
  return {
    mode: "force",
    args: ["-Z", "build-std=std,panic_abort"],
    extra: { RUSTC_BOOTSTRAP: "1", PATH: ["/usr/bin", env.PATH].join(delimiter) },
  };
}

function build(): void {
  const compiler = bringCompiler();
  const lock = readFileSync(join(crate, "Cargo.lock"), "utf8");
  const [, bindgen] = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock) ?? [];
  if (bindgen === undefined) throw new Error("Cargo.lock names no version of wasm-bindgen.");
  bringCommand("wasm-bindgen-cli", bindgen, "wasm-bindgen");
  bringCommand("wasm-pack", WASM_PACK, "wasm-pack");
  if (!prints("wasm-opt", ["--version"]).includes(BINARYEN.split(".")[0]!)) {
    const folder = join(tools, "binaryen");
    mkdirSync(folder, { recursive: true });
    run("npm", ["install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts", `binaryen@${BINARYEN}`]);
  }
  rmSync(out, { recursive: true, force: true });
  // The glue that wasm-pack writes is not used: the exports are plain functions, and src/binary.ts is all they need.
  const flags = ["--target", "web", "--no-typescript", "--no-pack", "--mode", compiler.mode, "--out-dir", out];
  run("wasm-pack", ["build", crate, ...flags, "--", "--locked", ...compiler.args], root, compiler.extra);
  mkdirSync(wasm, { recursive: true });
  copyFileSync(join(out, "doge_tokenizer_bg.wasm"), binary);
  const rustc = prints("rustc", ["--version"]).trim();
  const record = {
    sources: hashOfSources(crate),
    binary: digest(readFileSync(binary)),
    builtWith: `${rustc}, wasm-pack ${WASM_PACK}`,
  };
  writeFileSync(stamp, `${JSON.stringify(record, null, 2)}\n`);
}

const asked = (flag: string): boolean => process.argv.includes(flag);

const found = fault();
if (found === null && !asked("--force")) {
  console.log(`The tokenizer's binary belongs to the crate's sources (${hashOfSources(crate).slice(0, 16)}).`);
} else if (asked("--force") || (asked("--build") && process.env.CI)) {
  build();
  console.log(
    `The tokenizer's binary was built${found === null ? "" : `, because ${found}`}: commit packages/tokenizer-fast/wasm.`,
  );
} else {
  console.log(`The tokenizer's binary is stale: ${found}. Build it with \`npm run tokenizer\`, and commit it.`);
  process.exitCode = 1;
}
