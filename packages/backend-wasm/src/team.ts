// A team: workers that compute a model's jobs together, all over one shared memory. The calling thread sends a job to each of them
// and awaits their answers; it never computes and never blocks.
//
// A team lives as long as its model. When one of its threads fails, all are ended, and every call from then on says so.
import { DogeError } from "@doge-lm/core";
import { JOB_GENERATION } from "./descriptor.ts";
import { type Answer, startWorker, type WorkerHandle } from "./worker.ts";

/** Between two looks at whether the threads still come by their barriers. Two looks in vain, and the team is given up: a machine
 *  that has slept passes one of them at once when it wakes. */
const LOOK_MS = 5000;
/** What workers may take to start: a machine with more to do than it can brings them late, and nothing else waits for them. */
const START_MS = 60_000;

interface Round {
  readonly resolve: (status: number) => void;
  readonly reject: (error: unknown) => void;
  /** Threads that have not answered. */
  left: number;
  status: number;
}

export class Team {
  readonly threads: number;
  readonly #workers: WorkerHandle[] = [];
  #round: Round | undefined;
  #why: string | undefined;
  #fault: DogeError | undefined;
  #memory: WebAssembly.Memory | undefined;
  #ended: Promise<void> | undefined;

  private constructor(threads: number, script: URL | string | undefined) {
    this.threads = threads;
    try {
      for (let thread = 0; thread < threads; thread++) {
        this.#workers.push(
          startWorker(script, {
            answered: (answer) => this.#answered(thread, answer),
            lost: (why) => this.#lost(thread, why),
          }),
        );
      }
    } catch (cause) {
      this.#lost(this.#workers.length, String(cause), cause);
    }
  }

  /** Workers over a memory that does nothing but start them. Errors: "unavailable", when they do not run. */
  static async start(threads: number, script: URL | string | undefined, module: WebAssembly.Module): Promise<Team> {
    const team = new Team(threads, script);
    try {
      await team.attach(module, new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }));
      return team;
    } catch (cause) {
      await team.end();
      throw new DogeError(
        "unavailable",
        `The workers that compute could not be started: ${team.#why ?? String(cause)}. If this page wants their script from an address ` +
          "of its own, say where it is with the option assets: { worker }; threads: 1 needs no worker.",
        { scope: "wasm", cause },
      );
    }
  }

  /** Have each thread make an instance of `module` over `memory`; what it had before is forgotten. */
  async attach(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<void> {
    this.#memory = memory;
    await this.#send((thread) => ({ module, memory, thread }), undefined);
  }

  /** A slice of a job on every thread: a STATUS. Errors: "device-lost". */
  run(job: number, budget: number): Promise<number> {
    return this.#send(() => ({ job, budget }), job);
  }

  /** End the threads, whatever they do. */
  end(): Promise<void> {
    this.#fault ??= new DogeError("closed", "The threads of this model have been ended.", { scope: "wasm" });
    this.#round?.reject(this.#fault);
    this.#round = undefined;
    this.#ended ??= Promise.all(this.#workers.splice(0).map((worker) => worker.end())).then(() => {});
    return this.#ended;
  }

  async #send(message: (thread: number) => object, job: number | undefined): Promise<number> {
    if (this.#fault !== undefined) throw this.#fault;
    const answers = new Promise<number>((resolve, reject) => {
      this.#round = { resolve, reject, left: this.threads, status: 0 };
    });
    // In Node this timer is also what keeps the process alive during the call: workers do not.
    const watch = setInterval(this.#watcher(job), LOOK_MS);
    try {
      this.#workers.forEach((worker, thread) => {
        worker.post(message(thread));
      });
      return await answers;
    } finally {
      clearInterval(watch);
      this.#round = undefined;
    }
  }

  /** Gives the team up when its threads stand still, or do not start. */
  #watcher(job: number | undefined): () => void {
    const begun = performance.now();
    let last: number | undefined;
    return () => {
      if (job === undefined) {
        if (performance.now() - begun > START_MS)
          this.#lost(undefined, `they have not started in ${START_MS / 1000} seconds`);
        return;
      }
      const now = Atomics.load(new Int32Array(this.#memory!.buffer), (job + JOB_GENERATION) / 4);
      if (now === last) this.#lost(undefined, `they have stood still for ${LOOK_MS / 1000} seconds`);
      last = now;
    };
  }

  #answered(thread: number, { status, failure }: Answer): void {
    if (failure !== undefined || status === undefined) {
      this.#lost(thread, failure ?? "it answered nothing");
      return;
    }
    const round = this.#round;
    if (round === undefined) return;
    round.status = status;
    if (--round.left === 0) round.resolve(round.status);
  }

  #lost(thread: number | undefined, why: string, cause?: unknown): void {
    if (this.#fault !== undefined) return;
    this.#why = why;
    const who = thread === undefined ? `The ${this.threads} threads` : `Thread ${thread + 1} of ${this.threads}`;
    this.#fault = new DogeError("device-lost", `${who} failed (${why}): close the backend and open another.`, {
      scope: "wasm",
      cause,
    });
    void this.end();
  }
}
