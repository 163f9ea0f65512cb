// What an error says, without the part that speaks: for sentences that quote it.

/** The message of what was thrown, as a sentence, without the "[doge:scope] " in front of ours. */
export function sentenceOf(error: unknown): string {
  const said = (error instanceof Error ? error.message : String(error)).replace(/^\[doge:[^\]]*\] /, "");
  return /[.!?]$/.test(said) ? said : `${said}.`;
}
