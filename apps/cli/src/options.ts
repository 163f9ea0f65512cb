// Options that several commands share, and the readers of their values.
import { DogeError, type DType, type Routing } from "@doge-lm/core";
import { type Command, InvalidArgumentError, Option } from "commander";

export interface ModelOptions {
  readonly model?: string;
  readonly backend: string;
  readonly dtype: DType;
  readonly routing?: Routing;
  readonly threads?: number;
}

/** Add the options that choose a model and how it runs. */
export function withModel(command: Command): Command {
  return command
    .option(
      "--model <folder or name>",
      "a folder with config.json and weights, or a hub name (default: the demo model)",
    )
    .addOption(new Option("--backend <name>", "auto, wasm or reference").env("DOGE_BACKEND").default("auto"))
    .addOption(
      new Option("--dtype <dtype>", "how weights are held").choices(["f32", "bf16", "q8", "q4"]).default("f32"),
    )
    .addOption(
      new Option("--routing <routing>", "mixture of experts only: as upstream, or causal").choices([
        "reference",
        "per-token",
      ]),
    )
    .option("--threads <count>", "threads of the backend", whole);
}

/** Options that shape the draw, named as in transformers. */
export function withSampling(command: Command): Command {
  return command
    .option("--max-new-tokens <count>", "stop after this many new tokens", whole)
    .option("--do-sample", "draw instead of taking the most likely token")
    .option("--greedy", "always take the most likely token, whatever the model's own settings say")
    .option("--temperature <number>", "0 is greedy", number)
    .option("--top-k <count>", "draw from the k most likely tokens; 0: from all", whole)
    .option("--top-p <number>", "draw from the most likely tokens that make up this mass", number)
    .option("--min-p <number>", "drop tokens less likely than this share of the most likely", number)
    .option("--repetition-penalty <number>", "1 is none", number)
    .option("--seed <integer>", "an unsigned 32-bit integer: the same seed draws the same text", whole)
    .option("--stop <text>", "end before this text (may repeat)", (value: string, all: string[] = []) => [
      ...all,
      value,
    ]);
}

export interface SamplingFlags {
  readonly maxNewTokens?: number;
  readonly doSample?: boolean;
  readonly greedy?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: number;
  readonly stop?: string[];
}

/** The flags that were given, under the library's option names. */
export function samplingOptions(flags: SamplingFlags): Omit<SamplingFlags, "greedy"> {
  const names = [
    "maxNewTokens",
    "doSample",
    "temperature",
    "topK",
    "topP",
    "minP",
    "repetitionPenalty",
    "seed",
    "stop",
  ] as const;
  const given = Object.fromEntries(names.flatMap((name) => (flags[name] === undefined ? [] : [[name, flags[name]]])));
  return flags.greedy ? { ...given, doSample: false, temperature: 0 } : given;
}

function number(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isNaN(value)) throw new InvalidArgumentError(`${JSON.stringify(text)} is not a number.`);
  return value;
}

export function whole(text: string): number {
  const value = number(text);
  if (!Number.isInteger(value)) throw new InvalidArgumentError(`${text} is not a whole number.`);
  return value;
}

/** "0,5,9" as ids. */
export function idList(text: string): Int32Array<ArrayBuffer> {
  if (text.trim() === "")
    throw new DogeError("empty-prompt", "--prompt-ids is empty: give at least one id.", { scope: "cli" });
  return Int32Array.from(text.split(","), (part) => {
    const value = part.trim() === "" ? Number.NaN : Number(part);
    if (!Number.isInteger(value) || value < 0 || value > 0x7fffffff) {
      throw new DogeError("invalid-token", `--prompt-ids holds ${JSON.stringify(part)}, which is not a token id.`, {
        scope: "cli",
      });
    }
    return value;
  });
}

/** All of standard input as text. */
export async function standardInput(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}
