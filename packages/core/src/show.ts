// A value in an error message.

/** A value in a sentence: short, whatever it is. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === "object" && value !== null) {
    const kind = value.constructor?.name ?? "object";
    return "length" in value && (ArrayBuffer.isView(value) || Array.isArray(value))
      ? `${kind}(${String(value.length)})`
      : `a value of kind ${kind}`;
  }
  return String(value);
}
