// `npm run bench:peers`: Doge and the engines that are installed here, on the same amount of work. All of one group are loaded at
// once and take turns, repetition by repetition, so that what disturbs the machine disturbs all of them; the medians of one run
// are compared, never figures of different days.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = fileURLToPath(new URL(".", import.meta.url));
const string = { type: "string" };
const { values: flags } = parseArgs({
  options: {
    shape: { ...string, default: "60m" },
    threads: { ...string, default: "1" },
    reps: { ...string, default: "5" },
    prompt: { ...string, default: "512" },
    decode: { ...string, default: "128" },
    contexts: { ...string, default: "16,512" },
    dtypes: { ...string, default: "f32,q8,q4" },
    peers: { ...string, default: "llama.cpp,onnxruntime-node,onnxruntime-web,wllama,PyTorch" },
    models: { ...string, default: join(here, "models") },
    python: { ...string, default: "python3" },
    chromium: { ...string, default: "/usr/bin/chromium" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(`Doge beside other engines, in turn, in one run.

  npm run --silent bench:peers -- --shape 60m --threads 1 --reps 5 --json

  --shape 60m          tiny, 20m, 60m, 160m or 320m; stand-ins are made on first use by checkpoints.py
  --threads 1          of every engine
  --reps 5             repetitions; medians count
  --prompt 512         tokens of the prompt
  --decode 128         tokens drawn for each timing
  --contexts 16,512    where decoding is timed: over the last tokens that end there; 16 is behind a prompt of 16
  --dtypes f32,q8,q4   groups that are compared
  --peers NAMES        llama.cpp, onnxruntime-node, onnxruntime-web, wllama, PyTorch
  --models FOLDER      where the stand-ins are
  --python python3     for PyTorch and for making the stand-ins
  --chromium PATH      for wllama
  --json               one object a line`);
  process.exit(0);
}
const { shape } = flags;
const [threads, reps, prompt, decode] = ["threads", "reps", "prompt", "decode"].map((name) => Number(flags[name]));
const contexts = flags.contexts.split(",").map(Number);
/** Tokens before the first one drawn: as in `doge bench`. */
const startOf = (context) => (context === 16 ? 16 : Math.max(1, context - decode - 1));

const say = (line) => process.stderr.write(`${line}\n`);
const module = (name) => existsSync(join(here, "node_modules", name));
const npm = "run ONNXRUNTIME_NODE_INSTALL=skip npm install in benchmarks/peers";
const python = (...names) => spawnSync(flags.python, ["-c", `import ${names.join(", ")}`]).status === 0;
const pip = "run pip install -r benchmarks/peers/requirements.txt, and name that Python by --python";

const node = (script, ...args) => [process.execPath, join(here, script), ...args];
/** What each engine calls a dtype, how it is started, and what it needs. */
const engines = {
  "llama.cpp": {
    kinds: { f32: "f32", bf16: "f16", q8: "q8_0", q4: "q4_0" },
    command: node("llamacpp.mjs"),
    form: "gguf",
    missing: () => (module("node-llama-cpp") ? undefined : npm),
  },
  "onnxruntime-node": {
    kinds: { f32: "fp32", q8: "int8", q4: "q4" },
    command: node("onnxruntime.mjs", "--runtime", "node"),
    form: "onnx",
    missing: () => (module("onnxruntime-node") ? undefined : npm),
  },
  "onnxruntime-web": {
    kinds: { f32: "fp32", q8: "int8", q4: "q4" },
    command: node("onnxruntime.mjs", "--runtime", "web"),
    form: "onnx",
    missing: () => (module("onnxruntime-web") ? undefined : npm),
  },
  wllama: {
    kinds: { f32: "f32", bf16: "f16", q8: "q8_0", q4: "q4_0" },
    command: node("wllama.mjs", "--chromium", flags.chromium),
    form: "gguf",
    missing() {
      if (!module("@wllama/wllama") || !module("playwright-core")) return npm;
      return existsSync(flags.chromium) ? undefined : "install Chromium, and name it by --chromium";
    },
  },
  PyTorch: {
    kinds: { f32: "f32", bf16: "bf16" },
    command: [flags.python, join(here, "pytorch.py")],
    form: "hf",
    missing: () => (python("torch", "transformers") ? undefined : pip),
  },
};
const ours = [
  { name: "doge", flags: [] },
  { name: "doge revectorized", flags: ["--experimental-wasm-revectorize"] },
];

/** The files of the shape in this format, made where they are not there. */
const forms = { gguf: `llama-${shape}-q4_0.gguf`, onnx: `llama-${shape}-q4.onnx`, hf: `llama-${shape}/config.json` };
function ensureModels(form) {
  if (existsSync(join(flags.models, forms[form]))) return undefined;
  if (!python("numpy", form === "hf" ? "safetensors" : form, ...(form === "onnx" ? ["onnxruntime", "onnx_ir"] : [])))
    return pip;
  say(`making the ${form} stand-ins of ${shape} (once)`);
  const args = [join(here, "checkpoints.py"), "--shape", shape, "--out", flags.models, "--formats", form];
  return spawnSync(flags.python, args, { stdio: ["ignore", 2, "ignore"] }).status === 0
    ? undefined
    : "checkpoints.py failed; run it by hand to see why";
}

/** A started peer: ask(line) gives its answer. Rejects when it ends instead. */
async function start([program, ...args], kind) {
  const child = spawn(
    program,
    [...args, "--shape", shape, "--kind", kind, "--threads", String(threads), "--models", flags.models],
    { stdio: ["pipe", "pipe", "pipe"] },
  );
  let errors = "";
  child.stderr.on("data", (data) => {
    errors = (errors + data).slice(-2000);
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const read = async () => {
    // Libraries may print lines of their own.
    for (let line = await lines.next(); !line.done; line = await lines.next()) {
      if (line.value.startsWith("{")) return JSON.parse(line.value);
    }
    const told = errors.split("\n");
    throw new Error(
      told.findLast((text) => /error/i.test(text))?.trim() || told.at(-1) || "it ended without an answer",
    );
  };
  const ended = new Promise((resolve) => child.once("close", resolve));
  return {
    ...(await read()),
    ask(line) {
      child.stdin.write(`${line}\n`);
      return read();
    },
    async stop() {
      child.stdin.end();
      const timer = setTimeout(() => child.kill(), 5000);
      await ended;
      clearTimeout(timer);
    },
  };
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};

/** Those of one dtype, timed in turn. */
async function group(dtype, names) {
  const started = [];
  for (const { name, flags: more } of ours) {
    const command = [process.execPath, "--disable-warning=ExperimentalWarning", ...more, join(here, "doge.ts")];
    try {
      started.push({ kind: dtype, ...(await start(command, dtype)) });
    } catch (error) {
      say(`${name} ${dtype}: ${error.message}`);
    }
  }
  if (started.length === 0) return [];
  for (const name of names) {
    const kind = engines[name].kinds[dtype];
    if (kind === undefined) continue;
    const missing = ensureModels(engines[name].form);
    try {
      if (missing !== undefined) throw new Error(missing);
      started.push({ kind, ...(await start(engines[name].command, kind)) });
    } catch (error) {
      say(`${name} ${kind}: ${error.message}`);
    }
  }
  const tasks = [
    { name: "prefill", line: `prefill ${prompt}`, tokens: prompt },
    ...contexts.map((context) => ({
      name: String(context),
      line: `decode ${startOf(context)} ${decode}`,
      tokens: decode,
    })),
  ];
  const times = started.map(() => tasks.map(() => []));
  for (let rep = 0; rep < reps; rep++) {
    for (const [task, { line }] of tasks.entries()) {
      for (const [index, peer] of started.entries()) {
        const { milliseconds, error } = await peer.ask(line);
        if (error !== undefined) throw new Error(`${peer.name}: ${error}`);
        times[index][task].push(milliseconds);
      }
    }
    say(`${dtype}: repetition ${rep + 1} of ${reps}`);
  }
  for (const peer of started) await peer.stop();
  return started.map(({ name, version, kind }, index) => {
    const rates = tasks.map(({ tokens }, task) => (1000 * tokens) / median(times[index][task]));
    return {
      ...{ engine: name, version, dtype, kind, shape, threads, reps, prompt, decode },
      prefillTokensPerSecond: rates[0],
      decodeTokensPerSecond: Object.fromEntries(contexts.map((context, at) => [context, rates[at + 1]])),
      samples: Object.fromEntries(tasks.map((task, at) => [task.name, times[index][at]])),
    };
  });
}

/** Doge over each other engine of the dtype, and our fastest over the fastest of those that run in WebAssembly. */
function ratiosOf(results) {
  const measures = ["prefill", ...contexts.map(String)];
  const rate = (result, measure) =>
    measure === "prefill" ? result.prefillTokensPerSecond : result.decodeTokensPerSecond[measure];
  const what = (measure) => (measure === "prefill" ? `prefill ${prompt}` : `decode ${measure}`);
  const isOurs = ({ engine }) => engine.startsWith("doge");
  const named = ({ engine, kind }) => `${engine} ${kind}`;
  const ratios = [];
  for (const measure of measures) {
    for (const own of results.filter(isOurs)) {
      for (const other of results.filter((result) => !isOurs(result) && result.dtype === own.dtype)) {
        ratios.push({
          ratio: what(measure),
          of: named(own),
          to: named(other),
          value: rate(own, measure) / rate(other, measure),
        });
      }
    }
    const best = (list) =>
      list.reduce((a, b) => (a === undefined || rate(b, measure) > rate(a, measure) ? b : a), undefined);
    const fastest = best(results.filter(({ engine }) => engine === "doge"));
    for (const engine of ["onnxruntime-web", "wllama"]) {
      const theirs = best(results.filter((result) => result.engine === engine));
      if (fastest === undefined || theirs === undefined) continue;
      ratios.push({
        ...{ ratio: `${what(measure)}, fastest of each`, of: named(fastest), to: named(theirs) },
        value: rate(fastest, measure) / rate(theirs, measure),
      });
    }
  }
  return ratios;
}

const names = flags.peers.split(",").filter((name) => {
  if (!Object.hasOwn(engines, name)) {
    say(`There is no peer ${name}: known are ${Object.keys(engines).join(", ")}.`);
    process.exit(1);
  }
  const missing = engines[name].missing();
  if (missing !== undefined) say(`${name} is not installed: ${missing}.`);
  return missing === undefined;
});
const machine = { machine: cpus()[0]?.model.trim(), cores: cpus().length, node: process.versions.node };
if (flags.json) console.log(JSON.stringify(machine));
else
  console.log(
    `${machine.machine}, ${machine.cores} cores, Node ${machine.node}; ${shape}, ${threads} ${threads === 1 ? "thread" : "threads"}\n`,
  );
const results = [];
for (const dtype of flags.dtypes.split(",")) {
  for (const result of await group(dtype, names)) {
    results.push(result);
    if (flags.json) console.log(JSON.stringify(result));
    else {
      const rates = [
        result.prefillTokensPerSecond,
        ...contexts.map((context) => result.decodeTokensPerSecond[context]),
      ];
      console.log(
        `${`${result.engine} ${result.kind}`.padEnd(26)}${rates.map((rate) => rate.toFixed(1).padStart(10)).join("")}`,
      );
    }
  }
}
if (!flags.json) console.log("");
for (const ratio of ratiosOf(results)) {
  console.log(
    flags.json
      ? JSON.stringify(ratio)
      : `${ratio.value.toFixed(2).padStart(7)}  ${ratio.ratio}: ${ratio.of} over ${ratio.to}`,
  );
}
