// doge backends: what can run here, and why the rest cannot.
import { revectorize } from "@doge-lm/wasm/revectorize";
import { Command } from "commander";
import { providers } from "./engine.ts";

export function backendsCommand(): Command {
  return new Command("backends")
    .description("list the backends and whether they can run on this machine")
    .option("--json", "print an array of objects")
    .action(async (flags: { json?: boolean }) => {
      const list = [];
      await revectorize();
      for (const provider of providers({})) {
        try {
          const { available, ...rest } = await provider.probe();
          list.push({ name: provider.name, available, ...rest });
        } catch (error) {
          list.push({ name: provider.name, available: false, code: "broken", why: (error as Error).message });
        }
      }
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(list)}\n`);
        return;
      }
      for (const entry of list) {
        const detail = "device" in entry ? `${entry.device} (${entry.dtypes.join(", ")})` : `unavailable: ${entry.why}`;
        process.stdout.write(`${entry.name.padEnd(12)}${detail}\n`);
      }
    });
}
