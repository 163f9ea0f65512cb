// Changesets as files say them: which packages change, how much, and what the person upgrading is told.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

type Bump = "major" | "minor" | "patch";

export interface Changeset {
  readonly file: string;
  readonly packages: ReadonlyMap<string, Bump>;
  readonly text: string;
}

/** All of `folder`, by name. @throws for one that is none: changesets would take it for a text without packages, or stop. */
export function readChangesets(folder: string): Changeset[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".md") && name !== "README.md")
    .sort()
    .map((name) => parseChangeset(name, readFileSync(join(folder, name), "utf8")));
}

export function parseChangeset(file: string, content: string): Changeset {
  const [, head, body] = /^---\n(.*?)\n---\n(.*)$/s.exec(content) ?? [];
  if (head === undefined || body === undefined || body.trim() === "") {
    throw new Error(`.changeset/${file} is no changeset: packages between two lines of ---, then a text.`);
  }
  const packages = head.split("\n").map((line): [string, Bump] => {
    const [, name, bump] = /^"([^"]+)": (major|minor|patch)$/.exec(line) ?? [];
    if (name === undefined || bump === undefined) {
      throw new Error(`.changeset/${file} says ${JSON.stringify(line)}: "@doge-lm/…": major, minor or patch is meant.`);
    }
    return [name, bump as Bump];
  });
  return { file, packages: new Map(packages), text: body.trim() };
}

const order: readonly Bump[] = ["major", "minor", "patch"];
const largest = ({ packages }: Changeset): number =>
  Math.min(...[...packages.values()].map((bump) => order.indexOf(bump)));

/** A version's section of CHANGELOG.md: one for all packages, which share their versions. The largest changes come first. */
export function section(version: string, changesets: readonly Changeset[]): string {
  const entries = changesets
    .toSorted((a, b) => largest(a) - largest(b))
    .map(({ packages, text }) => {
      const names = [...packages.keys()].map((name) => name.replace(/^@doge-lm\//, "")).sort();
      return `- **${names.join(", ")}**: ${text.replaceAll("\n", "\n  ")}`;
    });
  return `## ${version}\n\n${entries.join("\n")}\n`;
}

/** Whether somebody who upgrades has to do something, so that UPGRADING.md must say what. */
export const isBreaking = (changesets: readonly Changeset[]): boolean =>
  changesets.some(({ packages, text }) => [...packages.values()].includes("major") || /\bbreaking\b/i.test(text));
