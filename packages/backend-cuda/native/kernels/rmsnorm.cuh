// rmsnorm: the gated residual, then the normalisation that always follows it. A warp takes a token: no barrier, and 16 bytes a load.
//
// Squares are added in the order of a block of 256 threads with a pair of columns each: columns 2t, 2t + 1, then those 512 further, ... of
// thread t; then the lanes of its warps by a butterfly; then the warps. decode.cuh is such a block, and equal tokens must tie exactly.
#pragma once
#include "half.cuh"

namespace doge {

/** Tokens of a block at most, a warp each. */
constexpr int NORM_WARPS = 8;
/** Columns that a warp reads at a time, and how often: rows of up to 1,024 stay in registers. */
constexpr int NORM_COLUMNS = 4 * WARP;
constexpr int NORM_HELD = 8;
/** After so many of those times a thread of the block above comes again. */
constexpr int NORM_PARTS = 4;

/** What numbers of a row that a lane has: all of them of each part, of the even thread and of the odd one, to the sum over the row. */
__device__ __forceinline__ float norm_sum(float (&squares)[NORM_PARTS][2], int width) {
  const bool low = threadIdx.x % WARP < WARP / 2;
  float total = 0.0f;
#pragma unroll
  for (int part = 0; part < NORM_PARTS; part++) {
    if (part * NORM_COLUMNS >= width) break;
    // Lanes hold two threads each, so half a warp is one of those warps, and the butterfly's last step is within a lane.
#pragma unroll
    for (int mask = WARP / 4; mask > 0; mask /= 2) {
      squares[part][0] += __shfl_xor_sync(ALL, squares[part][0], mask);
      squares[part][1] += __shfl_xor_sync(ALL, squares[part][1], mask);
    }
    const float own = squares[part][0] + squares[part][1];
    const float other = __shfl_xor_sync(ALL, own, WARP / 2);
    total += low ? own : other;
    total += low ? other : own;
  }
  return total;
}

/** x <- gate * x + update (left out when gate is null), then out = weight * x / sqrt(mean(x^2) + epsilon), in halves too unless
 *  `halves` is null, and in f32 unless `out` is. A warp a row; all are (rows, stride), and padding is 0, that of `gate` and `weight`
 *  too. `from` says which token row r of `out` is, when not r; tokens at `positions` -1 are left out, unless null. */
__global__ void __launch_bounds__(NORM_WARPS* WARP)
    rmsnorm_kernel(float* out, unsigned short* halves, float* x, const float* gate, const float* update, const float* weight, int rows, int width, int stride,
                   float epsilon, const int* from, const int* positions) {
  await_earlier();
  const int lane = static_cast<int>(threadIdx.x) % WARP;
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP);
  if (row >= rows) return;
  const int token = from == nullptr ? row : from[row];
  if (positions != nullptr && positions[token] < 0) return;
  float* const stream = x + static_cast<size_t>(token) * static_cast<size_t>(stride);
  const float* const added = update + static_cast<size_t>(token) * static_cast<size_t>(stride);
  float squares[NORM_PARTS][2] = {};
  float4 held[NORM_HELD];
  const auto write = [&](int column, const float4& value, const float4& weights, float scale) {
    const float4 result{weights.x * (value.x * scale), weights.y * (value.y * scale), weights.z * (value.z * scale), weights.w * (value.w * scale)};
    const size_t to = static_cast<size_t>(row) * static_cast<size_t>(stride) + static_cast<size_t>(column);
    if (out != nullptr) *reinterpret_cast<float4*>(out + to) = result;
    if (halves != nullptr) *reinterpret_cast<uint2*>(halves + to) = uint2{half_pair(result.x, result.y), half_pair(result.z, result.w)};
  };
  // What is read is on its way before the first of it is used, and before the next is written: the compiler cannot know that they differ.
  const auto read = [&](float4 (&to)[NORM_HELD], const float* from, int start) {
#pragma unroll
    for (int each = 0; each < NORM_HELD; each++) {
      const int column = start + each * NORM_COLUMNS;
      to[each] = column < width ? *reinterpret_cast<const float4*>(from + column) : float4{0.0f, 0.0f, 0.0f, 0.0f};
    }
  };
  for (int start = 4 * lane; start < width; start += NORM_HELD * NORM_COLUMNS) {
    read(held, stream, start);
    if (gate != nullptr) {
      float4 news[NORM_HELD], gates[NORM_HELD];
      read(news, added, start);
      read(gates, gate, start);
#pragma unroll
      for (int each = 0; each < NORM_HELD; each++) {
        float4& its = held[each];
        its = float4{__fmaf_rn(gates[each].x, its.x, news[each].x), __fmaf_rn(gates[each].y, its.y, news[each].y),
                     __fmaf_rn(gates[each].z, its.z, news[each].z), __fmaf_rn(gates[each].w, its.w, news[each].w)};
        if (start + each * NORM_COLUMNS < width) *reinterpret_cast<float4*>(stream + start + each * NORM_COLUMNS) = its;
      }
    }
#pragma unroll
    for (int each = 0; each < NORM_HELD; each++) {
      const float4& its = held[each];
      float(&sums)[2] = squares[each % NORM_PARTS];
      sums[0] = __fmaf_rn(its.y, its.y, __fmaf_rn(its.x, its.x, sums[0]));
      sums[1] = __fmaf_rn(its.w, its.w, __fmaf_rn(its.z, its.z, sums[1]));
    }
  }
  float4 weights[NORM_HELD];
  read(weights, weight, 4 * lane);
  let_next_come();
  const float scale = 1.0f / sqrtf(norm_sum(squares, width) / static_cast<float>(width) + epsilon);
  if (width <= NORM_HELD * NORM_COLUMNS) {
#pragma unroll
    for (int each = 0; each < NORM_HELD; each++)
      if (4 * lane + each * NORM_COLUMNS < width) write(4 * lane + each * NORM_COLUMNS, held[each], weights[each], scale);
  } else {
#pragma unroll 1
    for (int column = 4 * lane; column < width; column += NORM_COLUMNS)
      write(column, *reinterpret_cast<const float4*>(stream + column), *reinterpret_cast<const float4*>(weight + column), scale);
  }
}

/** The launch for some rows: spread over all processors before a block takes more than one. */
inline void rmsnorm(Device& device, float* out, unsigned short* halves, float* x, const float* gate, const float* update, const float* weight, int rows, int width,
                    int stride, float epsilon, const int* from, const int* positions) {
  const int warps = std::max(1, std::min(NORM_WARPS, rows / device.processors()));
  device.launch(rmsnorm_kernel, dim3(static_cast<unsigned>((rows + warps - 1) / warps)), warps * WARP, out, halves, x, gate, update, weight, rows, width, stride,
                epsilon, from, positions);
}

}  // namespace doge
