// What of @doge-lm/core touches Node: folders.
export { fileList } from "../files.ts";
export * from "./folder.ts";
export * from "./source.ts";
