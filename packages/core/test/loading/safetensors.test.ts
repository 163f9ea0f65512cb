// Rows F1 to F8 and F14 of the reliability table: safetensors files that lie.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DogeError, filesFrom, openCheckpoint, readHeader } from "../../src/index.ts";
import { refuses } from "./errors.ts";
import {
  configJson,
  f32,
  json,
  modelFiles,
  rawSafetensors,
  tinyConfig,
  writeSafetensors,
} from "./write-safetensors.ts";

const FILE = "model.safetensors";
const header = (bytes: Uint8Array, headerCap?: number) => readHeader(filesFrom({ [FILE]: bytes }), FILE, { headerCap });
/** A file with one tensor entry as given, over `size` data bytes. */
const entry = (value: unknown, size = 8, name = "t") =>
  rawSafetensors(
    `{${JSON.stringify(name)}:${typeof value === "string" ? value : JSON.stringify(value)}}`,
    new Uint8Array(size),
  );
const good = { dtype: "F32", shape: [2], data_offsets: [0, 8] };

test("a well-formed header is read, metadata and padding included", async () => {
  const tensors = await header(
    writeSafetensors(
      new Map([
        ["a", f32([2, 2], [1, 2, 3, 4])],
        ["b", f32([], [5])],
        ["c", f32([0, 3], [])],
      ]),
      { format: "pt" },
    ),
  );
  expect([...tensors.keys()]).toEqual(["a", "b", "c"]);
  expect(tensors.get("a")).toMatchObject({ dtype: "F32", shape: [2, 2], file: FILE });
  expect(tensors.get("a")!.end).toBe(tensors.get("b")!.begin);
});

describe("F1 length word", () => {
  test.each([0, 1, 7, 8])("F1 a file of %i bytes", (size) =>
    refuses(() => header(new Uint8Array(size)), "header-too-small", FILE, `${size} bytes`),
  );
  test("F1 a header of 0 or 1 bytes", async () => {
    await refuses(() => header(rawSafetensors("{}", undefined, 0n)), "header-too-small");
    await refuses(() => header(rawSafetensors("{}", undefined, 1n)), "header-too-small");
  });
  test("F1 longer than the file", () =>
    refuses(() => header(rawSafetensors("{}", undefined, 3n)), "invalid-length", "3 bytes", "only 2"));
  test("F1 above the cap, and the cap above its hard limit", async () => {
    await refuses(
      () => header(rawSafetensors("{}", undefined, 16_777_217n)),
      "header-too-large",
      "16777217",
      "16777216",
    );
    await refuses(() => header(rawSafetensors("{}", undefined, 100_000_001n), 1e12), "header-too-large", "100000000");
    await refuses(
      () => header(writeSafetensors(new Map([["a", f32([1], [1])]])), 16),
      "header-too-large",
      "at most 16",
    );
  });
  test("F1 at least 2^63 and 2^64 - 1", async () => {
    await refuses(() => header(rawSafetensors("{}", undefined, 2n ** 63n)), "header-too-large", "9223372036854775808");
    await refuses(() => header(rawSafetensors("{}", undefined, 2n ** 64n - 1n)), "header-too-large");
  });
  test("F1 nothing is read beyond the first bytes before the check", async () => {
    let read = 0;
    const files = filesFrom({ [FILE]: rawSafetensors("{}", new Uint8Array(4096), 1_000_000n) });
    const counting = {
      ...files,
      read: (file: string, from: number, to: number) => {
        read += to - from;
        return files.read(file, from, to);
      },
    };
    await expect(readHeader(counting, FILE)).rejects.toThrow();
    expect(read).toBeLessThanOrEqual(64);
  });
});

describe("F2 header text", () => {
  test("F2 not UTF-8", () =>
    refuses(
      () => header(rawSafetensors(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]))),
      "header-invalid",
      "UTF-8",
      "offset 10",
    ));
  test("F2 not JSON, with the byte offset", () =>
    refuses(() => header(rawSafetensors('{"é": nope}')), "header-invalid", "byte 15"));
  test("F2 leading whitespace, byte order mark", async () => {
    await refuses(() => header(rawSafetensors(" {}")), "header-invalid", "byte 8");
    await refuses(() => header(rawSafetensors("\ufeff{}")), "header-invalid", "byte 8");
  });
  test("F2 deep nesting", () =>
    refuses(
      () => header(rawSafetensors(`{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`)),
      "header-invalid",
      "nesting",
    ));
  test("F2 trailing bytes", async () => {
    await refuses(() => header(rawSafetensors("{}{}")), "header-invalid", "byte 10");
    await refuses(() => header(rawSafetensors("{}\0\0")), "header-invalid", "byte 10");
  });
});

describe("F3 names and counts", () => {
  test("F3 duplicate key", () =>
    refuses(
      () => header(rawSafetensors(`{"a":${JSON.stringify(good)},"a":${JSON.stringify(good)}}`, new Uint8Array(8))),
      "header-invalid",
      '"a"',
      "twice",
    ));
  test("F3 __proto__ and constructor are ordinary names", async () => {
    const tensors = await header(
      writeSafetensors(
        new Map([
          ["__proto__", f32([1], [1])],
          ["constructor", f32([1], [2])],
          ["toString", f32([1], [2])],
        ]),
      ),
    );
    expect([...tensors.keys()]).toEqual(["__proto__", "constructor", "toString"]);
    expect(({} as { dtype?: string }).dtype).toBeUndefined();
    await refuses(
      () =>
        header(
          rawSafetensors('{"t":{"__proto__":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}', new Uint8Array(8)),
        ),
      "header-invalid",
      "no dtype",
    );
  });
  test("F3 1,000,000 tensors", async () => {
    const names = Array.from({ length: 1_000_000 }, (_, index) => `"t${index}":{}`);
    await refuses(() => header(rawSafetensors(`{${names.join(",")}}`)), "limit-exceeded", "more than 65536");
  });
  test("F3 a name of 1 MB", () =>
    refuses(() => header(entry(good, 8, "n".repeat(1e6))), "limit-exceeded", "1000000 characters"));
});

describe("F4 offsets", () => {
  test.each([
    ["negative", "[-8,0]"],
    ["float", "[0,7.5]"],
    ["above 2^53", "[0,9007199254740993]"],
    ["swapped", "[8,0]"],
    ["past the end", "[0,16]"],
    ["text", '["0","8"]'],
    ["three", "[0,4,8]"],
    ["absent", "null"],
  ])("F4 offsets %s", (_, offsets) =>
    refuses(() => header(entry(`{"dtype":"F32","shape":[2],"data_offsets":${offsets}}`)), "invalid-offset", '"t"'),
  );
  const two = (a: [number, number], b: [number, number], size: number) => {
    const shape = ([from, to]: [number, number]) => [(to - from) / 4];
    return rawSafetensors(
      JSON.stringify({
        a: { dtype: "F32", shape: shape(a), data_offsets: a },
        b: { dtype: "F32", shape: shape(b), data_offsets: b },
      }),
      new Uint8Array(size),
    );
  };
  test("F4 offsets overlapping", () =>
    refuses(() => header(two([0, 8], [4, 12], 12)), "invalid-offset", '"b"', "overlaps"));
  test("F4 offsets equal", () => refuses(() => header(two([0, 8], [0, 8], 8)), "invalid-offset", '"b"', "overlaps"));
  test("F4 offsets with a hole", () =>
    refuses(() => header(two([0, 8], [12, 16], 16)), "invalid-offset", '"b"', "hole"));
  test("F4 offsets not beginning at 0", () =>
    refuses(() => header(two([4, 8], [8, 16], 16)), "invalid-offset", '"a"', "hole"));
  test("F4 offsets: the last one is not the file's end", () =>
    refuses(() => header(two([0, 8], [8, 16], 20)), "invalid-offset", '"b"', "20 bytes"));
  test("F4 offsets: the file is cut off", () =>
    refuses(() => header(two([0, 8], [8, 16], 12)), "invalid-offset", '"b"', "cut off"));
});

describe("F5 shapes", () => {
  test.each([
    ["negative", "[-2]"],
    ["float", "[2.5]"],
    ["overflowing", "[4294967296,4294967296]"],
    ["overflowing before a zero", "[4294967296,4294967296,0]"],
    ["not fitting its bytes", "[3]"],
    ["text", '["2"]'],
    ["no array", "2"],
    ["of 9 dimensions", "[2,1,1,1,1,1,1,1,1]"],
  ])("F5 shape %s", (_, shape) =>
    refuses(() => header(entry(`{"dtype":"F32","shape":${shape},"data_offsets":[0,8]}`)), "invalid-shape", '"t"'),
  );
  test("F5 scalars and empty dimensions are accepted", async () => {
    expect((await header(entry({ dtype: "F32", shape: [], data_offsets: [0, 4] }, 4))).get("t")!.shape).toEqual([]);
    expect((await header(entry({ dtype: "F32", shape: [0], data_offsets: [0, 0] }, 0))).get("t")!.shape).toEqual([0]);
  });
});

describe("F6 number formats", () => {
  test.each(["F64", "I8", "I64", "U8", "BOOL", "F8_E4M3", "F4", "f32", "", "constructor"])("F6 dtype %j", (dtype) =>
    refuses(() => header(entry({ ...good, dtype })), "unsupported-dtype", '"t"', "F32, F16 and BF16"),
  );
  test("F6 a dtype that is no text", () =>
    refuses(() => header(entry({ ...good, dtype: 5 })), "header-invalid", "dtype"));
});

test("F7 metadata that is not text", async () => {
  await refuses(() => header(rawSafetensors('{"__metadata__":{"a":1}}')), "header-invalid", "__metadata__", '"a"');
  await refuses(() => header(rawSafetensors('{"__metadata__":[]}')), "header-invalid", "__metadata__");
});

describe("F8 other and double formats", () => {
  test("F8 a big-endian length", () => {
    const file = writeSafetensors(new Map([["a", f32([1], [1])]]));
    file.subarray(0, 8).reverse();
    return refuses(() => header(file), "header-too-large");
  });
  test("F8 a zip archive or a program behind the tensors", async () => {
    const file = writeSafetensors(new Map([["a", f32([1], [1])]]));
    for (const magic of ["PK\u0003\u0004", "MZ"]) {
      const both = new Uint8Array([...file, ...new TextEncoder().encode(magic.padEnd(64))]);
      await refuses(() => header(both), "invalid-offset", '"a"');
    }
  });
  test("F8 a header of 640 bytes begins like a pickle and is none", async () => {
    const text = JSON.stringify({ t: good }).padEnd(640);
    const file = rawSafetensors(text, new Uint8Array(8));
    expect([file[0], file[1]]).toEqual([0x80, 0x02]);
    expect((await header(file)).size).toBe(1);
  });
});

describe("F14 other formats", () => {
  const bytes = (start: string | number[]) =>
    new Uint8Array([
      ...(typeof start === "string" ? new TextEncoder().encode(start) : start),
      ...new Uint8Array(100).fill(0x20),
    ]);
  test.each([
    ["zip", bytes("PK\u0003\u0004"), "pickle"],
    ["pickle", bytes([0x80, 0x02, 0x8a, 0x0a]), "pickle"],
    ["GGUF", bytes("GGUF"), "GGUF"],
    ["Git LFS pointer", bytes("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"],
    ["web page", bytes("<!DOCTYPE html>"), "web page"],
  ])("F14 model.safetensors is a %s", (_, content, word) =>
    refuses(() => header(content), "unsupported-format", FILE, word),
  );
  test.each(["pytorch_model.bin", "model.gguf", "pytorch_model.bin.index.json", "model.onnx"])(
    "F14 only %s is offered",
    (name) =>
      refuses(
        () => openCheckpoint(filesFrom({ "config.json": json(configJson(tinyConfig)), [name]: new Uint8Array(16) })),
        "unsupported-format",
        name,
        "save_pretrained",
      ),
  );
  test("F14 a .bin beside safetensors does not matter", async () => {
    const files = modelFiles(tinyConfig);
    const read = async (name: string) => files.read(name, 0, await files.size(name));
    const both = filesFrom({
      "pytorch_model.bin": new Uint8Array(4),
      "config.json": await read("config.json"),
      [FILE]: await read(FILE),
    });
    expect((await openCheckpoint(both)).config.layers).toBe(2);
  });
  test("no weights at all", () =>
    refuses(() => openCheckpoint(filesFrom({ "config.json": json({}) })), "file-missing", FILE, "config.json"));
});

describe("sharded checkpoints", () => {
  const shard = (...names: string[]) => writeSafetensors(new Map(names.map((name) => [name, f32([1], [1])])));
  const index = (map: Record<string, unknown>) => json({ metadata: { total_size: 1 }, weight_map: map });
  const open = (parts: Record<string, Uint8Array>, map: Record<string, unknown>) =>
    openCheckpoint(
      filesFrom({ "config.json": json(configJson(tinyConfig)), "model.safetensors.index.json": index(map), ...parts }),
    );

  test.each([
    "../x.safetensors",
    "/etc/x.safetensors",
    "https://example.com/x.safetensors",
    "C:\\x.safetensors",
    "a\\b.safetensors",
    "x\0.safetensors",
    "a//b.safetensors",
    "~/x.safetensors",
    "",
  ])("an index that names %j", (path) =>
    refuses(() => open({}, { a: path }), "unsafe-path", "model.safetensors.index.json"),
  );
  test("an index that names a pickle", () =>
    refuses(() => open({}, { a: "pytorch_model-1.bin" }), "unsupported-format", "pytorch_model-1.bin"));
  test("missing shards are all named", () =>
    refuses(
      () => open({ "a.safetensors": shard("a") }, { a: "a.safetensors", b: "b.safetensors", c: "c.safetensors" }),
      "file-missing",
      "b.safetensors",
      "c.safetensors",
    ));
  test("too many shards", () =>
    refuses(
      () => open({}, Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`t${i}`, `s${i}.safetensors`]))),
      "limit-exceeded",
      "1024 shards",
    ));
  test("a tensor in two shards, in none, or in another than said", async () => {
    const parts = { "a.safetensors": shard("a"), "b.safetensors": shard("a", "b") };
    await refuses(
      () => open(parts, { a: "a.safetensors", b: "b.safetensors" }),
      "tensor-mismatch",
      "a stands in a.safetensors and again in b.safetensors",
    );
    await refuses(
      () => open({ "a.safetensors": shard("a") }, { a: "a.safetensors", c: "a.safetensors" }),
      "tensor-mismatch",
      "c is not in a.safetensors",
    );
    await refuses(
      () =>
        open({ "a.safetensors": shard("a"), "b.safetensors": shard("b") }, { a: "b.safetensors", b: "a.safetensors" }),
      "tensor-mismatch",
      "instead of",
    );
  });
  test("no weight_map, or names that are no text", async () => {
    await refuses(
      () =>
        openCheckpoint(
          filesFrom({ "config.json": json(configJson(tinyConfig)), "model.safetensors.index.json": json([]) }),
        ),
      "json-invalid",
      "weight_map",
    );
    await refuses(() => open({}, { a: 5 }), "json-invalid", '"a"');
  });
});

test("any corruption of a good file is either refused with a code or harmless", async () => {
  const base = writeSafetensors(
    new Map([
      ["a", f32([2, 2], [1, 2, 3, 4])],
      ["b", f32([3], [5, 6, 7])],
    ]),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(base.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.nat(base.length),
      async (edits, cut) => {
        const bytes = base.slice(0, cut < base.length / 4 ? base.length : cut);
        for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
        try {
          for (const { begin, end } of (await header(bytes)).values())
            expect(end <= bytes.length && begin <= end).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(DogeError);
        }
      },
    ),
    { numRuns: 500 },
  );
});
