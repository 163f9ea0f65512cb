// How the site is built: a page, the engine's worker, and a service worker that knows every file of the build by name.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const publicFolder = fileURLToPath(new URL("public", import.meta.url));

/** Gives the service worker the list of what it is to keep, and a version that changes with any of it. */
function precache(): Plugin {
  let outputs = new Map<string, string | Uint8Array>();
  return {
    name: "doge-precache",
    apply: "build",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        outputs = new Map();
        for (const [name, output] of Object.entries(bundle)) {
          outputs.set(name, output.type === "chunk" ? output.code : output.source);
        }
        const worker = bundle["service-worker.js"];
        if (worker?.type !== "chunk") return;
        outputs.delete("service-worker.js");
        // What is copied as it stands is no part of the bundle.
        const copied = readdirSync(publicFolder);
        const files = ["./", ...copied];
        const hash = createHash("sha256").update(worker.code);
        for (const name of copied) hash.update(name).update(readFileSync(join(publicFolder, name)));
        for (const [name, content] of [...outputs].sort(([a], [b]) => (a < b ? -1 : 1))) {
          hash.update(name).update(content);
          if (name !== "index.html") files.push(name);
        }
        const version = hash.digest("hex").slice(0, 12);
        worker.code = worker.code
          .replace(/__DOGE_FILES__/, JSON.stringify(files))
          .replace(/__DOGE_VERSION__/, JSON.stringify(version));
      },
    },
  };
}

export default defineConfig(({ command }) => ({
  // Any folder of any host will do.
  base: "./",
  plugins: [precache()],
  define: { __DOGE_BUILT__: command === "build" },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // Workers are one file each, as Vite makes them where they may be classic scripts: WebKit runs a module worker's script once more
  // when one of its chunks imports it, and the second engine, which has no model, would answer the page.
  worker: { format: "iife" },
  build: {
    target: "es2022",
    // The policy of the page allows files of its own, not data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { index: "index.html", "service-worker": "src/service-worker.ts" },
      output: {
        entryFileNames: ({ name }) => (name === "service-worker" ? "service-worker.js" : "assets/[name]-[hash].js"),
      },
    },
  },
}));
