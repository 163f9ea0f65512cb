// The code blocks of the README and of the documentation that need no browser, run as they stand: `ts` in a process of its own,
// `sh` on the command line. All TypeScript is type-checked. Hub names are answered by a hub on this machine; ./Doge-60M-Instruct
// and path/to/a/doge are the demo model's folder.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hubOf, Place, readBlocks, root } from "./snippets/blocks.ts";
import { softwareGpu } from "./software-gpu.mjs";

const doge = join(root, "apps", "cli", "src", "bin.ts");
const blocks = await readBlocks();
const hub = await hubOf(blocks);
const gpu = softwareGpu();
let place: Place;

const scripts = blocks.filter(({ language }) => language === "ts" || language === "tsx");
const commands = blocks
  .filter(({ language }) => language === "sh")
  .flatMap(({ where, code }) =>
    code
      .split("\n")
      .map((line) => line.replace(/(^|\s)#.*/, "").trim())
      .filter((line) => line !== "")
      .map((line) => ({ where, line })),
  );
const nameOf = (index: number) => `block-${index}.${scripts[index]!.language}`;
const fileOf = (index: number) => join(place.folder, "page", nameOf(index));

beforeAll(async () => {
  place = await Place.make();
  await place.write(
    "tsconfig.json",
    JSON.stringify({
      extends: join(root, "tsconfig.base.json"),
      compilerOptions: {
        noEmit: true,
        moduleDetection: "force",
        jsx: "react-jsx",
        typeRoots: [join(place.folder, "node_modules", "@types")],
      },
      include: ["page/*.ts", "page/*.tsx"],
    }),
  );
  for (const [index, { code }] of scripts.entries()) await place.write(`page/${nameOf(index)}`, code);
  // A program of several files imports them by name.
  for (const { code } of scripts) {
    const name = /^\/\/ (use\w+\.ts)\n/.exec(code)?.[1];
    if (name !== undefined) await place.write(`page/${name}`, code);
  }
});
afterAll(async () => {
  await hub.stop();
  await place.remove();
});

/** A program in the snippets' folder; the hub answers from this process, which must not be blocked. */
function start(program: string, args: readonly string[], input = "") {
  const child = spawn(program, args, {
    cwd: join(place.folder, "page"),
    env: {
      PATH: process.env.PATH,
      NO_COLOR: "1",
      HOME: place.folder,
      HF_HOME: join(place.folder, "home"),
      HF_ENDPOINT: hub.url,
      ...gpu.env,
    },
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (data) => {
    out += data;
  });
  child.stderr.on("data", (data) => {
    err += data;
  });
  child.stdin.on("error", () => {}); // a program need not read what it is told
  child.stdin.end(input);
  return new Promise<{ status: number | null; out: string; err: string }>((resolve) =>
    child.on("close", (status) => resolve({ status, out, err })),
  );
}

const node = (args: readonly string[], input?: string) =>
  start(process.execPath, ["--disable-warning=ExperimentalWarning", ...args], input);

/** What takes long is not run: its help must know the options that are shown. */
async function expectFlags(script: string, shown: string): Promise<void> {
  const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  expect(scripts).toHaveProperty([script]);
  const program = {
    bench: "benchmarks/run.ts",
    "bench:peers": "benchmarks/peers/run.mjs",
    soak: "tools/soak.ts",
    web: "apps/web/scripts/web.ts",
  }[script];
  if (program === undefined) return;
  const { status, out } = await node([join(root, program), "--help"]);
  expect(status).toBe(0);
  for (const [flag] of shown.matchAll(/--[\w-]+/g)) expect(`${out} --json`).toContain(flag);
}

describe("code blocks of the documentation", () => {
  test("there are some, and each is in a language that is tested", () => {
    expect(scripts.length).toBeGreaterThan(10);
    expect(commands.length).toBeGreaterThan(5);
    const others = blocks.filter(
      ({ language, mark }) => !["ts", "tsx", "sh"].includes(language) && !(language === "html" && mark === "page"),
    );
    expect(others.map(({ where, language }) => `${where}: ${language}`)).toEqual([]);
  });

  test("all TypeScript has the right types", async () => {
    const { out } = await start(process.execPath, [
      join(root, "node_modules", "typescript", "bin", "tsc"),
      "-p",
      join(place.folder, "tsconfig.json"),
    ]);
    const named = out.replace(/(?:[\w./-]*\/)?block-(\d+)\.tsx?/g, (_, index) => scripts[Number(index)]!.where);
    expect(named).toBe("");
  });

  test.concurrent.each(scripts.map((block, index) => ({ ...block, index })).filter(({ mark }) => mark === ""))(
    "$where runs",
    async ({ index }) => {
      const { status, out, err } = await node([fileOf(index)]);
      expect({ status, err }).toEqual({ status: 0, err: "" });
      expect(out).not.toBe("");
    },
  );

  test.concurrent.for(commands)("$where: $line", async ({ line }, { skip }) => {
    const install = /^npm install (.+)$/.exec(line);
    if (install) {
      // Packed and installed by `npm run check`; here, that there are packages of these names.
      for (const name of install[1]!.split(" ")) {
        const manifest = join(place.folder, "node_modules", name, "package.json");
        expect(JSON.parse(await readFile(manifest, "utf8"))).toMatchObject({ name });
      }
      return;
    }
    const script = /^npm run (?:--silent )?(bench:report|bench:peers|bench|soak|web)(?: --(?!\S))?(.*)$/.exec(line);
    if (script) return expectFlags(script[1]!, script[2]!);
    const command = /^(?:npm run --silent doge --|npx @doge-lm\/cli|npm run(?= chat$)) (.+)$/.exec(line);
    expect(command, "a command of doge, npm run chat, or npm install").not.toBeNull();
    if (line.includes("--backend webgpu")) skip(gpu.env === undefined, gpu.why);
    const args = [...command![1]!.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
    // Ids are those of the published models' tokenizer; the demo model has fewer.
    const at = args.indexOf("--prompt-ids") + 1;
    if (at > 0) args[at] = args[at]!.replaceAll(/\d+/g, (id) => `${Number(id) % 1792}`);
    // The smallest shape for a moment: what is tested is the command.
    if (args[0] === "bench") {
      const shape = args.indexOf("--shape") + 1;
      if (/^\d+m$/.test(args[shape] ?? "")) args[shape] = "tiny";
      args.push("--prompt", "8", "--decode", "2", "--contexts", "16", "--reps", "1");
    }
    const { status, out, err } = await node([doge, ...args], args[0] === "chat" ? "Hello!\n" : "");
    expect({ status, err: status === 0 ? "" : err }).toEqual({ status: 0, err: "" });
    expect(out).not.toBe("");
  });
});
