// Which backends this browser has, in the order they are preferred, and what each says of itself.
import type { Provider } from "@doge-lm/core";
import { wasm } from "@doge-lm/wasm";
import script from "@doge-lm/wasm/worker.js?url&no-inline";
import { webgpu } from "@doge-lm/webgpu";
import type { BackendChoice, BackendReport } from "./protocol.ts";

export interface ProviderOptions {
  readonly choice: BackendChoice;
  readonly threads?: number | undefined;
}

/** The backends to choose from, by core's measurement. An adapter that computes on the CPU is taken only when WebGPU is asked for by
 *  name. */
export function providers({ choice, threads }: ProviderOptions): Provider[] {
  const gpu = () => webgpu({ software: choice === "webgpu" });
  // The script from a file of the site: a policy without blob: then does for workers too.
  const cpu = () => wasm({ threads, assets: { worker: script } });
  if (choice === "webgpu") return [gpu()];
  if (choice === "wasm") return [cpu()];
  return [gpu(), cpu()];
}

/** What each backend says when it is asked whether it can run here. */
export async function probe(): Promise<BackendReport[]> {
  const reports: BackendReport[] = [];
  for (const provider of providers({ choice: "auto" })) {
    const name = provider.name as BackendReport["name"];
    try {
      const found = await provider.probe();
      if (found.available) reports.push({ name, available: true, says: found.device, warnings: found.warnings ?? [] });
      else reports.push({ name, available: false, says: found.why, warnings: [] });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      reports.push({ name, available: false, says: `It should have worked and failed: ${why}`, warnings: [] });
    }
  }
  return reports;
}
