// `npm run web`: builds the playground and serves it on this machine. `-- --build` only builds, into apps/web/dist.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "vite";
import { serveSite } from "./serve.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "dist");
const USE = "Usage: npm run web -- [--build] [--port 4173] [--isolated]";
const HELP = `Build the playground and serve it on this machine.

  npm run web
  npm run web -- --build     only build: apps/web/dist is a static site

  --port 4173     where it is served
  --isolated      send the headers that give it threads, as a good host does; without them its service worker does
  --help          this text`;

function fail(sentence: string): never {
  console.error(`doge: ${sentence}`);
  process.exit(1);
}

let values: { build: boolean; port: string; isolated: boolean; help: boolean };
try {
  ({ values } = parseArgs({
    options: {
      build: { type: "boolean", default: false },
      port: { type: "string", default: "4173" },
      isolated: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  }));
} catch (error) {
  fail(`${(error as Error).message} ${USE}`);
}
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const port = Number(values.port);
if (!Number.isInteger(port) || port < 0 || port > 65535)
  fail(`--port is ${values.port}; it must be a number up to 65535.`);

await build({ root, logLevel: "warn" });
console.log(`The site is in ${folder}: any static host can serve it, from any folder.`);
if (!values.build) {
  try {
    const { address } = await serveSite(folder, { port, isolated: values.isolated });
    console.log(`Open ${address} with a browser. Ctrl+C ends it.`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    fail(`port ${port} is taken: choose another with npm run web -- --port N.`);
  }
}
