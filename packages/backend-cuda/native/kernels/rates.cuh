// What the device can do at most, for reports: kernels that only read, or only multiply and add. No model uses them.
#pragma once
#include "tensor.cuh"

namespace doge {

constexpr int RATE_THREADS = 256;
/** Independent sums of a thread, so that none waits for itself. */
constexpr int RATE_SUMS = 8;

/** Reads `count` times 16 bytes, four at a time. */
__global__ void read_kernel(unsigned* out, const uint4* from, size_t count) {
  await_earlier();
  const size_t threads = static_cast<size_t>(gridDim.x) * RATE_THREADS;
  const size_t own = static_cast<size_t>(blockIdx.x) * RATE_THREADS + threadIdx.x;
  unsigned sum = 0;
#pragma unroll 4
  for (size_t at = own; at < count; at += threads) {
    const uint4 four = from[at];
    sum += four.x ^ four.y ^ four.z ^ four.w;
  }
  if (sum == 0x9e3779b9u) out[0] = sum;  // or the loop could be left out
}

/** RATE_SUMS * turns multiply-adds a thread. */
__global__ void multiply_kernel(float* out, float factor, int turns) {
  await_earlier();
  float sums[RATE_SUMS];
#pragma unroll
  for (int each = 0; each < RATE_SUMS; each++) sums[each] = static_cast<float>(each + static_cast<int>(threadIdx.x));
  for (int turn = 0; turn < turns; turn++)
#pragma unroll
    for (int each = 0; each < RATE_SUMS; each++) sums[each] = __fmaf_rn(sums[each], factor, factor);
  float sum = 0.0f;
#pragma unroll
  for (int each = 0; each < RATE_SUMS; each++) sum += sums[each];
  if (sum == 12345.678f) out[0] = sum;
}

/** RATE_SUMS * turns times 16 * 8 * 16 multiply-adds a warp, on tensor cores. */
__global__ void multiply_tiles_kernel(float* out, unsigned bits, int turns) {
  await_earlier();
#if DOGE_TENSOR
  float sums[RATE_SUMS][4] = {};
  const unsigned a[4] = {bits, bits + 1, bits + 2, bits + 3};
  const unsigned b[2] = {bits + threadIdx.x, bits};
  for (int turn = 0; turn < turns; turn++)
#pragma unroll
    for (int each = 0; each < RATE_SUMS; each++) mma(sums[each], a, b);
  float sum = 0.0f;
#pragma unroll
  for (int each = 0; each < RATE_SUMS; each++) sum += sums[each][0] + sums[each][1] + sums[each][2] + sums[each][3];
  if (sum == 12345.678f) out[0] = sum;
#endif
}

}  // namespace doge
