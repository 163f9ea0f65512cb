// Names that come from users and from hubs: models, revisions, commits, files. Files are hostile until they were looked at here.
import { DogeError } from "../errors.ts";
import { checkFileName } from "../loading/files.ts";

/** Whether `text` can be a model's name on a hub: "owner/name". */
export function isHubName(text: string): boolean {
  const parts = text.split("/");
  return (
    parts.length === 2 &&
    text.length <= 96 &&
    parts.every((part) => /^\w(?:[\w.-]*\w)?$/.test(part) && !part.includes("--") && !part.includes("..")) &&
    !text.endsWith(".git")
  );
}

/** @throws DogeError "invalid-argument" unless `id` is owner/name. */
export function checkHubName(id: string): void {
  if (!isHubName(id)) {
    throw new DogeError(
      "invalid-argument",
      `${JSON.stringify(id.slice(0, 120))} is not the name of a model on a hub, which reads owner/name: SmallDoge/Doge-20M.`,
    );
  }
}

/** @throws DogeError "invalid-argument" unless `revision` can be a branch, a tag or a commit. */
export function checkRevision(revision: string): void {
  const good =
    revision.length <= 255 &&
    /^\w[\w./+@-]*$/.test(revision) &&
    revision.split("/").every((part) => part !== "" && part !== "." && part !== "..");
  if (!good) {
    throw new DogeError(
      "invalid-argument",
      `The revision ${JSON.stringify(revision.slice(0, 120))} is neither a branch, nor a tag, nor a commit.`,
    );
  }
}

/** A whole commit hash: what snapshots are called. */
export const isCommit = (text: string): boolean => /^[0-9a-f]{40}([0-9a-f]{24})?$/.test(text);

/** Folder of a model in the cache, as Python's hub library calls it: "models--owner--name". */
export const repositoryFolder = (id: string): string => `models--${id.replace("/", "--")}`;

/** The model that a folder of the cache holds, or null. */
export function repositoryOf(folder: string): string | null {
  const match = /^models--(.+?)--(.+)$/.exec(folder);
  return match === null ? null : `${match[1]}/${match[2]}`;
}

/** Names that Windows keeps for devices, whatever their extension. */
const DEVICE = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;

/** Why a hub's `file` could be written to a place that is not its own, or null. */
function hostile(file: string): string | null {
  const parts = file.split("/");
  if (file.length > 1024 || parts.some((part) => part.length > 255)) return `has ${file.length} characters`;
  if (/\p{Cc}/u.test(file)) return "contains a control character";
  if (file.includes("\\")) return "contains a backslash";
  if (/^[a-z]:/i.test(file)) return "begins with a drive letter";
  if (file.startsWith("/")) return "is an absolute path";
  if (parts.some((part) => part === "" || part === "." || part === ".."))
    return "leaves its folder or has an empty part";
  if (parts.some((part) => DEVICE.test(part))) return "is the name of a device on Windows";
  return null;
}

/** @throws DogeError "unsafe-path" when one of the names that a hub lists is none that an honest repository has: one such
 *  name condemns all of it, whether that file would be fetched or not. */
export function checkListing(id: string, names: readonly string[]): void {
  for (const name of names) {
    const why = hostile(name);
    if (why !== null) {
      throw new DogeError(
        "unsafe-path",
        `${id} lists the file ${JSON.stringify(name.slice(0, 100))}, which ${why}; nothing of this repository was fetched.`,
      );
    }
  }
}

/** @throws DogeError "unsafe-path" when a file that would be fetched has an unsafe name, or one that differs only in case
 *  from another's: on some disks they would be one file. */
export function checkWanted(id: string, wanted: readonly string[], names: readonly string[]): void {
  const byCase = new Map<string, string[]>();
  for (const name of names) byCase.set(name.toLowerCase(), [...(byCase.get(name.toLowerCase()) ?? []), name]);
  for (const file of wanted) {
    checkFileName(file, id);
    const twins = byCase.get(file.toLowerCase()) ?? [];
    if (twins.length > 1) {
      throw new DogeError(
        "unsafe-path",
        `${id} lists ${twins.map((name) => JSON.stringify(name)).join(" and ")}, which are one file where case does not count; nothing of this repository was fetched.`,
      );
    }
  }
}

/** Name of the blob for an ETag, or null when it has none that a file could bear. */
export function blobName(etag: string | null): string | null {
  const bare = etag?.replace(/^W\//, "").replace(/^"|"$/g, "") ?? "";
  return /^\w[\w.-]{0,199}$/.test(bare) && !/\.(incomplete|lock)$/i.test(bare) && !DEVICE.test(bare) ? bare : null;
}
