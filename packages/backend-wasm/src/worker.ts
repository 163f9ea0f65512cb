// One worker of this machine, whichever kind it has: node:worker_threads or a page's Worker, behind one face.
import { workerSource } from "./worker-source.ts";

/** What a worker answers to a message. */
export interface Answer {
  readonly status?: number;
  /** What it could not do, in the engine's words. */
  readonly failure?: string;
}

export interface WorkerListener {
  answered(answer: Answer): void;
  /** It does not run, or no longer. */
  lost(why: string): void;
}

export interface WorkerHandle {
  post(message: object): void;
  /** Ends it, whatever it does. */
  end(): Promise<void>;
}

/** Whether workers can be had here at all. */
export const haveWorkers = (): boolean => nodeWorkers() !== undefined || typeof globalThis.Worker === "function";

/** Start a worker, from `script` when it is given. What goes wrong is told to `listener`, also a start that fails. */
export function startWorker(script: URL | string | undefined, listener: WorkerListener): WorkerHandle {
  const threads = nodeWorkers();
  return threads === undefined ? startInPage(script, listener) : startInNode(threads, script, listener);
}

type NodeThreads = NonNullable<ReturnType<typeof nodeWorkers>>;

/** Asked of the process, not imported: a bundler would look for the module, whatever it bundles for. */
function nodeWorkers() {
  const process = globalThis.process as NodeJS.Process | undefined;
  if (process?.versions?.node === undefined) return undefined;
  return process.getBuiltinModule?.("node:worker_threads");
}

/** A relative address begins at the page or worker, or else at this module, as those of the binaries do. */
const addressOf = (script: URL | string): URL => new URL(script, globalThis.location?.href ?? import.meta.url);

function startInNode(
  { Worker }: NodeThreads,
  script: URL | string | undefined,
  listener: WorkerListener,
): WorkerHandle {
  // Neither the flags nor the variables of the process: a loader or a preload that it was started with is none of a worker's.
  const options = { name: "doge", env: {}, execArgv: [], argv: [] };
  const worker =
    script === undefined
      ? new Worker(workerSource, { ...options, eval: true })
      : new Worker(addressOf(script), options);
  worker.on("online", () => worker.unref()); // a process ends when its own work is done
  worker.on("message", (answer: Answer) => listener.answered(answer));
  worker.on("messageerror", (error) => listener.lost(error.message));
  worker.on("error", (error) => listener.lost(error instanceof Error ? error.message : String(error)));
  worker.on("exit", (code) => listener.lost(`it ended with code ${code}`));
  return {
    post: (message) => worker.postMessage(message),
    async end() {
      worker.removeAllListeners("exit");
      await worker.terminate();
    },
  };
}

function startInPage(script: URL | string | undefined, listener: WorkerListener): WorkerHandle {
  const own = script === undefined;
  const address = own ? URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" })) : script;
  const release = () => {
    if (own) URL.revokeObjectURL(String(address));
  };
  let worker: Worker;
  try {
    worker = new globalThis.Worker(own ? address : addressOf(script), { name: "doge" });
  } catch (error) {
    release();
    throw error;
  }
  worker.onmessage = ({ data }: MessageEvent<Answer>) => {
    release();
    listener.answered(data);
  };
  worker.onmessageerror = () => listener.lost("a message could not be read");
  worker.onerror = (event) => {
    event.preventDefault();
    release();
    listener.lost(event.message || "its script did not load, or this page's content security policy forbids it");
  };
  return {
    post: (message) => worker.postMessage(message),
    async end() {
      release();
      worker.terminate();
    },
  };
}
