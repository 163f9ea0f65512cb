// doge backends: what can run here and how fast, what would be chosen, and why not the rest.
import { openCheckpoint, survey, type Tried } from "@doge-lm/core";
import { Command } from "commander";
import { backends, source } from "./engine.ts";
import { openFiles } from "./hub.ts";
import { type ModelOptions, positive, withModel } from "./options.ts";

interface Flags extends ModelOptions {
  readonly afresh?: boolean;
  readonly budget?: number;
  readonly json?: boolean;
}

export function backendsCommand(): Command {
  const command = new Command("backends").description(
    "list the backends: whether they can run on this machine, how fast, and which one is chosen for a model",
  );
  return withModel(command)
    .optionsGroup("Output:")
    .option("--afresh", "measure again, whatever is kept of earlier measurements")
    .option("--budget <milliseconds>", "for measuring all of them together (default: 300)", positive)
    .option("--json", "print an array of objects")
    .addHelpText(
      "after",
      `
Rates are estimates of decoding one text, for the model and the dtype that are asked for. They come from a calibration of 300 ms at
most, or were seen in use, and are kept in the user's cache folder. "doge bench" measures exactly.`,
    )
    .action(async (flags: Flags) => {
      const { providers, choosing } = await backends(flags);
      const files = await openFiles(source(flags), flags);
      const { config } = await openCheckpoint(files).finally(() => files.close?.());
      const { dtype, routing, afresh, budget } = flags;
      const tried = await survey(providers, { ...choosing, config, dtype, routing, afresh, budget });
      if (flags.json) process.stdout.write(`${JSON.stringify(tried.map(plain))}\n`);
      else process.stdout.write(`${tried.map(lines).join("")}${note(flags, tried)}`);
    });
}

/** One backend as scripts read it. */
function plain({ name, availability, state, reason, rate }: Tried) {
  const { available, ...rest } = availability;
  const speed = rate === undefined ? {} : rate;
  return { name, available, ...rest, state, chosen: state === "chosen", reason, ...speed };
}

/** One backend as people read it: the chosen one has a star. */
function lines({ name, availability, state, reason, rate }: Tried): string {
  const head = `${state === "chosen" ? "*" : " "} ${name.padEnd(10)} `;
  if (!availability.available) return `${head}${state === "broken" ? "broken" : "unavailable"}: ${availability.why}\n`;
  const speed =
    rate === undefined
      ? ""
      : `${Number(rate.tokensPerSecond.toPrecision(3))} tokens/s${rate.real ? " (seen in use)" : rate.kept ? " (kept)" : ""}. `;
  const device = `${availability.device} (${availability.dtypes.join(", ")})`;
  return `${head}${device}\n${" ".repeat(head.length)}${speed}${state === "chosen" ? "Chosen: " : ""}${reason}\n`;
}

function note({ model, dtype }: Flags, tried: readonly Tried[]): string {
  if (tried.every(({ rate }) => rate === undefined)) return "";
  const what = `decoding ${model ?? "the demo model"} with ${dtype} weights`;
  const kept = tried.some(({ rate }) => rate?.kept) ? "; kept ones are measured again with --afresh" : "";
  return `Rates are estimates of ${what}${kept}.\n`;
}
