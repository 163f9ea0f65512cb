// decode_pairs: how the blocks of decode_kernel (decode.cuh) hand each other the parts of a step's attention (decode_attention.cuh): queries,
// slices and the token's own key by pairs; they become one in every block for itself, which the output's weights are then multiplied with.
#pragma once
#include "decode_attention.cuh"

namespace doge {

/** Where a lane finds numbers 2 lane, 2 lane + 1 and the two half a head behind of a head whose pairs begin at `head`. */
__device__ __forceinline__ void four_of(const Pair* (&from)[2], const Pair* head, int half) {
  const int index = 2 * (own_thread() % WARP);
  from[0] = head + (index < half ? index : 0);
  from[1] = from[0] + half;
}
/** The slice of a key/value head that a block has. */
template <class Kept>
__device__ __forceinline__ void attend_by_pairs(const Decoding& of, const Heads& heads, const RopeWeights& rope, const PageShape& page, int kv_head, int slice, int position,
                                                unsigned epoch, DecodeShared& shared) {
  const int dim = heads.head_dim;
  const int group = heads.heads / heads.kv_heads;
  Pair* const parts = of.between.parts + (kv_head * of.slices + slice) * group * (dim + 2);
  attend<Kept, DECODE_GROUP>(
      Slice{kv_head * group, group, slice, of.slices, position}, heads, page, shared,
      [&] {
        // Each query is waited for and turned by one warp, the token's own value is brought by the next.
        const int warp = own_warp();
        if (warp > group) return;
        const Pair* from[2];
        four_of(from, of.between.qkv + (warp < group ? (kv_head * group + warp) * dim : heads.value_at + kv_head * dim), dim / 2);
        uint2 numbers[2];
        await(numbers, from, epoch, 2 * (own_thread() % WARP) < dim / 2 ? 3 : 0);
        float four[4] = {number(numbers[0].x), number(numbers[0].y), number(numbers[1].x), number(numbers[1].y)};
        if (warp < group) turn(four, rope.query_norm, rope.epsilon, dim, shared);
        put_four(warp < group ? shared.query[warp] : shared.value, four, dim / 2);
      },
      [&](float best, float total) {
        const int lane = own_thread() % WARP, warp = own_warp();
        if (lane < 2) publish(parts + warp * (dim + 2) + dim + lane, lane == 0 ? best : total, epoch);
      },
      [&](int head, int column, float sum) { publish(parts + head * (dim + 2) + column, sum, epoch); });
}

/** The token's own key, of one head, by a warp. */
template <class Kept>
__device__ __forceinline__ void keep_by_pairs(const Decoding& of, const Heads& heads, const RopeWeights& rope, const PageShape& page, int head, int position, unsigned epoch,
                                              const DecodeShared& shared) {
  keep<Kept>(
      heads, rope, page, of.between.qkv, head, position, epoch, shared,
      [&](float (&parts)[3][4]) {
        const int dim = heads.head_dim;
        const int kv_head = head / (heads.heads / heads.kv_heads);
        const Pair* from[6];
#pragma unroll
        for (int part = 0; part < 3; part++) {
          const Pair* its[2];
          four_of(its, of.between.qkv + (part == 0 ? head * dim : (part == 1 ? heads.key_at : heads.value_at) + kv_head * dim), dim / 2);
          from[2 * part] = its[0];
          from[2 * part + 1] = its[1];
        }
        uint2 numbers[6];
        await(numbers, from, epoch, 2 * (own_thread() % WARP) < dim / 2 ? 63 : 0);
#pragma unroll
        for (int part = 0; part < 3; part++)
#pragma unroll
          for (int each = 0; each < 4; each++) parts[part][each] = number(each % 2 == 0 ? numbers[2 * part + each / 2].x : numbers[2 * part + each / 2].y);
      },
      [&](float score) {
        if (own_thread() % WARP == 0) publish(of.between.scores + 2 * head, score, epoch);
      });
}

/** The attention of the heads whose numbers stand from `start` on, AT_ONCE pairs for each thread: of its slices and the token's own key.
 *  store(column, value). */
template <class Kept, int AT_ONCE, class Store>
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
      const float weight = slice_weight(best, top);
      total += number(told[each * DECODE_SLICES + slice].y) * weight;
      sums[0] += number(numbers[each * EACH + slice].x) * weight;
      sums[1] += number(numbers[each * EACH + slice].y) * weight;
    }
    store(column, as_kept<Kept>(number(numbers[each * EACH + DECODE_SLICES].x)) + sums[0] / total);
    store(column + 1, as_kept<Kept>(number(numbers[each * EACH + DECODE_SLICES].y)) + sums[1] / total);
  }
}

}  // namespace doge
