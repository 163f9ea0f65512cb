// A Doge on the mock for tests, and what it should say.
import type { Config, Drawn, Message, Model, SampleRow } from "../../src/index.ts";
import { checked, Doge, type GenerationDefaults, isDogeError } from "../../src/index.ts";
import { checkpoint, logitsAfter, MockBackend } from "./mock.ts";
import { mockTokenizer } from "./text.ts";

const template =
  "{% for m in messages %}[{{ m.role[0] }}{{ m.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}";
interface Setup {
  readonly config?: Partial<Config>;
  readonly defaults?: GenerationDefaults;
  readonly bare?: boolean;
  readonly context?: number;
  readonly rows?: number;
}
/** A Doge on the mock, with the rows of every sample call that reached it. */
export async function open({ config, defaults = {}, bare = false, context, rows: atOnce }: Setup = {}) {
  const raw = new MockBackend();
  const rows: SampleRow[] = [];
  const load = raw.load.bind(raw);
  raw.load = async (source, options) => {
    const model = await load(source, options);
    const { sample } = model;
    const spied: Model["sample"] = (all, signal): Promise<Drawn[]> => {
      rows.push(...all);
      return sample(all, signal);
    };
    return Object.assign(model, { sample: spied });
  };
  const backend = checked(raw);
  const model = await backend.load(checkpoint({ maxPositions: 400, eosIds: [], ...config }), { context });
  const doge = new Doge({
    backend,
    model,
    tokenizer: bare ? null : mockTokenizer(),
    chatTemplate: bare ? null : template,
    defaults,
    info: { source: "a mock", loadMs: 12, warnings: [], tried: [] },
    rows: atOnce,
  });
  return { doge, raw, rows };
}
export function greedyAfter(prompt: ArrayLike<number>, count: number): number[] {
  const all = Array.from(prompt);
  for (let step = 0; step < count; step++) {
    const logits = logitsAfter(all);
    all.push(logits.indexOf(Math.max(...logits)));
  }
  return all.slice(prompt.length);
}
export const user = (content: string): Message => ({ role: "user", content });
export const code = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    if (isDogeError(error)) return error.code;
    throw error;
  }
  return "nothing was thrown";
};
