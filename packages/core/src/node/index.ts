// What of @doge-lm/core touches Node: folders, the cache of a hub's models, and what choosing a backend wants to know.
export { fileList } from "../loading/files.ts";
export { choosingPlatform, fileRates, ratesFile } from "./choosing.ts";
export * from "./folder.ts";
export { type CachedModel, cachedModels, hubCacheFolder, openHub, pullModel, removeCached } from "./hub.ts";
export * from "./source.ts";
