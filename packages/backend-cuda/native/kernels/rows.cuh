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

/** A warp's turns at a matrix of MATRICES. */
template <Type type, int WHICH>
struct Turn {
  static constexpr int ROWS = rows_of(WHICH), OWN = own_of(WHICH);
  static constexpr bool GATED = OWN < ROWS;
  static constexpr int DEPTH = depth_of(WHICH);
  static_assert(ROWS * DEPTH == UNIT_SLOTS, "a unit is full");
  static constexpr int CHUNK = Format<type>::CHUNK;

  /** emit(o, sum_i x[i] weight[o, i] + bias[o]) for this warp's part of `count` outputs, in the lane that holds it. NORMED: x comes without
   *  its norm's scale, which each warp finds beside its sums: of `epsilon` and the threads' `squares`; null: x is whole after all. */
  template <bool NORMED, class Emit>
  __device__ static __forceinline__ void multiply(Ring<type>& ring, const Matrix& weight, const float* x, const float* squares, float epsilon, int count, Emit emit) {
    const int lane = own_thread() % WARP;
    float its_squares = 0.0f;
    if (NORMED && squares != nullptr)
#pragma unroll
      for (int quad = 0; quad < DECODE_WARPS / 4; quad++) {
        const float4 four = *reinterpret_cast<const float4*>(squares + (quad * WARP + lane) * 4);
        its_squares += four.x + four.y + (four.z + four.w);
      }
    int first = ring.warp * OWN;
    int deep = 0;
    float sums[ROWS + (NORMED ? 1 : 0)] = {};
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
        if constexpr (NORMED) sums[ROWS] = its_squares;
        warp_sums(sums);
        // Each lane has its own output: registers cannot be indexed by the lane, so each is offered in turn.
        float result = sums[0];
        [[maybe_unused]] float other = sums[OWN % ROWS];
#pragma unroll
        for (int each = 1; each < OWN; each++) {
          result = lane == each ? sums[each] : result;
          if constexpr (GATED) other = lane == each ? sums[each + OWN] : other;
        }
        if (lane < OWN && first + lane < count) {
          if constexpr (NORMED) {
            const float scale = squares == nullptr ? 1.0f : 1.0f / sqrtf(sums[ROWS] / static_cast<float>(weight.inner) + epsilon);
            result *= scale;
            other *= scale;
          }
          if (weight.bias != nullptr) result += weight.bias[first + lane];
          if constexpr (GATED) result = silu(result) * (other + (weight.bias == nullptr ? 0.0f : weight.bias[weight.outer / 2 + first + lane]));
          emit(first + lane, result);
        }
#pragma unroll
        for (int each = 0; each < ROWS; each++) sums[each] = 0.0f;
        deep = 0;
        first += ring.warps * OWN;
      }
      // Others wait for what was emitted, nobody for this.
      if (whole || ring.hungry()) ring.refill();
    }
  }
};

}  // namespace doge
