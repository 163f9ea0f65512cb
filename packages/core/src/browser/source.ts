// What load() accepts as a model in a browser: a hub's name, chosen files, or files by name.

import type { HubOptions } from "../hub/options.ts";
import { type Files, fileList, filesFrom } from "../loading/files.ts";
import { openHub } from "./hub.ts";

export type Source = string | readonly File[] | { readonly [name: string]: Blob | Uint8Array };

/** The files of `source`; `options` are for hub names. Errors: those of openHub(). */
export async function openSource(source: Source, options: HubOptions = {}): Promise<Files> {
  if (typeof source === "string") return openHub(source, options);
  return Array.isArray(source) ? fileList(source) : filesFrom(source as { [name: string]: Blob | Uint8Array });
}
