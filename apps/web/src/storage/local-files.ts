// Files and folders that a person chooses or drops, by their names inside the model's folder.

const UNNAMED = "Local files";

/** The files of an `<input type="file">`, with or without `webkitdirectory`. */
export function chosenFiles(list: readonly File[]): Record<string, File> {
  return gathered(list.map((file) => [file.webkitRelativePath || file.name, file]));
}

/** The files of a drop, folders with all that is in them, and what they are called together. */
export async function droppedFiles(
  items: DataTransferItemList,
): Promise<{ readonly name: string; readonly files: Record<string, File> }> {
  const found: [string, File][] = [];
  // Entries are to be had only before the first wait.
  const entries = [...items].map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  for (const entry of entries) {
    if (entry instanceof File) found.push([entry.name, entry]);
    else if (entry !== null) await walk(entry, found);
  }
  const [first] = entries;
  const folder = first !== null && first !== undefined && !(first instanceof File) && first.isDirectory;
  return { name: folder ? first.name : UNNAMED, files: gathered(found) };
}

async function walk(entry: FileSystemEntry, found: [string, File][]): Promise<void> {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.push([path, file]);
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A hundred at most each time; none: that was all.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return;
    for (const inner of entries) await walk(inner, found);
  }
}

/** Files by path, without the folder that config.json lies in. @throws Error with a sentence for people */
export function gathered(all: readonly (readonly [string, File])[]): Record<string, File> {
  const config = all
    .map(([path]) => path)
    .filter((path) => path === "config.json" || path.endsWith("/config.json"))
    .sort((a, b) => a.split("/").length - b.split("/").length)[0];
  if (config === undefined) {
    throw new Error(
      "There is no config.json among these files: choose the model's whole folder, or config.json, the safetensors files and the tokenizer's files together.",
    );
  }
  const folder = config.slice(0, -"config.json".length);
  const files: Record<string, File> = Object.create(null);
  for (const [path, file] of all) if (path.startsWith(folder)) files[path.slice(folder.length)] = file;
  return files;
}

/** What the files are called together: the folder, where there is one. */
export const nameOfFiles = (list: readonly File[]): string => list[0]?.webkitRelativePath.split("/")[0] || UNNAMED;
