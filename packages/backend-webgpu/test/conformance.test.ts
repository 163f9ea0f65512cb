// The suite that every backend runs, in the form that software adapters get.
import { conformance } from "@doge-lm/conformance";
import { Counter, software } from "./software.ts";

const counter = new Counter();
/** Tokens of one submit, so that their number is known. */
const tokensPerSubmit = 16;

/** 1,600 greedy tokens of the demo model are a minute of a software adapter's time on a quiet machine, and more than a check may
 *  take on a busy one. On a GPU, or where DOGE_REQUIRE names webgpu, they are drawn. */
const answer = await software().probe();
const { DOGE_REQUIRE = "" } = process.env;
const slow = answer.available && answer.device.includes("(software)") && !DOGE_REQUIRE.split(",").includes("webgpu");

conformance(software(), {
  unsupported: slow
    ? [{ test: "text", reason: "1,600 tokens take a software adapter too long; DOGE_REQUIRE=webgpu draws them" }]
    : [],
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
