// rows: matmul of one row inside a launch that does more, of weights that come through a ring (ring.cuh). Sums run in the order of
// matmul_kernel.
#pragma once
#include "ring.cuh"

namespace doge {

/** Where number `column` of the input stands in shared memory: so that lanes which read 8 numbers each read 16 bytes beside each
 *  other. Arrays are whole blocks of 256 numbers. */
template <Type type>
__device__ __forceinline__ int spread(int column) {
  if constexpr (Format<type>::CHUNK == 4) return column;
  return (column & ~255) + ((column >> 2) & 1) * 128 + ((column >> 3) & 31) * 4 + (column & 3);
}

/** Sums over a warp, each in the order of warp_sum; of number k in the lanes from k * WARP / N on. Lanes that have no use for a number hand
 *  it over: less than half of the exchanges of warp_sums. */
template <int N>
__device__ __forceinline__ float warp_shares(const float (&values)[N]) {
  static_assert(N == 1 || N == 2 || N == 4, "of so many rows a turn has");
  const int lane = own_thread() % WARP;
  float its = values[0];
  if constexpr (N == 4) {
    const bool upper = (lane & 16) != 0;
    const float first = (upper ? values[2] : values[0]) + __shfl_xor_sync(ALL, upper ? values[0] : values[2], 16);
    const float second = (upper ? values[3] : values[1]) + __shfl_xor_sync(ALL, upper ? values[1] : values[3], 16);
    its = ((lane & 8) != 0 ? second : first) + __shfl_xor_sync(ALL, (lane & 8) != 0 ? first : second, 8);
  } else if constexpr (N == 2) {
    its = ((lane & 16) != 0 ? values[1] : values[0]) + __shfl_xor_sync(ALL, (lane & 16) != 0 ? values[0] : values[1], 16);
  }
#pragma unroll
  for (int mask = WARP / 2 / N; mask > 0; mask /= 2) its += __shfl_xor_sync(ALL, its, mask);
  return its;
}

/** Nothing to do. */
struct Nothing {
  __device__ __forceinline__ void operator()() const {}
};

/** A warp's turns at a matrix of MATRICES. */
template <Type type, int WHICH, class Deal>
struct Turn {
  static constexpr int ROWS = Deal::rows(WHICH), OWN = Deal::outputs(WHICH);
  static constexpr bool GATED = OWN < ROWS;
  static constexpr int DEPTH = Deal::depth(WHICH);
  static_assert(ROWS * DEPTH == UNIT_SLOTS, "a unit is full");
  static constexpr int CHUNK = Format<type>::CHUNK;

  /** emit(o, sum_i x[i] weight[o, i] + bias[o]) for this warp's part of `count` outputs, in the lane that holds it, or in all that do; end()
   *  behind the last. NORMED: x comes without its norm's scale, which each warp finds beside its sums: of `epsilon` and the threads'
   *  `squares`; null: x is whole after all. */
  template <bool NORMED, class Emit, class End = Nothing>
  __device__ static __forceinline__ void multiply(Ring<type, Deal>& ring, const Matrix& weight, const float* x, const float* squares, float epsilon, int count, Emit emit,
                                                  End end = {}) {
    const int lane = own_thread() % WARP;
    float its_squares = 0.0f;
    if (NORMED && squares != nullptr)
#pragma unroll
      for (int quad = 0; quad < DECODE_WARPS / 4; quad++) {
        const float4 four = *reinterpret_cast<const float4*>(squares + (quad * WARP + lane) * 4);
        its_squares += four.x + four.y + (four.z + four.w);
      }
    int first = ring.team(WHICH).warp * OWN;
    if (first >= count) end();
    int deep = 0;
    float sums[ROWS] = {};
#pragma unroll 1
    while (first < count) {
      const unsigned char* const unit = ring.next();
#pragma unroll
      for (int step = 0; step < DEPTH; step++) {
        const int column = ((deep + step) * WARP + lane) * CHUNK;
        if ((deep + step) * WARP * CHUNK >= weight.stride) break;
        float part[CHUNK];
#pragma unroll
        for (int quad = 0; quad < CHUNK / 4; quad++) {
          const float4 four = *reinterpret_cast<const float4*>(x + (((deep + step) * (CHUNK / 4) + quad) * WARP + lane) * 4);  // see spread
          part[4 * quad] = four.x;
          part[4 * quad + 1] = four.y;
          part[4 * quad + 2] = four.z;
          part[4 * quad + 3] = four.w;
        }
#pragma unroll
        for (int each = 0; each < ROWS; each++) {
          float w[CHUNK];
          const uint4 held = *reinterpret_cast<const uint4*>(unit + (each * DEPTH + step) * SLOT_BYTES);
          // Behind the row there is something else.
          Format<type>::expand(w, raw_of<type>(column < weight.stride ? held : uint4{0, 0, 0, 0}));
#pragma unroll
          for (int number = 0; number < CHUNK; number++) sums[each] = __fmaf_rn(part[number], w[number], sums[each]);
        }
      }
      deep += DEPTH;
      ring.read();
      const bool whole = deep * WARP * CHUNK >= weight.stride;
      if (whole) {
        float result = warp_shares(sums);
        [[maybe_unused]] float other = 0.0f;
        if constexpr (GATED) other = __shfl_xor_sync(ALL, result, WARP / 2);
        if constexpr (NORMED) {
          const float squares_of_all = warp_sum(its_squares);
          const float scale = squares == nullptr ? 1.0f : 1.0f / sqrtf(squares_of_all / static_cast<float>(weight.inner) + epsilon);
          result *= scale;
          other *= scale;
        }
        const int each = lane / (WARP / ROWS);
        const int its_output = first + each;
        if ((Deal::every(WHICH) || lane % (WARP / ROWS) == 0) && each < OWN && its_output < count) {
          if (weight.bias != nullptr) result += weight.bias[ring.row(WHICH, its_output)];
          if constexpr (GATED) result = silu(result) * (other + (weight.bias == nullptr ? 0.0f : weight.bias[weight.outer / 2 + its_output]));
          emit(its_output, result);
        }
#pragma unroll
        for (int each = 0; each < ROWS; each++) sums[each] = 0.0f;
        deep = 0;
        first += ring.team(WHICH).warps * OWN;
        if (first >= count) end();
      }
      // Others wait for what was emitted, nobody for this; behind the head's last turn the draw is waited for first.
      if ((whole && WHICH != HEAD) || ring.hungry()) ring.refill();
    }
  }
};

}  // namespace doge
