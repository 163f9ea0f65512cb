// attention: keeps the new keys under the dynamic mask, then scores, softmax and the weighted sum of values.
//
// How they stand there: pages.cuh. Without a window the store is rope's.
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
#pragma once
#include "kept.cuh"

namespace doge {

/** Tokens of one row that follow each other in a group. */
struct Run {
  int first;
  int count;
};

constexpr int KEEP_THREADS = 256;
constexpr int STORE_THREADS = 64;
constexpr int ATTENTION_THREADS = 128;
/** Numbers of a head that a lane may hold: heads of up to 256. */
constexpr int HELD = 8;

/** With a window: choose the slot of every token of a run and evict what no longer is among the greatest W in (bias, position) order: at
 *  once for the tokens that come before W, which evict nothing and mostly find slots of their own, then token by token. Grid (runs, kv_heads). slots (tokens, kv_heads), written; bias (tokens, stride). */
__global__ void keep_kernel(int* slots, const float* bias, const Run* runs, const int* positions, const int* rows,
                            const RowState* states, const int* call_pages, PageShape page, Heads shape) {
  await_earlier();
  __shared__ int best_slot[KEEP_THREADS / WARP];
  __shared__ unsigned long long best_key[KEEP_THREADS / WARP];
  const Run run = runs[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  if (positions[run.first] < 0) return;
  const RowState& state = states[rows[run.first]];
  const int* const pages = call_pages + state.first_page;
  const int most = page.window + JOURNAL;
  const auto put = [&](int token, int position, int slot) {
    *meta_of(page, pages, slot, page.positions_at, head) = position;
    *meta_of(page, pages, slot, page.evicted_at, head) = NOBODY;
    layer_of(page, pages[slot / PAGE])[page.biases_at + head * PAGE + slot % PAGE] =
        bias[static_cast<size_t>(token) * static_cast<size_t>(shape.delta_stride) + static_cast<size_t>(head)];
    slots[token * shape.kv_heads + head] = slot;
  };
  const int start = positions[run.first];
  int early = min(run.count, max(0, page.window - start));
  for (int each = thread; each < early; each += KEEP_THREADS)
    if (*meta_of(page, pages, start + each, page.positions_at, head) != NOBODY) early = each;
  early = -block_max(-early, best_slot);
  for (int each = thread; each < early; each += KEEP_THREADS) put(run.first + each, start + each, start + each);
  __syncthreads();
  for (int token = run.first + early; token < run.first + run.count; token++) {
    const int position = positions[token];
    // A slot of its own while there are fresh ones, else a free one or one that the journal has done with.
    int slot = -1;
    if (position < most && *meta_of(page, pages, position, page.positions_at, head) == NOBODY) slot = position;
    if (slot < 0) {
      const int used = min(most, max(state.reach, position));
      int found = most;
      for (int candidate = thread; candidate < used && found == most; candidate += KEEP_THREADS) {
        const int by = *meta_of(page, pages, candidate, page.evicted_at, head);
        const bool free = *meta_of(page, pages, candidate, page.positions_at, head) == NOBODY;
        if (free || (by != NOBODY && by <= position - JOURNAL)) found = candidate;
      }
      slot = -block_max(-found, best_slot);
    }
    __syncthreads();
    if (thread == 0) put(token, position, slot);
    __syncthreads();
    if (position >= page.window) {
      const int used = min(most, max(state.reach, position + 1));
      unsigned long long least = 0;  // the complement of the least key: 0 is none
      int least_slot = -1;
      for (int candidate = thread; candidate < used; candidate += KEEP_THREADS) {
        const int own = *meta_of(page, pages, candidate, page.positions_at, head);
        if (own == NOBODY || *meta_of(page, pages, candidate, page.evicted_at, head) != NOBODY) continue;
        const float its = layer_of(page, pages[candidate / PAGE])[page.biases_at + head * PAGE + candidate % PAGE];
        const unsigned long long key = ~(static_cast<unsigned long long>(ordered(its)) << 32 | static_cast<unsigned>(own));
        if (key > least) {
          least = key;
          least_slot = candidate;
        }
      }
      const unsigned long long chosen = block_max(least, best_key);
      // Positions differ, so only one thread has it.
      if (least == chosen && least_slot >= 0) *meta_of(page, pages, least_slot, page.evicted_at, head) = position;
      __syncthreads();
    }
  }
}

/** Copies each token's keys, values and biases into its slot. Grid (tokens, kv_heads). slots: null where slot = position. */
__global__ void store_kernel(const float* qkv, const float* bias, const int* slots, const int* positions, const int* rows,
                             const RowState* states, const int* call_pages, PageShape page, Heads shape) {
  await_earlier();
  const size_t token = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y);
  const int position = positions[token];
  if (position < 0) return;
  const int slot = slots == nullptr ? position : slots[token * static_cast<size_t>(shape.kv_heads) + static_cast<size_t>(head)];
  float* const layer = layer_of(page, call_pages[states[rows[token]].first_page + slot / PAGE]);
  const int lane = slot % PAGE;
  const float* const row = qkv + token * static_cast<size_t>(shape.qkv_stride);
  const float* const key = row + shape.key_at + head * shape.head_dim;
  const float* const value = row + shape.value_at + head * shape.head_dim;
  const int start = head * shape.head_dim * PAGE;
  for (int index = static_cast<int>(threadIdx.x); index < shape.head_dim; index += STORE_THREADS) {
    put_kept(layer, page, start + index * PAGE + lane, key[index]);
    put_kept(layer, page, page.values_at + start + lane * shape.head_dim + index, value[index]);
  }
  const int shared = shape.bias_heads / shape.kv_heads;
  for (int each = static_cast<int>(threadIdx.x); each < shared; each += STORE_THREADS) {
    const int which = head * shared + each;
    layer[page.biases_at + which * PAGE + lane] = bias[token * static_cast<size_t>(shape.delta_stride) + static_cast<size_t>(which)];
  }
}

/** How many slices there are, and where they meet if several blocks share them: for each of (tokens, heads, slices) the greatest score, the
 *  sum of the weights and those of the values; and how many blocks have come, 0 between launches. */
struct Slices {
  int count;
  float* sums;  // (tokens, heads, slices, head_dim + 2)
  int* come;    // (tokens, heads)
};
/** Slots that the warps of a block take in one turn; most slices of a token. */
constexpr int SLICE = ATTENTION_THREADS;
constexpr int MOST_SLICES = 16;

/** The most slices that up to `slots` slots are cut into. */
inline int most_slices_of(int slots) { return std::min((slots + SLICE - 1) / SLICE, MOST_SLICES); }
/** How many of them leave no processor without work. */
inline int slices_of(int processors, int tokens, int heads, int slots) { return std::max(1, std::min(processors / (tokens * heads), most_slices_of(slots))); }

/** score[j] = query . key[j] / sqrt(head_dim) + bias[j]; out = sum_j softmax(score)[j] value[j]. Grid (tokens, heads, blocks): each has one
 *  slice, or fewer blocks take them in turn. The warps of all slices take 32 slots each in turn; their sums are merged in the order of the
 *  warps, then, by the block that comes last, in the order of the slices: so their number alone says in which order is summed, not that of
 *  the blocks.
 *
 *  The sum is taken over value[j] - own, with own the token's value as it is kept, and own added at the end. So a text that begins with one
 *  token several times reads exactly that token's value each time, as it does in exact arithmetic: its keys then tie in the next
 *  layer too, and the window keeps the one that the definition keeps. `halves`, unless null, gets the result in place of `mixed`. */
template <class Kept>
__global__ void attention_kernel(float* mixed, int mixed_stride, const float* qkv, const int* positions, const int* rows,
                                 const RowState* states, const int* call_pages, PageShape page, Heads shape, Slices slices, unsigned short* halves) {
  await_earlier();
  constexpr int WARPS = ATTENTION_THREADS / WARP;
  /** Numbers of a head that a thread merges. */
  constexpr int MINE = (WARP * HELD + ATTENTION_THREADS - 1) / ATTENTION_THREADS;
  __shared__ bool is_last;
  __shared__ float query[WARP * HELD];
  __shared__ float weights[WARPS][WARP];
  __shared__ float sums[WARPS][WARP * HELD];
  __shared__ float highest[WARPS], totals[WARPS];
  const size_t token = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y);
  const int position = positions[token];
  if (position < 0) return;
  const int warp = static_cast<int>(threadIdx.x) / WARP;
  const int lane = static_cast<int>(threadIdx.x) % WARP;
  const int dim = shape.head_dim;
  const int kv_head = head / (shape.heads / shape.kv_heads);
  const int bias_head = head / (shape.heads / shape.bias_heads);
  const RowState& state = states[rows[token]];
  const int* const pages = call_pages + state.first_page;
  const int slots = page.window == 0 ? position + 1 : min(page.window + JOURNAL, max(state.reach, position + 1));
  const float* const from = qkv + token * static_cast<size_t>(shape.qkv_stride) + head * dim;
  for (int index = static_cast<int>(threadIdx.x); index < dim; index += ATTENTION_THREADS) query[index] = from[index];
  __syncthreads();

  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  const float* const own_value = qkv + token * static_cast<size_t>(shape.qkv_stride) + shape.value_at + kv_head * dim;
  float own[HELD];
#pragma unroll
  for (int part = 0; part < HELD; part++) own[part] = part * WARP + lane < dim ? as_kept<Kept>(own_value[part * WARP + lane]) : 0.0f;
  const int count = slices.count;
  const bool alone = gridDim.z == 1;
  const size_t pair = token * static_cast<size_t>(shape.heads) + static_cast<size_t>(head);
  float* const parts = slices.sums + pair * static_cast<size_t>(count * (dim + 2));
  // The slices so far, each thread's numbers of them. One without keys changes nothing.
  float top = -INFINITY;
  float all = 0.0f;
  float merged[MINE] = {};
  const auto merge = [&](float its_top, float its_all, const float (&its)[MINE]) {
    const float next = its_top > top ? its_top : top;
    const float fade = top == -INFINITY ? 0.0f : expf(top - next);
    const float weight = its_top == -INFINITY ? 0.0f : expf(its_top - next);
    top = next;
    all = __fmaf_rn(its_all, weight, all * fade);
#pragma unroll
    for (int each = 0; each < MINE; each++) merged[each] = __fmaf_rn(its[each], weight, merged[each] * fade);
  };
  const auto index_of = [](int each) { return each * ATTENTION_THREADS + static_cast<int>(threadIdx.x); };
  for (int slice = static_cast<int>(blockIdx.z); slice < count; slice += static_cast<int>(gridDim.z)) {
    float best = -INFINITY;
    float total = 0.0f;
    float held[HELD] = {};
    for (int base = (slice * WARPS + warp) * WARP; base < slots; base += count * WARPS * WARP) {
      const int slot = base + lane;
      float score = -INFINITY;
      if (slot < slots) {
        float* const layer = layer_of(page, pages[slot / PAGE]);
        bool seen = true;
        if (page.window > 0) {
          const int* const words = reinterpret_cast<const int*>(layer);
          const int at = kv_head * PAGE + slot % PAGE;
          seen = words[page.positions_at + at] <= position && words[page.evicted_at + at] > position;
        }
        if (seen) {
          const Kept* const key = kept_in<Kept>(layer) + kv_head * dim * PAGE + slot % PAGE;
          float dot = 0.0f;
          for (int index = 0; index < dim; index++) dot = __fmaf_rn(query[index], value_of(key[index * PAGE]), dot);
          score = dot * scale + layer[page.biases_at + bias_head * PAGE + slot % PAGE];
        }
      }
      const float greatest = warp_max(score);
      if (greatest == -INFINITY) continue;
      const float next = greatest > best ? greatest : best;
      const float fade = best == -INFINITY ? 0.0f : expf(best - next);
      const float weight = score == -INFINITY ? 0.0f : expf(score - next);
      best = next;
      total = total * fade + weight;
      weights[warp][lane] = weight;
      __syncwarp();
#pragma unroll
      for (int part = 0; part < HELD; part++) held[part] *= fade;
      const int held_slots = min(WARP, slots - base);
      for (int each = 0; each < held_slots; each++) {
        const float its = weights[warp][each];
        if (its == 0.0f) continue;
        const Kept* const value = kept_in<Kept>(layer_of(page, pages[(base + each) / PAGE])) + page.values_at + kv_head * dim * PAGE +
                                  (base + each) % PAGE * dim;
#pragma unroll
        for (int part = 0; part < HELD; part++)
          if (part * WARP + lane < dim) held[part] = __fmaf_rn(its, value_of(value[part * WARP + lane]) - own[part], held[part]);
      }
      __syncwarp();
    }
    total = warp_sum(total);
#pragma unroll
    for (int part = 0; part < HELD; part++) sums[warp][part * WARP + lane] = held[part];
    if (lane == 0) {
      highest[warp] = best;
      totals[warp] = total;
    }
    __syncthreads();
    float its_top = highest[0];
    for (int each = 1; each < WARPS; each++) its_top = highest[each] > its_top ? highest[each] : its_top;
    float its_all = 0.0f;
    float fades[WARPS];
    for (int each = 0; each < WARPS; each++) {
      fades[each] = highest[each] == -INFINITY ? 0.0f : expf(highest[each] - its_top);
      its_all = __fmaf_rn(totals[each], fades[each], its_all);
    }
    float its[MINE] = {};
#pragma unroll
    for (int each = 0; each < MINE; each++)
      for (int of = 0; of < WARPS && index_of(each) < dim; of++) its[each] = __fmaf_rn(sums[of][index_of(each)], fades[of], its[each]);
    if (alone) {
      merge(its_top, its_all, its);
    } else {
      float* const part = parts + slice * (dim + 2);
#pragma unroll
      for (int each = 0; each < MINE; each++)
        if (index_of(each) < dim) part[2 + index_of(each)] = its[each];
      if (threadIdx.x == 0) {
        part[0] = its_top;
        part[1] = its_all;
      }
    }
    __syncthreads();
  }
  if (!alone) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(&slices.come[pair], 1) == static_cast<int>(gridDim.z) - 1;
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    // What other blocks wrote is read past this processor's own cache, all of it at once.
    const volatile float* const whole = parts;
    float tops[MOST_SLICES], alls[MOST_SLICES], its[MOST_SLICES][MINE];
#pragma unroll
    for (int each = 0; each < MOST_SLICES; each++) {
      const volatile float* const part = whole + each * (dim + 2);
      tops[each] = each < count ? part[0] : -INFINITY;
      alls[each] = each < count ? part[1] : 0.0f;
#pragma unroll
      for (int mine = 0; mine < MINE; mine++) its[each][mine] = each < count && index_of(mine) < dim ? part[2 + index_of(mine)] : 0.0f;
    }
#pragma unroll
    for (int each = 0; each < MOST_SLICES; each++) merge(tops[each], alls[each], its[each]);
    if (threadIdx.x == 0) slices.come[pair] = 0;
  }
  const size_t to = token * static_cast<size_t>(mixed_stride) + static_cast<size_t>(head * dim);
#pragma unroll
  for (int each = 0; each < MINE; each++) {
    const int index = index_of(each);
    if (index >= dim) continue;
    const float result = as_kept<Kept>(own_value[index]) + merged[each] / all;
    if (halves == nullptr)
      mixed[to + static_cast<size_t>(index)] = result;
    else
      halves[to + static_cast<size_t>(index)] = half_of(result);
  }
}

/** The launch for some tokens, each by so many blocks. */
inline void attention(Device& device, int count, int blocks, float* mixed, int mixed_stride, const float* qkv, const int* positions, const int* rows,
                      const RowState* states, const int* call_pages, const PageShape& page, const Heads& shape, const Slices& slices, unsigned short* halves) {
  const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>(shape.heads), static_cast<unsigned>(blocks));
  device.launch(page.halves ? attention_kernel<Half> : attention_kernel<float>, grid, ATTENTION_THREADS, mixed, mixed_stride, qkv, positions, rows, states,
                call_pages, page, shape, slices, halves);
}

/** Make pages empty: nobody in any slot. Grid (pages, layers). */
__global__ void clear_kernel(const int* list, PageShape page, Heads shape) {
  await_earlier();
  int* const words = reinterpret_cast<int*>(page.base + static_cast<size_t>(list[blockIdx.x]) * page.page_bytes +
                                            static_cast<size_t>(blockIdx.y) * page.layer_bytes);
  for (int index = static_cast<int>(threadIdx.x); index < shape.kv_heads * PAGE; index += static_cast<int>(blockDim.x)) {
    words[page.positions_at + index] = NOBODY;
    words[page.evicted_at + index] = NOBODY;
  }
}

/** Restore the state after the first `length` tokens: later keys are gone, and so is what later tokens evicted. */
__global__ void truncate_kernel(const int* list, int length, PageShape page, Heads shape) {
  await_earlier();
  int* const words = reinterpret_cast<int*>(page.base + static_cast<size_t>(list[blockIdx.x]) * page.page_bytes +
                                            static_cast<size_t>(blockIdx.y) * page.layer_bytes);
  for (int index = static_cast<int>(threadIdx.x); index < shape.kv_heads * PAGE; index += static_cast<int>(blockDim.x)) {
    if (words[page.positions_at + index] >= length) words[page.positions_at + index] = NOBODY;
    if (words[page.evicted_at + index] >= length) words[page.evicted_at + index] = NOBODY;
  }
}

}  // namespace doge
