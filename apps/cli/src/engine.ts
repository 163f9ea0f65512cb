// From flags to something that runs: which backends exist, which model folder is meant, and how it is opened.
import { fileURLToPath } from "node:url";
import {
  type Backend,
  type Checkpoint,
  choose,
  type Doge,
  DogeError,
  type Fallback,
  loadDoge,
  type Model,
  openCheckpoint,
  type Provider,
  type Tried,
} from "@doge-lm/core";
import { type CudaOptions, cuda } from "@doge-lm/cuda";
import { demoModel } from "@doge-lm/demo-model";
import { reference } from "@doge-lm/reference";
import { wasm } from "@doge-lm/wasm";
import { revectorize } from "@doge-lm/wasm/revectorize";
import { type WebgpuOptions, webgpu } from "@doge-lm/webgpu";
import { openFiles } from "./hub.ts";
import type { ModelOptions } from "./options.ts";
import { debug } from "./watch.ts";

/** The backends of this program, and how `--backend` chooses between them. */
export interface Backends {
  /** In the order that decides between those equally fast. */
  readonly providers: readonly Provider[];
  readonly choosing: {
    /** The name that was given, or "auto". */
    readonly wanted: string;
    /** The reference is slow by design: it runs where nothing else does. */
    readonly spares: readonly Provider[];
  };
}

/** What `--backend` means; an adapter that computes on the CPU is taken only when it is asked for by name. The process is this
 *  program's own, so V8 is asked for wider vectors. Errors: "invalid-argument" for a name that is none. */
export async function backends({
  backend,
  threads,
  onDevice,
  onMeter,
}: Pick<ModelOptions, "backend" | "threads"> &
  Pick<WebgpuOptions, "onDevice"> & { readonly onMeter?: CudaOptions["onDevice"] }): Promise<Backends> {
  const providers = [
    cuda({ onDevice: onMeter }),
    webgpu({ software: backend === "webgpu", onDevice }),
    wasm(threads === undefined ? {} : { threads }),
  ];
  const spares = [reference()];
  const names = ["auto", ...[...providers, ...spares].map(({ name }) => name)];
  if (!names.includes(backend)) {
    throw new DogeError(
      "invalid-argument",
      `There is no backend ${JSON.stringify(backend)}: choose one of ${names.join(", ")}.`,
      { scope: "cli" },
    );
  }
  if (backend === "auto" || backend === "wasm") await revectorize();
  return { providers, choosing: { wanted: backend, spares } };
}

const warn = (sentence: string): void => void process.stderr.write(`doge: ${sentence}\n`);

/** Say which backends should have worked and did not. */
function tellFaults(tried: readonly Tried[]): void {
  for (const { name, state, reason } of tried) {
    if (state === "broken") warn(`The backend ${name} was passed over. ${reason}`);
  }
}

/** The folder or name that `--model` means. */
export const source = (options: { readonly model?: string }): string => options.model ?? fileURLToPath(demoModel);

export async function openDoge(options: ModelOptions): Promise<Doge> {
  const { providers: backend, choosing } = await backends(options);
  const files = await openFiles(source(options), options);
  try {
    const { dtype, routing } = options;
    const onFallback = ({ message }: Fallback) => warn(message);
    const doge = await loadDoge(files, { backend, choosing, dtype, routing, onFallback });
    const info = doge.info();
    tellFaults(info.tried);
    const { device, loadMs } = info;
    const where = `${files.name} on ${device}, ${dtype}, routing ${info.routing}`;
    debug(1, `${where}, loaded in ${loadMs.toFixed(0)} ms; ${info.backend}: ${reasonOf(doge)}`);
    return doge;
  } finally {
    await files.close?.();
  }
}

/** Why its backend runs. */
export const reasonOf = (doge: Doge): string => doge.info().tried.find(({ state }) => state === "chosen")?.reason ?? "";

export interface OpenModel {
  readonly checkpoint: Checkpoint;
  readonly backend: Backend;
  readonly model: Model;
  close(): Promise<void>;
}

/** The bare model, for commands that look at numbers. */
export async function openModel(options: ModelOptions): Promise<OpenModel> {
  const { providers, choosing } = await backends(options);
  const files = await openFiles(source(options), options);
  try {
    const checkpoint = await openCheckpoint(files);
    const { dtype, routing } = options;
    const onFallback = ({ message }: Fallback) => warn(message);
    const choice = await choose(providers, { ...choosing, config: checkpoint.config, dtype, routing, onFallback });
    tellFaults(choice.tried);
    const { backend } = choice;
    const model = await backend.load(checkpoint, { dtype, routing });
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
