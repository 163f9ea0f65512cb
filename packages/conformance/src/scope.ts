// Where checks run: one opened backend with its models (shared over checks), and a scope per check that closes what it made.
import type { Backend, DType, LoadOptions, Model, Provider, Routing, Sequence, Tokens } from "@doge-lm/core";
import { type DemoModel, openDemoModel } from "./demo.ts";
import { type Fixture, fixturesOnDisk, readFixture } from "./fixtures.ts";
import type { Notes, Subject } from "./notes.ts";

export interface ModelSpec {
  readonly fixture: string;
  readonly dtype?: DType;
  readonly routing?: Routing;
  readonly context?: number;
  readonly room?: number;
}

/** Tokens of all sequences of a shared model: what the largest check needs. */
const defaultRoom = 4096;

export class Stage {
  readonly subject: Subject;
  #backend: Promise<Backend> | undefined;
  #demo: Promise<DemoModel | string> | undefined;
  #counted: Stage | undefined;
  readonly #fixtures = new Map<string, Promise<Fixture>>();
  readonly #models = new Map<string, Promise<Model>>();

  constructor(subject: Subject) {
    this.subject = subject;
  }

  get provider(): Provider {
    return this.subject.provider;
  }

  get notes(): Notes {
    return this.subject.notes;
  }

  backend(): Promise<Backend> {
    this.#backend ??= this.provider.open();
    return this.#backend;
  }

  fixture(name: string): Promise<Fixture> {
    let fixture = this.#fixtures.get(name);
    if (fixture === undefined) {
      fixture = (this.notes.fixtures ?? fixturesOnDisk)(name).then(readFixture);
      this.#fixtures.set(name, fixture);
    }
    return fixture;
  }

  /** That of the provider whose crossings are counted. */
  counted(): Stage {
    this.#counted ??= new Stage({ ...this.subject, provider: this.notes.crossings!.provider });
    return this.#counted;
  }

  /** The demo model, or why there is none. */
  demo(): Promise<DemoModel | string> {
    this.#demo ??= openDemoModel();
    return this.#demo;
  }

  async load(spec: ModelSpec): Promise<Model> {
    const [backend, fixture] = await Promise.all([this.backend(), this.fixture(spec.fixture)]);
    const { fixture: _, ...options } = spec;
    return backend.load(fixture.checkpoint, {
      room: Math.max(defaultRoom, spec.context ?? 0),
      ...options,
    } as LoadOptions);
  }

  model(spec: ModelSpec): Promise<Model> {
    const key = JSON.stringify([spec.fixture, spec.dtype, spec.routing, spec.context, spec.room]);
    let model = this.#models.get(key);
    if (model === undefined) {
      model = this.load(spec);
      this.#models.set(key, model);
    }
    return model;
  }

  async close(): Promise<void> {
    await this.#counted?.close();
    for (const model of this.#models.values()) await model.then((loaded) => loaded.close()).catch(() => {});
    await this.#backend?.then((backend) => backend.close()).catch(() => {});
    for (const fixture of this.#fixtures.values()) await fixture.then((open) => open.close()).catch(() => {});
    await this.#demo?.then((demo) => (typeof demo === "string" ? undefined : demo.close())).catch(() => {});
  }
}

/** What one check works with. Its sequences and own models are closed when it ends, passed or failed. The functions are bound,
 *  so that a check may take apart what it needs: `async ({ model, sequence }) => …`. */
export class Scope {
  readonly stage: Stage;
  skipped: string | undefined;
  readonly #closers: (() => void | Promise<void>)[] = [];

  constructor(stage: Stage) {
    this.stage = stage;
  }

  readonly later = (close: () => void | Promise<void>): void => {
    this.#closers.push(close);
  };

  /** A model shared with other checks: never close it. */
  readonly model = (spec: ModelSpec): Promise<Model> => this.stage.model(spec);

  /** A model of this check alone. */
  readonly ownModel = async (spec: ModelSpec): Promise<Model> => {
    const model = await this.stage.load(spec);
    this.later(() => model.close());
    return model;
  };

  readonly fixture = (name: string): Promise<Fixture> => this.stage.fixture(name);

  readonly sequence = (model: Model): Sequence => {
    const sequence = model.sequence();
    this.later(() => sequence.close());
    return sequence;
  };

  readonly fork = (sequence: Sequence): Sequence => {
    const fork = sequence.fork();
    this.later(() => fork.close());
    return fork;
  };

  /** A sequence that holds these ids, appended in one call. */
  readonly fed = async (model: Model, ids: Tokens): Promise<Sequence> => {
    const sequence = this.sequence(model);
    if (ids.length > 0) await model.forward([{ sequence, tokens: ids }]);
    return sequence;
  };

  /** This check cannot be made here, for a reason only found while running: `return scope.skip(why)`. */
  readonly skip = (why: string): void => {
    this.skipped = why;
  };

  async end(): Promise<void> {
    for (const close of this.#closers.reverse()) await close();
  }
}

/** Run a check in a scope of its own. Returns why it was skipped, when it was. */
export async function runCheck(check: { run(scope: Scope): Promise<void> }, stage: Stage): Promise<string | undefined> {
  const scope = new Scope(stage);
  try {
    await check.run(scope);
    return scope.skipped;
  } finally {
    await scope.end();
  }
}
