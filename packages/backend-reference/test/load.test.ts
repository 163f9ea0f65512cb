// The package alone is enough to load a folder and generate.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { load } from "../src/index.ts";

const folder = fileURLToPath(new URL("../../conformance/fixtures/native", import.meta.url));

describe("load", () => {
  it("opens a folder and continues its golden prompt, greedily", async () => {
    const golden = JSON.parse(await readFile(`${folder}/golden.json`, "utf8"));
    const { ids, greedy } = golden.cases.find((one: { greedy?: unknown }) => one.greedy !== undefined);
    await using doge = await load(folder, { dtype: "f32" });
    const result = await doge.generate(Int32Array.from(ids), { maxNewTokens: greedy.length, temperature: 0 }).result();
    expect([...result.ids]).toEqual(greedy.slice(0, result.ids.length));
    expect(result.ids.length).toBeGreaterThan(0);
    expect(result.promptIds).toEqual(Int32Array.from(ids));
  });

  it("says what is missing of a folder that is not there", async () => {
    await expect(load(`${folder}-elsewhere`)).rejects.toMatchObject({ code: "file-missing" });
  });
});
