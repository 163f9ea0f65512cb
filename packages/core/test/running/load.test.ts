// loadDoge: files to a Doge, with progress, defaults and a choice of backends.
import { describe, expect, it } from "vitest";
import type { Progress, Provider, TokenizerFactory } from "../../src/index.ts";
import { isDogeError, loadDoge } from "../../src/index.ts";
import { readGenerationConfig } from "../../src/loading/generation-config.ts";
import { folder, json } from "./folder.ts";
import { MockBackend, mockProvider } from "./mock.ts";
import { mockTokenizer } from "./text.ts";

/** A mock that reads its weights, as a real one does. */
function reading(): { raw: MockBackend; provider: Provider } {
  const raw = new MockBackend();
  const load = raw.load.bind(raw);
  raw.load = async (checkpoint, options) => {
    for (const [name, { shape }] of checkpoint.tensors) {
      const size = 4 * shape.reduce((a, b) => a * b, 1);
      for (let from = 0; from < size; from += 100) await checkpoint.read(name, from, Math.min(size, from + 100));
    }
    return load(checkpoint, options);
  };
  return { raw, provider: mockProvider(raw) };
}

describe("loadDoge", () => {
  it("takes a tokenizer from the factory it is given", async () => {
    const made: unknown[] = [];
    const tokenizer: TokenizerFactory = async (file, settings) => {
      made.push([file, settings]);
      return mockTokenizer();
    };
    const files = { ...folder(), "tokenizer.json": json({ own: 1 }), "tokenizer_config.json": json({ own: 2 }) };
    const doge = await loadDoge(files, { backend: reading().provider, tokenizer });
    expect(made).toEqual([[{ own: 1 }, { own: 2 }]]);
    expect(doge.tokenizer?.size).toBe(38);
    await doge.close();
  });

  it("opens a folder of config and weights alone, with progress, for ids", async () => {
    const seen: Progress[] = [];
    const files = folder();
    const doge = await loadDoge(files, { backend: reading().provider, onProgress: (progress) => seen.push(progress) });
    expect(doge.tokenizer).toBeNull();
    const result = await doge.generate([3, 4], { maxNewTokens: 3 }).result();
    expect([result.text, result.promptIds.length]).toEqual([null, 2]);
    expect(result.timings.loadMs).toBeGreaterThan(0);
    const total = files["model.safetensors"]!.length;
    expect(seen.at(-1)).toEqual({ file: "model.safetensors", loaded: total, total });
    expect(seen.length).toBeGreaterThan(5);
    expect(seen.every(({ loaded }, index) => loaded >= (seen[index - 1]?.loaded ?? 0))).toBe(true);
    await doge.close();
  });

  it("takes defaults from generation_config.json and tells what it ignores", async () => {
    const files = {
      ...folder(),
      "generation_config.json": json({ max_new_tokens: 2, num_beams: 4, eos_token_id: [1, 2] }),
    };
    const doge = await loadDoge(files, { backend: mockProvider() });
    expect((await doge.generate([3]).result()).ids.length).toBeLessThanOrEqual(2);
    expect(doge.info().warnings.join()).toContain("num_beams is 4");
    expect(readGenerationConfig({ do_sample: true, top_k: 0, temperature: 0.7, bos_token_id: 0 })).toEqual({
      defaults: { doSample: true, topK: 0, temperature: 0.7 },
      warnings: [],
    });
    const file = {
      ...{ no_repeat_ngram_size: 3, bad_words_ids: [[4], [5, 6]], sequence_bias: [[[3], -1.5]], min_new_tokens: 2 },
      ...{ min_length: 4, suppress_tokens: [7], begin_suppress_tokens: [8], forced_eos_token_id: 1, typical_p: 0.9 },
      ...{ epsilon_cutoff: 1e-3, eta_cutoff: 0, top_h: null, stop_strings: "END" },
      exponential_decay_length_penalty: [10, 1.1],
    };
    expect(readGenerationConfig(file)).toEqual({
      defaults: {
        stop: ["END"],
        processing: {
          ...{ noRepeatNgramSize: 3, badWordsIds: [[4], [5, 6]], sequenceBias: [[[3], -1.5]], minNewTokens: 2 },
          ...{ minLength: 4, suppressTokens: [7], beginSuppressTokens: [8], forcedEosTokenId: 1, typicalP: 0.9 },
          ...{ epsilonCutoff: 1e-3, etaCutoff: 0, exponentialDecayLengthPenalty: [10, 1.1] },
        },
      },
      warnings: [],
    });
    for (const bad of [
      { bad_words_ids: [4] },
      { suppress_tokens: 4 },
      { stop_strings: [4] },
      { top_p: "x" },
      { do_sample: 1 },
      { eos_token_id: "a" },
      5,
    ]) {
      expect(() => readGenerationConfig(bad)).toThrow("generation_config.json");
    }
  });

  it("chooses from a list, and a backend that failed is told of", async () => {
    const broken: Provider = { ...mockProvider(), name: "broken", open: () => Promise.reject(new Error("no driver")) };
    const doge = await loadDoge(folder(), { backend: [broken, mockProvider()] });
    expect(doge.info().backend).toBe("mock");
    expect(doge.info().warnings.join()).toContain(
      "The backend broken was passed over. It should have worked and failed: no driver",
    );
    await expect(loadDoge(folder(), { backend: [broken] })).rejects.toSatisfy((error) =>
      isDogeError(error, "unavailable"),
    );
  });

  it("closes the backend when loading fails, and gives typed errors", async () => {
    const { raw, provider } = reading();
    raw.load = () => Promise.reject(new Error("no memory"));
    await expect(loadDoge(folder(), { backend: provider })).rejects.toThrow("no memory");
    expect(raw.closed).toBe(true);
    const options = { backend: mockProvider() };
    const rejects = (promise: Promise<unknown>, code: Parameters<typeof isDogeError>[1]) =>
      expect(promise).rejects.toSatisfy((error) => isDogeError(error, code));
    await rejects(loadDoge({ "config.json": folder()["config.json"]! }, options), "file-missing");
    await rejects(loadDoge({ ...folder(), "tokenizer.json": json({}) }, options), "tokenizer-invalid");
    await rejects(loadDoge("./no-such-folder", options), "file-missing");
    await rejects(loadDoge(folder(), { ...options, signal: AbortSignal.abort() }), "aborted");
    await rejects(loadDoge(folder(), { ...options, dtype: "q4" }), "unsupported");
    await rejects(loadDoge(folder(), {} as never), "invalid-argument");
  });
});
