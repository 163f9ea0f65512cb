// attention for many tokens of one row, on tensor cores, where no window drops keys: 64 queries of a head against the keys they see, 32 slots
// at a time, with the running softmax of flash attention; neither scores nor weights ever stand in memory.
//
// The bias is a number per key, added to its scores. Keys and values are halves that come from their pages as they stand there; queries and
// weights are high + low in half precision, whose two products keep 16 bits of each and more.
//
// Source: Dao, FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning.
#pragma once
#include "attention.cuh"

namespace doge {

/** Queries of a block: four warps of 16. */
constexpr int QUERIES = 64;
constexpr int QUERY_THREADS = 128;
/** Slots at a time: two pages. */
constexpr int KEYS = 32;
/** Numbers of a row in shared memory beyond its own, so that eight rows of a matrix lie in different banks. */
constexpr int SKEW = 8;
/** Heads that are taken: of up to this many numbers, and a multiple of 4. */
constexpr int TILES_HEAD = 128;

/** Tokens of a run that attend together: `count` of them from `first` on; `start`: the run's first token of this call. */
struct QueryTile {
  int first;
  int count;
  int start;
};

/** Some slots' keys turned (numbers of a head, slots), values (slots, numbers of a head) and biases. */
template <int DIM>
struct alignas(16) AttentionTile {
  static constexpr int KEY_ROW = KEYS + SKEW;
  static constexpr int VALUE_ROW = DIM + SKEW;
  Half keys[DIM * KEY_ROW];
  Half values[KEYS * VALUE_ROW];
  float biases[KEYS];
};

/** Softmax attention of the tokens of a tile, as attention_kernel without a window; but sums are of the values themselves, for no key is
 *  dropped by what two equal sums come to. Grid (tiles, heads); tiles: at most QUERIES tokens each, of one row, following each other. */
template <int DIM>
__global__ void __launch_bounds__(QUERY_THREADS, 2)
    attention_tiles_kernel(float* mixed, int mixed_stride, const float* qkv, const QueryTile* tiles, const int* positions, const int* rows,
                           const RowState* states, const int* call_pages, PageShape page, Heads shape) {
  await_earlier();
#if DOGE_TENSOR
  using Tile = AttentionTile<DIM>;
  __shared__ Tile tile;
  const QueryTile run = tiles[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y);
  if (positions[run.first] < 0) return;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % WARP;
  const int g = lane / 4, t = lane % 4;
  const int dim = shape.head_dim;
  const int kv_head = head / (shape.heads / shape.kv_heads);
  const int bias_head = head / (shape.heads / shape.bias_heads);
  const int* const pages = call_pages + states[rows[run.first]].first_page;
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));

  // The lane's rows of the tile: g and g + 8 of its warp's 16.
  const int mine = thread / WARP * 16;
  const int query[2] = {mine + g, mine + g + 8};
  // Rows that are not there see what follows the last one, which is nothing or no number, and are not written.
  const int before = positions[run.first], slots = before + run.count;
  unsigned high[DIM / 16][4], low[DIM / 16][4];
#pragma unroll
  for (int part = 0; part < 2; part++) {
    const bool there = query[part] < run.count;
    const float* const from =
        qkv + static_cast<size_t>(run.first + (there ? query[part] : 0)) * static_cast<size_t>(shape.qkv_stride) + head * dim;
#pragma unroll
    for (int step = 0; step < DIM / 16; step++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int at = step * 16 + half * 8 + 2 * t;
        const float first = there && at < dim ? from[at] : 0.0f;
        const float second = there && at + 1 < dim ? from[at + 1] : 0.0f;
        split_half_pair(high[step][part + 2 * half], low[step][part + 2 * half], within_half(first), within_half(second));
      }
  }

  float best[2] = {-INFINITY, -INFINITY};
  float total[2] = {};
  float sums[DIM / 8][4] = {};
  for (int base = 0; base < slots; base += KEYS) {
    __syncthreads();
    // Eight slots of one number of the keys, then four numbers of one slot's value, at a time.
#pragma unroll 2
    for (int place = thread; place < KEYS / 8 * DIM; place += QUERY_THREADS) {
      const int slot = place % (KEYS / 8) * 8;
      const int index = place / (KEYS / 8);
      uint4 eight{0, 0, 0, 0};
      if (base + slot < slots && index < dim)
        eight = *reinterpret_cast<const uint4*>(kept_in<Half>(layer_of(page, pages[(base + slot) / PAGE])) + (kv_head * dim + index) * PAGE + slot % PAGE);
      *reinterpret_cast<uint4*>(&tile.keys[index * Tile::KEY_ROW + slot]) = eight;
    }
#pragma unroll 2
    for (int place = thread; place < KEYS * DIM / 4; place += QUERY_THREADS) {
      const int index = place % (DIM / 4) * 4;
      const int slot = place / (DIM / 4);
      uint2 four{0, 0};  // what stands in a free slot may be no number
      if (base + slot < slots && index < dim)
        four = four_kept(kept_in<Half>(layer_of(page, pages[(base + slot) / PAGE])) + page.values_at + (kv_head * PAGE + slot % PAGE) * dim + index);
      *reinterpret_cast<uint2*>(&tile.values[slot * Tile::VALUE_ROW + index]) = four;
    }
    if (thread < KEYS) {
      const int slot = base + thread;
      tile.biases[thread] = slot < slots ? layer_of(page, pages[slot / PAGE])[page.biases_at + bias_head * PAGE + slot % PAGE] : 0.0f;
    }
    __syncthreads();
    // Nothing here is seen by this warp's tokens.
    if (mine >= run.count || base > before + mine + 15) continue;

    float scores[KEYS / 8][4] = {};
#pragma unroll
    for (int step = 0; step < DIM / 16; step++)
#pragma unroll
      for (int pair = 0; pair < KEYS / 16; pair++) {
        unsigned r[4];
        load_matrices<true>(r, &tile.keys[(step * 16 + lane / 8 % 2 * 8 + lane % 8) * Tile::KEY_ROW + pair * 16 + lane / 16 * 8]);
        const unsigned b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (int wide = 0; wide < 2; wide++) {
          mma_half(scores[2 * pair + wide], high[step], b[wide]);
          mma_half(scores[2 * pair + wide], low[step], b[wide]);
        }
      }

    float top[2] = {best[0], best[1]};
#pragma unroll
    for (int wide = 0; wide < KEYS / 8; wide++)
#pragma unroll
      for (int part = 0; part < 4; part++) {
        const int slot = wide * 8 + 2 * t + part % 2;
        const float score = base + slot <= before + query[part / 2] ? scores[wide][part] * scale + tile.biases[slot] : -INFINITY;
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
      fade[part] = best[part] == -INFINITY ? 0.0f : expf(best[part] - top[part]);
      best[part] = top[part];
      total[part] *= fade[part];
    }
#pragma unroll
    for (int wide = 0; wide < DIM / 8; wide++)
#pragma unroll
      for (int part = 0; part < 4; part++) sums[wide][part] *= fade[part / 2];
#pragma unroll
    for (int wide = 0; wide < KEYS / 8; wide++)
#pragma unroll
      for (int part = 0; part < 4; part++) {
        const float weight = scores[wide][part] == -INFINITY ? 0.0f : expf(scores[wide][part] - best[part / 2]);
        scores[wide][part] = weight;
        total[part / 2] += weight;
      }
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++) {
      unsigned weights[4], little[4];
#pragma unroll
      for (int part = 0; part < 4; part++)
        split_half_pair(weights[part], little[part], scores[2 * step + part / 2][part % 2 * 2], scores[2 * step + part / 2][part % 2 * 2 + 1]);
#pragma unroll
      for (int pair = 0; pair < DIM / 16; pair++) {
        unsigned r[4];
        load_matrices<true>(r, &tile.values[(step * 16 + lane / 8 % 2 * 8 + lane % 8) * Tile::VALUE_ROW + pair * 16 + lane / 16 * 8]);
        const unsigned b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (int wide = 0; wide < 2; wide++) {
          mma_half(sums[2 * pair + wide], weights, b[wide]);
          mma_half(sums[2 * pair + wide], little, b[wide]);
        }
      }
    }
  }

#pragma unroll
  for (int part = 0; part < 2; part++) {
#pragma unroll
    for (int mask = 1; mask <= 2; mask *= 2) total[part] += __shfl_xor_sync(ALL, total[part], mask);
    if (query[part] >= run.count) continue;
    float* const to = mixed + static_cast<size_t>(run.first + query[part]) * static_cast<size_t>(mixed_stride) + head * dim;
#pragma unroll
    for (int wide = 0; wide < DIM / 8; wide++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int index = wide * 8 + 2 * t + half;
        if (index < dim) to[index] = sums[wide][2 * part + half] / total[part];
      }
  }
#endif
}

/** Fewest tokens of a row for which its attention goes through tensor cores. */
constexpr int QUERIES_LEAST = 16;

/** Whether heads of this many numbers are taken, by this device, under this dtype. */
inline bool attends_by_tiles(const Device& device, Type dtype, int head_dim) {
  return device.tensor_cores() && dtype != Type::F32 && head_dim <= TILES_HEAD && head_dim % 4 == 0;
}

/** The launch for some tiles of tokens. */
inline void attention_tiles(Device& device, int count, float* mixed, int mixed_stride, const float* qkv, const QueryTile* tiles,
                            const int* positions, const int* rows, const RowState* states, const int* call_pages, const PageShape& page,
                            const Heads& shape) {
  const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>(shape.heads));
  const auto launch = [&](auto kernel) {
    device.launch(kernel, grid, QUERY_THREADS, mixed, mixed_stride, qkv, tiles, positions, rows, states, call_pages, page, shape);
  };
  if (shape.head_dim <= TILES_HEAD / 2)
    launch(attention_tiles_kernel<TILES_HEAD / 2>);
  else
    launch(attention_tiles_kernel<TILES_HEAD>);
}

}  // namespace doge
