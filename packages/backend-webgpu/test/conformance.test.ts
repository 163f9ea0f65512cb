// The suite that every backend runs, in the form that software adapters get.
import { conformance } from "@doge-lm/conformance";
import { Counter, software } from "./software.ts";

const counter = new Counter();
/** Tokens of one submit, so that their number is known. */
const tokensPerSubmit = 16;

conformance(software(), {
  crossings: {
    provider: software({ tokensPerSubmit, onDevice: counter.onDevice }),
    counter: {
      reset: () => counter.reset(),
      calls: () => counter.counts.submits,
      bytesOut: () => counter.counts.bytesOut,
    },
    perChunk: (tokens) => Math.ceil(tokens / tokensPerSubmit),
  },
});
