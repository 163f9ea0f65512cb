// Every committed fixture, written by another implementation, opens as what its files say.
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { describe, floats, openCheckpoint } from "../../src/index.ts";
import { folder } from "../../src/node/index.ts";

const root = join(import.meta.dirname, "../../../conformance/fixtures");
const names = (await readdir(root)).filter((name) => existsSync(join(root, name, "config.json")));

test("there are fixtures", () => expect(names.length).toBeGreaterThan(0));

test.each(names)("fixture %s opens, and all its values are read", async (name) => {
  const files = folder(join(root, name));
  const checkpoint = await openCheckpoint(files);
  const stored = JSON.parse(await readFile(join(root, name, "config.json"), "utf8"));
  expect(checkpoint.config).toMatchObject({
    generation: name.startsWith("legacy") ? "legacy" : checkpoint.config.generation,
    vocabSize: stored.vocab_size,
    hiddenSize: stored.hidden_size,
    layers: stored.num_hidden_layers,
    heads: stored.num_attention_heads,
    kvHeads: stored.num_key_value_heads ?? stored.num_attention_heads,
    tied: stored.tie_word_embeddings,
  });
  expect(checkpoint.config.window).toBe(checkpoint.config.generation === "native" ? stored.keep_window_size : null);
  expect(checkpoint.config.experts !== null).toBe(stored.is_moe);
  if (checkpoint.config.experts !== null) {
    expect(checkpoint.config.experts.indexing).toBe(name.includes("index-bug") ? "grid" : "expert");
  }
  const expected = stored.auto_map === undefined ? [] : [expect.stringContaining("auto_map")];
  expect(checkpoint.warnings).toEqual(expected);
  let values = 0;
  for (const tensor of checkpoint.tensors.keys()) {
    for await (const { data } of floats(checkpoint, tensor)) values += data.length;
  }
  expect(values).toBe(describe(checkpoint).parameters);
  await files.close?.();
});
