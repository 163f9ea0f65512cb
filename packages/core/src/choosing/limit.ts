// Waiting no longer than so long: for what another's code promises and may never do.
import { aborted } from "../errors.ts";

export interface Limit<T> {
  readonly milliseconds: number;
  /** What the wait rejects with when it takes longer. */
  timeout(): Error;
  /** Given what comes after all when nobody waits for it any more. */
  late?(value: T): void;
  readonly signal?: AbortSignal | undefined;
}

/** What `work` gives or rejects with, unless the time is over or the signal fires before. Errors: those, timeout(), "aborted". */
export async function within<T>(work: Promise<T>, { milliseconds, timeout, late, signal }: Limit<T>): Promise<T> {
  const { promise: over, reject } = Promise.withResolvers<never>();
  let waiting = true;
  const timer = setTimeout(() => reject(timeout()), milliseconds);
  const onAbort = () => reject(aborted(signal!));
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  // Another's code may answer with no promise at all.
  const promised = Promise.resolve(work);
  promised.then(
    (value) => void (waiting || late?.(value)),
    () => {},
  );
  try {
    return await Promise.race([promised, over]);
  } finally {
    waiting = false;
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
