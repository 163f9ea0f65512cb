// decode_merge: the slices of a step's attention and the token's own key (decode_attention.cuh) become one, in every block for itself: what
// the output's weights are then multiplied with.
#pragma once
#include "decode_plan.cuh"

namespace doge {

/** The attention of the heads whose numbers stand from `start` on, AT_ONCE pairs for each thread: of its slices and the token's own key.
 *  store(column, value). */
template <int AT_ONCE, class Store>
__device__ __forceinline__ void merge(const Decoding& of, const Heads& heads, int start, int position, unsigned epoch, Store store) {
  const int dim = heads.head_dim;
  const int group = heads.heads / heads.kv_heads;
  const int queries = heads.heads * dim;
  const int active = min(of.slices, (position + CHUNK_SLOTS - 1) / CHUNK_SLOTS);  // the others have no keys
  constexpr int EACH = DECODE_SLICES + 2;
  const Pair* sums_of[AT_ONCE * DECODE_SLICES];
  const Pair* from[AT_ONCE * EACH];
  unsigned sums_wanted = 0, wanted = 0, single = 0;
#pragma unroll
  for (int each = 0; each < AT_ONCE; each++) {
    const int column = start + 2 * (own_thread() + each * DECODE_THREADS);
    const int head = column / dim;
    const int at = column % dim;
    const Pair* const parts = of.between.parts + (head / group * of.slices * group + head % group) * (dim + 2);
#pragma unroll
    for (int slice = 0; slice < DECODE_SLICES; slice++) {
      sums_of[each * DECODE_SLICES + slice] = parts + slice * group * (dim + 2) + dim;
      from[each * EACH + slice] = parts + slice * group * (dim + 2) + at;
    }
    from[each * EACH + DECODE_SLICES] = of.between.qkv + heads.value_at + head / group * dim + at;
    from[each * EACH + DECODE_SLICES + 1] = of.between.scores + 2 * head;
    single |= 1u << (each * EACH + DECODE_SLICES + 1);
    if (column >= queries) continue;
    sums_wanted |= ((1u << active) - 1) << each * DECODE_SLICES;
    wanted |= (((1u << active) - 1) | 3u << DECODE_SLICES) << each * EACH;
  }
  // Until the slowest slice has told its sums, only those are asked for: all of its numbers would be megabytes for each question.
  uint2 told[AT_ONCE * DECODE_SLICES], numbers[AT_ONCE * EACH];
  await(told, sums_of, epoch, sums_wanted);
  await(numbers, from, epoch, wanted, single);
#pragma unroll
  for (int each = 0; each < AT_ONCE; each++) {
    const int column = start + 2 * (own_thread() + each * DECODE_THREADS);
    if (column >= queries) continue;
    const float own = number(numbers[each * EACH + DECODE_SLICES + 1].x);
    float top = own;
#pragma unroll
    for (int slice = 0; slice < DECODE_SLICES; slice++)
      if (slice < active) top = max(top, number(told[each * DECODE_SLICES + slice].x));
    float sums[2] = {}, total = expf(own - top);  // its value less itself is nothing
#pragma unroll
    for (int slice = 0; slice < DECODE_SLICES; slice++) {
      if (slice >= active) continue;
      const float best = number(told[each * DECODE_SLICES + slice].x);
      const float weight = best == -INFINITY ? 0.0f : expf(best - top);
      total += number(told[each * DECODE_SLICES + slice].y) * weight;
      sums[0] += number(numbers[each * EACH + slice].x) * weight;
      sums[1] += number(numbers[each * EACH + slice].y) * weight;
    }
    store(column, number(numbers[each * EACH + DECODE_SLICES].x) + sums[0] / total);
    store(column + 1, number(numbers[each * EACH + DECODE_SLICES].y) + sums[1] / total);
  }
}

}  // namespace doge
