// The threads of a job: every one of them runs the same code over the same memory (SPMD). Here is what each has of the work,
// where each stands in it, and the barrier at which all of them meet.
//
// Nothing but memory is shared, and a barrier is the only way in which threads speak. Between two barriers no thread reads what
// another writes. A part of the work is cut by counting, never by who comes first, and no sum is cut otherwise for more threads: their
// number cannot change a bit of a result.
import {
  CURSOR_BYTES, JOB_ARRIVED, JOB_CURSORS_AT, JOB_GENERATION, JOB_SLEEPING, JOB_SPINS, JOB_THREADS,
} from "../src/descriptor";

/** Where a thread stands in a job. All threads take the same steps: only their records differ, so that none waits for another's. */
// @ts-ignore: decorator
@inline
export function cursorOf(job: usize, thread: i32): usize {
  return load<usize>(job, JOB_CURSORS_AT) + <usize>thread * CURSOR_BYTES;
}

/** The first of `count` things that are `thread`'s; they end where the next thread's begin. */
// @ts-ignore: decorator
@inline
export function share(count: i32, thread: i32, threads: i32): i32 {
  return count * thread / threads;
}

/** The same for panels: pairs stay together, since one row is multiplied by two panels at once. */
// @ts-ignore: decorator
@inline
export function sharePairs(count: i32, thread: i32, threads: i32): i32 {
  return min(count, 2 * share((count + 1) >> 1, thread, threads));
}

/** Wait until every thread of the job is here. What they wrote before it is read after it.
 *
 *  The last to come opens the next generation. The others look for it JOB_SPINS times, which is shorter than going to sleep and
 *  being woken, and sleep then: on a machine with more threads than processors, spinning would keep the last one from coming. */
export function barrier(job: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  const threads = load<i32>(job, JOB_THREADS);
  if (threads == 1) return;
  const generation = atomic.load<i32>(job, JOB_GENERATION);
  if (atomic.add<i32>(job, 1, JOB_ARRIVED) == threads - 1) {
    atomic.store<i32>(job, 0, JOB_ARRIVED);
    atomic.store<i32>(job, generation + 1, JOB_GENERATION);
    // Read after the new generation is there: who is about to sleep either is counted here or sees it.
    if (atomic.load<i32>(job, JOB_SLEEPING)) atomic.notify(job + JOB_GENERATION, -1);
    return;
  }
  for (let spins = load<i32>(job, JOB_SPINS); spins > 0; spins--) {
    if (atomic.load<i32>(job, JOB_GENERATION) != generation) return;
  }
  atomic.add<i32>(job, 1, JOB_SLEEPING);
  while (atomic.load<i32>(job, JOB_GENERATION) == generation) atomic.wait<i32>(job + JOB_GENERATION, generation, -1);
  atomic.sub<i32>(job, 1, JOB_SLEEPING);
}
