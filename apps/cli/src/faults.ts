// What went wrong, in one sentence for a person at a terminal.
import { isDogeError, sentenceOf as said } from "@doge-lm/core";
import { flagOf, isFlagName } from "./options.ts";

/** What went wrong, for a person: options by the names of their flags. */
export function sentenceOf(error: unknown): string {
  const sentence = said(error);
  if (!isDogeError(error, "invalid-argument")) return sentence;
  return sentence.replace(/^[a-z]\w*(?= (?:is|has) )/, (name) => (isFlagName(name) ? flagOf(name) : name));
}

/** What commander says of the arguments, as one line; `command` ends in a space. */
export function usageFault(text: string, command: string): string {
  const sentence = text
    .trim()
    .replace(/^error: /, "")
    .replaceAll(/\s*\n+/g, ". ");
  const whole = `${sentence[0]?.toUpperCase()}${sentence.slice(1).replace(/[.)]$/, "")}`;
  return `doge: ${whole}${sentence.endsWith(")") ? ")" : "."} "doge ${command}--help" tells what there is.\n`;
}
