// What every backend has in common, once: arguments, lifetime and order. A backend behind checked() sees well-formed calls
// only, one at a time per model, on live sequences; its provider's open() returns checked(backend).
import type { Availability, Backend, Capabilities, LoadOptions, Model, Provider } from "../backend.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { aborted, DogeError, type ErrorCode } from "../errors.ts";
import { show } from "../show.ts";
import { CheckedModel, closedError, type Device, lostError, noteLoss } from "./checked-model.ts";
import { isProven, noteProven } from "./proven.ts";

const dtypes: readonly unknown[] = ["f32", "bf16", "q8", "q4"];
const routings: readonly unknown[] = ["reference", "per-token"];

function freeze(can: Capabilities): Capabilities {
  const details = can.details === undefined ? {} : { details: Object.freeze({ ...can.details }) };
  return Object.freeze({ ...can, dtypes: Object.freeze([...can.dtypes]), ...details });
}

function checkLoadOptions(options: LoadOptions, can: Capabilities): void {
  const { dtype, routing, context, room, signal } = options;
  if (dtype !== undefined && !dtypes.includes(dtype)) {
    throw new DogeError("invalid-argument", `dtype is ${show(dtype)}; it must be one of ${dtypes.join(", ")}.`);
  }
  if (!can.dtypes.includes(dtype ?? "f32")) {
    throw new DogeError(
      "unsupported",
      `dtype ${dtype ?? "f32"} is not one that ${can.device} has: ${can.dtypes.join(", ")}.`,
    );
  }
  if (routing !== undefined && !routings.includes(routing)) {
    throw new DogeError("invalid-argument", `routing is ${show(routing)}; it must be one of ${routings.join(", ")}.`);
  }
  for (const [name, value] of Object.entries({ context, room })) {
    if (value === undefined || (Number.isInteger(value) && value > 0)) continue;
    throw new DogeError("invalid-argument", `${name} is ${show(value)}; it must be a whole number of tokens above 0.`);
  }
  if (signal?.aborted) throw aborted(signal);
}

class CheckedBackend implements Backend {
  readonly #raw: Backend;
  readonly #device: Device;
  readonly #loading = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;
  /** What the backend inside can, and the frozen copy of it. */
  #can: readonly [Capabilities, Capabilities];

  constructor(raw: Backend) {
    this.#raw = raw;
    this.#can = [raw.can, freeze(raw.can)];
    this.#device = {
      get name() {
        return raw.name;
      },
      lost: undefined,
      models: new Set(),
    };
    if (isProven(raw)) noteProven(this);
  }

  get name(): string {
    return this.#raw.name;
  }

  /** The same object as long as the backend inside is the same: one that outlives its device may go on as another. */
  get can(): Capabilities {
    const { can } = this.#raw;
    if (this.#can[0] !== can) this.#can = [can, freeze(can)];
    return this.#can[1];
  }

  async load(checkpoint: Checkpoint, options: LoadOptions = {}): Promise<Model> {
    if (this.#closing !== undefined) throw closedError(`The backend ${this.name}`);
    if (this.#device.lost !== undefined) throw lostError(this.#device);
    checkLoadOptions(options, this.can);
    const loading = this.#raw.load(checkpoint, options);
    this.#loading.add(loading);
    try {
      return new CheckedModel(await loading, this.#device);
    } catch (error) {
      throw noteLoss(
        this.#device,
        options.signal?.aborted && error === options.signal.reason ? aborted(options.signal) : error,
      );
    } finally {
      this.#loading.delete(loading);
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // Closed at once for calls to come; those made already finish, and so do loads.
    const queues = [...this.#device.models].map((model) => model.queue);
    for (const model of this.#device.models) model.close();
    await Promise.allSettled(this.#loading);
    for (const model of this.#device.models) {
      queues.push(model.queue);
      model.close();
    }
    await Promise.all(queues.map((queue) => queue.drained()));
    await this.#raw.close();
  }
}

/** `backend` with every argument checked and every call in its turn. Checking twice changes nothing. */
export function checked(backend: Backend): Backend {
  return backend instanceof CheckedBackend ? backend : new CheckedBackend(backend);
}

class CheckedProvider implements Provider {
  readonly name: string;
  readonly #raw: Provider;

  constructor(raw: Provider) {
    this.#raw = raw;
    this.name = raw.name;
  }

  async probe(): Promise<Availability> {
    const availability = await this.#raw.probe();
    if (!availability.available) return Object.freeze({ ...availability });
    return Object.freeze({ available: true, ...freeze(availability) });
  }

  async open(signal?: AbortSignal): Promise<Backend> {
    if (signal?.aborted) throw aborted(signal);
    const availability = await this.#raw.probe();
    if (!availability.available)
      throw new DogeError(availability.code as ErrorCode, availability.why, { scope: this.name });
    if (signal?.aborted) throw aborted(signal);
    return checked(await this.#raw.open(signal));
  }
}

/** `provider` with frozen answers, whose open() rejects with probe's code and why, and opens what is checked(). */
export function checkedProvider(provider: Provider): Provider {
  return provider instanceof CheckedProvider ? provider : new CheckedProvider(provider);
}
