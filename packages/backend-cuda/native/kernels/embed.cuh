// embed: each token's row of the embedding table starts the residual stream. Under decoding, each row's last id is its token.
#pragma once
#include "common.cuh"

namespace doge {

/** One number of a matrix, as f32. */
__device__ __forceinline__ float element(const Matrix& matrix, size_t row, int column) {
  const size_t at = row * static_cast<size_t>(matrix.stride) + static_cast<size_t>(column);
  if (matrix.type == Type::F32) return static_cast<const float*>(matrix.data)[at];
  if (matrix.type == Type::BF16) return widen(static_cast<const unsigned short*>(matrix.data)[at]);
  return static_cast<float>(static_cast<const signed char*>(matrix.data)[at]) *
         matrix.scales[row * static_cast<size_t>(matrix.stride / BLOCK) + static_cast<size_t>(column / BLOCK)];
}

/** out[t] = table[ids[t]]; a token at position -1 is none. out (tokens, stride). */
__global__ void embed_kernel(float* out, int stride, Matrix table, const int* ids, const int* positions) {
  await_earlier();
  const size_t token = blockIdx.x;
  if (positions[token] < 0) return;
  const size_t id = static_cast<size_t>(ids[token]);
  for (int column = static_cast<int>(threadIdx.x); column < table.inner; column += static_cast<int>(blockDim.x))
    out[token * static_cast<size_t>(stride) + static_cast<size_t>(column)] = element(table, id, column);
}

/** The tokens of a decoding step: the id last drawn by each row, from `first` on, that draws on. */
__global__ void step_kernel(int* ids, int* positions, int* rows, const RowState* states, int first, int count,
                            const Progress* progress) {
  await_earlier();
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index >= count) return;
  const RowState& state = states[first + index];
  const bool goes_on = state.left > 0 && progress->aborted == 0;
  ids[index] = goes_on ? state.last : 0;
  positions[index] = goes_on ? state.position - 1 : -1;
  rows[index] = first + index;
}

}  // namespace doge
