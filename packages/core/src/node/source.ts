// What load() accepts as a model under Node: a folder's path, a hub's name, a list of files, or files by name.

import { stat } from "node:fs/promises";
import { isAbsolute } from "node:path";
import { DogeError } from "../errors.ts";
import { isHubName } from "../hub/names.ts";
import type { HubOptions } from "../hub/options.ts";
import { type Files, fileList, filesFrom } from "../loading/files.ts";
import { folder } from "./folder.ts";
import { openHub } from "./hub.ts";

export type Source = string | readonly File[] | { readonly [name: string]: Blob | Uint8Array };

/** The files of `source`. A string is a folder when it is one or begins with "." or "/", else a name on a hub; `options` are
 *  for names. @throws DogeError "file-missing" for a folder that is not there, and as openHub(). */
export async function openSource(source: Source, options: HubOptions = {}): Promise<Files> {
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
  if (!isHubName(source)) {
    throw new DogeError(
      "file-missing",
      `${JSON.stringify(source.slice(0, 200))} is neither a folder here nor the name of a model on a hub, which reads owner/name: SmallDoge/Doge-20M.`,
    );
  }
  return openHub(source, options);
}
