// decode_attention: the attention of a decoding step inside the one launch of all steps (decode.cuh, clusters.cuh): slices of the keys before
// the step's token, each by a block, and the token's own key by a warp. How numbers come and go is the kernel's.
//
// Source: as attention.cuh; splitting keys over blocks as flash-decoding does (Dao et al., 2023).
#pragma once
#include "decode_plan.cuh"

namespace doge {

/** Keys and values of a chunk of slots, as the threads of a block share them. Each part is asked for as soon as its registers are free. */
template <class Kept>
struct Chunk {
  Kept keys[CHUNK_PAGES][DIM_SHARE];   // of slot thread % 16 of each page: numbers from thread / 16 * DIM_SHARE on
  Kept values[CHUNK_PAGES][PAGE / 2];  // number thread % 128 of half of each page's slots
  float biases[CHUNK_SLOTS / WARP];    // of head `warp`, of slots lane, lane + 32

  /** Whatever stands in slots from `position` on. */
  __device__ __forceinline__ void load_keys(const Heads& heads, const PageShape& page, const int* pages, int head, int chunk, int position) {
    const int thread = own_thread();
    const int dim = heads.head_dim;
    const int row = thread / PAGE * DIM_SHARE;
#pragma unroll
    for (int each = 0; each < CHUNK_PAGES; each++) {
      const Kept* const from = kept_in<Kept>(layer_of(page, pages[min(chunk * CHUNK_PAGES + each, position / PAGE)]));
#pragma unroll
      for (int share = 0; share < DIM_SHARE; share++) keys[each][share] = kept_number(&from[(head * dim + min(row + share, dim - 1)) * PAGE + thread % PAGE]);
    }
  }
  /** And the biases of head `bias_head` of them. */
  __device__ __forceinline__ void load_values(const Heads& heads, const PageShape& page, const int* pages, int head, int bias_head, int chunk, int position) {
    const int thread = own_thread();
    const int dim = heads.head_dim;
    const int last = position / PAGE;
#pragma unroll
    for (int each = 0; each < CHUNK_SLOTS / WARP; each++) {
      const int slot = each * WARP + thread % WARP;
      biases[each] = kept_number(&layer_of(page, pages[min(chunk * CHUNK_PAGES + slot / PAGE, last)])[page.biases_at + bias_head * PAGE + slot % PAGE]);
    }
    const int column = min(thread % DECODE_DIM, dim - 1);
#pragma unroll
    for (int each = 0; each < CHUNK_PAGES; each++) {
      const Kept* const from = kept_in<Kept>(layer_of(page, pages[min(chunk * CHUNK_PAGES + each, last)]));
#pragma unroll
      for (int slot = 0; slot < PAGE / 2; slot++) values[each][slot] = kept_number(&from[page.values_at + (head * PAGE + thread / DECODE_DIM * (PAGE / 2) + slot) * dim + column]);
    }
  }
};

/** Numbers 2 lane, 2 lane + 1 and the two half a head behind of a query or key under its norm, where there is one, and turned by the step's angles. By a warp. */
__device__ __forceinline__ void turn(float (&x)[4], const float* weight, float epsilon, int dim, const DecodeShared& shared) {
  const int half = dim / 2;
  const int index = 2 * (own_thread() % WARP);
  if (weight != nullptr) {
    float squares = 0.0f;
#pragma unroll
    for (int each = 0; each < 4; each++) squares = __fmaf_rn(x[each], x[each], squares);
    const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + epsilon);
    if (index < half)
#pragma unroll
      for (int each = 0; each < 4; each++) x[each] = weight[index + each % 2 + each / 2 * half] * (x[each] * scale);
  }
  if (index >= half) return;
#pragma unroll
  for (int each = 0; each < 2; each++) {
    const float first = x[each], second = x[each + 2];
    const float cosine = shared.cosine[index + each], sine = shared.sine[index + each];
    x[each] = first * cosine - second * sine;
    x[each + 2] = second * cosine + first * sine;
  }
}

/** A lane's four numbers of a head, zeros beyond it; and to their places. */
__device__ __forceinline__ void four_at(float (&four)[4], const float* from, int half) {
  const int index = 2 * (own_thread() % WARP);
#pragma unroll
  for (int each = 0; each < 4; each++) four[each] = index < half ? from[index + each % 2 + each / 2 * half] : 0.0f;
}
__device__ __forceinline__ void put_four(float* to, const float (&four)[4], int half) {
  const int index = 2 * (own_thread() % WARP);
  if (index >= half) return;
#pragma unroll
  for (int each = 0; each < 4; each++) to[index + each % 2 + each / 2 * half] = four[each];
}

/** What a slice with `best` for its greatest score weighs where `top` is the greatest of all. */
__device__ __forceinline__ float slice_weight(float best, float top) { return best == -INFINITY ? 0.0f : expf(best - top); }

/** The slice of a block among the `slices` of the keys before a step's token, for `group` heads, of GROUP at most, from `head` on, which share
 *  keys and values. */
struct Slice {
  int head, group, slice, slices, position;
};
/** Its scores, softmax and weighted values: tell(best, total) by the warps of each head once those are known, for others wait for them first,
 *  and emit(head, column, sum). bring() puts the queries, turned, and the token's own value to shared memory. The sums are of value[j] - own,
 *  as in attention_kernel. */
template <class Kept, int GROUP, class Bring, class Tell, class Emit>
__device__ __forceinline__ void attend(const Slice& its, const Heads& heads, const PageShape& page, DecodeShared& shared, Bring bring, Tell tell, Emit emit) {
  const int thread = own_thread();
  const int lane = thread % WARP;
  const int warp = own_warp();
  const int dim = heads.head_dim;
  const int group = its.group, slice = its.slice, slices = its.slices, position = its.position;
  const int kv_head = its.head / (heads.heads / heads.kv_heads);
  const int bias_head = (its.head + min(warp, group - 1)) / (heads.heads / heads.bias_heads);
  Chunk<Kept> held;
  held.load_keys(heads, page, shared.pages, kv_head, slice, position);
  held.load_values(heads, page, shared.pages, kv_head, bias_head, slice, position);
  bring();
  __syncthreads();

  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  const int column = thread % DECODE_DIM;
  const int side = thread / DECODE_DIM;
  const float own_value = as_kept<Kept>(shared.value[column < dim ? column : 0]);
  float best = -INFINITY, total = 0.0f;  // of head `warp`
  if (slice * CHUNK_SLOTS >= position && warp < group) tell(best, total);
  float sums[GROUP] = {};
#pragma unroll 1
  for (int chunk = slice; chunk * CHUNK_SLOTS < position; chunk += slices) {
    const bool last = (chunk + slices) * CHUNK_SLOTS >= position;
#pragma unroll
    for (int head = 0; head < GROUP; head++) {
      float dots[CHUNK_PAGES] = {};
#pragma unroll
      for (int share = 0; share < DIM_SHARE; share++) {
        const int index = thread / PAGE * DIM_SHARE + share;
        const float query = head < group && index < dim ? shared.query[head][index] : 0.0f;
#pragma unroll
        for (int each = 0; each < CHUNK_PAGES; each++) dots[each] = __fmaf_rn(query, value_of(held.keys[each][share]), dots[each]);
      }
#pragma unroll
      for (int each = 0; each < CHUNK_PAGES; each++) {
        dots[each] += __shfl_xor_sync(ALL, dots[each], PAGE);
        if (lane < PAGE) shared.dots[warp][head][each * PAGE + lane] = dots[each];
      }
    }
    if (!last) held.load_keys(heads, page, shared.pages, kv_head, chunk + slices, position);
    __syncthreads();
    if (warp < group) {
      float scores[CHUNK_SLOTS / WARP];
      float top = best;
#pragma unroll
      for (int each = 0; each < CHUNK_SLOTS / WARP; each++) {
        float dot = 0.0f;
#pragma unroll
        for (int part = 0; part < DECODE_WARPS; part++) dot += shared.dots[part][warp][each * WARP + lane];
        scores[each] = chunk * CHUNK_SLOTS + each * WARP + lane < position ? dot * scale + held.biases[each] : -INFINITY;
        top = scores[each] > top ? scores[each] : top;
      }
      top = warp_max(top);
      const float fade = best == -INFINITY ? 0.0f : expf(best - top);
      float weight = 0.0f;
#pragma unroll
      for (int each = 0; each < CHUNK_SLOTS / WARP; each++) {
        const float its = scores[each] == -INFINITY ? 0.0f : expf(scores[each] - top);
        shared.weights[warp][each * WARP + lane] = its;
        weight += its;
      }
      total = total * fade + warp_sum(weight);
      best = top;
      if (lane == 0) shared.fade[warp] = fade;
      if (last) tell(best, total);
    }
    __syncthreads();
    float fades[GROUP];
#pragma unroll
    for (int head = 0; head < GROUP; head++) fades[head] = head < group ? shared.fade[head] : 0.0f;
#pragma unroll
    for (int head = 0; head < GROUP; head++) sums[head] *= fades[head];
#pragma unroll
    for (int each = 0; each < CHUNK_PAGES; each++)
#pragma unroll
      for (int quad = 0; quad < PAGE / 8; quad++) {
        const int at = each * PAGE + side * (PAGE / 2) + 4 * quad;
        float values[4];
#pragma unroll
        for (int slot = 0; slot < 4; slot++)  // from the token's own slot on nobody stands there yet
          values[slot] = chunk * CHUNK_SLOTS + at + slot < position ? value_of(held.values[each][4 * quad + slot]) - own_value : 0.0f;
#pragma unroll
        for (int head = 0; head < GROUP; head++) {
          const float4 four = *reinterpret_cast<const float4*>(&shared.weights[head][at]);
          sums[head] = __fmaf_rn(four.x, values[0], sums[head]);
          sums[head] = __fmaf_rn(four.y, values[1], sums[head]);
          sums[head] = __fmaf_rn(four.z, values[2], sums[head]);
          sums[head] = __fmaf_rn(four.w, values[3], sums[head]);
        }
      }
    if (!last) held.load_values(heads, page, shared.pages, kv_head, bias_head, chunk + slices, position);
  }
  if (side == 1) {
#pragma unroll
    for (int head = 0; head < GROUP; head++) shared.half[head][column] = sums[head];
  }
  __syncthreads();
#pragma unroll
  for (int head = 0; head < GROUP; head++)
    if (head < group && side == 0 && column < dim) emit(head, column, sums[head] + shared.half[head][column]);
}

/** One head's score of the token's own key, by one warp: tell(score) in all its lanes. The first head of a key/value head also keeps the key,
 *  the value and the biases. It waits for the values of all heads by itself, pairs from heads.value_at of `qkv` on; four_each(parts) gives a lane's
 *  numbers of the query, the key and the value. The biases' double precision takes as long as a slice does. */
template <class Kept, class FourEach, class Tell>
__device__ __forceinline__ void keep(const Heads& heads, const RopeWeights& rope, const PageShape& page, const Pair* qkv, int head, int position, unsigned epoch,
                                     const DecodeShared& shared, FourEach four_each, Tell tell) {
  const int lane = own_thread() % WARP;
  const int dim = heads.head_dim;
  const int half = dim / 2;
  const int kv_head = head / (heads.heads / heads.kv_heads);
  const int bias_head = head / (heads.heads / heads.bias_heads);
  const int keys = heads.kv_heads * dim;  // what stands behind them is 0
  constexpr int FOURS = 4;
  float dot = 0.0f;
#pragma unroll 1
  for (int start = lane * 4; start < keys; start += FOURS * WARP * 4) {
    float4 rows[FOURS];
    const Pair* from[2 * FOURS];
    unsigned wanted = 0;
#pragma unroll
    for (int each = 0; each < FOURS; each++) {
      const int column = start + each * WARP * 4;
      const int safe = column < keys ? column : start;
      rows[each] = Format<Type::F32>::fetch(rope.delta, static_cast<size_t>(bias_head), safe);
      from[2 * each] = qkv + heads.value_at + safe;
      from[2 * each + 1] = from[2 * each] + 2;
      wanted |= column < keys ? 3u << 2 * each : 0u;
    }
    uint2 numbers[2 * FOURS];
    await(numbers, from, epoch, wanted);
#pragma unroll
    for (int each = 0; each < FOURS; each++)
      if (wanted >> 2 * each & 1)
        dot = plus_four(dot, {number(numbers[2 * each].x), number(numbers[2 * each].y), number(numbers[2 * each + 1].x), number(numbers[2 * each + 1].y)},
                        rows[each]);
  }
  const float bias = bias_of(warp_sum(dot), rope, bias_head);

  // A lane's four numbers of the query, the key and the value.
  const int index = 2 * lane;
  float parts[3][4] = {};
  four_each(parts);
  turn(parts[0], rope.query_norm, rope.epsilon, dim, shared);
  turn(parts[1], rope.key_norm, rope.epsilon, dim, shared);
  float score = 0.0f;
#pragma unroll
  for (int each = 0; each < 4; each++) score = __fmaf_rn(parts[0][each], as_kept<Kept>(parts[1][each]), score);
  score = warp_sum(score) / sqrtf(static_cast<float>(dim)) + bias;
  tell(score);

  float* const layer = layer_of(page, shared.pages[position / PAGE]);
  Kept* const to = kept_in<Kept>(layer);
  const int slot = position % PAGE;
  if (lane == 0) keep_number(&layer[page.biases_at + bias_head * PAGE + slot], bias);
  if (head % (heads.heads / heads.kv_heads) != 0 || index >= half) return;
#pragma unroll
  for (int each = 0; each < 4; each++) {
    const int row = index + each % 2 + each / 2 * half;
    keep_number(&to[(kv_head * dim + row) * PAGE + slot], kept_of<Kept>(parts[1][each]));
    keep_number(&to[page.values_at + (kv_head * PAGE + slot) * dim + row], kept_of<Kept>(parts[2][each]));
  }
}

}  // namespace doge
