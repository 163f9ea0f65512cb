// What load() accepts as a model under Node: a folder's path, a list of files, or files by name.

import { stat } from "node:fs/promises";
import { isAbsolute } from "node:path";
import { DogeError } from "../errors.ts";
import { type Files, fileList, filesFrom } from "../files.ts";
import { folder } from "./folder.ts";

export type Source = string | readonly File[] | { readonly [name: string]: Blob | Uint8Array };

/** The files of `source`. A string is a folder when it is one or begins with "." or "/".
 *  @throws DogeError "file-missing" for a folder that is not there, "unsupported" for a hub name. */
export async function openSource(source: Source): Promise<Files> {
  if (typeof source !== "string")
    return Array.isArray(source) ? fileList(source) : filesFrom(source as { [name: string]: Blob | Uint8Array });
  const stats = await stat(source).catch(() => null);
  if (stats?.isDirectory()) return folder(source);
  if (stats !== null) {
    throw new DogeError(
      "invalid-argument",
      `${source} is a file; give the folder that holds it together with config.json.`,
    );
  }
  if (source.startsWith(".") || isAbsolute(source))
    throw new DogeError("file-missing", `There is no folder ${source}.`);
  throw new DogeError(
    "unsupported",
    `${JSON.stringify(source)} is not a folder here, and models are not fetched from the hub yet: download its files and give their folder.`,
  );
}
