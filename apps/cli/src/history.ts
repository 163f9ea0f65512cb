// What was typed in earlier conversations: a text file with a line for each, the newest last.
import { appendFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

const mostLines = 1000;

export interface History {
  /** The newest first, as readline wants it. */
  readonly lines: string[];
  /** Why nothing is kept, where that is so. */
  readonly fault: string | undefined;
  add(line: string): void;
}

/** Where it lies: XDG_STATE_HOME or ~/.local/state, in a folder of doge's. */
export function historyFile(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment.XDG_STATE_HOME || join(homedir(), ".local", "state"), "doge", "history");
}

/** A history that cannot be read or written is none, and no reason to stop. */
export function openHistory(file: string): History {
  let lines: string[] = [];
  let fault: string | undefined;
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    lines = read(file);
    if (lines.length > mostLines) {
      lines = lines.slice(-mostLines);
      const fresh = `${file}.${process.pid}`;
      writeFileSync(fresh, lines.map((line) => `${line}\n`).join(""), { mode: 0o600 });
      renameSync(fresh, file);
    }
  } catch (error) {
    fault = `What you type is not kept for the next time: ${(error as Error).message}.`;
  }
  return {
    lines: lines.reverse(),
    fault,
    add(line) {
      if (fault !== undefined || line.trim() === "") return;
      try {
        appendFileSync(file, `${line}\n`, { mode: 0o600 }); // another conversation may do the same
      } catch {
        fault = "not written";
      }
    },
  };
}

function read(file: string): string[] {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line !== "");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
