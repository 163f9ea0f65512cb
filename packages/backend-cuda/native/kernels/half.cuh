// Half precision, for kept keys and values and for the products of many tokens: 11 bits of each number, where bf16 keeps 8
// (docs/decisions/2026-11-26-cuda.md says what that moves). Two numbers of a register lie as in tensor.cuh, the first in the low half.
#pragma once
#include "tensor.cuh"

namespace doge {

/** The greatest number of half precision: what is beyond becomes it. */
constexpr float HALF_MOST = 65504.0f;
/** What the outputs of swiglu, the only ones that grow with the square of their inputs, are multiplied by, so that they stay below
 *  a million instead; a power of two, taken back by the matmul that reads them. */
constexpr float SWIGLU_SCALE = 0.0625f;

#if defined(DOGE_SHIM)

/** f32 -> half, to the nearest, ties to even; NaN stays one. */
inline unsigned half_bits(float value) {
  const unsigned bits = __float_as_uint(value);
  const unsigned sign = (bits >> 16) & 0x8000u;
  if (value != value) return 0x7fffu;
  const float size = std::fabs(value);
  if (size >= 65520.0f) return sign | 0x7c00u;
  // Below 2^-14 numbers are multiples of 2^-24; the sum with 0.5 leaves exactly those bits, rounded.
  if (size < 6.103515625e-05f) return sign | ((__float_as_uint(size + 0.5f) - __float_as_uint(0.5f)) & 0xffffu);
  const unsigned kept = __float_as_uint(size) - (112u << 23);
  return sign | ((kept + 0xfffu + ((kept >> 13) & 1u)) >> 13);
}
inline float half_value(unsigned bits) {
  const unsigned exponent = (bits >> 10) & 31u;
  const float size = exponent == 0    ? static_cast<float>(bits & 0x3ffu) * 5.9604644775390625e-08f
                     : exponent == 31 ? ((bits & 0x3ffu) != 0 ? NAN : INFINITY)
                                      : __int_as_float(static_cast<int>(((bits & 0x7fffu) << 13) + (112u << 23)));
  // Not by a branch, which signs as good as random would mislead.
  return __int_as_float(static_cast<int>(__float_as_uint(size) | (bits & 0x8000u) << 16));
}
inline unsigned half_pair_of(float first, float second) { return half_bits(first) | half_bits(second) << 16; }

/** d += a . b as mma(), of halves. */
inline void mma_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_of(d, a, b, half_value); }

#elif defined(__CUDA_ARCH__)

__device__ __forceinline__ unsigned half_pair_of(float first, float second) {
  unsigned pair;
#if DOGE_TENSOR
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
#else
  asm("{\n.reg .b16 low, high;\ncvt.rn.f16.f32 low, %1;\ncvt.rn.f16.f32 high, %2;\nmov.b32 %0, {low, high};\n}" : "=r"(pair) : "f"(first), "f"(second));
#endif
  return pair;
}
__device__ __forceinline__ float half_value(unsigned bits) {
  float value;
  asm("{\n.reg .b16 half;\ncvt.u16.u32 half, %1;\ncvt.f32.f16 %0, half;\n}" : "=f"(value) : "r"(bits));
  return value;
}
#if DOGE_TENSOR
__device__ __forceinline__ void mma_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#else

// nvcc's pass over the host's half, which runs none of it.
__device__ __forceinline__ unsigned half_pair_of(float, float) { return 0; }
__device__ __forceinline__ float half_value(unsigned) { return 0.0f; }

#endif

/** A number held within what a half can hold; NaN stays one. */
__device__ __forceinline__ float within_half(float value) { return value > HALF_MOST ? HALF_MOST : value < -HALF_MOST ? -HALF_MOST : value; }
__device__ __forceinline__ unsigned half_pair(float first, float second) { return half_pair_of(within_half(first), within_half(second)); }
__device__ __forceinline__ unsigned short half_of(float value) { return static_cast<unsigned short>(half_pair(value, 0.0f) & 0xffffu); }

/** Two numbers that halves can hold as their nearest, and what those leave: high + low is off by 2^-22 of a number, or 2^-25. */
__device__ __forceinline__ void split_half_pair(unsigned& high, unsigned& low, float first, float second) {
  high = half_pair_of(first, second);
  low = half_pair_of(first - half_value(high & 0xffffu), second - half_value(high >> 16));
}

/** A linear layer in half precision: data (outer, stride), each row times a power of two that makes its greatest number nearly the
 *  greatest there is, and what takes that back: scales (outer). bf16 numbers stand there exactly, down to 2^-29 of the greatest. */
struct HalfMatrix {
  const unsigned short* data;
  const float* scales;
  const float* bias;  // as of the matrix it came from
  int outer;
  int stride;
  /** 0, or the rows of the gate's half of a matrix whose rows are 8 of the gate, 8 of what it gates, and so on. */
  int gated;
};

/** Where output r of a gated matrix stands: rows of either half in turn, 8 each. */
__device__ __forceinline__ int interleaved(int row, int gated) {
  if (gated == 0) return row;
  const int its = row < gated ? row : row - gated;
  return its / 8 * 16 + its % 8 + (row < gated ? 0 : 8);
}

constexpr int HALVE_THREADS = 128;

/** A bf16 matrix in half precision. Grid (outer). */
__global__ void halve_kernel(unsigned short* data, float* scales, Matrix from, int gated) {
  await_earlier();
  __shared__ float most[HALVE_THREADS / WARP];
  const int row = static_cast<int>(blockIdx.x);
  const unsigned short* const own = static_cast<const unsigned short*>(from.data) + static_cast<size_t>(row) * static_cast<size_t>(from.stride);
  float greatest = 0.0f;
  for (int column = static_cast<int>(threadIdx.x); column < from.stride; column += HALVE_THREADS) greatest = fmaxf(greatest, fabsf(widen(own[column])));
  greatest = block_max(greatest, most);
  // Below 2^15 and not below 2^14; both factors are numbers of f32.
  const int exponent = greatest == 0.0f ? 14 : max(-100, min(120, ilogbf(greatest)));
  const float factor = ldexpf(1.0f, 14 - exponent);
  const size_t to = static_cast<size_t>(interleaved(row, gated));
  for (int column = static_cast<int>(threadIdx.x); column < from.stride; column += HALVE_THREADS)
    data[to * static_cast<size_t>(from.stride) + static_cast<size_t>(column)] = half_of(widen(own[column]) * factor);
  if (threadIdx.x == 0) scales[to] = ldexpf(1.0f, exponent - 14);
}

}  // namespace doge
