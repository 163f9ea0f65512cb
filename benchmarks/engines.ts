// What is compared: every backend in every form that a person can choose, by a name. A module of the same form, with backends of
// your own, goes behind `--engines`.
import { cpus } from "node:os";
import type { Provider } from "@doge-lm/core";
import { cuda } from "@doge-lm/cuda";
import { reference } from "@doge-lm/reference";
import { wasm } from "@doge-lm/wasm";
import { revectorize } from "@doge-lm/wasm/revectorize";
import { webgpu } from "@doge-lm/webgpu";
import type { Watch } from "../apps/cli/src/bench/gpu.ts";

export interface Engine {
  /** As it stands in reports: "wasm x2 revectorized". */
  readonly name: string;
  /** Only the smallest shape, and fewer texts, are asked of it. Software adapters are found out by themselves. */
  readonly slow?: boolean;
  /** Left out of what is timed, since another engine stands for it. */
  readonly untimed?: boolean;
  /** The backend, and what must be done in the process before it is opened. `watch` sees a GPU's device. */
  provider(watch: Pick<Watch, "onDevice">): Provider | Promise<Provider>;
}

const cores = cpus().length;

/** With wider vectors, or why not. */
async function wide(threads: number): Promise<Provider> {
  const answer = await revectorize();
  if (answer.on) return wasm({ threads });
  const { why } = answer;
  return {
    ...wasm({ threads }),
    probe: async () => ({ available: false, code: "unavailable", why }),
    open: () => Promise.reject(new Error(why)),
  };
}

/** The one that the others are held to. */
export const truth: Engine = { name: "reference", slow: true, provider: () => reference() };

/** Fast enough to draw 1,000 texts, and itself held to the truth on some of them. */
export const baseline: Engine = { name: "wasm", provider: () => wasm({ threads: 1 }) };

export const engines: readonly Engine[] = [
  baseline,
  { name: "wasm simd", untimed: true, provider: () => wasm({ threads: 1, binary: "simd" }) },
  { name: "wasm revectorized", provider: () => wide(1) },
  ...(cores < 2
    ? []
    : [
        { name: `wasm x${cores}`, provider: () => wasm({ threads: cores }) },
        { name: `wasm x${cores} revectorized`, provider: () => wide(cores) },
      ]),
  { name: "webgpu", provider: ({ onDevice }) => webgpu({ software: true, onDevice }) },
  { name: "cuda", provider: () => cuda() },
  truth,
];
