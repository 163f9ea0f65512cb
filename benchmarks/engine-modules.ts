// The engines of a run: ours, or those of a module behind `--engines`.
import { pathToFileURL } from "node:url";
import type { Engine } from "./engines.ts";

export interface EngineModule {
  readonly engines: readonly Engine[];
  /** The one that the others are held to. */
  readonly truth: Engine;
  /** Who draws the 1,000 texts. */
  readonly baseline: Engine;
}

/** Only when it is loaded is it known whether a module is one of engines. */
export const importEngines = async (path: string | undefined): Promise<EngineModule> =>
  path === undefined ? import("./engines.ts") : ((await import(pathToFileURL(path).href)) as EngineModule);
