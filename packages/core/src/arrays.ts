// The arrays that cross the contract. Those passed in are read before the call returns; those returned are the caller's, never
// views of a device's memory.

export type Tokens = Int32Array<ArrayBuffer>;
export type Floats = Float32Array<ArrayBuffer>;
