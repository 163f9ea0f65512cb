// What becomes of an input that is longer than the context: an error, or the oldest of it is left out.
import type { Tokens } from "../backend.ts";
import { DogeError } from "../errors.ts";
import { show } from "../show.ts";
import type { Message } from "../text/chat.ts";

/** "error"; "truncate": leave out as little as makes room; "slide": leave out so much that half of the context is free, so that
 *  the turns to come find their beginning evaluated already. */
export type Overflow = "error" | "truncate" | "slide";

const policies: readonly Overflow[] = ["error", "truncate", "slide"];

/** Errors: "invalid-argument". */
export function checkOverflow(overflow: unknown): void {
  if (overflow === undefined || policies.includes(overflow as Overflow)) return;
  throw new DogeError(
    "invalid-argument",
    `overflow is ${show(overflow)}; it must be ${policies.map((name) => `"${name}"`).join(" or ")}.`,
  );
}

export interface Limits {
  readonly overflow: Overflow | undefined;
  readonly context: number;
  /** New tokens to make room for; never more than half of the context is kept free. */
  readonly newTokens: (promptLength: number) => number;
}

export interface Fitted {
  readonly ids: Tokens;
  /** Tokens that were left out. */
  readonly truncated: number;
}

/** The last of `ids`, behind `begin` where they start with it. Errors: "context-overflow". */
export function fitIds(ids: Tokens, begin: number | null, limits: Limits): Fitted {
  const most = longest(ids, limits);
  if (most === undefined) return { ids, truncated: 0 };
  const head = ids[0] === begin ? 1 : 0;
  const left = Int32Array.from([...ids.slice(0, head), ...ids.slice(ids.length - most + head)]);
  return { ids: left, truncated: ids.length - left.length };
}

/** The last exchanges of a conversation, behind its system message: answers never stand without their question, and the last one
 *  always stays. `dropped` of the messages behind the system message are left out. Errors: "context-overflow", those of `encode`. */
export function fitMessages(
  messages: readonly Message[],
  encode: (messages: readonly Message[]) => Tokens,
  limits: Limits,
): Fitted & { readonly dropped: number } {
  const whole = encode(messages);
  const most = longest(whole, limits);
  if (most === undefined) return { ids: whole, truncated: 0, dropped: 0 };
  const first = messages[0]!.role === "system" ? 1 : 0;
  const starts = messages.flatMap(({ role }, index) => (role === "user" && index > first ? [index] : []));
  let left = { ids: whole, truncated: 0, dropped: 0 };
  for (const start of starts) {
    const ids = encode([...messages.slice(0, first), ...messages.slice(start)]);
    left = { ids, truncated: whole.length - ids.length, dropped: start - first };
    if (ids.length <= most) return left;
  }
  // The last exchange alone takes more than its share: it may, as long as there is room for an answer at all.
  if (left.ids.length < limits.context) return left;
  throw new DogeError(
    "context-overflow",
    `The last message alone makes an input of ${left.ids.length} tokens; the context holds ${limits.context}. Shorten it.`,
  );
}

/** How many tokens may stay; undefined: all of them. */
function longest(ids: Tokens, { overflow: policy, context, newTokens }: Limits): number | undefined {
  if (policy === undefined || policy === "error") {
    if (ids.length > context) throw overflow(ids.length, context);
    return undefined;
  }
  const half = context >> 1;
  const most = context - Math.min(Math.max(1, newTokens(ids.length)), half);
  if (ids.length <= most) return undefined;
  return policy === "slide" ? context - half : most;
}

export const overflow = (length: number, context: number): DogeError =>
  new DogeError(
    "context-overflow",
    `The input has ${length} tokens; the context holds ${context}. Shorten it, or ask for overflow: "truncate" or "slide".`,
  );
