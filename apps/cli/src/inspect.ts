// doge inspect: what a model folder holds, without running it.
import { describe, openCheckpoint } from "@doge-lm/core";
import { openSource } from "@doge-lm/core/node";
import { Command } from "commander";
import { source } from "./engine.ts";

export function inspectCommand(): Command {
  return new Command("inspect")
    .description("layout, sizes, memory per dtype and warnings of a model folder")
    .option("--model <folder or name>", "a folder with config.json and weights (default: the demo model)")
    .option("--json", "print one object")
    .action(async (flags: { model?: string; json?: boolean }) => {
      const files = await openSource(source(flags));
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
    } else if (typeof value === "number" && /bytes/i.test(prefix)) lines.push([prefix, size(value)]);
    else lines.push([prefix, String(value)]);
  };
  visit("", description);
  const width = Math.max(...lines.map(([name]) => name.length));
  return lines.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join("");
}

const spaced = (key: string): string =>
  key.replace(/([a-z])([A-Z])/g, (_, low: string, high: string) => `${low} ${high.toLowerCase()}`);

function size(bytes: number): string {
  if (bytes < 1e3) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
