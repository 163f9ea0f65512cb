// Agreement before speed: what every engine is held to before anything of it is timed, made once for each engine, dtype and checkpoint.
import type { DType } from "@doge-lm/core";
import { type Children, run } from "./child.ts";
import type { Here } from "./plan.ts";
import { type GateResult, origin } from "./results.ts";
import { type SubjectName, titleOf } from "./subjects.ts";
import type { Extent } from "./tasks.ts";
import { type Expected, within } from "./truth.ts";

export type Verdict =
  | { readonly agrees: true }
  | { readonly agrees: false; readonly died: boolean; readonly why: string };

/** Texts of the demo model, and one of a shape: few, since every run of the benchmark asks for them. */
const extents = {
  demo: { texts: 8, steps: 24, looked: 4, lookedSteps: 24 },
  /** Of the demo model's, those that small engines are asked for. */
  small: { texts: 3, steps: 16, looked: 2, lookedSteps: 16 },
  shape: { texts: 1, steps: 8, looked: 1, lookedSteps: 8 },
} as const satisfies { [kind: string]: Extent };

export class Gate {
  readonly results: GateResult[] = [];
  readonly #children: Children;
  readonly #truth: string;
  readonly #say: (line: string) => void;
  readonly #expected = new Map<string, Promise<Expected>>();
  readonly #verdicts = new Map<string, Promise<Verdict>>();

  /** `truth`: the engine that the others are held to. */
  constructor(children: Children, truth: string, say: (line: string) => void) {
    this.#children = children;
    this.#truth = truth;
    this.#say = say;
  }

  /** Whether this engine may be timed with these weights of this checkpoint: it must agree there and on the demo model. */
  async passes(engine: Here, dtype: DType, subject: SubjectName): Promise<Verdict> {
    const demo = await this.#verdict(engine, dtype, "demo");
    return demo.agrees ? this.#verdict(engine, dtype, subject) : demo;
  }

  #verdict(engine: Here, dtype: DType, subject: SubjectName): Promise<Verdict> {
    return once(this.#verdicts, `${engine.name} ${dtype} ${subject}`, () => this.#judge(engine, dtype, subject));
  }

  async #judge({ name: engine, small }: Here, dtype: DType, subject: SubjectName): Promise<Verdict> {
    let expected: Expected;
    let alike: Expected | undefined;
    try {
      expected = await this.#expect(subject, "f32");
      if (subject === "demo" && small) expected = within(expected, extents.small);
      // What rounding the weights costs a random model is nothing to judge by: there the same weights are compared.
      if (dtype !== "f32" && subject !== "demo") alike = await this.#expect(subject, dtype);
    } catch (error) {
      return { agrees: false, died: true, why: (error as Error).message };
    }
    const outcome = await run({ kind: "agree", engine, subject, dtype, expected, alike }, this.#children, {
      seconds: 180,
    });
    if (!outcome.ok) {
      const why = `It was to be compared on the ${titleOf(subject)} and failed. ${outcome.why}`;
      this.#say(`${engine} ${dtype}: ${why}`);
      return { agrees: false, died: true, why };
    }
    const { differences, ...rest } = outcome.value;
    const ties = differences.filter(({ tie }) => tie).length;
    const result: GateResult = { engine, subject, dtype, ...rest, ties, ...origin() };
    this.results.push(result);
    this.#say(agreementLine(result));
    return rest.agrees ? { agrees: true } : { agrees: false, died: false, why: `${titleOf(subject)}: ${rest.why}` };
  }

  #expect(subject: SubjectName, dtype: DType): Promise<Expected> {
    return once(this.#expected, `${subject} ${dtype}`, async () => {
      const extent = subject === "demo" ? extents.demo : extents.shape;
      const task = { kind: "expect", engine: this.#truth, subject, dtype, extent, first: 0 } as const;
      const outcome = await run(task, this.#children, { seconds: 300 });
      if (outcome.ok) return outcome.value;
      throw new Error(`There is nothing to compare with on the ${titleOf(subject)}. ${outcome.why}`);
    });
  }
}

function once<T>(made: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  let promise = made.get(key);
  if (promise === undefined) {
    promise = make();
    made.set(key, promise);
  }
  return promise;
}

/** How an engine agrees, in a line. */
function agreementLine(result: GateResult): string {
  const { engine, subject, dtype, agrees, why, sameTokens, texts, steps, ties, maxDifference, meanKl, alikeKl } =
    result;
  const measured =
    dtype === "f32"
      ? `${sameTokens} of ${texts * steps} ids equal${ties === 0 ? "" : `, ${ties} ties`}, logits ${maxDifference.toExponential(1)} σ apart at most`
      : `mean KL to f32 ${meanKl.toExponential(1)}${alikeKl === null ? "" : `, to the same weights ${alikeKl.toExponential(1)}`}`;
  return `${engine} ${dtype}, ${titleOf(subject)}: ${agrees ? "agrees" : "DISAGREES"}, ${measured}${why === null ? "" : `. ${why}`}`;
}
