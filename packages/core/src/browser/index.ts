// What of @doge-lm/core touches a browser: chosen files, the cache of a hub's models, and what choosing a backend wants to know.
export { fileList } from "../loading/files.ts";
export { choosingPlatform, databaseRates } from "./choosing.ts";
export { openHub } from "./hub.ts";
export * from "./source.ts";
