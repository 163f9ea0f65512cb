// What of @doge-lm/core touches a browser: chosen files.
export { fileList } from "../files.ts";
export * from "./source.ts";
