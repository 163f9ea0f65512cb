// Dawn's binding for Node asks without a pause whether the GPU is done, from setImmediate: on an adapter that computes on the CPU it takes a
// processor from what it waits for. Loaded where such an adapter is used, this lets it sleep between two questions.

/** Milliseconds between two questions: little beside a call, much beside a question. */
const PAUSE_MS = 0.25;
const cell = new Int32Array(new SharedArrayBuffer(4));
const { setImmediate } = globalThis;

/** A function without a name, a source or parameters, as a native binding hands over. A promise's `resolve` has a parameter. */
const isNative = (callback: (...args: never[]) => void): boolean =>
  callback.name === "" &&
  callback.length === 0 &&
  Function.prototype.toString.call(callback) === "function () { [native code] }";

globalThis.setImmediate = Object.assign((callback: (...args: unknown[]) => void, ...args: unknown[]) => {
  if (!isNative(callback)) return setImmediate(callback, ...args);
  return setImmediate(() => {
    Atomics.wait(cell, 0, 0, PAUSE_MS);
    callback(...args);
  });
}, setImmediate) as typeof setImmediate;
