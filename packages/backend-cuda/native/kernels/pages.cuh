// Where keys, values and biases stand on the device, and where the parts of a token's projections do.
//
// A sequence's keys stand in pages of 16 slots. One layer of a page:
//
//   keys       kept (kv_heads, head_dim, 16)  turned, so that the lanes of a warp hold a key each and no sum crosses lanes
//   values     kept (kv_heads, 16, head_dim)  both f32 or halves (kept.cuh)
//   biases     f32 (bias_heads, 16)
//   positions  i32 (kv_heads, 16)             with a window only; NOBODY: free
//   evicted    i32 (kv_heads, 16)             the position whose token evicted the key; NOBODY: none
//
// Without a window, slot = position. With one, each key/value head keeps its own keys: token i sees the slots with
// position <= i < evicted. Evicted keys stay for JOURNAL more tokens, then the next key takes their slot; so a run of at most
// JOURNAL tokens may be kept as a whole before any of them attends.
#pragma once
#include "common.cuh"

namespace doge {

/** Where the parts of a token's projections stand in its row of `qkv`, each padded to PADDING numbers. */
struct Heads {
  int heads, kv_heads, bias_heads, head_dim;
  int key_at, value_at, qkv_stride;
  int delta_stride;
};

/** Pages and how one layer of them is laid out: values_at in kept numbers, the others in words. */
struct PageShape {
  char* base;
  size_t page_bytes, layer_bytes;
  size_t layer_at;  // bytes from the start of a page to the layer's part
  int values_at, biases_at, positions_at, evicted_at;
  int window;   // 0: nothing is ever dropped
  bool halves;  // what keys and values are kept as
};

/** How pages of so many layers are laid out; where they stand is the caller's. */
inline PageShape page_shape(const Heads& heads, int layers, int window, bool halves) {
  PageShape shape{};
  shape.window = window;
  shape.halves = halves;
  shape.values_at = heads.kv_heads * heads.head_dim * PAGE;
  shape.biases_at = 2 * shape.values_at / (halves ? 2 : 1);
  shape.positions_at = shape.biases_at + heads.bias_heads * PAGE;
  shape.evicted_at = shape.positions_at + heads.kv_heads * PAGE;
  shape.layer_bytes = static_cast<size_t>(shape.evicted_at + heads.kv_heads * PAGE) * 4;
  shape.page_bytes = shape.layer_bytes * static_cast<size_t>(layers);
  return shape;
}

__device__ __forceinline__ float* layer_of(const PageShape& shape, int page) {
  return reinterpret_cast<float*>(shape.base + static_cast<size_t>(page) * shape.page_bytes + shape.layer_at);
}
__device__ __forceinline__ int* meta_of(const PageShape& shape, const int* pages, int slot, int at, int head) {
  return reinterpret_cast<int*>(layer_of(shape, pages[slot / PAGE])) + at + head * PAGE + slot % PAGE;
}

}  // namespace doge
