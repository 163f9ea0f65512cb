// Weights in other formats than safetensors, recognised by name or first bytes, so that the refusal can say what to do.

import { DogeError } from "../errors.ts";

interface ForeignFormat {
  error(file: string): DogeError;
}

const CONVERT =
  "Only safetensors is read: in Python, load the model with transformers and save it again with save_pretrained(), which writes model.safetensors.";

const refusal = (kind: string, advice: string): ForeignFormat => ({
  error: (file) => new DogeError("unsupported-format", `${file} is ${kind}. ${advice}`),
});
const PICKLE = refusal("a pickle file of PyTorch, which can run any program when it is opened", CONVERT);
const GGUF = refusal("a GGUF file, the format of llama.cpp", CONVERT);
const OTHER = refusal("a file of another framework", CONVERT);
const LFS = refusal(
  "only a Git LFS pointer, not the weights themselves",
  "Fetch them with `git lfs pull`, or download the file from the model's page.",
);
const PAGE = refusal("a web page, not the weights themselves", "Download the file again; the link may need a login.");
const ARCHIVE = refusal("a zip archive, most likely a pickle checkpoint of PyTorch", CONVERT);
const PROGRAM = refusal(
  "a program, not weights",
  "Do not run it; download the model again from where it is published.",
);

const MAGIC: readonly (readonly [string | readonly number[], ForeignFormat])[] = [
  ["PK\u0003\u0004", ARCHIVE],
  ["PK\u0005\u0006", ARCHIVE],
  ["GGUF", GGUF],
  ["ggml", GGUF],
  ["version https://git-lfs", LFS],
  ["<!", PAGE],
  ["<html", PAGE],
  ["MZ", PROGRAM],
  ["\u007fELF", PROGRAM],
  ["#!", PROGRAM],
  [[0x80, 2], PICKLE],
  [[0x80, 3], PICKLE],
  [[0x80, 4], PICKLE],
  [[0x80, 5], PICKLE],
  [[0x89, 0x48, 0x44, 0x46], OTHER], // HDF5
];

/** The format that these first bytes belong to. Only to be asked about a file that is no safetensors file: a safetensors
 *  header of 640 bytes begins like a pickle. */
export function foreignFormat(start: Uint8Array): ForeignFormat | null {
  for (const [magic, format] of MAGIC) {
    const codes = typeof magic === "string" ? Array.from(magic, (letter) => letter.charCodeAt(0)) : magic;
    if (codes.every((code, index) => start[index] === code)) return format;
  }
  return null;
}

const EXTENSIONS: readonly (readonly [RegExp, ForeignFormat])[] = [
  [/\.(bin|pt|pth|ckpt|pkl|pickle)$/i, PICKLE],
  [/^pytorch_model.*\.index\.json$/i, PICKLE],
  [/\.(gguf|ggml)$/i, GGUF],
  [/\.(h5|msgpack|onnx|npz|tflite|pb)$/i, OTHER],
];

/** The refusal for the first of `names` that looks like weights in another format, or null. */
export function foreignWeights(names: readonly string[]): DogeError | null {
  for (const [pattern, format] of EXTENSIONS) {
    const found = names.filter((name) => pattern.test(name)).sort()[0];
    if (found !== undefined) return format.error(found);
  }
  return null;
}
