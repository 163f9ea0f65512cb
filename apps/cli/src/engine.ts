// From flags to something that runs: which backends exist, which model folder is meant, and how it is opened.
import { fileURLToPath } from "node:url";
import {
  type Backend,
  type Checkpoint,
  choose,
  type Doge,
  DogeError,
  loadDoge,
  type Model,
  openCheckpoint,
  type Provider,
} from "@doge-lm/core";
import { cuda } from "@doge-lm/cuda";
import { demoModel } from "@doge-lm/demo-model";
import { reference } from "@doge-lm/reference";
import { wasm } from "@doge-lm/wasm";
import { openFiles } from "./hub.ts";
import type { ModelOptions } from "./options.ts";

/** Every backend of this program, the preferred first. CUDA stands behind the CPU until it has been measured on hardware. */
export function providers(options: { readonly threads?: number }): Provider[] {
  return [wasm(options.threads === undefined ? {} : { threads: options.threads }), cuda(), reference()];
}

/** The backends that `--backend` allows, in the order they are tried. */
function chosen(options: Pick<ModelOptions, "backend" | "threads">): Provider[] {
  const all = providers(options);
  if (options.backend === "auto") return all;
  const found = all.filter((provider) => provider.name === options.backend);
  if (found.length > 0) return found;
  const names = ["auto", ...all.map((provider) => provider.name)].join(", ");
  throw new DogeError(
    "invalid-argument",
    `There is no backend ${JSON.stringify(options.backend)}: choose one of ${names}.`,
    {
      scope: "cli",
    },
  );
}

/** The folder or name that `--model` means. */
export const source = (options: { readonly model?: string }): string => options.model ?? fileURLToPath(demoModel);

export async function openDoge(options: ModelOptions): Promise<Doge> {
  const backend = chosen(options);
  const files = await openFiles(source(options), options);
  try {
    return await loadDoge(files, { backend, dtype: options.dtype, routing: options.routing });
  } finally {
    await files.close?.();
  }
}

export interface OpenModel {
  readonly checkpoint: Checkpoint;
  readonly backend: Backend;
  readonly model: Model;
  close(): Promise<void>;
}

/** The bare model, for commands that look at numbers. */
export async function openModel(options: ModelOptions): Promise<OpenModel> {
  const files = await openFiles(source(options), options);
  try {
    const checkpoint = await openCheckpoint(files);
    const { backend } = await choose(chosen(options));
    const model = await backend.load(checkpoint, { dtype: options.dtype, routing: options.routing });
    return {
      checkpoint,
      backend,
      model,
      async close() {
        model.close();
        await backend.close();
        await files.close?.();
      },
    };
  } catch (error) {
    await files.close?.();
    throw error;
  }
}
