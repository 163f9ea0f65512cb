// Where blocks that share a tile of queries meet: each leaves the sums of its keys, and the one that comes last merges them in their
// order, so that results do not hang on which that is.
#pragma once
#include "query_units.cuh"
#include "tensor.cuh"

namespace doge {

constexpr int GROUP_THREADS = 128;

/** Where blocks that share a tile meet: sums (meetings of MOST_SHARES, heads, part_words), and how many have come (meetings, columns),
 *  0 between launches. */
struct Meeting {
  float* sums;
  int* come;
};
/** Numbers that a block leaves of a head: sums, best and total as its threads hold them. */
__host__ __device__ constexpr int part_words(int dim) { return (dim / 2 + 4) * GROUP_THREADS; }

/** Powers of two are cheaper than those of e. */
constexpr float LOG2E = 1.4426950408889634f;
/** 2^x for softmax: what is less than the least normal number is 0. */
__device__ __forceinline__ float power_of_two(float x) {
#if defined(DOGE_SHIM)
  return exp2f(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}

/** Leaves a head's sums and what they are weighted by, as a thread of its group holds them. In the block that comes last: true, and all
 *  of them are merged. */
template <int DIM>
__device__ __forceinline__ bool meet(const Meeting& meeting, const QueryUnit& unit, int heads, int head, float (&sums)[DIM / 2], float (&best)[2],
                                     float (&total)[2]) {
  __shared__ bool is_last;
  const int thread = static_cast<int>(threadIdx.x) % GROUP_THREADS;
  const auto part_of = [&](int share) {
    return reinterpret_cast<float4*>(meeting.sums + static_cast<size_t>((unit.meeting + share) * heads + head) * part_words(DIM)) + thread;
  };
  float4* const to = part_of(unit.share);
#pragma unroll
  for (int each = 0; each < DIM / 8; each++) to[each * GROUP_THREADS] = float4{sums[4 * each], sums[4 * each + 1], sums[4 * each + 2], sums[4 * each + 3]};
  to[DIM / 8 * GROUP_THREADS] = float4{best[0], best[1], total[0], total[1]};
  __threadfence();
  __syncthreads();
  int* const come = &meeting.come[unit.meeting / MOST_SHARES * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x)];
  if (threadIdx.x == 0) {
    is_last = atomicAdd(come, 1) == unit.shares - 1;
    if (is_last) *come = 0;
  }
  __syncthreads();
  if (!is_last) return false;
  __threadfence();
  best[0] = best[1] = -INFINITY;
#pragma unroll 1
  for (int share = 0; share < unit.shares; share++) {
    const float4 found = part_of(share)[DIM / 8 * GROUP_THREADS];
    best[0] = fmaxf(best[0], found.x);
    best[1] = fmaxf(best[1], found.y);
  }
  total[0] = total[1] = 0.0f;
#pragma unroll
  for (int each = 0; each < DIM / 2; each++) sums[each] = 0.0f;
#pragma unroll 1
  for (int share = 0; share < unit.shares; share++) {
    const float4* const from = part_of(share);
    const float4 found = from[DIM / 8 * GROUP_THREADS];
    const float own[2] = {power_of_two(found.x - best[0]), power_of_two(found.y - best[1])};
    total[0] = __fmaf_rn(own[0], found.z, total[0]);
    total[1] = __fmaf_rn(own[1], found.w, total[1]);
#pragma unroll
    for (int each = 0; each < DIM / 8; each++) {
      const float4 four = from[each * GROUP_THREADS];
      sums[4 * each] = __fmaf_rn(own[0], four.x, sums[4 * each]);
      sums[4 * each + 1] = __fmaf_rn(own[0], four.y, sums[4 * each + 1]);
      sums[4 * each + 2] = __fmaf_rn(own[1], four.z, sums[4 * each + 2]);
      sums[4 * each + 3] = __fmaf_rn(own[1], four.w, sums[4 * each + 3]);
    }
  }
  return true;
}

}  // namespace doge
