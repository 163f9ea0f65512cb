// swiglu: the gated unit between the two halves of the dense feed-forward; for few rows part of the matmul before it.
#pragma once
#include "common.cuh"

namespace doge {

__device__ __forceinline__ float silu(float z) { return z / (1.0f + expf(-z)); }

/** gate_up (tokens, stride): the first `width` numbers of a row become silu(gate) * up, with up the `width` numbers from `padded`
 *  on. What is between stays: it is the padding of the next matmul's rows. Grid (tokens, columns). */
__global__ void swiglu_kernel(float* gate_up, int stride, int width, int padded) {
  await_earlier();
  float* const row = gate_up + static_cast<size_t>(blockIdx.x) * static_cast<size_t>(stride);
  const int column = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (column < width) row[column] = silu(row[column]) * row[padded + column];
}

}  // namespace doge
