// The hash of what a binary is built from.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const digest = (content: Uint8Array | string): string => createHash("sha256").update(content).digest("hex");

/** Name and content of the crate's manifest, lockfile, settings and sources. Line ends do not count. */
export function hashOfSources(crate: string): string {
  const own = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"];
  const names = [...own, ...readdirSync(join(crate, "src")).map((name) => `src/${name}`)].sort();
  const content = (name: string): string => readFileSync(join(crate, name), "utf8").replaceAll("\r\n", "\n");
  return digest(names.map((name) => `${name}\0${content(name)}\0`).join(""));
}
