// Asks tools/tokenizer/oracle.py: one JSON line there, one back.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** A running oracle. `python` has the packages of tools/requirements.txt. */
export function startOracle(python: string, argument: string) {
  const script = join(fileURLToPath(new URL(".", import.meta.url)), "oracle.py");
  const child = spawn(python, [script, argument], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    /** What it answers to `task`. */
    async ask<T>(task: unknown): Promise<T> {
      child.stdin.write(`${JSON.stringify(task)}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error("The oracle ended without an answer.");
      return JSON.parse(value) as T;
    },
    async close(): Promise<void> {
      child.stdin.end();
      if (child.exitCode === null) await once(child, "exit");
    },
  };
}
