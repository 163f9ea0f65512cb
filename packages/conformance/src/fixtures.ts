// The committed fixtures: small seeded checkpoints and what transformers makes of them (tools/golden.py, fixtures/README.md).
import {
  type Checkpoint,
  type Files,
  type Floats,
  type GenerateOptions,
  hasFile,
  openCheckpoint,
  type Processing,
  type Routing,
  readJson,
} from "@doge-lm/core";

/** Every folder under fixtures/. A check that needs a property names the fixtures that have it. */
export const fixtureNames = [
  "native",
  "window",
  "window-zero",
  "legacy",
  "legacy-new-names",
  "odd",
  "rope",
  "rope-linear",
  "moe",
  "legacy-moe",
  "moe-index-bug",
] as const;

/** Tokens are evaluated in calls of the given lengths; logits are kept from position `logitsFrom` on. */
export interface GoldenCase {
  readonly name: string;
  /** Only for mixtures of experts. */
  readonly routing?: Routing;
  readonly ids: readonly number[];
  readonly calls?: readonly number[];
  readonly logitsFrom?: number;
  /** Standard deviation over all logits of the case: the unit of tolerances. */
  readonly logitsStd?: number;
  readonly arrays?: { readonly [name: string]: { readonly offset: number; readonly shape: readonly number[] } };
  /** A greedy continuation, and by how much each id led, in standard deviations of its step's logits. */
  readonly greedy?: readonly number[];
  readonly margins?: readonly number[];
}
/** A greedy text under options of generation, by core's names (generation.json of some fixtures). */
interface GoldenGeneration {
  readonly prompt: readonly number[];
  readonly options: Processing & Pick<GenerateOptions, "repetitionPenalty" | "eosTokenId">;
  readonly ids: readonly number[];
  /** As in GoldenCase, of the scores the processors left. */
  readonly margins: readonly number[];
}
interface GenerationFile {
  readonly maxNewTokens: number;
  readonly cases: readonly GoldenGeneration[];
}
interface GoldenFile {
  readonly format: number;
  readonly name: string;
  readonly purpose: string;
  readonly cases: readonly GoldenCase[];
}

export interface Fixture {
  readonly name: string;
  readonly purpose: string;
  readonly checkpoint: Checkpoint;
  readonly cases: readonly GoldenCase[];
  readonly generations: GenerationFile | undefined;
  /** An array of a case, such as "logits" or "layers.0.bias"; undefined when the case has none of that name. */
  array(golden: GoldenCase, name: string): { readonly data: Floats; readonly shape: readonly number[] } | undefined;
  /** Give back the files; the checkpoint cannot be read afterwards. */
  close(): Promise<void>;
}

/** Opens the folder of a fixture. */
export type OpenFixture = (name: string) => Promise<Files>;

/** The folders beside this package, where there is a file system; elsewhere pass your own OpenFixture. */
export const fixturesOnDisk: OpenFixture = async (name) => {
  const [{ folder }, { fileURLToPath }] = await Promise.all([import("@doge-lm/core/node"), import("node:url")]);
  return folder(fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url)));
};

export async function readFixture(files: Files): Promise<Fixture> {
  const golden = (await readJson(files, "golden.json")) as unknown as GoldenFile;
  const bytes = await files.read("golden.bin", 0, await files.size("golden.bin"));
  const numbers = new Float32Array(bytes.slice().buffer); // golden.bin is little-endian, as is every machine we run on
  return {
    name: golden.name,
    purpose: golden.purpose,
    checkpoint: await openCheckpoint(files),
    cases: golden.cases,
    generations: (await hasFile(files, "generation.json"))
      ? ((await readJson(files, "generation.json")) as unknown as GenerationFile)
      : undefined,
    array(golden, name) {
      const entry = golden.arrays?.[name];
      if (entry === undefined) return undefined;
      const count = entry.shape.reduce((product, size) => product * size, 1);
      return { data: numbers.slice(entry.offset, entry.offset + count), shape: entry.shape };
    },
    close: async () => files.close?.(),
  };
}
