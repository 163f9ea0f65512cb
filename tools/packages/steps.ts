// Named steps: each passes, is skipped with a reason, or fails with what the program it ran had to say.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const demoModel = join(root, "packages", "demo-model");

/** Thrown by a step that cannot be done here, and need not be. */
export class Skipped extends Error {}

let failures = 0;
export const failed = (): number => failures;

/** Do one step and print its line: the name with what `work` returns, or why it failed. */
export async function step(name: string, work: () => string | Promise<string>): Promise<void> {
  try {
    console.log(`ok   ${name}: ${await work()}`);
  } catch (error) {
    if (error instanceof Skipped) {
      console.log(`skip ${name}: ${error.message}`);
      return;
    }
    failures++;
    const { message, stdout = "", stderr = "" } = error as Error & { stdout?: string; stderr?: string };
    console.log(`FAIL ${name}: ${[message, stdout, stderr].filter((text) => text.trim() !== "").join("\n")}`);
  }
}

/** What a program prints. @throws with its output when it fails, or is not done in two minutes. */
export function run(program: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): string {
  return execFileSync(program, args, {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000,
    env: { ...process.env, NO_COLOR: "1", ...env },
  });
}

/** Run a development tool of this checkout, by the file that its package starts with. */
export function tool(file: string, args: readonly string[], cwd: string = root): string {
  return run(process.execPath, [join(root, "tools", "node_modules", file), ...args], cwd);
}

/** @throws unless `text` holds the beginnings of a spoken answer. */
export function expectAnswer(text: string): string {
  const line = text.trim();
  if (!/[a-z]{2,} [a-z]{2,}/i.test(line)) throw new Error(`The answer was ${JSON.stringify(text)}.`);
  return JSON.stringify(line.length > 60 ? `${line.slice(0, 60)}…` : line);
}

export const kilobytes = (bytes: number): string => `${(bytes / 1000).toFixed(1)} kB`;
