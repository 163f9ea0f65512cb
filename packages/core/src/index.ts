// The public face of @doge-lm/core: platform-free; files and caches are in ./node and ./browser.
export type * from "./backend.ts";
// Text: tokenizer, streaming decode, chat templates.
export { byteSymbols } from "./byte-level.ts";
export {
  type ChatOptions,
  chatTemplate,
  type EncodeChatOptions,
  encodeChat,
  type Message,
  type RenderOptions,
  renderChat,
  type TemplateFiles,
} from "./chat.ts";
// Running: sampling, the checks around a backend, generation.
export * from "./checked.ts";
export type { Checkpoint, TensorInfo } from "./checkpoint.ts";
export { type CalibrateOptions, calibrate } from "./choosing/calibrate.ts";
export { type Choice, type ChooseOptions, choose, survey } from "./choosing/choose.ts";
export type { RateStore } from "./choosing/rates.ts";
export type { Rate, Tried, TriedState } from "./choosing/tried.ts";
export * from "./config.ts";
// Loading: files, config.json, safetensors, layouts, weights.
export { type Hyperparameters, parseConfig } from "./config-json.ts";
export * from "./derive.ts";
export * from "./doge.ts";
export * from "./errors.ts";
export { type ExpertsForm, probeExpertsForm, reachableRows } from "./experts-form.ts";
export { type Files, fileList, filesFrom, hasFile, readJson, readText } from "./files.ts";
export { generate, type LoopOptions } from "./generate.ts";
export * from "./generation.ts";
export type { GenerationDefaults } from "./generation-config.ts";
export type { HubOptions, Progress } from "./hub/options.ts";
export { type CheckpointDescription, describe, weightBytes } from "./inspect.ts";
export { type Json, type JsonOptions, parseJson } from "./json.ts";
export { type KeptSetOptions, keptSet } from "./kept-set.ts";
export { canonicalName } from "./layout.ts";
export * from "./load.ts";
export * from "./noise.ts";
export { type FileCheckpoint, type OpenOptions, openCheckpoint } from "./open.ts";
export type { GenerateOptions } from "./options.ts";
export type { Overflow } from "./overflow.ts";
export { type AllowedTokens, type LogitsProcessor, type Processing, tokenMask } from "./processing.ts";
export * from "./quantize.ts";
export { type Fallback, type LastingCheckpoint, type RecoveryOptions, recovering } from "./recovery.ts";
export { type HeaderOptions, readHeader, type TensorEntry } from "./safetensors.ts";
export {
  checkLogits,
  completeSampling,
  defaultSampling,
  draw,
  isAllowed,
  logProbabilities,
  logSumExp,
  mostLikely,
  type SamplingOptions,
  validateSampling,
} from "./sampling.ts";
export * from "./scheduler.ts";
export * from "./session.ts";
export { llama3Pattern, type SplitPattern } from "./split-patterns.ts";
export * from "./stop.ts";
export * from "./streamer.ts";
export * from "./task.ts";
export type { TextStream } from "./text-stream.ts";
export * from "./timeline.ts";
export {
  createTokenizer,
  type DecodeOptions,
  type EncodeOptions,
  type Tokenizer,
  type TokenizerFactory,
} from "./tokenizer.ts";
export type { TokenizerEngine } from "./tokenizer-engine.ts";
export type { AddedToken, TokenizerParts } from "./tokenizer-json.ts";
export * from "./trace.ts";
export type * from "./training.ts";
export { floats, memoryCheckpoint, quantizable, readTensor, tensorShapes } from "./weights.ts";
