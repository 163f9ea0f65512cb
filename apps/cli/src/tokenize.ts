// doge tokenize: strings to ids and back, as transformers' encode and decode do it.
import { createTokenizer, DogeError, readJson, type Tokenizer } from "@doge-lm/core";
import { Command } from "commander";
import { source } from "./engine.ts";
import { type HubFlags, openFiles, withHub } from "./hub.ts";
import { standardInput } from "./options.ts";

interface Flags extends HubFlags {
  readonly model?: string;
  readonly tokenizer?: string;
  readonly decode?: boolean;
  readonly skipSpecial?: boolean;
}

export function tokenizeCommand(): Command {
  const command = new Command("tokenize")
    .description("read a JSON array of strings, print the array of their id arrays")
    .option("--model <folder or name>", "the model whose tokenizer to use (default: the demo model)")
    .option("--tokenizer <folder>", "a folder with tokenizer.json")
    .option("--decode", "the other way: an array of id arrays in, an array of strings out")
    .option("--skip-special", "with --decode: leave special tokens out");
  return withHub(command).action(async (flags: Flags) => {
    const tokenizer = await openTokenizer(flags.tokenizer ?? source(flags), flags);
    const input = parse(await standardInput());
    const output = flags.decode
      ? input.map((ids, index) => tokenizer.decode(idsAt(ids, index), { skipSpecial: flags.skipSpecial === true }))
      : input.map((text, index) => [...tokenizer.encode(textAt(text, index))]);
    process.stdout.write(`${JSON.stringify(output)}\n`);
  });
}

async function openTokenizer(folder: string, flags: HubFlags): Promise<Tokenizer> {
  const files = await openFiles(folder, flags, { weights: false });
  try {
    const names = await files.list();
    if (!names.includes("tokenizer.json")) {
      throw new DogeError("tokenizer-missing", `There is no tokenizer.json in ${files.name}.`, { scope: "cli" });
    }
    const config = names.includes("tokenizer_config.json") ? await readJson(files, "tokenizer_config.json") : undefined;
    return createTokenizer(await readJson(files, "tokenizer.json"), config);
  } finally {
    await files.close?.();
  }
}

const fault = (sentence: string): DogeError => new DogeError("invalid-argument", sentence, { scope: "cli" });

function parse(text: string): unknown[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw fault(`Standard input is not JSON: ${(error as Error).message}.`);
  }
  if (!Array.isArray(value)) throw fault("Standard input is JSON, but not an array.");
  return value;
}

function textAt(value: unknown, index: number): string {
  if (typeof value !== "string") throw fault(`Entry ${index} of the array is ${JSON.stringify(value)}, not a string.`);
  return value;
}

function idsAt(value: unknown, index: number): number[] {
  if (!Array.isArray(value) || !value.every(Number.isInteger))
    throw fault(`Entry ${index} of the array is not an array of ids.`);
  return value as number[];
}
