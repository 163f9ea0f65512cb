// A conversation to ids, by the model's own chat template. Control ids come from the template alone: what stands in the
// messages is text, even where it spells a control string.
import type { Tokens } from "../backend.ts";
import { DogeError } from "../errors.ts";
import { runTemplate } from "./chat-template.ts";
import { type Shield, shield } from "./shield.ts";
import { splitSpecial } from "./special-strings.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** One turn of a conversation. Entries beside role and content (tool_calls, name, ...) reach the template as they are. */
export interface Message {
  /** system, developer, user, assistant, tool, ipython or function. */
  readonly role: string;
  /** null only beside tool_calls. */
  readonly content: string | null;
  readonly [entry: string]: unknown;
}

export interface ChatOptions {
  /** End with the header of the assistant's turn, so that the model answers. Default true. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** Further variables of the template: tools, date_string, ... They are as untrusted as the messages. */
  readonly variables?: { readonly [name: string]: unknown } | undefined;
  /** The time that the template's strftime_now tells. Default: now. */
  readonly now?: Date | undefined;
}

export interface RenderOptions extends ChatOptions {
  readonly bosToken?: string | null | undefined;
  readonly eosToken?: string | null | undefined;
}

export interface EncodeChatOptions extends ChatOptions {
  /** Let control strings inside messages and variables become control ids, as transformers does. Default false. */
  readonly allowSpecialTokens?: boolean | undefined;
}

/**
 * The text that `template` makes of a conversation. Throws "invalid-messages" with the index of the message,
 * "template-missing" for null, "template-error" with the template's own message, and "template-limit" for a template that
 * takes too long, prints too much or nests too deep.
 */
export function renderChat(template: string | null, messages: readonly Message[], options: RenderOptions = {}): string {
  const roles = new Map<string, string>();
  if (typeof options.bosToken === "string") roles.set("bos_token", options.bosToken);
  if (typeof options.eosToken === "string") roles.set("eos_token", options.eosToken);
  const { text, guard } = render(template, messages, options, roles, []);
  return guard.restore(text);
}

/**
 * The ids of a conversation, as transformers' apply_chat_template gives them, except that control ids come only from
 * what the template itself prints. The text between two control strings is encoded as one piece. Errors as `renderChat`.
 *
 * Strings that are no added token of the tokenizer are not protected, even where a model treats them as control words.
 */
export function encodeChat(
  tokenizer: Tokenizer,
  template: string | null,
  messages: readonly Message[],
  options: EncodeChatOptions = {},
): Tokens {
  const controls = options.allowSpecialTokens ? [] : [...tokenizer.special.keys()];
  const { text, guard } = render(template, messages, options, tokenizer.roles, controls);
  if (options.allowSpecialTokens) return tokenizer.encode(guard.restore(text), { addSpecial: false });
  const pieces = splitSpecial(text, tokenizer.special).map((piece, index) =>
    index % 2 === 1
      ? [tokenizer.special.get(piece)!]
      : tokenizer.encode(guard.restore(piece), { addSpecial: false, parseSpecial: false }),
  );
  const ids = new Int32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let end = 0;
  for (const piece of pieces) {
    ids.set(piece, end);
    end += piece.length;
  }
  return ids;
}

/** What a repository says about its chat template; each is the content of the file, null or absent when there is none. */
export interface TemplateFiles {
  /** chat_template.jinja, as text. */
  readonly jinja?: string | null | undefined;
  /** tokenizer_config.json, parsed. */
  readonly tokenizerConfig?: unknown;
  /** chat_template.json, parsed. */
  readonly json?: unknown;
}

/** The chat template of a repository, or null: the .jinja file goes before tokenizer_config.json, that before the .json. */
export function chatTemplate(files: TemplateFiles): string | null {
  if (typeof files.jinja === "string") return files.jinja;
  for (const file of [files.tokenizerConfig, files.json]) {
    const entry = (file as { chat_template?: unknown } | null | undefined)?.chat_template;
    if (typeof entry === "string") return entry;
    // Several by name: [{ name, template }].
    const named = Array.isArray(entry) ? entry.find((item) => item?.name === "default")?.template : undefined;
    if (typeof named === "string") return named;
  }
  return null;
}

function render(
  template: string | null,
  messages: readonly Message[],
  options: ChatOptions,
  roles: ReadonlyMap<string, string>,
  controls: readonly string[],
): { text: string; guard: Shield } {
  if (typeof template !== "string") {
    throw new DogeError(
      "template-missing",
      "The model has no chat template: encode the prompt yourself, or pass a template.",
    );
  }
  checkMessages(messages);
  const variables = options.variables ?? {};
  const own: Record<string, unknown> = {
    ...Object.fromEntries(roles),
    add_generation_prompt: options.addGenerationPrompt ?? true,
  };
  for (const name of Object.keys(variables)) {
    if (name === "messages" || Object.hasOwn(own, name)) {
      throw new DogeError(
        "invalid-argument",
        `The template variable "${name}" is set by the engine and cannot be given.`,
      );
    }
  }
  const guard = shield([messages, variables], template, controls);
  // A role is one of a few words: templates compare it, and it cannot be part of a control string unless they want it.
  const shielded = messages.map((message) => ({ ...(guard.protect(message) as object), role: message.role }));
  const context = { ...(guard.protect(variables) as object), ...own, messages: shielded };
  return { text: runTemplate(template, context, options.now ?? new Date()), guard };
}

const ROLES = ["system", "developer", "user", "assistant", "tool", "ipython", "function"];

function checkMessages(messages: readonly Message[]): void {
  if (!Array.isArray(messages)) throw invalid("The messages are not a list.");
  if (messages.length === 0) throw invalid("The list of messages is empty: give at least one.");
  messages.forEach((message: Message | null | undefined, index) => {
    if (typeof message !== "object" || message === null) throw invalid(`Message ${index} is not an object.`);
    if (!ROLES.includes(message.role)) {
      throw invalid(`Message ${index} has the role ${JSON.stringify(message.role)}; known are ${ROLES.join(", ")}.`);
    }
    if (typeof message.content === "string") return;
    if (message.content !== null && message.content !== undefined) {
      throw invalid(
        `Message ${index} (${message.role}) has a content that is ${typeof message.content}, not a string.`,
      );
    }
    if (message.tool_calls === undefined || message.tool_calls === null) {
      throw invalid(`Message ${index} (${message.role}) has no content; only a message with tool_calls may lack it.`);
    }
  });
}

const invalid = (sentence: string): DogeError => new DogeError("invalid-messages", sentence);
