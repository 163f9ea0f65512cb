#!/usr/bin/env node
// The program `doge`: compiled code is kept between runs (starting takes a third of the time), then the command line runs. An
// older Node could not even read the imports of the rest, so it is told here, in code that it understands.
import module from "node:module";

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `doge: Node 22.18 or newer is needed, and this is ${process.versions.node}: nodejs.org has it.\n`,
  );
  process.exitCode = 1;
} else {
  module.enableCompileCache();
  await import("./main.ts");
}
