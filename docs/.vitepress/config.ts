// The documentation site: the pages of docs/ as they stand, and the API that typedoc writes into docs/api before the build.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitepress";

const docs = fileURLToPath(new URL("..", import.meta.url));

/** Markdown pages of a folder, by name. */
const pages = (folder: string): string[] =>
  existsSync(join(docs, folder))
    ? readdirSync(join(docs, folder))
        .filter((name) => name.endsWith(".md") && name !== "index.md")
        .map((name) => name.slice(0, -3))
        .sort()
    : [];

const KINDS = {
  functions: "Functions",
  interfaces: "Interfaces",
  classes: "Classes",
  "type-aliases": "Types",
  variables: "Values",
};

/** A module's entry in the sidebar, with what it exports by kind. */
const module = (text: string, folder: string) => ({
  text,
  link: `/api/${folder}/`,
  collapsed: true,
  items: Object.entries(KINDS)
    .map(([kind, title]) => ({
      text: title,
      collapsed: true,
      items: pages(`api/${folder}/${kind}`).map((name) => ({ text: name, link: `/api/${folder}/${kind}/${name}` })),
    }))
    .filter(({ items }) => items.length > 0),
});

export default defineConfig({
  title: "Doge",
  description: "SmallDoge's small language models wherever TypeScript runs",
  cleanUrls: true,
  themeConfig: {
    search: { provider: "local" },
    outline: [2, 3],
    nav: [
      { text: "Guide", link: "/getting-started" },
      { text: "How Doge works", link: "/attention" },
      { text: "API", link: "/api/" },
    ],
    sidebar: [
      {
        text: "Guide",
        items: [
          { text: "In Node", link: "/getting-started" },
          { text: "In a browser", link: "/browser" },
          { text: "The playground", link: "/playground" },
          { text: "Examples for pages", link: "/examples" },
          { text: "With a bundler", link: "/bundlers" },
          { text: "Choosing a backend", link: "/choosing" },
          { text: "Models by name", link: "/hub" },
          { text: "Options of generation", link: "/generation" },
          { text: "Published checkpoints", link: "/checkpoints" },
          { text: "The fast tokenizer", link: "/tokenizer" },
          { text: "What a dtype costs", link: "/quality" },
          { text: "How speed is measured", link: "/benchmarking" },
          ...(existsSync(join(docs, "performance.md")) ? [{ text: "Measured speed", link: "/performance" }] : []),
          { text: "Half an hour of work", link: "/soak" },
          { text: "Errors", link: "/errors" },
          { text: "Environment", link: "/environment" },
        ],
      },
      {
        text: "How Doge works",
        items: [
          { text: "The dynamic mask, drawn", link: "/attention" },
          { text: "The forward pass", link: "/model" },
          { text: "The contract", link: "/contract" },
          { text: "Adding a backend", link: "/adding-a-backend" },
          { text: "How a release is made", link: "/releasing" },
          {
            text: "Decisions",
            collapsed: true,
            items: pages("decisions").map((name) => ({
              text: name.replace(/^\d{4}-\d\d-\d\d-/, "").replaceAll("-", " "),
              link: `/decisions/${name}`,
            })),
          },
        ],
      },
      {
        text: "API",
        collapsed: true,
        items: [
          module("@doge-lm/core", "core"),
          module("@doge-lm/core/node", "core/node"),
          module("@doge-lm/core/browser", "core/browser"),
          module("@doge-lm/core/backend-kit", "core/backend-kit"),
          module("@doge-lm/wasm", "wasm"),
          module("@doge-lm/webgpu", "webgpu"),
          module("@doge-lm/cuda", "cuda"),
          module("@doge-lm/reference", "reference"),
          module("@doge-lm/conformance", "conformance"),
          module("@doge-lm/tokenizer-fast", "tokenizer-fast"),
        ],
      },
    ],
  },
});
