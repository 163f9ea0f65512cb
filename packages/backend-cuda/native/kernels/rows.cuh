// rows: matmul of one row inside a launch that does more. What a warp reads first of a matrix is fetched before its input is there, so
// that memory works while blocks wait for each other. Sums run in the order of matmul_kernel.
#pragma once
#include "exchange.cuh"
#include "matmul.cuh"

namespace doge {

/** Stretches of weights that a lane holds before the input comes. */
constexpr int HELD_STRETCHES = 16;

template <Type type>
struct Stretches {
  typename Format<type>::Raw of[HELD_STRETCHES];
};

/** Where number `column` of the input stands in shared memory: so that lanes which read 8 numbers each read 16 bytes beside each
 *  other. Arrays are whole blocks of 256 numbers. */
template <Type type>
__device__ __forceinline__ int spread(int column) {
  if constexpr (Format<type>::CHUNK == 4) return column;
  return (column & ~255) + ((column >> 2) & 1) * 128 + ((column >> 3) & 31) * 4 + (column & 3);
}

/** The outputs of a warp's turn: ROWS of them; GATED: half of them gates, the others what they gate. */
template <Type type, int ROWS, bool GATED = false>
struct Turn {
  static constexpr int OWN = GATED ? ROWS / 2 : ROWS;
  /** Stretches of each row at a time. */
  static constexpr int DEPTH = HELD_STRETCHES / ROWS < 8 ? HELD_STRETCHES / ROWS : 8;
  static constexpr int CHUNK = Format<type>::CHUNK;

  __device__ static __forceinline__ int output(const Matrix& weight, int first, int each) {
    const int its = each < OWN ? first + each : weight.outer / 2 + first + each - OWN;
    return its < weight.outer ? its : first;
  }

  __device__ static __forceinline__ void fetch(Stretches<type>& held, const Matrix& weight, int first, int deep) {
    const int lane = own_thread() % WARP;
#pragma unroll
    for (int each = 0; each < ROWS; each++) {
      const int row = output(weight, first, each);
      const int column = (deep * WARP + lane) * CHUNK;
#pragma unroll
      for (int step = 0; step < DEPTH; step++) {
        // Written in any case: what is written sometimes keeps its register for ever.
        held.of[each * DEPTH + step] = typename Format<type>::Raw{};
        const int ahead = step * WARP * CHUNK;
        if (column + ahead < weight.stride) held.of[each * DEPTH + step] = Format<type>::fetch(weight, static_cast<size_t>(row), column, ahead);
      }
    }
  }

  /** Fetch what `multiply` begins with. */
  __device__ static __forceinline__ void ahead(Stretches<type>& held, const Matrix& weight, int count, int warp) {
    fetch(held, weight, warp * OWN < count ? warp * OWN : 0, 0);
  }

  /** emit(o, sum_i x[i] weight[o, i] + bias[o]) for this warp's part of `count` outputs, in the lane that holds it. */
  template <class Emit>
  __device__ static __forceinline__ void multiply(Stretches<type>& held, const Matrix& weight, const float* x, int count, int warp, int warps,
                                                  Emit emit) {
    const int lane = own_thread() % WARP;
    int first = warp * OWN;
    int deep = 0;
    float sums[ROWS] = {};
#pragma unroll 1
    while (first < count) {
#pragma unroll
      for (int step = 0; step < DEPTH; step++) {
        // Behind the row there are zeros, in the registers.
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
          Format<type>::expand(w, held.of[each * DEPTH + step]);
#pragma unroll
          for (int number = 0; number < CHUNK; number++) sums[each] = __fmaf_rn(part[number], w[number], sums[each]);
        }
      }
      deep += DEPTH;
      const int done = first;
      const bool whole = deep * WARP * CHUNK >= weight.stride;
      if (whole) {
        deep = 0;
        first += warps * OWN;
      }
      if (first < count) fetch(held, weight, first, deep);
      if (!whole) continue;
      warp_sums(sums);
      // Each lane has its own output: registers cannot be indexed by the lane, so each is offered in turn.
      float result = sums[0], other = sums[OWN % ROWS];
#pragma unroll
      for (int each = 1; each < OWN; each++) {
        result = lane == each ? sums[each] : result;
        if constexpr (GATED) other = lane == each ? sums[each + OWN] : other;
      }
#pragma unroll
      for (int each = 0; each < ROWS; each++) sums[each] = 0.0f;
      if (lane >= OWN || done + lane >= count) continue;
      if (weight.bias != nullptr) result += weight.bias[done + lane];
      if constexpr (GATED) result = silu(result) * (other + (weight.bias == nullptr ? 0.0f : weight.bias[weight.outer / 2 + done + lane]));
      emit(done + lane, result);
    }
  }
};

/** The 128 bytes at an address, from memory into the cache that all processors share. */
__device__ __forceinline__ void to_shared_cache(const char* at) {
#if defined(DOGE_SHIM)
  [[maybe_unused]] const volatile char read = *at;
#else
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#endif
}

/** Bring a warp's first rows of a matrix there. */
template <Type type, int ROWS, bool GATED>
__device__ __forceinline__ void prefetch(const Matrix& weight, int count, int warp) {
  using Its = Turn<type, ROWS, GATED>;
  if (warp * Its::OWN >= count) return;
  const size_t bytes = static_cast<size_t>(weight.stride) * (type == Type::F32 ? 4 : type == Type::BF16 ? 2 : 1);
  for (int each = 0; each < ROWS; each++) {
    const char* const row = static_cast<const char*>(weight.data) + static_cast<size_t>(Its::output(weight, warp * Its::OWN, each)) * bytes;
    for (size_t at = static_cast<size_t>(own_thread() % WARP * 128); at < bytes; at += WARP * 128) to_shared_cache(row + at);
  }
}

}  // namespace doge
