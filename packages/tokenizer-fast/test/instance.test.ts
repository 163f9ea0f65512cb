// The traffic with the binary: how often it is crossed, what becomes of memory, and where the binary may come from.
import { readFileSync } from "node:fs";
import { isDogeError } from "@doge-lm/core";
import { createFastTokenizer } from "@doge-lm/tokenizer-fast";
import { describe, expect, test, vi } from "vitest";
import { tokenizerJson } from "../../core/test/text/support.ts";
import { cut } from "../src/engine.ts";

const binary = new URL("../wasm/tokenizer.wasm", import.meta.url);
const module = await WebAssembly.compile(readFileSync(binary));

/** The exports of every instance made during `work`, with their calls counted by name. */
async function counted(work: () => Promise<void>): Promise<Record<string, number>> {
  const calls: Record<string, number> = {};
  const Real = WebAssembly.Instance;
  vi.stubGlobal("WebAssembly", {
    ...Object.fromEntries(
      Object.getOwnPropertyNames(WebAssembly).map((name) => [name, Reflect.get(WebAssembly, name)]),
    ),
    Instance: class {
      readonly exports: object;
      constructor(module: WebAssembly.Module) {
        calls.instances = (calls.instances ?? 0) + 1;
        this.exports = Object.fromEntries(
          Object.entries(new Real(module).exports).map(([name, value]) => [
            name,
            typeof value !== "function"
              ? value
              : (...numbers: number[]) => {
                  calls[name] = (calls[name] ?? 0) + 1;
                  return value(...numbers);
                },
          ]),
        );
      }
    },
  });
  try {
    await work();
  } finally {
    vi.unstubAllGlobals();
  }
  return calls;
}

describe("crossings", () => {
  test("a thousand short texts cross once", async () => {
    const calls = await counted(async () => {
      const tokenizer = await createFastTokenizer(tokenizerJson());
      tokenizer.encodeBatch(Array.from({ length: 1000 }, (_, index) => `text ${index}`));
    });
    expect(calls).toEqual({ instances: 1, build: 1, encode: 1, reserve_bytes: 2, reserve_words: 2 });
  });

  test("text beyond ASCII asks for room once more", async () => {
    const calls = await counted(async () => {
      const tokenizer = await createFastTokenizer(tokenizerJson());
      expect(tokenizer.decode(tokenizer.encode("中".repeat(1000)))).toBe("中".repeat(1000));
    });
    expect(calls.reserve_bytes).toBe(3);
  });

  test("groups of texts keep their order, and only a long text is more than a group", () => {
    const texts = ["a".repeat(3 << 20), "b", "c".repeat(1 << 20), "", "d"];
    const groups = cut(texts);
    expect(groups.flat()).toEqual(texts);
    expect(groups.map((group) => group.length)).toEqual([1, 1, 2, 1]);
    expect(cut([])).toEqual([]);
  });
});

describe("memory", () => {
  test("what a long text took is given back", async () => {
    const tokenizer = await createFastTokenizer(tokenizerJson());
    const before = [...tokenizer.encode("Hello")];
    const calls = await counted(async () => {
      const text = "a b ".repeat(8 << 20);
      expect(tokenizer.encode(text, { addSpecial: false }).length).toBeGreaterThan(8 << 20);
      expect([...tokenizer.encode("Hello")]).toEqual(before);
    });
    // The stub sees instances made while it stands: the one after the long text.
    expect(calls.instances).toBe(1);
  });

  test("a batch that does not fit is an error, and the next one works", async () => {
    // A stand-in for an instance whose memory is at its end: its allocations fail as a trap.
    const source = readFileSync(binary);
    const tokenizer = await createFastTokenizer(tokenizerJson(), undefined, { wasm: source });
    const before = [...tokenizer.encode("Hello")];
    const { encodeInto } = TextEncoder.prototype;
    let failing = true;
    TextEncoder.prototype.encodeInto = function (...values) {
      if (!failing) return encodeInto.apply(this, values);
      failing = false;
      throw new RangeError("Array buffer allocation failed");
    };
    try {
      expect(() => tokenizer.encode("Hello")).toThrow(/ran out of memory/);
    } finally {
      TextEncoder.prototype.encodeInto = encodeInto;
    }
    expect([...tokenizer.encode("Hello")]).toEqual(before);
  });
});

describe("the binary", () => {
  test.each([
    ["bytes", readFileSync(binary)],
    ["a URL", binary],
    ["an address", binary.href],
    ["a module", module],
  ])("from %s", async (_, wasm) => {
    const tokenizer = await createFastTokenizer(tokenizerJson(), undefined, { wasm });
    expect(tokenizer.decode(tokenizer.encode("Hello"))).toBe("Hello");
  });

  test("that cannot be had is told with the way out", async () => {
    for (const wasm of [new URL("none.wasm", binary), Uint8Array.of(1, 2, 3)]) {
      const error = await createFastTokenizer(tokenizerJson(), undefined, { wasm }).catch((caught: unknown) => caught);
      expect(isDogeError(error, "unavailable")).toBe(true);
    }
  });

  test("imports nothing, and exports what is described", () => {
    expect(WebAssembly.Module.imports(module)).toEqual([]);
    const names = WebAssembly.Module.exports(module).map(({ name }) => name);
    const functions = [
      "begin_counts",
      "build",
      "decode",
      "encode",
      "feed_counts",
      "learn",
      "reserve_bytes",
      "reserve_words",
    ];
    expect(names.filter((name) => !name.startsWith("__")).sort()).toEqual([...functions, "memory"].sort());
  });

  test("what is no string is refused by its place", async () => {
    const tokenizer = await createFastTokenizer(tokenizerJson());
    expect(() => tokenizer.encodeBatch(["a", null as unknown as string])).toThrow(/Text 1 of the batch/);
    expect(tokenizer.encodeBatch([])).toEqual({ ids: new Int32Array(), ends: new Uint32Array() });
  });
});
