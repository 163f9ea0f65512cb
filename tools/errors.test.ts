// The page of errors has a row for every code that there is, and for no other.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "./packages/steps.ts";

test("docs/errors.md lists every error code", () => {
  const source = readFileSync(join(root, "packages/core/src/errors.ts"), "utf8");
  const [, union] = /export type ErrorCode =(.*?);\n\n/s.exec(source) ?? [];
  const codes = [...union!.matchAll(/^ {2}\| "([\w-]+)"/gm)].map(([, code]) => code);
  expect(codes.length).toBeGreaterThan(40);
  const page = readFileSync(join(root, "docs/errors.md"), "utf8");
  const rows = [...page.matchAll(/^\| (`[^|]+`) \|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([\w-]+)`/g)].map(([, code]) => code),
  );
  expect(rows.toSorted()).toEqual(codes.toSorted());
});
