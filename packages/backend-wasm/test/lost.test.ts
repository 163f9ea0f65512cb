// The suite on a device that is lost at every sixth call: recovering() lets nothing of that be seen.
import { conformance } from "@doge-lm/conformance";
import { checks } from "@doge-lm/conformance/checks";
import { DogeError, type Provider, recovering, type SampleRow } from "@doge-lm/core";
import { wasm } from "../src/index.ts";

const flaky: Provider = {
  ...{ name: "wasm", probe: () => wasm({ threads: 1 }).probe() },
  async open(signal) {
    const backend = await wasm({ threads: 1 }).open(signal);
    const load = backend.load.bind(backend);
    let calls = 0;
    backend.load = async (...args) => {
      const model = await load(...args);
      for (const verb of ["forward", "score", "sample", "inspect"] as const) {
        const call = model[verb].bind(model) as (...args: unknown[]) => Promise<never>;
        const losing = async (rows: readonly Partial<SampleRow>[], ...rest: unknown[]): Promise<never> => {
          // What only appends may be a sequence that is being evaluated anew.
          if (rows.some(({ count }) => count !== 0) && ++calls > 5) throw new DogeError("device-lost", "It is gone.");
          return call(rows, ...rest);
        };
        Object.assign(model, { [verb]: losing });
      }
      return model;
    };
    return backend;
  },
};

const rings: readonly string[] = ["contract", "text"];
const unsupported = checks
  .filter(({ ring }) => !rings.includes(ring))
  .map(({ name }) => ({
    test: name,
    reason: "it asks for numbers, which a loss changes as little as those of these rings",
  }));
let time = 0;
conformance(recovering(flaky, { now: () => (time += 400_000) }), {
  unsupported: [
    ...unsupported,
    {
      test: "what does not fit is refused with no-room, and fits again when others close",
      reason: "on a new device a sequence takes no room until it is used again",
    },
  ],
});
