// Options that several commands share, and the readers of their values.
import { DogeError, type DType, type GenerateOptions, type Routing } from "@doge-lm/core";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type HubFlags, withHub } from "./hub.ts";

export interface ModelOptions extends HubFlags {
  readonly model?: string;
  readonly backend: string;
  readonly dtype: DType;
  readonly routing?: Routing;
  readonly threads?: number;
}

/** Add the options that choose a model and how it runs. */
export function withModel(command: Command): Command {
  const withNames = command
    .optionsGroup("Model:")
    .option(
      "--model <folder or name>",
      "a folder with config.json and weights, or a hub name (default: the demo model)",
    )
    .addOption(
      new Option("--backend <name>", "cuda, webgpu, wasm or reference; auto: the fastest here")
        .env("DOGE_BACKEND")
        .default("auto"),
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
    .option("--threads <count>", "threads that compute (default: what suits this machine)", positive);
  return withHub(withNames);
}

/** Options that shape the draw, named as in transformers. `length`: how long a text is without them. */
export function withSampling(command: Command, length: string): Command {
  return command
    .optionsGroup("Length:")
    .option("--max-new-tokens <count>", `stop after this many new tokens (default: ${length})`, whole)
    .option("--max-length <count>", "stop at this many tokens, those of the prompt included", whole)
    .option("--min-new-tokens <count>", "no end of text before this many new tokens", whole)
    .option("--min-length <count>", "no end of text before this many tokens, those of the prompt included", whole)
    .option("--eos-token-id <ids>", "ids that end the text, in place of the model's", ids)
    .option("--stop <text>", "end before this text (may repeat)", (value: string, all: string[] = []) => [
      ...all,
      value,
    ])
    .optionsGroup("Sampling:")
    .option("--do-sample", "draw instead of taking the most likely token")
    .option("--greedy", "always take the most likely token, whatever the model's own settings say")
    .option("--seed <integer>", "an unsigned 32-bit integer: the same seed draws the same text", whole)
    .option("--temperature <number>", "0 is greedy", number)
    .option("--top-k <count>", "draw from the k most likely tokens; 0: from all", whole)
    .option("--top-p <number>", "draw from the most likely tokens that make up this mass", number)
    .option("--min-p <number>", "drop tokens less likely than this share of the most likely", number)
    .option("--top-h <number>", "draw from the most likely tokens that make up this share of the entropy", number)
    .option("--typical-p <number>", "draw from the tokens of most typical information that make up this mass", number)
    .option("--epsilon-cutoff <number>", "drop tokens less likely than this", number)
    .option("--eta-cutoff <number>", "drop tokens less likely than this, or less where the entropy is high", number)
    .option("--repetition-penalty <number>", "1 is none", number)
    .addOption(valued("--no-repeat-ngram-size <count>", "no sequence of this many tokens comes twice", whole))
    .option("--bad-words <json>", "token ids that never come in this order, as [[5], [7, 8]]", json)
    .option("--sequence-bias <json>", "what to add to the score of a last id behind others, as [[[7, 8], -2.5]]", json)
    .option("--suppress-tokens <ids>", "ids that never come", ids)
    .option("--begin-suppress-tokens <ids>", "ids that are not the first new one", ids)
    .option("--forced-bos-token-id <id>", "the first new id behind a prompt of one id", whole)
    .option("--forced-eos-token-id <ids>", "the last id that fits into --max-new-tokens", ids)
    .option("--exponential-decay-length-penalty <start,factor>", "favour the end of text beyond this length", numbers)
    .optionsGroup("Output:")
    .option("--no-skip-special-tokens", "print special tokens too");
}

/** Flags by the library's option names, but for --greedy and --bad-words. */
type Given = Pick<
  GenerateOptions,
  | "maxNewTokens"
  | "maxLength"
  | "minNewTokens"
  | "minLength"
  | "doSample"
  | "temperature"
  | "topK"
  | "topP"
  | "minP"
  | "topH"
  | "typicalP"
  | "epsilonCutoff"
  | "etaCutoff"
  | "repetitionPenalty"
  | "noRepeatNgramSize"
  | "sequenceBias"
  | "suppressTokens"
  | "beginSuppressTokens"
  | "forcedBosTokenId"
  | "forcedEosTokenId"
  | "exponentialDecayLengthPenalty"
  | "eosTokenId"
  | "seed"
  | "stop"
  | "skipSpecialTokens"
>;
const names: { readonly [name in keyof Required<Given>]: true } = {
  maxNewTokens: true,
  maxLength: true,
  minNewTokens: true,
  minLength: true,
  doSample: true,
  temperature: true,
  topK: true,
  topP: true,
  minP: true,
  topH: true,
  typicalP: true,
  epsilonCutoff: true,
  etaCutoff: true,
  repetitionPenalty: true,
  noRepeatNgramSize: true,
  sequenceBias: true,
  suppressTokens: true,
  beginSuppressTokens: true,
  forcedBosTokenId: true,
  forcedEosTokenId: true,
  exponentialDecayLengthPenalty: true,
  eosTokenId: true,
  seed: true,
  stop: true,
  skipSpecialTokens: true,
};
/** Options of generate that have a flag of the same name. */
export const optionNames: readonly string[] = Object.keys(names);

/** Whether an option of the library has a flag. */
export const isFlagName = (name: string): boolean =>
  Object.hasOwn(names, name) || ["badWordsIds", "logprobs", "threads"].includes(name);

/** "--max-new-tokens" for maxNewTokens. */
export const flagOf = (name: string): string =>
  name === "badWordsIds" ? "--bad-words" : `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

export interface SamplingFlags extends Given {
  readonly greedy?: boolean;
  readonly badWords?: NonNullable<GenerateOptions["badWordsIds"]>;
}

/** The flags that were given, under the library's option names. */
export function samplingOptions(flags: SamplingFlags): GenerateOptions {
  const given = Object.fromEntries(
    Object.entries(flags).filter(([name, value]) => value !== undefined && Object.hasOwn(names, name)),
  );
  const { badWords, greedy } = flags;
  return {
    ...given,
    ...(badWords === undefined ? {} : { badWordsIds: badWords }),
    ...(greedy ? { doSample: false, temperature: 0 } : {}),
  };
}

/** An option whose name begins with "no-" without being the opposite of another. */
function valued<T>(flags: string, description: string, parse: (text: string) => T): Option {
  const option = new Option(flags, description).argParser(parse);
  option.negate = false;
  return option;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidArgumentError(`${JSON.stringify(text)} is not JSON.`);
  }
}

function numbers(text: string): number[] {
  return text.split(",").map(number);
}

function ids(text: string): number[] {
  return text.trim() === "" ? [] : text.split(",").map(whole);
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

export function positive(text: string): number {
  const value = whole(text);
  if (value < 1) throw new InvalidArgumentError(`${text} is less than 1.`);
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
