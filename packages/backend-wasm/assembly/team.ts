// The threads of a job: every one of them runs the same code over the same memory (SPMD). Here is what each has of the work,
// where each stands in it, and the barrier at which all of them meet.
//
// Nothing but memory is shared, and between two barriers no thread reads what another writes. What is cut never depends on who comes
// first, nor where a sum is cut on the number of threads: that cannot change a bit of a result. Only who computes a part of a matrix does.
import {
  CURSOR_BYTES, DEALT_BYTES, JOB_ARRIVED, JOB_CURSORS_AT, JOB_DEALT_AT, JOB_GENERATION, JOB_PATIENCE, JOB_SLEEPING, JOB_SPINS, JOB_THREADS,
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

/** Looks at a barrier that a thread takes at least: a third of a microsecond, more than a barrier itself. */
const LEAST_PATIENCE = 1000;
/** Parts that a thread's share of a matrix is cut into where a group has more than a few tokens. */
const PARTS = 8;

/** How many parts the panels of a matrix are dealt out in. */
// @ts-ignore: decorator
@inline
export function partsOf(job: usize, few: bool): i32 {
  const threads = load<i32>(job, JOB_THREADS);
  return !ASC_FEATURE_THREADS || few ? threads : threads * PARTS;
}

/** The next part for this thread behind `last`, -1 before the first: of its own share, and when that is done what others have not begun. -1:
 *  nothing is left. With a few tokens a thread has one part, which it reads from memory in a row. A barrier must stand between two matrices. */
export function nextPart(job: usize, thread: i32, few: bool, last: i32): i32 {
  if (!ASC_FEATURE_THREADS || few) return last < 0 ? thread : -1;
  const threads = load<i32>(job, JOB_THREADS);
  for (let step = 0; step < threads; step++) {
    const owner = (thread + step) % threads;
    const dealt = load<usize>(job, JOB_DEALT_AT) + <usize>owner * DEALT_BYTES;
    if (atomic.load<i32>(dealt) >= PARTS) continue;
    const part = atomic.add<i32>(dealt, 1);
    if (part < PARTS) return owner * PARTS + part;
  }
  return -1;
}

/** Wait until every thread of the job is here. What they wrote before it is read after it.
 *
 *  The last to come opens the next generation. The others look for it for a while, which is shorter than going to sleep and being woken, and
 *  sleep then. Who had to sleep makes everybody less patient: where threads share a processor, with each other or with another program,
 *  looking on only keeps the last one from coming. Who need not makes them more patient again. */
export function barrier(job: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  const threads = load<i32>(job, JOB_THREADS);
  const generation = atomic.load<i32>(job, JOB_GENERATION);
  if (atomic.add<i32>(job, 1, JOB_ARRIVED) == threads - 1) {
    const dealt = load<usize>(job, JOB_DEALT_AT);
    for (let thread = 0; thread < threads; thread++) store<i32>(dealt + <usize>thread * DEALT_BYTES, 0);
    atomic.store<i32>(job, 0, JOB_ARRIVED);
    atomic.store<i32>(job, generation + 1, JOB_GENERATION);
    // Read after the new generation is there: who is about to sleep either is counted here or sees it.
    if (atomic.load<i32>(job, JOB_SLEEPING)) atomic.notify(job + JOB_GENERATION, -1);
    return;
  }
  const patience = load<i32>(job, JOB_PATIENCE);
  for (let spins = patience; spins > 0; spins--) {
    if (atomic.load<i32>(job, JOB_GENERATION) != generation) {
      if (patience < load<i32>(job, JOB_SPINS)) store<i32>(job, patience << 1, JOB_PATIENCE);
      return;
    }
  }
  store<i32>(job, max(min(LEAST_PATIENCE, load<i32>(job, JOB_SPINS)), patience >> 2), JOB_PATIENCE);
  atomic.add<i32>(job, 1, JOB_SLEEPING);
  while (atomic.load<i32>(job, JOB_GENERATION) == generation) atomic.wait<i32>(job + JOB_GENERATION, generation, -1);
  atomic.sub<i32>(job, 1, JOB_SLEEPING);
}
