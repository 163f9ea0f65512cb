// The suite once more through choose(): what that opens outlives its device, and must differ in nothing else from the backend itself.
import { conformance } from "@doge-lm/conformance";
import { choose, type Provider } from "@doge-lm/core";
import { wasm } from "../src/index.ts";

const chosen: Provider = {
  ...{ name: "wasm", probe: () => wasm({ threads: 1 }).probe() },
  open: async (signal) => (await choose([wasm({ threads: 1 })], { wanted: "auto", rates: null, signal })).backend,
};
conformance(chosen);
