// What the commands share about models by name: their flags, the bar that shows a download, and opening them.
import type { Files, HubOptions, Progress } from "@doge-lm/core";
import { openSource } from "@doge-lm/core/node";
import type { Command } from "commander";
import { sizeText } from "./output.ts";

export interface HubFlags {
  readonly revision?: string;
  readonly endpoint?: string;
  readonly offline?: boolean;
}

/** Add the options that say where and how a model is fetched by name. */
export function withHub(command: Command): Command {
  return command
    .option("--revision <revision>", "of a hub's model: a branch, a tag or a commit (default: main)")
    .option("--endpoint <url>", "the hub (also: HF_ENDPOINT; default: https://huggingface.co)")
    .option("--offline", "touch no network: the model must be in the cache (also: HF_HUB_OFFLINE=1)");
}

/** The files of a folder or of a hub's model, with a bar while they come and notices on standard error. */
export async function openFiles(source: string, flags: HubFlags, more: HubOptions = {}): Promise<Files> {
  const bar = progressBar(process.stderr);
  const { revision, endpoint, offline } = flags;
  try {
    const files = await openSource(source, { revision, endpoint, offline, onProgress: bar.show, ...more });
    bar.clear();
    for (const notice of files.notices ?? []) process.stderr.write(`${notice}\n`);
    return { ...files, reopen: () => openFiles(source, flags, more) };
  } finally {
    bar.clear();
  }
}

/** One line that shows how far a download is, in a terminal; elsewhere nothing. */
export function progressBar(stream: NodeJS.WriteStream): { show(progress: Progress): void; clear(): void } {
  let shown = "";
  let at = 0;
  return {
    show({ file, overall }) {
      if (!stream.isTTY || overall === undefined || overall.total === 0) return;
      const now = performance.now();
      if (overall.loaded < overall.total && now - at < 50) return;
      at = now;
      const share = overall.loaded / overall.total;
      const width = 24;
      const bar = "#".repeat(Math.round(share * width)).padEnd(width, "-");
      const line = `[${bar}] ${String(Math.floor(share * 100)).padStart(3)}% ${sizeText(overall.loaded)} of ${sizeText(overall.total)}  ${file}`;
      shown = line.slice(0, Math.max(20, (stream.columns ?? 80) - 1));
      stream.write(`\r\u001b[K${shown}`);
    },
    clear() {
      if (shown !== "") stream.write("\r\u001b[K");
      shown = "";
    },
  };
}
