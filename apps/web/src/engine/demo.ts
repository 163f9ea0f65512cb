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
  // All are asked for at once: on a slow network it is asking that takes the time.
  const answers = await Promise.all(
    Object.entries(ADDRESSES).map(async ([file, address]) => ({ file, response: await ask(file, address, signal) })),
  );
  const total = answers.reduce((sum, { response }) => sum + sizeOf(response), 0);
  let loaded = 0;
  const files: Record<string, Blob> = {};
  for (const { file, response } of answers) {
    const counts = sizeOf(response) > 0;
    files[file] = await read(file, response, signal, (bytes) => {
      if (counts) loaded += bytes;
      onProgress({ phase: "fetching", file, loaded, total });
    });
  }
  return files;
}

/** Bytes of what comes, where the site tells: of what it compresses, it tells another number. */
const sizeOf = ({ headers }: Response): number =>
  headers.has("content-encoding") ? 0 : Number(headers.get("content-length") ?? 0);

const unreachable = (file: string, why: string, cause?: unknown) =>
  new SiteUnreachable(`The demo model's ${file} could not be fetched (${why}): is the site still there?`, { cause });

async function ask(file: string, address: string, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw unreachable(file, "no connection", error);
  }
  if (!response.ok || response.body === null) throw unreachable(file, `status ${response.status}`);
  return response;
}

async function read(
  file: string,
  { body }: Response,
  signal: AbortSignal,
  onBytes: (count: number) => void,
): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const reader = body!.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      onBytes(value.length);
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw unreachable(file, "the connection broke", error);
  }
  return new Blob(parts);
}
