// What DOGE_DEBUG and DOGE_TRACE show of a run: events of the backends on standard error, or in a file that Perfetto opens.
import { writeFileSync } from "node:fs";
import { DogeError, setTrace, type TraceEvent } from "@doge-lm/core";

type Environment = Readonly<Record<string, string | undefined>>;

/** DOGE_DEBUG as a number: 1 says what runs where and shows the stacks of errors, 2 every call with its time, 3 and 4 every tensor
 *  that is handed over as well. */
export const debugLevel = (environment: Environment = process.env): number =>
  Math.max(environment.DOGE_DEBUG ? 1 : 0, Number(environment.DOGE_DEBUG) || 0);

/** Say it on standard error, where DOGE_DEBUG is at least `level`. */
export function debug(level: number, line: string): void {
  if (debugLevel() >= level) process.stderr.write(`doge: ${line}\n`);
}

/** Listen to the backends as the environment asks for; what comes back is to be called at the end, and writes the file.
 *  Errors (then): "invalid-argument" for a file that cannot be written. */
export function watch(environment: Environment = process.env): () => void {
  const level = debugLevel(environment);
  const file = environment.DOGE_TRACE;
  const events: object[] = [];
  if (level < 2 && !file) return () => {};
  setTrace((event) => {
    if (level >= (event.kind === "upload" ? 3 : 2)) process.stderr.write(`doge: ${lineOf(event)}\n`);
    if (file) events.push(perfetto(event));
  });
  return () => {
    setTrace(undefined);
    if (!file) return;
    try {
      writeFileSync(file, `${JSON.stringify({ traceEvents: events })}\n`);
    } catch (cause) {
      const why = (cause as Error).message;
      throw new DogeError("invalid-argument", `DOGE_TRACE: the trace was not written: ${why}.`, {
        scope: "cli",
        cause,
      });
    }
  };
}

function lineOf({ scope, kind, name, bytes, duration }: TraceEvent): string {
  const size = bytes === undefined ? "" : `, ${bytes} bytes`;
  return `${scope} ${kind} ${name}${size}${duration === undefined ? "" : `, ${duration.toFixed(3)} ms`}`;
}

/** An event of the Trace Event Format: a span where it has a length, else an instant. Times are in microseconds. */
function perfetto({ scope, kind, name, bytes, start = performance.now(), duration }: TraceEvent): object {
  const common = { name, cat: kind, pid: process.pid, tid: 0, ts: start * 1000, args: { scope, bytes } };
  return duration === undefined ? { ...common, ph: "i", s: "t" } : { ...common, ph: "X", dur: duration * 1000 };
}
