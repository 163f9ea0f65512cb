// What of @doge-lm/core touches Node: folders, and the cache of a hub's models.
export { fileList } from "../files.ts";
export * from "./folder.ts";
export { type CachedModel, cachedModels, hubCacheFolder, openHub, pullModel, removeCached } from "./hub.ts";
export * from "./source.ts";
