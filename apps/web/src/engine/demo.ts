// The demo model's files, which are part of the site: fetched from beside it, with a count of the bytes.
import config from "@doge-lm/demo-model/config.json?url";
import generationConfig from "@doge-lm/demo-model/generation_config.json?url";
import weights from "@doge-lm/demo-model/model.safetensors?url";
import tokenizer from "@doge-lm/demo-model/tokenizer.json?url";
import tokenizerConfig from "@doge-lm/demo-model/tokenizer_config.json?url";
import type { LoadProgress } from "./protocol.ts";

const ADDRESSES: Readonly<Record<string, string>> = {
  "config.json": config,
  "generation_config.json": generationConfig,
  "tokenizer.json": tokenizer,
  "tokenizer_config.json": tokenizerConfig,
  "model.safetensors": weights,
};

/** The site that the page came from does not give out the demo model. */
export class SiteUnreachable extends Error {}

/** Errors: SiteUnreachable; an abort comes as the platform's AbortError. */
export async function demoFiles(
  signal: AbortSignal,
  onProgress: (progress: LoadProgress) => void,
): Promise<Record<string, Blob>> {
  const files: Record<string, Blob> = {};
  for (const [name, address] of Object.entries(ADDRESSES)) {
    files[name] = await fetchBlob(name, address, signal, onProgress);
  }
  return files;
}

async function fetchBlob(
  file: string,
  address: string,
  signal: AbortSignal,
  onProgress: (progress: LoadProgress) => void,
): Promise<Blob> {
  const unreachable = (why: string, cause?: unknown) =>
    new SiteUnreachable(`The demo model's ${file} could not be fetched (${why}): is the site still there?`, { cause });
  let response: Response;
  try {
    response = await fetch(address, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw unreachable("no connection", error);
  }
  if (!response.ok || response.body === null) throw unreachable(`status ${response.status}`);
  const total = Number(response.headers.get("content-length") ?? 0);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let loaded = 0;
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      loaded += value.length;
      onProgress({ phase: "fetching", file, loaded, total });
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw unreachable("the connection broke", error);
  }
  return new Blob(parts);
}
