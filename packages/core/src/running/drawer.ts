// Where the tokens of a generation are drawn: on the device, where only ids come back, or on the host from the logits, for what
// the device's draw does not have. Both draw the same ids from the same seed.
import type { Drawn, Floats, Sampling, Sequence, Tokens } from "../backend.ts";
import { isDogeError } from "../errors.ts";
import type { Processors } from "../sampling/processors.ts";
import { draw, logSumExp, mostLikely } from "../sampling/sampling.ts";
import type { Portion, Scheduler } from "./scheduler.ts";

/** Tokens drawn, or on their way. */
export interface Draft {
  /** Some ids were not allowed: fewer tokens than asked for may mean that nothing was. */
  readonly masked: boolean;
  /** `asked`: fewer than wanted where a call holds no more, or a mask is for fewer. */
  readonly drawn: Promise<Portion>;
}
export interface Drawer {
  readonly place: "device" | "host";
  /** Tokens of the sequence and those drawn that it does not hold yet. */
  readonly length: number;
  /** Append `tokens`, and draw up to `count` more. */
  draw(tokens: Tokens, count: number): Draft;
  /** Let the sequence hold the first `length` tokens, and no more. */
  settle(length: number): Promise<void>;
}

/** What both need. `call` makes a call on the model, again where room was made for it. */
export interface DrawerParts {
  readonly scheduler: Scheduler;
  readonly sequence: Sequence;
  readonly sampling: Sampling;
  readonly alternatives: number | undefined;
  /** Told of every id before the next draw; undefined: nothing but the device's own options. */
  readonly processors: Processors | undefined;
  readonly signal: AbortSignal;
  call<T>(run: () => Promise<T>): Promise<T>;
}

const nothing: Tokens = new Int32Array(0);
const noNumbers: Floats = new Float32Array(0);

export function deviceDrawer(parts: DrawerParts): Drawer {
  const { scheduler, sequence, sampling, alternatives, processors, signal, call } = parts;
  return {
    place: "device",
    get length() {
      return sequence.length;
    },
    draw(tokens, wanted) {
      const { allowed, holds } = processors?.mask() ?? { allowed: undefined, holds: wanted };
      const row = { sequence, tokens, count: Math.min(wanted, holds), sampling, allowed, alternatives };
      return { masked: allowed !== undefined, drawn: call(() => scheduler.sample(row, signal)) };
    },
    async settle(length) {
      if (sequence.length > length) takeBack(sequence, length);
    },
  };
}

export function hostDrawer(parts: DrawerParts & { readonly processors: Processors }): Drawer {
  const { scheduler, sequence, sampling, alternatives, processors, signal, call } = parts;
  const { context } = scheduler.model;
  /** Drawn, but not in the sequence: the next call appends it. */
  let pending = nothing;
  const step = async (tokens: Tokens, asked: number): Promise<Portion> => {
    const row = Int32Array.from([...pending, ...tokens]);
    const logits = await call(() => scheduler.forward({ sequence, tokens: row }, signal));
    pending = nothing;
    if (asked === 0 || sequence.length >= context) return { ...drawnOf([], logits, alternatives), asked };
    const ids = processors.ids();
    const id = draw(logits, ids, ids.length, sampling, undefined, processors.further());
    pending = id < 0 ? nothing : Int32Array.of(id);
    return { ...drawnOf(pending, logits, alternatives), asked };
  };
  return {
    place: "host",
    get length() {
      return sequence.length + pending.length;
    },
    draw(tokens, wanted) {
      return { masked: true, drawn: step(tokens, Math.min(wanted, 1)) };
    },
    async settle(length) {
      if (sequence.length > length) takeBack(sequence, length);
      else if (pending.length > 0 && sequence.length < length) {
        const tokens = pending;
        await call(() => scheduler.sample({ sequence, tokens, count: 0, sampling }));
      }
      pending = nothing;
    },
  };
}

/** What a device would say of an id drawn from these logits. */
function drawnOf(ids: ArrayLike<number>, logits: Floats, alternatives: number | undefined): Drawn {
  const drawn = Int32Array.from(ids);
  if (alternatives === undefined || ids.length === 0) {
    return { ids: drawn, logprobs: noNumbers, topIds: nothing, topLogprobs: noNumbers };
  }
  const normalizer = logSumExp(logits);
  const topIds = mostLikely(logits, alternatives);
  const logprobs = Float32Array.of(logits[drawn[0]!]! - normalizer);
  return { ids: drawn, logprobs, topIds, topLogprobs: Float32Array.from(topIds, (id) => logits[id]! - normalizer) };
}

function takeBack(sequence: Sequence, length: number): void {
  try {
    sequence.rewind(length);
  } catch (error) {
    // Closed meanwhile: there is nothing left to take back.
    if (!isDogeError(error, "closed") && !isDogeError(error, "device-lost")) throw error;
  }
}
