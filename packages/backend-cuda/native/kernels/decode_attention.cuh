// decode_attention: the attention of a decoding step inside the one launch of decode_kernel (decode.cuh): slices of the keys before the step's
// token, each by a block, and the token's own key by a warp. The slices become one where the output is multiplied.
//
// Source: as attention.cuh; splitting keys over blocks as flash-decoding does (Dao et al., 2023).
#pragma once
#include "decode_plan.cuh"

namespace doge {

/** Keys and values of a chunk of slots, as the threads of a block share them. */
struct Chunk {
  float keys[CHUNK_PAGES][DIM_SHARE];   // of slot thread % 16 of each page: numbers from thread / 16 * DIM_SHARE on
  float values[CHUNK_PAGES][PAGE / 2];  // number thread % 128 of half of each page's slots
  float biases[CHUNK_SLOTS / WARP];     // of head `warp`, of slots lane, lane + 32

  /** Whatever stands in slots from `position` on. Head `bias_head` of the biases. */
  __device__ __forceinline__ void load(const Heads& heads, const PageShape& page, const int* pages, int head, int bias_head, int chunk, int position) {
    const int thread = own_thread();
    const int dim = heads.head_dim;
    const int last = position / PAGE;
    const float* layers[CHUNK_PAGES];
#pragma unroll
    for (int each = 0; each < CHUNK_PAGES; each++) layers[each] = layer_of(page, pages[min(chunk * CHUNK_PAGES + each, last)]);
    const int row = thread / PAGE * DIM_SHARE;
#pragma unroll
    for (int each = 0; each < CHUNK_PAGES; each++)
#pragma unroll
      for (int share = 0; share < DIM_SHARE; share++)
        keys[each][share] = layers[each][(head * dim + min(row + share, dim - 1)) * PAGE + thread % PAGE];
#pragma unroll
    for (int each = 0; each < CHUNK_SLOTS / WARP; each++) {
      const int slot = each * WARP + thread % WARP;
      biases[each] = layer_of(page, pages[min(chunk * CHUNK_PAGES + slot / PAGE, last)])[page.biases_at + bias_head * PAGE + slot % PAGE];
    }
    const int column = min(thread % DECODE_DIM, dim - 1);
#pragma unroll
    for (int each = 0; each < CHUNK_PAGES; each++)
#pragma unroll
      for (int slot = 0; slot < PAGE / 2; slot++)
        values[each][slot] = layers[each][page.values_at + (head * PAGE + thread / DECODE_DIM * (PAGE / 2) + slot) * dim + column];
  }
};

/** One block's slice of the attention to the keys before a step's token, for the heads of one key/value head: scores, softmax and
 *  weighted values, published. The sums are of value[j] - own, as in attention_kernel. */
__device__ __forceinline__ void attend(const Decoding& of, const Heads& heads, const RopeWeights& rope, const PageShape& page, int kv_head, int slice, int position,
                                       unsigned epoch, DecodeShared& shared) {
  const int thread = own_thread();
  const int lane = thread % WARP;
  const int warp = own_warp();
  const int dim = heads.head_dim;
  const int group = heads.heads / heads.kv_heads;
  const int bias_head = (kv_head * group + min(warp, group - 1)) / (heads.heads / heads.bias_heads);
  Chunk held;
  held.load(heads, page, shared.pages, kv_head, bias_head, slice, position);
  {
    // Its heads' queries and the token's own value, one pair a thread.
    const int queries = group * dim;
    const int index = 2 * thread;
    const bool is_query = index < queries;
    const bool wanted = index < queries + dim;
    const Pair* const from[1] = {of.between.qkv + (is_query ? kv_head * queries + index : wanted ? heads.value_at + kv_head * dim + index - queries : 0)};
    uint2 numbers[1];
    await(numbers, from, epoch, wanted ? 1 : 0);
    if (wanted) {
      float* const to = is_query ? &shared.query[index / dim][index % dim] : &shared.value[index - queries];
      to[0] = number(numbers[0].x);
      to[1] = number(numbers[0].y);
    }
  }
  __syncthreads();
  if (warp < group) {
    float* const x = shared.query[warp];
    const int half = dim / 2;
    float scale = 1.0f;
    if (rope.query_norm != nullptr) {
      float squares = 0.0f;
      for (int index = lane; index < dim; index += WARP) squares = __fmaf_rn(x[index], x[index], squares);
      scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + rope.epsilon);
    }
    for (int index = lane; index < half; index += WARP) rotate(x, index, half, rope.query_norm, scale, shared.cosine[index], shared.sine[index]);
  }
  __syncthreads();

  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  const int column = thread % DECODE_DIM;
  const int side = thread / DECODE_DIM;
  const float own_value = shared.value[column < dim ? column : 0];
  float best = -INFINITY, total = 0.0f;  // of head `warp`
  float sums[DECODE_GROUP] = {};
#pragma unroll 1
  for (int chunk = slice; chunk * CHUNK_SLOTS < position; chunk += of.slices) {
    if (chunk != slice) held.load(heads, page, shared.pages, kv_head, bias_head, chunk, position);
#pragma unroll
    for (int head = 0; head < DECODE_GROUP; head++) {
      float dots[CHUNK_PAGES] = {};
#pragma unroll
      for (int share = 0; share < DIM_SHARE; share++) {
        const int index = thread / PAGE * DIM_SHARE + share;
        const float query = head < group && index < dim ? shared.query[head][index] : 0.0f;
#pragma unroll
        for (int each = 0; each < CHUNK_PAGES; each++) dots[each] = __fmaf_rn(query, held.keys[each][share], dots[each]);
      }
#pragma unroll
      for (int each = 0; each < CHUNK_PAGES; each++) {
        dots[each] += __shfl_xor_sync(ALL, dots[each], PAGE);
        if (lane < PAGE) shared.dots[warp][head][each * PAGE + lane] = dots[each];
      }
    }
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
    }
    __syncthreads();
    float fades[DECODE_GROUP];
#pragma unroll
    for (int head = 0; head < DECODE_GROUP; head++) fades[head] = head < group ? shared.fade[head] : 0.0f;
#pragma unroll
    for (int head = 0; head < DECODE_GROUP; head++) sums[head] *= fades[head];
#pragma unroll
    for (int each = 0; each < CHUNK_PAGES; each++)
#pragma unroll
      for (int quad = 0; quad < PAGE / 8; quad++) {
        const int at = each * PAGE + side * (PAGE / 2) + 4 * quad;
        float values[4];
#pragma unroll
        for (int slot = 0; slot < 4; slot++)  // from the token's own slot on nobody stands there yet
          values[slot] = chunk * CHUNK_SLOTS + at + slot < position ? held.values[each][4 * quad + slot] - own_value : 0.0f;
#pragma unroll
        for (int head = 0; head < DECODE_GROUP; head++) {
          const float4 four = *reinterpret_cast<const float4*>(&shared.weights[head][at]);
          sums[head] = __fmaf_rn(four.x, values[0], sums[head]);
          sums[head] = __fmaf_rn(four.y, values[1], sums[head]);
          sums[head] = __fmaf_rn(four.z, values[2], sums[head]);
          sums[head] = __fmaf_rn(four.w, values[3], sums[head]);
        }
      }
  }
  if (side == 1) {
#pragma unroll
    for (int head = 0; head < DECODE_GROUP; head++) shared.half[head][column] = sums[head];
  }
  __syncthreads();
  Pair* const parts = of.between.parts + (kv_head * of.slices + slice) * group * (dim + 2);
#pragma unroll
  for (int head = 0; head < DECODE_GROUP; head++)
    if (head < group && side == 0 && column < dim) publish(parts + head * (dim + 2) + column, sums[head] + shared.half[head][column], epoch);
  if (warp < group && lane < 2) publish(parts + warp * (dim + 2) + dim + lane, lane == 0 ? best : total, epoch);
}

/** One head's score of the token's own key, published, by one warp, which waits for what it needs by itself. The first head of a
 *  key/value head also keeps the key, the value and the biases. The biases' double precision takes as long as a slice does. */
__device__ __forceinline__ void keep(const Decoding& of, const Heads& heads, const RopeWeights& rope, const PageShape& page, int head, int position, unsigned epoch,
                                     const DecodeShared& shared) {
  const int lane = own_thread() % WARP;
  const int dim = heads.head_dim;
  const int half = dim / 2;
  const int kv_head = head / (heads.heads / heads.kv_heads);
  const int bias_head = head / (heads.heads / heads.bias_heads);
  constexpr int FOURS = 4;
  float dot = 0.0f;
#pragma unroll 1
  for (int start = lane * 4; start < rope.delta.stride; start += FOURS * WARP * 4) {
    float4 rows[FOURS];
    const Pair* from[2 * FOURS];
    unsigned wanted = 0;
#pragma unroll
    for (int each = 0; each < FOURS; each++) {
      const int column = start + each * WARP * 4;
      const int safe = column < rope.delta.stride ? column : start;
      rows[each] = Format<Type::F32>::fetch(rope.delta, static_cast<size_t>(bias_head), safe);
      from[2 * each] = of.between.qkv + heads.value_at + safe;
      from[2 * each + 1] = from[2 * each] + 2;
      wanted |= column < rope.delta.stride ? 3u << 2 * each : 0u;
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

  // Numbers 2 lane, 2 lane + 1 and those half a head behind: of the query, the key and the value.
  const int index = 2 * lane;
  const Pair* from[6];
#pragma unroll
  for (int part = 0; part < 3; part++) {
    from[2 * part] = of.between.qkv + (part == 0 ? head * dim : (part == 1 ? heads.key_at : heads.value_at) + kv_head * dim) + (index < half ? index : 0);
    from[2 * part + 1] = from[2 * part] + half;
  }
  uint2 numbers[6];
  await(numbers, from, epoch, index < half ? 63 : 0);
  float score = 0.0f;
  float parts[3][4] = {};
  if (index < half)
#pragma unroll
    for (int part = 0; part < 3; part++)
#pragma unroll
      for (int each = 0; each < 4; each++) parts[part][each] = number(each % 2 == 0 ? numbers[2 * part + each / 2].x : numbers[2 * part + each / 2].y);
#pragma unroll
  for (int part = 0; part < 2; part++) {
    const float* const weight = part == 0 ? rope.query_norm : rope.key_norm;
    float(&x)[4] = parts[part];
    if (weight != nullptr) {
      float squares = 0.0f;
#pragma unroll
      for (int each = 0; each < 4; each++) squares = __fmaf_rn(x[each], x[each], squares);
      const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + rope.epsilon);
      if (index < half)
#pragma unroll
        for (int each = 0; each < 4; each++) x[each] = weight[index + each % 2 + each / 2 * half] * (x[each] * scale);
    }
    if (index >= half) continue;
#pragma unroll
    for (int each = 0; each < 2; each++) {
      const float first = x[each], second = x[each + 2];
      const float cosine = shared.cosine[index + each], sine = shared.sine[index + each];
      x[each] = first * cosine - second * sine;
      x[each + 2] = second * cosine + first * sine;
    }
  }
#pragma unroll
  for (int each = 0; each < 4; each++) score = __fmaf_rn(parts[0][each], parts[1][each], score);
  score = warp_sum(score) / sqrtf(static_cast<float>(dim)) + bias;
  if (lane == 0) publish(of.between.scores + 2 * head, score, epoch);

  float* const layer = layer_of(page, shared.pages[position / PAGE]);
  const int slot = position % PAGE;
  if (lane == 0) layer[page.biases_at + bias_head * PAGE + slot] = bias;
  if (head % (heads.heads / heads.kv_heads) != 0 || index >= half) return;
#pragma unroll
  for (int each = 0; each < 4; each++) {
    const int row = index + each % 2 + each / 2 * half;
    layer[(kv_head * dim + row) * PAGE + slot] = parts[1][each];
    layer[page.values_at + (kv_head * PAGE + slot) * dim + row] = parts[2][each];
  }
}

}  // namespace doge
