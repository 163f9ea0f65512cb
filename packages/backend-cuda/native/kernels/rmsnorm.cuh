// rmsnorm: the gated residual, then the normalisation that always follows it.
#pragma once
#include "half.cuh"

namespace doge {

constexpr int NORM_THREADS = 256;
/** Columns that a thread keeps in registers: rows of up to 1024 are read once. */
constexpr int NORM_HELD = 4;
/** They are pairs, whose squares are added pair by pair, thread by thread, warp by warp: decode.cuh adds them so too. */
__device__ __forceinline__ int norm_column(int part, int thread) { return part / 2 * 2 * NORM_THREADS + 2 * thread + part % 2; }

/** x <- gate * x + update (left out when gate is null), then out = weight * x / sqrt(mean(x^2) + epsilon), in halves too unless
 *  `halves` is null, and in f32 unless `out` is. One block a token; all are (tokens, stride). Rows `from` says which token row r of
 *  `out` is, when not r. */
__global__ void __launch_bounds__(NORM_THREADS)
    rmsnorm_kernel(float* out, unsigned short* halves, float* x, const float* gate, const float* update, const float* weight, int width, int stride,
                   float epsilon, const int* from) {
  __shared__ float sums[NORM_THREADS / WARP];
  const size_t row = blockIdx.x;
  const size_t token = from == nullptr ? row : static_cast<size_t>(from[row]);
  float* const stream = x + token * static_cast<size_t>(stride);
  const float* const added = update + token * static_cast<size_t>(stride);
  const int thread = static_cast<int>(threadIdx.x);
  float squares = 0.0f;
  float held[NORM_HELD] = {};
  for (int start = 0; start < width; start += NORM_HELD * NORM_THREADS) {
    // All are on their way before the first is used.
#pragma unroll
    for (int part = 0; part < NORM_HELD; part++) {
      const int column = start + norm_column(part, thread);
      if (column < width) held[part] = gate == nullptr ? stream[column] : __fmaf_rn(gate[column], stream[column], added[column]);
    }
#pragma unroll
    for (int part = 0; part < NORM_HELD; part++) {
      const int column = start + norm_column(part, thread);
      if (column >= width) continue;
      if (gate != nullptr) stream[column] = held[part];
      squares = __fmaf_rn(held[part], held[part], squares);
    }
  }
  const float scale = 1.0f / sqrtf(block_sum(squares, sums) / static_cast<float>(width) + epsilon);
  for (int start = 0; start < width; start += NORM_HELD * NORM_THREADS)
#pragma unroll
    for (int part = 0; part < NORM_HELD; part++) {
      const int column = start + norm_column(part, thread);
      if (column >= width) continue;
      const float value = width <= NORM_HELD * NORM_THREADS ? held[part] : stream[column];
      const float result = weight[column] * (value * scale);
      const size_t to = row * static_cast<size_t>(stride) + static_cast<size_t>(column);
      if (out != nullptr) out[to] = result;
      if (halves != nullptr) halves[to] = half_of(result);
    }
}

}  // namespace doge
