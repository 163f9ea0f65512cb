// doge bench: how fast a shape of Doge runs here, beside what this machine could do.
import { DogeError, type DType, type Routing } from "@doge-lm/core";
import { Command, InvalidArgumentError, Option } from "commander";
import { backends } from "./engine.ts";
import { whole } from "./options.ts";

interface Flags {
  readonly shape: string;
  readonly moe?: boolean;
  readonly backend: string;
  readonly dtype: DType;
  readonly routing?: Routing;
  readonly threads?: number;
  readonly prompt: number;
  readonly decode: number;
  readonly contexts: readonly number[];
  readonly rows: number;
  readonly reps: number;
  readonly json?: boolean;
}

export function benchCommand(): Command {
  return new Command("bench")
    .description("time prompts and decoding of a shape of Doge with random weights, beside this machine's ceilings")
    .optionsGroup("Model:")
    .option(
      "--shape <shape or folder>",
      "20m, 60m, 160m or 320m (or tiny, to try this out), or a model's folder",
      "60m",
    )
    .option("--moe", "with the experts of that size: 1024 of which 16 for 20m, 4096/32 for 60m, 9216/48 for 160m")
    .addOption(
      new Option("--backend <name>", "auto, cuda, webgpu, wasm or reference").env("DOGE_BACKEND").default("auto"),
    )
    .addOption(
      new Option("--dtype <dtype>", "how weights are held").choices(["f32", "bf16", "q8", "q4"]).default("f32"),
    )
    .addOption(
      new Option("--routing <routing>", "mixture of experts only: as upstream, or causal").choices([
        "reference",
        "per-token",
      ]),
    )
    .option("--threads <count>", "threads of the backend", whole)
    .optionsGroup("What is timed:")
    .option("--prompt <count>", "tokens of the prompt", positive, 512)
    .option("--decode <count>", "tokens drawn for each timing", positive, 128)
    .option(
      "--contexts <counts>",
      "where decoding is timed: over the last tokens that end there; 16 is behind a prompt of 16",
      positives,
      [16, 512, 2048],
    )
    .option("--rows <count>", "sequences that step together; rates are totals over them", positive, 1)
    .option("--reps <count>", "repetitions; the median counts", positive, 5)
    .optionsGroup("Output:")
    .option("--json", "print one object")
    .addHelpText(
      "after",
      `
Weights are seeded and random, of the published shape in the layout of the published files (bf16), and made in memory: nothing is
fetched or written. Every rate is given beside its ceiling: a WebAssembly loop that only loads as many bytes as a token reads, and
one that only multiplies and adds, on as many threads; on a GPU, two such loops of WGSL, by its own timestamps where it has them, or of CUDA, and
the dispatches, submits and bytes that a token takes. The hash is of the logits: two runs with the same hash computed the same.

Examples:
  doge bench --shape 60m --dtype q8
  doge bench --shape 60m --moe --dtype q8 --rows 8 --contexts 16,512
  doge bench --shape 20m --backend webgpu --prompt 64 --decode 16 --contexts 16,128 --reps 3
  doge bench --shape ./Doge-60M-Instruct --backend reference --prompt 16 --decode 8 --contexts 16 --reps 1`,
    )
    .action(async (flags: Flags) => {
      const { backend, threads, json = false, moe = false, routing, ...rest } = flags;
      const [{ bench }, { table }, { Watch }] = await Promise.all([
        import("./bench/run.ts"),
        import("./bench/table.ts"),
        import("./bench/gpu.ts"),
      ]);
      const { isTTY } = process.stderr;
      const show = (line: string) => isTTY && process.stderr.write(`\r\u001b[K${line}`);
      try {
        const watch = new Watch();
        const own = threads === undefined ? {} : { threads };
        const from = await backends({ backend, ...own, onDevice: watch.onDevice, onMeter: watch.onMeter });
        const result = await bench({ ...rest, ...from, moe, routing, watch, tell: show });
        show("");
        process.stdout.write(json ? `${JSON.stringify(result)}\n` : table(result));
      } finally {
        show("");
      }
    });
}

function positive(text: string): number {
  const value = whole(text);
  if (value < 1) throw new InvalidArgumentError(`${text} must be 1 or more.`);
  return value;
}

function positives(text: string): number[] {
  const values = [...new Set(text.split(",").map(positive))].sort((a, b) => a - b);
  if (values.length === 0) throw new DogeError("invalid-argument", "--contexts is empty.", { scope: "cli" });
  return values;
}
