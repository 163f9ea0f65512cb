// A conversation of `doge chat`: the model it is on, what was said, and the options of the next answer, all of which its
// commands can change on the way.
import { readFile, writeFile } from "node:fs/promises";
import {
  type Doge,
  DogeError,
  type DogeInfo,
  type GenerateOptions,
  type Generation,
  type GenerationResult,
  type Message,
  type Overflow,
  parseJson,
  type SavedSession,
} from "@doge-lm/core";
import { openDoge, reasonOf } from "./engine.ts";
import { type ModelOptions, type SamplingFlags, samplingOptions } from "./options.ts";

export interface ConversationOptions extends ModelOptions, SamplingFlags {
  readonly system?: string;
  readonly overflow: Overflow;
}

export class Conversation {
  #flags: ConversationOptions;
  #doge: Doge;
  #session: ReturnType<Doge["session"]>;
  /** Options of generate that were given, by the library's names. */
  params: GenerateOptions;
  /** Of the last answer. */
  last: GenerationResult | undefined;

  private constructor(flags: ConversationOptions, doge: Doge) {
    this.#flags = flags;
    this.#doge = doge;
    this.#session = doge.session(flags.system === undefined ? {} : { system: flags.system });
    this.params = { overflow: flags.overflow, ...samplingOptions(flags) };
  }

  static async open(flags: ConversationOptions): Promise<Conversation> {
    return new Conversation(flags, await openDoge(flags));
  }

  /** What answers, and where. */
  get description(): string {
    const { device, dtype } = this.#doge.info();
    return `${this.#flags.model ?? "The demo model"} on ${device}, ${dtype}`;
  }

  /** Where the answers come from, why there, and what there is to say of the other backends. */
  get where(): Pick<DogeInfo, "backend" | "device" | "dtype" | "tried" | "fallbacks"> & { readonly reason: string } {
    return { ...this.#doge.info(), reason: reasonOf(this.#doge) };
  }

  get messages(): readonly Message[] {
    return this.#session.messages;
  }

  get system(): string | undefined {
    const [first] = this.messages;
    return first?.role === "system" ? (first.content ?? undefined) : undefined;
  }

  /** The answer, in pieces as it comes; the turn stays once it has ended. */
  async *ask(question: string, signal: AbortSignal): AsyncGenerator<string, void, undefined> {
    const generation = this.#session.send(question, { ...this.#lengths(), ...this.params, signal });
    for await (const { text } of generation) yield text;
    await this.#remember(generation);
  }

  /** Another answer to the last question; where there comes none, the old one stays. */
  async *retry(signal: AbortSignal): AsyncGenerator<string, void, undefined> {
    const question = this.messages.findLast(({ role }) => role === "user");
    if (question === undefined) throw fault("There is nothing to answer again yet.");
    const before = this.#session.save();
    this.#session.rewind(1);
    const rewound = this.messages;
    try {
      yield* this.ask(question.content ?? "", signal);
    } finally {
      if (this.messages === rewound) this.#restore(before);
    }
  }

  /** Change one option of the answers to come; undefined: back to what the model says. Errors: "invalid-argument". */
  set(name: string, value: unknown): void {
    const { [name as keyof GenerateOptions]: _, ...others } = this.params;
    const params = value === undefined ? others : { ...others, [name]: value };
    this.#doge.generate([0], params); // checks the options; nothing runs before it is read
    this.params = params;
  }

  /** Replace the system message, or take it away; the rest of the conversation stays. */
  setSystem(text: string | undefined): void {
    const rest = this.messages.filter(({ role }, index) => index > 0 || role !== "system");
    const first = text === undefined ? [] : [{ role: "system", content: text }];
    this.#restore({ ...this.#session.save(), messages: [...first, ...rest], ids: [] });
  }

  /** Forget all but the system message. */
  reset(): void {
    this.#session.rewind(this.messages.length);
    this.last = undefined;
  }

  /** Go on with it on another backend. Where that cannot be opened, it stays on this one. */
  async moveTo(backend: string): Promise<void> {
    const flags = { ...this.#flags, backend };
    const doge = await openDoge(flags);
    const saved = this.#session.save();
    await this.#doge.close();
    this.#flags = flags;
    this.#doge = doge;
    this.#session = doge.restore(saved);
  }

  /** Errors: "invalid-argument" where it cannot be written. */
  async save(file: string): Promise<void> {
    const text = `${JSON.stringify(this.#session.save(), null, 2)}\n`;
    await writeFile(file, text).catch((error) => {
      throw fault(`The conversation was not saved: ${(error as Error).message}.`);
    });
  }

  /** Errors: "invalid-argument" for a file that cannot be read or is no saved session, "json-invalid". */
  async load(file: string): Promise<void> {
    const text = await readFile(file, "utf8").catch((error) => {
      throw fault(`Nothing was loaded: ${(error as Error).message}.`);
    });
    this.#restore(parseJson(text, { file }) as unknown as SavedSession);
    this.last = undefined;
  }

  close(): Promise<void> {
    return this.#doge.close();
  }

  /** Answers end by themselves, unless a length is asked for; the 20 tokens of transformers' default would cut most. */
  #lengths(): GenerateOptions {
    return this.params.maxLength === undefined ? { maxNewTokens: Number.POSITIVE_INFINITY } : {};
  }

  async #remember(generation: Generation): Promise<void> {
    this.last = await generation.result();
  }

  #restore(saved: SavedSession): void {
    const session = this.#doge.restore(saved);
    void this.#session.close();
    this.#session = session;
  }
}

export const fault = (sentence: string): DogeError => new DogeError("invalid-argument", sentence, { scope: "cli" });
