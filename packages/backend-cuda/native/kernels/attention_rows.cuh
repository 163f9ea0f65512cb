// attention of a step of many rows: a block takes all query heads of one key/value head of one token, so that each key and value is
// read once, and its warps a page at a time, whose keys and values they read in the order in which they stand there.
#pragma once
#include "attention.cuh"

namespace doge {

constexpr int ROWS_THREADS = 128;
/** Heads that are taken: of up to this many numbers, and a multiple of 4. */
constexpr int ROWS_HEAD = 128;

/** As attention_kernel without a window, whose sums these are up to their order: over value[j] - own, pages in turn over the warps. Grid (tokens, kv_heads);
 *  GROUP query heads for each of those. Into `mixed` (tokens, mixed_stride), or `halves` unless
 *  that is null. */
template <class Kept, int GROUP>
__global__ void __launch_bounds__(ROWS_THREADS, std::is_same_v<Kept, Half> ? 3 : 2)
    attention_rows_kernel(float* mixed, unsigned short* halves, int mixed_stride, const float* qkv, const int* positions, const int* rows,
                          const RowState* states, const int* call_pages, PageShape page, Heads shape) {
  await_earlier();
  constexpr int WARPS = ROWS_THREADS / WARP;
  /** Stretches of four numbers of a page's keys that a lane reads. */
  constexpr int MINE = ROWS_HEAD * PAGE / 4 / WARP;
  using Four = FourKept<Kept>;
  /** Values that are on their way at once. Where that is all of a page's, they come with the keys. */
  constexpr int TOGETHER = 128 / static_cast<int>(sizeof(Four));
  __shared__ float sums[WARPS][GROUP][ROWS_HEAD];
  __shared__ float highest[WARPS][GROUP], totals[WARPS][GROUP];
  const size_t token = blockIdx.x;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int position = positions[token];
  if (position < 0) return;
  const int warp = static_cast<int>(threadIdx.x) / WARP;
  const int lane = static_cast<int>(threadIdx.x) % WARP;
  const int dim = shape.head_dim;
  const int* const pages = call_pages + states[rows[token]].first_page;
  const int slots = position + 1;
  const float* const row = qkv + token * static_cast<size_t>(shape.qkv_stride);
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));

  // A page's keys are stretches of four slots: lane l reads stretches l, l + 32, ..., which are slots 4 (l % 4).. of every eighth number.
  float query[GROUP][MINE];
#pragma unroll
  for (int head = 0; head < GROUP; head++)
#pragma unroll
    for (int each = 0; each < MINE; each++) {
      const int index = lane / 4 + 8 * each;
      query[head][each] = index < dim ? row[(kv_head * GROUP + head) * dim + index] : 0.0f;
    }
  // Of a slot's value it holds four numbers.
  const bool holds = 4 * lane < dim;
  Four own_kept = four_as_kept<Kept>({0.0f, 0.0f, 0.0f, 0.0f});
  if (holds) own_kept = four_as_kept<Kept>(*reinterpret_cast<const float4*>(row + shape.value_at + kv_head * dim + 4 * lane));
  const float4 own = values_of(own_kept);

  float best[GROUP], total[GROUP], held[GROUP][4];
#pragma unroll
  for (int head = 0; head < GROUP; head++) {
    best[head] = -INFINITY;
    total[head] = 0.0f;
    held[head][0] = held[head][1] = held[head][2] = held[head][3] = 0.0f;
  }
  for (int number = warp; number * PAGE < slots; number += WARPS) {
    float* const layer = layer_of(page, pages[number]);
    const Kept* const keys = kept_in<Kept>(layer) + kv_head * dim * PAGE;
    const Kept* const values = kept_in<Kept>(layer) + page.values_at + kv_head * dim * PAGE + 4 * lane;
    const int slot = number * PAGE + lane % PAGE;
    const bool seen = slot < slots;
    // What stands in a slot that is not seen may be no number.
    const unsigned visible = __ballot_sync(ALL, seen);
    Four its[MINE], value[TOGETHER];
#pragma unroll
    for (int each = 0; each < MINE; each++) {
      const int stretch = lane + WARP * each;
      its[each] = stretch < 4 * dim ? four_kept(keys + 4 * stretch) : four_as_kept<Kept>({0.0f, 0.0f, 0.0f, 0.0f});
    }
    const auto bring_values = [&](int first) {
#pragma unroll
      for (int each = 0; each < TOGETHER; each++) value[each] = holds && (visible >> (first + each) & 1) != 0 ? four_kept(values + (first + each) * dim) : own_kept;
    };
    if constexpr (TOGETHER == PAGE) bring_values(0);
    // What lane l has of slots 4 (l % 4).., then the sum of it over the eight lanes that have those, then one slot for each lane of 16.
    float four[GROUP][4] = {}, score[GROUP];
#pragma unroll
    for (int each = 0; each < MINE; each++) {
      const float4 key = values_of(its[each]);
#pragma unroll
      for (int head = 0; head < GROUP; head++) {
        four[head][0] = __fmaf_rn(query[head][each], key.x, four[head][0]);
        four[head][1] = __fmaf_rn(query[head][each], key.y, four[head][1]);
        four[head][2] = __fmaf_rn(query[head][each], key.z, four[head][2]);
        four[head][3] = __fmaf_rn(query[head][each], key.w, four[head][3]);
      }
    }
#pragma unroll
    for (int head = 0; head < GROUP; head++) {
#pragma unroll
      for (int mask = 4; mask < WARP; mask *= 2)
#pragma unroll
        for (int part = 0; part < 4; part++) four[head][part] += __shfl_xor_sync(ALL, four[head][part], mask);
      // Lane l takes slot l % 16: part l % 4 of lane l / 4 % 4.
      score[head] = -INFINITY;
#pragma unroll
      for (int part = 0; part < 4; part++) {
        const float found = __shfl_sync(ALL, four[head][part], lane / 4 % 4);
        if (lane % 4 == part) score[head] = found;
      }
    }
    bool any = false;
#pragma unroll
    for (int head = 0; head < GROUP; head++) {
      const int bias_head = (kv_head * GROUP + head) / (shape.heads / shape.bias_heads);
      score[head] = seen ? score[head] * scale + layer[page.biases_at + bias_head * PAGE + lane % PAGE] : -INFINITY;
      const float top = warp_max(score[head]);
      if (top == -INFINITY) {
        score[head] = 0.0f;
        continue;
      }
      any = true;
      const float next = top > best[head] ? top : best[head];
      const float fade = best[head] == -INFINITY ? 0.0f : expf(best[head] - next);
      score[head] = score[head] == -INFINITY ? 0.0f : expf(score[head] - next);  // the slot's weight
      best[head] = next;
      total[head] = total[head] * fade + (lane < PAGE ? score[head] : 0.0f);
#pragma unroll
      for (int part = 0; part < 4; part++) held[head][part] *= fade;
    }
    if (!any) continue;
#pragma unroll
    for (int part = 0; part < PAGE; part += TOGETHER) {
      if constexpr (TOGETHER < PAGE) bring_values(part);
#pragma unroll
      for (int each = 0; each < TOGETHER; each++) {
        const float4 four = values_of(value[each]);
#pragma unroll
        for (int head = 0; head < GROUP; head++) {
          const float weight = __shfl_sync(ALL, score[head], part + each);
          held[head][0] = __fmaf_rn(weight, four.x - own.x, held[head][0]);
          held[head][1] = __fmaf_rn(weight, four.y - own.y, held[head][1]);
          held[head][2] = __fmaf_rn(weight, four.z - own.z, held[head][2]);
          held[head][3] = __fmaf_rn(weight, four.w - own.w, held[head][3]);
        }
      }
    }
  }
  let_next_come();
#pragma unroll
  for (int head = 0; head < GROUP; head++) {
    total[head] = warp_sum(total[head]);
#pragma unroll
    for (int part = 0; part < 4; part++) sums[warp][head][4 * lane + part] = held[head][part];
    if (lane == 0) {
      highest[warp][head] = best[head];
      totals[warp][head] = total[head];
    }
  }
  __syncthreads();
#pragma unroll
  for (int head = 0; head < GROUP; head++) {
    float top = highest[0][head];
    for (int each = 1; each < WARPS; each++) top = highest[each][head] > top ? highest[each][head] : top;
    float all = 0.0f;
    float fades[WARPS];
    for (int each = 0; each < WARPS; each++) {
      fades[each] = highest[each][head] == -INFINITY ? 0.0f : expf(highest[each][head] - top);
      all += totals[each][head] * fades[each];
    }
    const int at = (kv_head * GROUP + head) * dim;
    for (int index = static_cast<int>(threadIdx.x); index < dim; index += ROWS_THREADS) {
      float sum = 0.0f;
      for (int each = 0; each < WARPS; each++) sum += sums[each][head][index] * fades[each];
      const float result = as_kept<Kept>(row[shape.value_at + kv_head * dim + index]) + sum / all;
      const size_t to = token * static_cast<size_t>(mixed_stride) + static_cast<size_t>(at + index);
      if (halves == nullptr)
        mixed[to] = result;
      else
        halves[to] = half_of(result);
    }
  }
}

/** Whether heads like these are taken. */
inline bool attends_by_rows(const Heads& shape) {
  const int group = shape.heads / shape.kv_heads;
  return group <= 2 && shape.head_dim <= ROWS_HEAD && shape.head_dim % 4 == 0;
}

/** The launch for some tokens. */
inline void attention_rows(Device& device, int count, float* mixed, unsigned short* halves, int mixed_stride, const float* qkv, const int* positions,
                           const int* rows, const RowState* states, const int* call_pages, const PageShape& page, const Heads& shape) {
  const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>(shape.kv_heads));
  const auto launch = [&](auto kernel) {
    device.launch(kernel, grid, ROWS_THREADS, mixed, halves, mixed_stride, qkv, positions, rows, states, call_pages, page, shape);
  };
  if (shape.heads == shape.kv_heads)
    launch(page.halves ? attention_rows_kernel<Half, 1> : attention_rows_kernel<float, 1>);
  else
    launch(page.halves ? attention_rows_kernel<Half, 2> : attention_rows_kernel<float, 2>);
}

}  // namespace doge
