// Checks the documentation: every relative link of every Markdown file leads to a file, and every anchor to a heading.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** GitHub's anchor of a heading. */
const anchor = (heading: string): string =>
  heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .replace(/\s/g, "-");

const headings = (text: string): Set<string> =>
  new Set([...withoutCode(text).matchAll(/^#{1,6}\s+(.+)$/gm)].map((match) => anchor(match[1]!.replace(/`/g, ""))));

function withoutCode(text: string): string {
  return text.replace(/^(```|~~~)[\s\S]*?^\1/gm, "");
}

const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => file !== "" && existsSync(join(root, file)));
let links = 0;
let dead = 0;
for (const file of files) {
  const text = withoutCode(readFileSync(join(root, file), "utf8")).replace(/`[^`\n]*`/g, "");
  for (const match of text.matchAll(/\[[^\]]*\]\(([^)\s]+)\)/g)) {
    const target = match[1]!;
    if (/^[a-z]+:/.test(target)) continue;
    links++;
    const [path, fragment] = target.split("#") as [string, string | undefined];
    const resolved = path === "" ? join(root, file) : join(root, dirname(file), path);
    const broken = !existsSync(resolved)
      ? "no such file"
      : fragment !== undefined && resolved.endsWith(".md") && !headings(readFileSync(resolved, "utf8")).has(fragment)
        ? "no such heading"
        : null;
    if (broken !== null) {
      dead++;
      console.error(`${file}: link to ${target}: ${broken}.`);
    }
  }
}
console.log(`${files.length} Markdown files, ${links} relative links, ${dead} dead.`);
process.exitCode = dead === 0 ? 0 : 1;
