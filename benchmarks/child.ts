// Every measurement runs in a process of its own: none has another's compiled code or memory, and one that dies or hangs is a
// result that says so, beside the others.
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Answer, Task } from "./tasks.ts";

export type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string };

export interface Children {
  /** A module of engines instead of ours. */
  readonly engines?: string | undefined;
  /** A program that tasks with `through` are started by, with its arguments: `taskset -c 0`. */
  readonly through?: readonly string[] | undefined;
  /** The program of a child, where worker.ts is a part of another file. */
  readonly worker?: string | undefined;
  tell(what: string): void;
}

/** What the task gives, or why it gives nothing, within `seconds`. */
export async function run<T extends Task>(
  task: T,
  children: Children,
  options: { readonly seconds: number; readonly timed?: boolean },
): Promise<Outcome<Answer<T>>> {
  const { engines, through = [], worker = fileURLToPath(new URL("./worker.ts", import.meta.url)), tell } = children;
  const [program = process.execPath, ...before] = options.timed === true ? [...through, process.execPath] : [];
  const node = ["--disable-warning=ExperimentalWarning", "--expose-gc"];
  // fork() puts its execArgv between the program and the script.
  const child = fork(worker, {
    execPath: program,
    execArgv: [...before, ...node],
    serialization: "advanced",
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  let printed = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (data: Buffer) => {
      printed = (printed + data.toString()).slice(-2000);
    });
  }
  const { promise, resolve } = Promise.withResolvers<Outcome<Answer<T>>>();
  const timer = setTimeout(() => {
    resolve({ ok: false, why: `It gave no answer within ${options.seconds} s.` });
    child.kill("SIGKILL");
  }, 1000 * options.seconds);
  child.on("message", (message: { told?: string; value?: Answer<T>; why?: string }) => {
    if (message.told !== undefined) tell(message.told);
    else if (message.why !== undefined) resolve({ ok: false, why: message.why });
    else resolve({ ok: true, value: message.value! });
  });
  child.once("error", (error) => resolve({ ok: false, why: `Its process could not be started: ${error.message}` }));
  child.once("close", (code, signal) => {
    const last = printed.trim().split("\n").at(-1) ?? "";
    const how = signal === null ? `with the code ${code}` : `by ${signal}`;
    resolve({ ok: false, why: `Its process ended ${how} without an answer${last === "" ? "" : `: ${last}`}.` });
  });
  child.send({ task, engines }, () => {});
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    await gone(child);
  }
}

/** The next task begins when nothing of this one is left. */
function gone(child: ReturnType<typeof fork>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
    child.once("close", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
