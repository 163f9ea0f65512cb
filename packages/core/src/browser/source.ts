// What load() accepts as a model in a browser: chosen files, or files by name.

import { DogeError } from "../errors.ts";
import { type Files, fileList, filesFrom } from "../files.ts";

export type Source = string | readonly File[] | { readonly [name: string]: Blob | Uint8Array };

/** The files of `source`. @throws DogeError "unsupported" for a string: there are no folders here, and no hub yet. */
export async function openSource(source: Source): Promise<Files> {
  if (typeof source === "string") {
    throw new DogeError(
      "unsupported",
      `${JSON.stringify(source)} cannot be opened: models are not fetched from the hub yet, so give the files themselves.`,
    );
  }
  return Array.isArray(source) ? fileList(source) : filesFrom(source as { [name: string]: Blob | Uint8Array });
}
