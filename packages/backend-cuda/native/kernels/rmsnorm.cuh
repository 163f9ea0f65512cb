// rmsnorm: the gated residual, then the normalisation that always follows it.
#pragma once
#include "common.cuh"

namespace doge {

constexpr int NORM_THREADS = 256;

/** x <- gate * x + update (left out when gate is null), then out = weight * x / sqrt(mean(x^2) + epsilon).
 *  A thread's share are pairs of columns, and the squares are added thread by thread, warp by warp: decode.cuh adds them so too.
 *  One block a token; x, update and out are (tokens, stride). Rows `from` says which token row r of `out` is, when not r. */
__global__ void rmsnorm_kernel(float* out, float* x, const float* gate, const float* update, const float* weight, int width,
                               int stride, float epsilon, const int* from) {
  __shared__ float sums[8];
  const size_t row = blockIdx.x;
  const size_t token = from == nullptr ? row : static_cast<size_t>(from[row]);
  float* const stream = x + token * static_cast<size_t>(stride);
  const float* const added = update + token * static_cast<size_t>(stride);
  float* const to = out + row * static_cast<size_t>(stride);
  float squares = 0.0f;
  for (int pair = 2 * static_cast<int>(threadIdx.x); pair < width; pair += 2 * NORM_THREADS)
    for (int column = pair; column < min(pair + 2, width); column++) {
      float value = stream[column];
      if (gate != nullptr) {
        value = __fmaf_rn(gate[column], value, added[column]);
        stream[column] = value;
      }
      squares = __fmaf_rn(value, value, squares);
    }
  const float scale = 1.0f / sqrtf(block_sum(squares, sums) / static_cast<float>(width) + epsilon);
  for (int pair = 2 * static_cast<int>(threadIdx.x); pair < width; pair += 2 * NORM_THREADS)
    for (int column = pair; column < min(pair + 2, width); column++) to[column] = weight[column] * (stream[column] * scale);
}

}  // namespace doge
