// doge generate: one prompt, one continuation, as text or as one JSON object.
import { DogeError } from "@doge-lm/core";
import { Command } from "commander";
import { openDoge, reasonOf } from "./engine.ts";
import {
  idList,
  type ModelOptions,
  type SamplingFlags,
  samplingOptions,
  standardInput,
  whole,
  withModel,
  withSampling,
} from "./options.ts";

interface Flags extends ModelOptions, SamplingFlags {
  readonly prompt?: string;
  readonly promptIds?: Int32Array<ArrayBuffer>;
  readonly ignoreEos?: boolean;
  readonly logprobs?: number;
  readonly echo?: boolean;
  readonly json?: boolean;
}

export function generateCommand(): Command {
  const command = new Command("generate")
    .description("continue a prompt (from --prompt, --prompt-ids or standard input)")
    .optionsGroup("Prompt:")
    .option("--prompt <text>", 'the text to continue; "" is the beginning-of-text token alone')
    .option("--prompt-ids <ids>", "token ids, separated by commas", idList);
  withSampling(withModel(command), "the model's own, else 20")
    .option("--ignore-eos", "do not stop at the end-of-text token")
    .option("--echo", "print the prompt first; with --logprobs, ln p of its tokens too")
    .option("--logprobs <count>", "with --json: ln p of each id and of the most likely ones (at most 20)", whole)
    .option("--json", "print one object");
  return command.action(async (flags: Flags) => {
    if (flags.prompt !== undefined && flags.promptIds !== undefined) {
      throw new DogeError("invalid-argument", "--prompt and --prompt-ids exclude each other: give one of them.", {
        scope: "cli",
      });
    }
    const prompt = flags.promptIds ?? flags.prompt ?? (await standardInput());
    const doge = await openDoge(flags);
    const stop = interruptible();
    try {
      const answer = doge.generate(prompt, {
        ...samplingOptions(flags),
        ...(flags.ignoreEos ? { ignoreEos: true } : {}),
        ...(flags.echo ? { echo: true } : {}),
        ...(flags.logprobs === undefined ? {} : { logprobs: flags.logprobs }),
        signal: stop.signal,
      });
      if (!flags.json) {
        for await (const { text, ids } of answer) process.stdout.write(text ?? `${[...ids].join(" ")} `);
        process.stdout.write("\n");
        return;
      }
      const result = await answer.result();
      const { backend, device, dtype, threads, fallbacks } = doge.info();
      process.stdout.write(
        `${JSON.stringify({
          promptIds: [...result.promptIds],
          ids: [...result.ids],
          text: result.text,
          stopReason: result.stopReason,
          backend,
          device,
          dtype,
          threads,
          reason: reasonOf(doge),
          ...(fallbacks.length === 0
            ? {}
            : { fallbacks: fallbacks.map(({ kind, from, to, message }) => ({ kind, from, to, message })) }),
          ...(result.seed === undefined ? {} : { seed: result.seed }),
          drawnOn: result.drawnOn,
          timings: result.timings,
          ...(result.logprobs === undefined ? {} : { logprobs: result.logprobs }),
        })}\n`,
      );
    } finally {
      stop.release();
      await doge.close();
    }
  });
}

/** A signal that the first Ctrl-C fires: the answer ends, the program goes on to say what it has. */
export function interruptible(): { readonly signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  process.once("SIGINT", abort);
  return { signal: controller.signal, release: () => process.off("SIGINT", abort) };
}
