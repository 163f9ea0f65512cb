// Ids to text piece by piece: a character may be spread over several tokens, and only whole ones leave.

/** The text of a growing sequence. The pieces put together are `decode` of all ids. */
export interface TextStream {
  /** The text that these further ids complete; bytes of an unfinished character wait. "invalid-token" as in `decode`. */
  push(ids: ArrayLike<number>): string;
  /** What was held back, as U+FFFD, and a fresh start. */
  end(): string;
}

/** A stream over `bytes`, which turns ids into UTF-8. */
export function textStream(bytes: (ids: ArrayLike<number>) => Uint8Array): TextStream {
  const decoder = utf8Decoder();
  return {
    push: (ids) => decoder.decode(bytes(ids), { stream: true }),
    end: () => decoder.decode(),
  };
}

/** UTF-8 with U+FFFD for each invalid part, as Rust's and Python's decoders cut them; U+FEFF stays. */
export function utf8Decoder(): TextDecoder {
  return new TextDecoder("utf-8", { ignoreBOM: true });
}
