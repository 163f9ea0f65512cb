// doge inspect: what a model folder holds, without running it.
import { describe, openCheckpoint } from "@doge-lm/core";
import { Command } from "commander";
import { source } from "./engine.ts";
import { type HubFlags, openFiles, withHub } from "./hub.ts";
import { sizeText } from "./output.ts";

export function inspectCommand(): Command {
  const command = new Command("inspect")
    .description("layout, sizes, memory per dtype and warnings of a model")
    .option(
      "--model <folder or name>",
      "a folder with config.json and weights, or a hub name (default: the demo model)",
    )
    .option("--json", "print one object");
  return withHub(command).action(async (flags: HubFlags & { model?: string; json?: boolean }) => {
    const files = await openFiles(source(flags), flags);
    try {
      const description = describe(await openCheckpoint(files));
      process.stdout.write(flags.json ? `${JSON.stringify(description)}\n` : table(description));
    } finally {
      await files.close?.();
    }
  });
}

/** Nested plain data as aligned lines: "memory f32   12.3 MB". */
function table(description: object): string {
  const lines: [string, string][] = [];
  const visit = (prefix: string, value: unknown): void => {
    if (value === null || value === undefined) lines.push([prefix, "none"]);
    else if (Array.isArray(value)) {
      if (value.length === 0) lines.push([prefix, "none"]);
      for (const entry of value)
        lines.push([prefix, typeof entry === "object" ? JSON.stringify(entry) : String(entry)]);
    } else if (typeof value === "object") {
      for (const [key, entry] of Object.entries(value)) visit(`${prefix} ${spaced(key)}`.trim(), entry);
    } else if (typeof value === "number" && /bytes/i.test(prefix)) lines.push([prefix, sizeText(value)]);
    else lines.push([prefix, String(value)]);
  };
  visit("", description);
  const width = Math.max(...lines.map(([name]) => name.length));
  return lines.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join("");
}

const spaced = (key: string): string =>
  key.replace(/([a-z])([A-Z])/g, (_, low: string, high: string) => `${low} ${high.toLowerCase()}`);
