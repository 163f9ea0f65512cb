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
import { revectorize } from "@doge-lm/wasm/revectorize";
import { type WebgpuOptions, webgpu } from "@doge-lm/webgpu";
import { openFiles } from "./hub.ts";
import type { ModelOptions } from "./options.ts";
import { debug } from "./watch.ts";

/** Every backend of this program, the preferred first. GPUs stand behind the CPU until they have been measured on hardware; one that is
 *  none is taken only when `asked` for by name. */
export function providers(
  options: { readonly threads?: number; readonly onDevice?: WebgpuOptions["onDevice"] },
  asked?: string,
): Provider[] {
  return [
    wasm(options.threads === undefined ? {} : { threads: options.threads }),
    webgpu({ software: asked === "webgpu", onDevice: options.onDevice }),
    cuda(),
    reference(),
  ];
}

/** The backends that `--backend` allows, in the order they are tried. The process is this program's own, so V8 is asked for wider
 *  vectors. */
export async function chosen(
  options: Pick<ModelOptions, "backend" | "threads"> & { readonly onDevice?: WebgpuOptions["onDevice"] },
): Promise<Provider[]> {
  const all = providers(options, options.backend);
  if (options.backend === "auto" || options.backend === "wasm") await revectorize();
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
  const backend = await chosen(options);
  const files = await openFiles(source(options), options);
  try {
    const doge = await loadDoge(files, { backend, dtype: options.dtype, routing: options.routing });
    const { device, dtype, routing, loadMs } = doge.info();
    debug(1, `${files.name} on ${device}, ${dtype}, routing ${routing}, loaded in ${loadMs.toFixed(0)} ms`);
    return doge;
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
    const { backend } = await choose(await chosen(options));
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
