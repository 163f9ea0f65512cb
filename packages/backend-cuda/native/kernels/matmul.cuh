// matmul: every linear map of the model, with its bias where it has one; for few rows. matmul_many.cuh has the kernel that sums many in the
// same order, matmul_tiles.cuh the one for many rows on tensor cores, and chooses.
//
// A warp computes COLUMNS outputs of ROWS rows. Lane l sums the inner indices of chunks l, l + 32, ... in their order, then the
// lanes are added in the order of a butterfly: each number's sum has one order, whatever the rows of a call are, which the
// dynamic mask needs (equal tokens must tie exactly). A weight is read once for all ROWS rows.
#pragma once
#include "swiglu.cuh"

namespace doge {

/** Numbers that a lane reads at a time: 16 bytes of f32, bf16 and q8 alike are 4, 8 and 16; q8 takes 8 to stay in one block. `fetch`
 *  brings those `ahead` of a column (whole blocks, known when compiled) as they are held, `expand` makes numbers of them. */
template <Type type>
struct Format;
template <>
struct Format<Type::F32> {
  static constexpr int CHUNK = 4;
  using Raw = float4;
  __device__ static __forceinline__ Raw fetch(const Matrix& matrix, size_t row, int column, int ahead = 0) {
    return *reinterpret_cast<const float4*>(static_cast<const float*>(matrix.data) + row * static_cast<size_t>(matrix.stride) + column + ahead);
  }
  __device__ static __forceinline__ void expand(float (&to)[CHUNK], const Raw& four) {
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
  }
};
template <>
struct Format<Type::BF16> {
  static constexpr int CHUNK = 8;
  using Raw = uint4;
  __device__ static __forceinline__ Raw fetch(const Matrix& matrix, size_t row, int column, int ahead = 0) {
    return *reinterpret_cast<const uint4*>(static_cast<const unsigned short*>(matrix.data) + row * static_cast<size_t>(matrix.stride) + column + ahead);
  }
  __device__ static __forceinline__ void expand(float (&to)[CHUNK], const Raw& eight) {
    const unsigned words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (int pair = 0; pair < 4; pair++) {
      to[2 * pair] = __int_as_float(static_cast<int>(words[pair] << 16));
      to[2 * pair + 1] = __int_as_float(static_cast<int>(words[pair] & 0xffff0000u));
    }
  }
};
template <>
struct Format<Type::Q8> {
  static constexpr int CHUNK = 8;
  struct Raw {
    uint2 codes;
    float scale;
  };
  __device__ static __forceinline__ Raw fetch(const Matrix& matrix, size_t row, int column, int ahead = 0) {
    return {*reinterpret_cast<const uint2*>(static_cast<const signed char*>(matrix.data) + row * static_cast<size_t>(matrix.stride) + column + ahead),
            matrix.scales[row * static_cast<size_t>(matrix.stride / BLOCK) + static_cast<size_t>(column / BLOCK) + ahead / BLOCK]};
  }
  __device__ static __forceinline__ void expand(float (&to)[CHUNK], const Raw& eight) {
    const unsigned words[2] = {eight.codes.x, eight.codes.y};
#pragma unroll
    for (int index = 0; index < CHUNK; index++)
      to[index] = static_cast<float>(static_cast<signed char>((words[index / 4] >> (8 * (index % 4))) & 0xff)) * eight.scale;
  }
};

/** `count` outputs of a matrix, from `first` on. */
inline Matrix outputs(const Matrix& whole, int first, int count) {
  Matrix part = whole;
  const size_t at = static_cast<size_t>(first) * static_cast<size_t>(whole.stride);
  const size_t width = whole.type == Type::F32 ? 4 : whole.type == Type::BF16 ? 2 : 1;
  part.data = static_cast<const char*>(whole.data) + at * width;
  if (whole.scales != nullptr) part.scales = whole.scales + at / BLOCK;
  if (whole.bias != nullptr) part.bias = whole.bias + first;
  part.outer = count;
  return part;
}

constexpr int MATMUL_THREADS = 128;
constexpr int MATMUL_COLUMNS = 4;

/** out[r, o] = sum_i x[r, i] weight[o, i] + bias[o]. x (rows, x_stride), its padding zero; out (rows, out_stride).
 *  `positions`: rows at -1 are not wanted, a tile without any is left out; null: all are.
 *
 *  GATED: swiglu of the first half of the outputs and the second, `width` numbers: out[r, o] = silu(sum for o) * sum for
 *  outer / 2 + o. Half of a warp's columns are of either half. */
template <Type type, int ROWS, bool GATED>
__global__ void matmul_kernel(float* out, int out_stride, const float* x, int x_stride, Matrix weight, int rows,
                              const int* positions, int width) {
  await_earlier();
  constexpr int CHUNK = Format<type>::CHUNK;
  constexpr int OWN = GATED ? MATMUL_COLUMNS / 2 : MATMUL_COLUMNS;
  const int lane = static_cast<int>(threadIdx.x) % WARP;
  const int column = (static_cast<int>(blockIdx.x) * (MATMUL_THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP) * OWN;
  const int first = static_cast<int>(blockIdx.y) * ROWS;
  const int end = GATED ? width : weight.outer;
  if (column >= end) return;
  const auto output = [&](int each) { return each < OWN ? column + each : weight.outer / 2 + column + each - OWN; };
  if (positions != nullptr) {
    bool wanted = false;
    for (int row = 0; row < ROWS && first + row < rows; row++) wanted = wanted || positions[first + row] >= 0;
    if (!wanted) return;
  }

  float sums[ROWS * MATMUL_COLUMNS] = {};
  for (int index = lane * CHUNK; index < weight.stride; index += WARP * CHUNK) {
    float w[MATMUL_COLUMNS][CHUNK];
#pragma unroll
    for (int each = 0; each < MATMUL_COLUMNS; each++) {
      const int safe = output(each) < weight.outer ? output(each) : column;
      Format<type>::expand(w[each], Format<type>::fetch(weight, static_cast<size_t>(safe), index));
    }
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
      const int safe = first + row < rows ? first + row : first;
      const float4* const from =
          reinterpret_cast<const float4*>(x + static_cast<size_t>(safe) * static_cast<size_t>(x_stride) + index);
      float part[CHUNK];
#pragma unroll
      for (int quad = 0; quad < CHUNK / 4; quad++) {
        const float4 four = from[quad];
        part[4 * quad] = four.x;
        part[4 * quad + 1] = four.y;
        part[4 * quad + 2] = four.z;
        part[4 * quad + 3] = four.w;
      }
#pragma unroll
      for (int each = 0; each < MATMUL_COLUMNS; each++)
#pragma unroll
        for (int step = 0; step < CHUNK; step++)
          sums[row * MATMUL_COLUMNS + each] = __fmaf_rn(part[step], w[each][step], sums[row * MATMUL_COLUMNS + each]);
    }
  }
  warp_sums(sums);
  // Lane i writes number i: registers cannot be indexed by the lane, so each is offered in turn.
#pragma unroll
  for (int index = 0; index < ROWS * OWN; index++) {
    const int row = first + index / OWN;
    const int each = index % OWN;
    if (lane != index % WARP || row >= rows || column + each >= end) continue;
    const auto sum = [&](int which) {
      return sums[index / OWN * MATMUL_COLUMNS + which] + (weight.bias == nullptr ? 0.0f : weight.bias[output(which)]);
    };
    float result = sum(each);
    if constexpr (GATED) result = silu(result) * sum(each + OWN);
    out[static_cast<size_t>(row) * static_cast<size_t>(out_stride) + static_cast<size_t>(column + each)] = result;
  }
}

}  // namespace doge
