// doge logits: the numbers themselves, for comparing engines.
import { writeFileSync } from "node:fs";
import { DogeError } from "@doge-lm/core";
import { Command } from "commander";
import { openModel } from "./engine.ts";
import { idList, type ModelOptions, withModel } from "./options.ts";
import { hashOf } from "./output.ts";

interface Flags extends ModelOptions {
  readonly promptIds: Int32Array<ArrayBuffer>;
  readonly all?: boolean;
  readonly out: string;
  readonly json?: boolean;
}

export function logitsCommand(): Command {
  const command = new Command("logits")
    .description("write the logits that follow a prompt as little-endian float32")
    .requiredOption("--prompt-ids <ids>", "token ids, separated by commas", idList)
    .option("--all", "the logits after every position, not only the last")
    .requiredOption("--out <file>", "where to write float32 [positions, vocabulary]")
    .option("--json", "print one object");
  return withModel(command).action(async (flags: Flags) => {
    const opened = await openModel(flags);
    try {
      const row = { sequence: opened.model.sequence(), tokens: flags.promptIds };
      const logits = flags.all
        ? (await opened.model.inspect([row], ["logits"]))[0]!.get("logits")!.data
        : (await opened.model.forward([row]))[0]!;
      write(flags.out, new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength));
      const shape = [flags.all ? flags.promptIds.length : 1, opened.model.config.vocabSize];
      const hash = hashOf(logits);
      process.stdout.write(
        flags.json
          ? `${JSON.stringify({ shape, hash, file: flags.out })}\n`
          : `shape [${shape.join(", ")}] hash ${hash}\n`,
      );
    } finally {
      await opened.close();
    }
  });
}

function write(file: string, bytes: Uint8Array): void {
  try {
    writeFileSync(file, bytes);
  } catch (cause) {
    const why = (cause as Error).message;
    throw new DogeError("invalid-argument", `The logits were not written: ${why}.`, { scope: "cli", cause });
  }
}
