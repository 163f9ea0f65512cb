// What of @doge-lm/core touches a browser: chosen files, and the cache of a hub's models.
export { fileList } from "../files.ts";
export { openHub } from "./hub.ts";
export * from "./source.ts";
