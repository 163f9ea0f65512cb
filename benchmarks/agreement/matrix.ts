// The matrix of one run: the truth and the texts that all are compared with, then every engine with every dtype on every checkpoint,
// each comparison in a process of its own and filed as soon as it is made.
import { availableParallelism } from "node:os";
import type { DType } from "@doge-lm/core";
import { type Children, type Outcome, run } from "../child.ts";
import type { EngineModule } from "../engine-modules.ts";
import { UsageError } from "../flags.ts";
import { type Failure, origin } from "../results.ts";
import { type SubjectName, titleOf } from "../subjects.ts";
import type { Extent } from "../tasks.ts";
import { agreeing, type Expected, joined, within } from "../truth.ts";
import { type Cell, type Filing, OPENING, whatOf } from "./filing.ts";

export interface Asked {
  /** Engines by name; none: all. */
  readonly only: readonly string[] | undefined;
  readonly dtypes: readonly DType[];
  readonly subjects: readonly SubjectName[];
  /** Texts that fast engines draw, and their tokens. */
  readonly texts: number;
  readonly steps: number;
  /** The same of the truth and of slow engines. */
  readonly few: number;
  readonly fewer: number;
  /** Nothing that was filed before is kept. */
  readonly whole: boolean;
}

/** Of random checkpoints: prompts of 24, so that a keep window is left behind. */
const fixtureExtent: Extent = { texts: 2, steps: 40, looked: 2, lookedSteps: 40 };
const shapeExtent: Extent = { texts: 1, steps: 8, looked: 1, lookedSteps: 8 };
/** Texts whose logits a software adapter is asked for, a token at a time. */
const LOOKED_SMALL = 10;
/** Texts that are worth a process of their own where there are cores enough. */
const TEXTS_OF_A_PROCESS = 5;

/** There is nothing to compare with; the message says why. */
class NoTruth extends UsageError {}

/** An engine that is here. */
interface Here {
  readonly name: string;
  /** Asked for fewer texts. */
  readonly small: boolean;
  readonly dtypes: readonly DType[];
}

export class Matrix {
  readonly #module: EngineModule;
  readonly #asked: Asked;
  readonly #children: Children;
  readonly #filing: Filing;
  readonly #say: (line: string) => void;
  readonly #truths = new Map<string, Promise<Expected>>();
  readonly #failures: Failure[] = [];

  constructor(module: EngineModule, asked: Asked, children: Children, filing: Filing, say: (line: string) => void) {
    this.#module = module;
    this.#asked = asked;
    this.#children = children;
    this.#filing = filing;
    this.#say = say;
  }

  /** Whether all hold. Errors: UsageError, when there is nothing to compare with. */
  async run(): Promise<boolean> {
    const { dtypes, subjects, whole } = this.#asked;
    // What is measured is what the sources were as it began.
    origin();
    const probed: string[] = [];
    const here = await this.#probe(probed);
    const texts = subjects.includes("demo") ? await this.#demoTexts() : null;
    const cells = subjects.flatMap((subject) =>
      here.flatMap((engine) =>
        dtypes
          .filter((dtype) => engine.dtypes.includes(dtype))
          .map((dtype) => ({ engine: engine.name, subject, dtype, small: engine.small })),
      ),
    );
    await pooled(cells, (cell) => this.#compare(cell, cell.small, texts));
    if (whole) this.#filing.keepOnly(cells, probed);
    return this.#failures.length === 0;
  }

  #failure(engine: string, what: string, kind: Failure["kind"], why: string): Failure {
    const failure = { engine, what, kind, why, ...origin() };
    this.#failures.push(failure);
    this.#say(`${kind}: ${engine}, ${what}. ${why}`);
    return failure;
  }

  /** Who is here; `probed`: who was asked. */
  async #probe(probed: string[]): Promise<Here[]> {
    const here: Here[] = [];
    for (const { name, slow = false } of this.#module.engines) {
      if (this.#asked.only?.includes(name) === false) continue;
      probed.push(name);
      const outcome = await run({ kind: "probe", engine: name }, this.#children, { seconds: 60 });
      if (!outcome.ok) {
        this.#filing.failure(this.#failure(name, OPENING, "failed", outcome.why));
        continue;
      }
      const present = outcome.value;
      this.#filing.engine({ engine: name, ...present });
      if (present.available) here.push({ name, small: slow || present.software, dtypes: present.dtypes });
      this.#say(`${name}: ${present.available ? present.device : `not here. ${present.why}`}`);
    }
    return here;
  }

  /** The texts, shown to be the truth's. */
  async #demoTexts(): Promise<Expected> {
    const { texts, steps, few, fewer } = this.#asked;
    const [truth, engine] = [this.#module.truth.name, this.#module.baseline.name];
    const looked = Math.min(few, texts);
    const short = { texts: looked, steps: fewer, looked, lookedSteps: fewer };
    const exact = await this.#expected(truth, "demo", "f32", short);
    this.#say(`${truth}: ${looked} texts of ${fewer} tokens`);
    const drawn = await this.#expected(engine, "demo", "f32", { ...short, texts, steps });
    this.#say(`${engine}: ${texts} texts of ${steps} tokens`);
    const { why, found, joined } = agreeing(exact, drawn);
    if (why !== null) throw new NoTruth(`The texts of ${engine} are not those of ${truth}: ${why}`);
    const { sameTokens, ties, maxDifference } = found;
    this.#say(
      `${engine} draws what ${truth} draws: ${sameTokens} of ${looked * fewer} ids, ${ties} ties, logits ${maxDifference.toExponential(1)} σ apart at most`,
    );
    this.#filing.baseline({ engine, truth, texts: looked, steps: fewer, ...found });
    return joined;
  }

  /** What an engine draws: several processes take texts each. */
  async #expected(engine: string, subject: SubjectName, dtype: DType, extent: Extent): Promise<Expected> {
    const parts = Math.min(availableParallelism(), Math.max(1, Math.floor(extent.texts / TEXTS_OF_A_PROCESS)));
    const size = Math.ceil(extent.texts / parts);
    const firsts = Array.from({ length: Math.ceil(extent.texts / size) }, (_, part) => part * size);
    const made = await pooled(firsts, async (first) => {
      const own = Math.min(size, extent.texts - first);
      const looked = Math.max(0, Math.min(own, extent.looked - first));
      const task = {
        kind: "expect",
        engine,
        subject,
        dtype,
        first,
        extent: { ...extent, texts: own, looked },
      } as const;
      const what = `${engine}, ${dtype}, on the ${titleOf(subject)}`;
      return needed(await run(task, this.#children, { seconds: 3600 }), what);
    });
    return joined(made);
  }

  #truthOf(subject: SubjectName, dtype: DType): Promise<Expected> {
    const key = `${subject} ${dtype}`;
    const extent = subject.startsWith("fixture:") ? fixtureExtent : shapeExtent;
    const made = this.#truths.get(key) ?? this.#expected(this.#module.truth.name, subject, dtype, extent);
    this.#truths.set(key, made);
    return made;
  }

  async #compare({ engine, subject, dtype }: Cell, small: boolean, texts: Expected | null): Promise<void> {
    const whole = subject === "demo" ? texts! : await this.#truthOf(subject, "f32");
    const expected = subject === "demo" && small ? within(whole, this.#smaller(engine)) : whole;
    const alike = subject === "demo" || dtype === "f32" ? undefined : await this.#truthOf(subject, dtype);
    const task = { kind: "agree", engine, subject, dtype, expected, alike } as const;
    const outcome = await run(task, this.#children, { seconds: 1800 });
    const what = whatOf({ engine, subject, dtype });
    if (!outcome.ok) {
      this.#filing.failure(this.#failure(engine, what, "failed", outcome.why));
      return;
    }
    const entry = { engine, subject, dtype, ...outcome.value, ...origin() };
    this.#filing.entry(entry, entry.agrees ? undefined : this.#failure(engine, what, "disagrees", entry.why!));
    const ids = `${entry.sameTexts} of ${entry.texts} texts of ${entry.steps} tokens equal`;
    this.#say(
      `${engine}, ${what}: ${entry.maxDifference.toExponential(1)} σ, KL ${entry.meanKl.toExponential(1)}, ${ids}`,
    );
  }

  /** What is asked of a slow engine on the demo model. */
  #smaller(engine: string): Extent {
    const { texts, few, fewer } = this.#asked;
    const some = Math.min(few, texts);
    const looked = engine === this.#module.truth.name ? some : Math.min(LOOKED_SMALL, some);
    return { texts: some, steps: fewer, looked, lookedSteps: fewer };
  }
}

/** `work` on every item, as many at once as there are cores for this process. */
async function pooled<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), items.length) }, one));
  return results;
}

function needed<T>(outcome: Outcome<T>, what: string): T {
  if (outcome.ok) return outcome.value;
  throw new NoTruth(`There is nothing to compare with: ${what} failed. ${outcome.why}`);
}
