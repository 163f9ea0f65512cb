// attention for many tokens of one row in half precision, on tensor cores, where no window drops keys: 64 queries of a head against
// the keys they see, with the running softmax of flash attention. Two groups of four warps take the keys in turn, 64 slots each, and
// are merged at the end: the last queries of a long prompt are what everyone waits for.
//
// The keys and values of the run itself are halves that rope has written beside the projections; those of earlier calls stand in
// pages as f32 and are rounded here.
//
// Source: Dao, FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning.
#pragma once
#include <cstdlib>
#include "attention_tiles.cuh"
#include "half.cuh"

namespace doge {

constexpr int GROUP_THREADS = 128;
/** Slots at a time: four pages. */
constexpr int HALF_KEYS = 64;
/** Pairs of keys and values that a group has room for. */
constexpr int KEY_STAGES = 2;

/** What stands in shared memory: rows of DIM halves, whose places of 16 bytes are exchanged by the row. */
template <int DIM, int GROUPS>
struct alignas(16) HalfTile {
  static constexpr int PLACES = DIM / 8;
  unsigned short queries[QUERIES * DIM];
  unsigned short keys[GROUPS][KEY_STAGES][HALF_KEYS * DIM];
  unsigned short values[GROUPS][KEY_STAGES][HALF_KEYS * DIM];
  float biases[GROUPS][KEY_STAGES][HALF_KEYS];
  /** What all threads would keep in registers: slots of earlier calls, all slots, and where slot 0 would stand among the halves. */
  int before, slots, own;
  /** Where in a matrix of rows the place of 16 bytes is. */
  __device__ static __forceinline__ int at(int row, int place) { return row * DIM + ((place ^ (row & 7)) & (PLACES - 1)) * 8; }
};
/** What the second group hands over, in the place of its keys and values. */
template <int DIM>
struct HalfMerge {
  float sums[QUERIES * DIM];
  float best[QUERIES], total[QUERIES];
};

/** Softmax attention as attention_kernel, into halves. Grid (heads, tiles), longest first. `halves` (tokens, qkv_stride): queries, keys and
 *  values as rope leaves them; `biases` (tokens, delta_stride). */
template <int DIM, int GROUPS>
__global__ void __launch_bounds__(GROUPS * GROUP_THREADS, GROUPS == 1 ? 2 : 1)
    attention_half_kernel(unsigned short* mixed, int mixed_stride, const unsigned short* halves, const float* biases, const QueryTile* tiles, const int* positions,
                          const int* rows, const RowState* states, const int* call_pages, PageShape page, Heads shape) {
#if DOGE_TENSOR
  using Tile = HalfTile<DIM, GROUPS>;
  constexpr int PLACES = Tile::PLACES;
  DOGE_SHARED(shared);
  Tile& tile = *reinterpret_cast<Tile*>(shared);
  const QueryTile run = tiles[gridDim.y - 1 - blockIdx.y];
  const int head = static_cast<int>(blockIdx.x);
  if (positions[run.first] < 0) return;
  const int group = static_cast<int>(threadIdx.x) / GROUP_THREADS;
  const int thread = static_cast<int>(threadIdx.x) % GROUP_THREADS;
  const int lane = thread % WARP;
  const int g = lane / 4, t = lane % 4;
  const int dim = shape.head_dim;
  const int kv_head = head / (shape.heads / shape.kv_heads);
  const int bias_head = head / (shape.heads / shape.bias_heads);
  const int first_position = positions[run.first];
  const int slots = first_position + run.count;
  // Powers of two are cheaper than those of e.
  constexpr float LOG2E = 1.4426950408889634f;
  const float scale = LOG2E / sqrtf(static_cast<float>(dim));
  const size_t stride = static_cast<size_t>(shape.qkv_stride);

  for (int each = static_cast<int>(threadIdx.x); each < QUERIES * PLACES; each += GROUPS * GROUP_THREADS) {
    const int row = each / PLACES, place = each % PLACES;
    const bool valid = row < run.count && place * 8 < dim;
    copy_async(&tile.queries[Tile::at(row, place)],
               valid ? halves + static_cast<size_t>(run.first + row) * stride + static_cast<size_t>(head * dim + place * 8) : halves, valid);
  }
  copy_commit();

  if (threadIdx.x == 0) {
    const int before = positions[run.start];
    tile.before = before;
    tile.slots = slots;
    tile.own = (run.start - before) * shape.qkv_stride + kv_head * dim;
  }
  __syncthreads();
  // One stage of a group: 64 slots from `base` on, of this call by copies, of earlier ones by hand.
  const auto load = [&](int stage, int base) {
    unsigned short* const keys = tile.keys[group][stage];
    unsigned short* const values = tile.values[group][stage];
    const int before = tile.before;
#pragma unroll 1
    for (int row = thread / PLACES; row < HALF_KEYS; row += GROUP_THREADS / PLACES) {
      const int place = thread % PLACES;
      const int slot = base + row;
      if (slot < before) continue;
      const bool valid = slot < tile.slots && place * 8 < dim;
      const unsigned short* const from = halves + (valid ? tile.own + slot * shape.qkv_stride + place * 8 : 0);
      copy_async(&keys[Tile::at(row, place)], from + shape.key_at, valid);
      copy_async(&values[Tile::at(row, place)], from + shape.value_at, valid);
    }
    if (thread < HALF_KEYS && base + thread >= before) {
      const bool valid = base + thread < tile.slots;
      copy_async_word(&tile.biases[group][stage][thread],
                      biases + (valid ? (run.start + base + thread - before) * shape.delta_stride + bias_head : 0), valid);
    }
    copy_commit();
    if (base < before) {
      const int* const pages = call_pages + states[rows[run.first]].first_page;
#pragma unroll 1
      for (int each = thread; each < HALF_KEYS / 4 * DIM; each += GROUP_THREADS) {
        const int row = each % (HALF_KEYS / 4) * 4, index = each / (HALF_KEYS / 4);
        float four[4] = {};
        if (base + row < before && index < dim) {
          const float4 its =
              *reinterpret_cast<const float4*>(layer_of(page, pages[(base + row) / PAGE]) + (kv_head * dim + index) * PAGE + (base + row) % PAGE);
          four[0] = its.x;
          four[1] = its.y;
          four[2] = its.z;
          four[3] = its.w;
        }
#pragma unroll
        for (int part = 0; part < 4; part++)
          if (base + row + part < before) keys[Tile::at(row + part, index / 8) + index % 8] = half_of(four[part]);
      }
#pragma unroll 1
      for (int each = thread; each < HALF_KEYS * DIM / 4; each += GROUP_THREADS) {
        const int index = each % (DIM / 4) * 4, row = each / (DIM / 4);
        if (base + row >= before) continue;
        float4 its{0.0f, 0.0f, 0.0f, 0.0f};
        if (index < dim)
          its = *reinterpret_cast<const float4*>(layer_of(page, pages[(base + row) / PAGE]) + page.values_at + (kv_head * PAGE + (base + row) % PAGE) * dim + index);
        *reinterpret_cast<uint2*>(&values[Tile::at(row, index / 8) + index % 8]) = uint2{half_pair(its.x, its.y), half_pair(its.z, its.w)};
      }
    }
    if (thread < HALF_KEYS && base + thread < before)
      tile.biases[group][stage][thread] =
          layer_of(page, call_pages[states[rows[run.first]].first_page + (base + thread) / PAGE])[page.biases_at + bias_head * PAGE + (base + thread) % PAGE];
  };

  const int mine = thread / WARP * 16;
  float best[2] = {-INFINITY, -INFINITY};
  float total[2] = {};
  float sums[DIM / 8][4] = {};
  const int turns = (slots + GROUPS * HALF_KEYS - 1) / (GROUPS * HALF_KEYS);
  for (int turn = -1; turn < turns; turn++) {
    copy_wait<0>();
    __syncthreads();
    const int base = (turn * GROUPS + group) * HALF_KEYS;
    const int stage = turn & 1;
    if (turn + 1 < turns) load(stage ^ 1, base + GROUPS * HALF_KEYS);
    // Nothing is here yet, or nothing that this warp's tokens see.
    if (turn < 0 || mine >= run.count || base > first_position + mine + 15) continue;

    const unsigned short* const keys = tile.keys[group][stage];
    const unsigned short* const values = tile.values[group][stage];
    const float* const its_biases = &tile.biases[group][stage][2 * t];
    // Two places on is one exclusive or: places are exchanged by their lowest three bits.
    int query_at = Tile::at(mine + lane % 16, lane / 16);
    int key_at = Tile::at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    here(query_at);
    here(key_at);
    // What is multiplied next is on its way from shared memory before what is there is multiplied.
    float scores[HALF_KEYS / 8][4] = {};
    unsigned a[2][4], k[2][HALF_KEYS / 16][4];
    const auto fetch = [&](int step) {
      load_matrices<false>(a[step % 2], &tile.queries[query_at ^ (16 * step)]);
#pragma unroll
      for (int pair = 0; pair < HALF_KEYS / 16; pair++) load_matrices<false>(k[step % 2][pair], &keys[(key_at ^ (16 * step)) + pair * 16 * DIM]);
    };
    fetch(0);
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) {
      if (step + 1 < DIM / 16) fetch(step + 1);
#pragma unroll
      for (int pair = 0; pair < HALF_KEYS / 16; pair++) {
        const unsigned(&r)[4] = k[step % 2][pair];
        const unsigned b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
        mma_half(scores[2 * pair], a[step % 2], b[0]);
        mma_half(scores[2 * pair + 1], a[step % 2], b[1]);
      }
    }
    const bool whole = base + HALF_KEYS - 1 <= first_position + mine;  // all slots are seen by all of the warp's tokens
    const int behind = base - first_position - mine - g;
    float top[2] = {best[0], best[1]};
#pragma unroll
    for (int wide = 0; wide < HALF_KEYS / 8; wide++)
#pragma unroll
      for (int part = 0; part < 4; part++) {
        const int slot = wide * 8 + 2 * t + part % 2;
        float score = __fmaf_rn(scores[wide][part], scale, its_biases[wide * 8 + part % 2] * LOG2E);
        if (!whole && behind + slot > part / 2 * 8) score = -INFINITY;
        scores[wide][part] = score;
        top[part / 2] = score > top[part / 2] ? score : top[part / 2];
      }
    float fade[2];
#pragma unroll
    for (int part = 0; part < 2; part++) {
      // The four lanes of a row.
#pragma unroll
      for (int mask = 1; mask <= 2; mask *= 2) {
        const float other = __shfl_xor_sync(ALL, top[part], mask);
        top[part] = other > top[part] ? other : top[part];
      }
      fade[part] = best[part] == -INFINITY ? 0.0f : exp2f(best[part] - top[part]);
      best[part] = top[part];
      total[part] *= fade[part];
    }
#pragma unroll
    for (int wide = 0; wide < DIM / 8; wide++)
#pragma unroll
      for (int part = 0; part < 4; part++) sums[wide][part] *= fade[part / 2];
    int value_at = lane;
    here(value_at);
    value_at = Tile::at(value_at / 8 % 2 * 8 + value_at % 8, value_at / 16);
    unsigned weights[HALF_KEYS / 16][4];
#pragma unroll
    for (int wide = 0; wide < HALF_KEYS / 8; wide++)
#pragma unroll
      for (int part = 0; part < 2; part++) {
        float weight[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const float score = scores[wide][2 * part + half];
          weight[half] = score == -INFINITY ? 0.0f : exp2f(score - best[part]);
          total[part] += weight[half];
        }
        weights[wide / 2][wide % 2 * 2 + part] = half_pair_of(weight[0], weight[1]);
      }
    constexpr int MATRICES = HALF_KEYS / 16 * (DIM / 16);
    constexpr int AHEAD = 3;
    unsigned v[AHEAD + 1][4];
    const auto fetch_value = [&](int each) {
      load_matrices<true>(v[each % (AHEAD + 1)], &values[(value_at ^ (16 * (each % (DIM / 16)))) + each / (DIM / 16) * 16 * DIM]);
    };
#pragma unroll
    for (int each = 0; each < AHEAD; each++) fetch_value(each);
#pragma unroll
    for (int each = 0; each < MATRICES; each++) {
      if (each + AHEAD < MATRICES) fetch_value(each + AHEAD);
      const int pair = each % (DIM / 16), step = each / (DIM / 16);
      const unsigned(&r)[4] = v[each % (AHEAD + 1)];
      const unsigned b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
      mma_half(sums[2 * pair], weights[step], b[0]);
      mma_half(sums[2 * pair + 1], weights[step], b[1]);
    }
  }

  // The second group's sums go to the first, which writes.
#pragma unroll
  for (int part = 0; part < 2; part++)
#pragma unroll
    for (int mask = 1; mask <= 2; mask *= 2) total[part] += __shfl_xor_sync(ALL, total[part], mask);
  float other[2] = {-INFINITY, -INFINITY};
  HalfMerge<DIM>& merge = *reinterpret_cast<HalfMerge<DIM>*>(tile.keys);
  if constexpr (GROUPS == 2) {
    __syncthreads();
    if (group == 1) {
#pragma unroll
      for (int part = 0; part < 2; part++) {
        const int its = mine + g + 8 * part;
        merge.best[its] = best[part];
        merge.total[its] = total[part];
#pragma unroll
        for (int wide = 0; wide < DIM / 8; wide++)
#pragma unroll
          for (int half = 0; half < 2; half++) merge.sums[its * DIM + wide * 8 + 2 * t + half] = sums[wide][2 * part + half];
      }
    }
    __syncthreads();
    if (group == 1) return;
#pragma unroll
    for (int part = 0; part < 2; part++) other[part] = merge.best[mine + g + 8 * part];
  }
#pragma unroll
  for (int part = 0; part < 2; part++) {
    const int its = mine + g + 8 * part;
    if (its >= run.count) continue;
    const float top = other[part] > best[part] ? other[part] : best[part];
    const float own_share = best[part] == -INFINITY ? 0.0f : exp2f(best[part] - top);
    const float its_share = other[part] == -INFINITY ? 0.0f : exp2f(other[part] - top);
    float all = total[part] * own_share;
    if constexpr (GROUPS == 2) all += merge.total[its] * its_share;
    unsigned short* const to = mixed + static_cast<size_t>(run.first + its) * static_cast<size_t>(mixed_stride) + head * dim;
#pragma unroll
    for (int wide = 0; wide < DIM / 8; wide++) {
      const int index = wide * 8 + 2 * t;
      if (index >= dim) continue;
      float result[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        result[half] = sums[wide][2 * part + half] * own_share;
        if constexpr (GROUPS == 2) result[half] += merge.sums[its * DIM + index + half] * its_share;
        result[half] /= all;
      }
      *reinterpret_cast<unsigned*>(to + index) = half_pair(result[0], result[1]);
    }
  }
#endif
}

/** Whether heads of this many numbers are taken. */
inline bool attends_in_half(int head_dim) { return head_dim <= TILES_HEAD && head_dim % 8 == 0; }

/** The launch for some tiles of tokens. */
inline void attention_half(Device& device, int count, unsigned short* mixed, int mixed_stride, const unsigned short* halves, const float* biases,
                           const QueryTile* tiles, const int* positions, const int* rows, const RowState* states, const int* call_pages, const PageShape& page,
                           const Heads& shape) {
  const dim3 grid(static_cast<unsigned>(shape.heads), static_cast<unsigned>(count));
  const auto launch = [&](auto kernel, int threads, size_t shared) {
    device.launch_with(static_cast<int>(shared), kernel, grid, threads, mixed, mixed_stride, halves, biases, tiles, positions, rows, states, call_pages, page,
                       shape);
  };
  // Two groups where one would leave processors without work.
  const char* const wish = std::getenv("DOGE_GROUPS");
  const bool two = wish != nullptr ? *wish == '2' : shape.heads * count < 3 * device.processors();
  constexpr int LARGE = TILES_HEAD, SMALL = TILES_HEAD / 2;
  if (shape.head_dim <= SMALL && two)
    launch(attention_half_kernel<SMALL, 2>, 2 * GROUP_THREADS, sizeof(HalfTile<SMALL, 2>));
  else if (shape.head_dim <= SMALL)
    launch(attention_half_kernel<SMALL, 1>, GROUP_THREADS, sizeof(HalfTile<SMALL, 1>));
  else if (two)
    launch(attention_half_kernel<LARGE, 2>, 2 * GROUP_THREADS, sizeof(HalfTile<LARGE, 2>));
  else
    launch(attention_half_kernel<LARGE, 1>, GROUP_THREADS, sizeof(HalfTile<LARGE, 1>));
}

}  // namespace doge
