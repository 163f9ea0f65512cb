// attention for many tokens of one row, on tensor cores: 64 queries of a head against the keys they see, 32 slots at a time, with
// the running softmax of flash attention; neither scores nor weights ever stand in memory.
//
// The bias is a number per key, added to its scores; the mask of the window is two positions per key (attention.cuh). Queries, keys,
// weights and values are high + low in bf16, whose three larger products keep 16 bits of each (matmul_tiles.cuh says why).
//
// Source: Dao, FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning.
#pragma once
#include "attention.cuh"
#include "tensor.cuh"

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

/** Some slots' keys turned (numbers of a head, slots) and values (slots, numbers of a head), and what is seen of them. */
template <int DIM>
struct alignas(16) AttentionTile {
  static constexpr int KEY_ROW = KEYS + SKEW;
  static constexpr int VALUE_ROW = DIM + SKEW;
  unsigned short keys[2][DIM * KEY_ROW];
  unsigned short values[2][KEYS * VALUE_ROW];
  float own[DIM];  // the value of the tile's first token
  float biases[KEYS];
  int positions[KEYS];
  int evicted[KEYS];
};

/** Softmax attention of the tokens of a tile, as attention_kernel. Grid (tiles, heads); tiles: at most QUERIES tokens each, of one
 *  row, following each other. The sum is taken over value[j] - own as there, with own the value of the tile's first token: a text
 *  that begins with one token several times has no other yet. */
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
  const RowState& state = states[rows[run.first]];
  const int* const pages = call_pages + state.first_page;
  const int last = positions[run.first] + run.count - 1;
  const int slots = page.window == 0 ? last + 1 : min(page.window + JOURNAL, max(state.reach, last + 1));
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));

  // The lane's rows of the tile: g and g + 8 of its warp's 16.
  const int mine = thread / WARP * 16;
  const int query[2] = {mine + g, mine + g + 8};
  int position[2];
  unsigned high[DIM / 16][4], low[DIM / 16][4];
#pragma unroll
  for (int part = 0; part < 2; part++) {
    const bool there = query[part] < run.count;
    position[part] = there ? positions[run.first] + query[part] : -1;
    const float* const from =
        qkv + static_cast<size_t>(run.first + (there ? query[part] : 0)) * static_cast<size_t>(shape.qkv_stride) + head * dim;
#pragma unroll
    for (int step = 0; step < DIM / 16; step++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int at = step * 16 + half * 8 + 2 * t;
        const float first = there && at < dim ? from[at] : 0.0f;
        const float second = there && at + 1 < dim ? from[at + 1] : 0.0f;
        split_pair(high[step][part + 2 * half], low[step][part + 2 * half], first, second);
      }
  }
  for (int index = thread; index < DIM; index += QUERY_THREADS)
    tile.own[index] =
        index < dim ? qkv[static_cast<size_t>(run.first) * static_cast<size_t>(shape.qkv_stride) + static_cast<size_t>(shape.value_at + kv_head * dim + index)]
                    : 0.0f;

  float best[2] = {-INFINITY, -INFINITY};
  float total[2] = {};
  float sums[DIM / 8][4] = {};
  for (int base = 0; base < slots; base += KEYS) {
    __syncthreads();
    // Four slots of one number of the keys, then four numbers of one slot's value, at a time.
#pragma unroll 2
    for (int place = thread; place < KEYS / 4 * DIM; place += QUERY_THREADS) {
      const int slot = place % (KEYS / 4) * 4;
      const int index = place / (KEYS / 4);
      float4 four{0.0f, 0.0f, 0.0f, 0.0f};
      if (base + slot < slots && index < dim)
        four = *reinterpret_cast<const float4*>(layer_of(page, pages[(base + slot) / PAGE]) + (kv_head * dim + index) * PAGE + slot % PAGE);
      unsigned* const to = reinterpret_cast<unsigned*>(&tile.keys[0][index * Tile::KEY_ROW + slot]);
      unsigned* const rest = reinterpret_cast<unsigned*>(&tile.keys[1][index * Tile::KEY_ROW + slot]);
      split_pair(to[0], rest[0], four.x, four.y);
      split_pair(to[1], rest[1], four.z, four.w);
    }
#pragma unroll 2
    for (int place = thread; place < KEYS * DIM / 4; place += QUERY_THREADS) {
      const int index = place % (DIM / 4) * 4;
      const int slot = place / (DIM / 4);
      float4 four{0.0f, 0.0f, 0.0f, 0.0f};
      if (base + slot < slots && index < dim) {
        const float* const layer = layer_of(page, pages[(base + slot) / PAGE]);
        // What stands in a free slot is nobody's, and may be no number.
        if (page.window == 0 || reinterpret_cast<const int*>(layer)[page.positions_at + kv_head * PAGE + slot % PAGE] != NOBODY) {
          four = *reinterpret_cast<const float4*>(layer + page.values_at + (kv_head * PAGE + slot % PAGE) * dim + index);
          four.x -= tile.own[index];
          four.y -= tile.own[index + 1];
          four.z -= tile.own[index + 2];
          four.w -= tile.own[index + 3];
        }
      }
      unsigned* const to = reinterpret_cast<unsigned*>(&tile.values[0][slot * Tile::VALUE_ROW + index]);
      unsigned* const rest = reinterpret_cast<unsigned*>(&tile.values[1][slot * Tile::VALUE_ROW + index]);
      split_pair(to[0], rest[0], four.x, four.y);
      split_pair(to[1], rest[1], four.z, four.w);
    }
    if (thread < KEYS) {
      const int slot = base + thread;
      tile.positions[thread] = tile.evicted[thread] = NOBODY;
      tile.biases[thread] = 0.0f;
      if (slot < slots) {
        const float* const layer = layer_of(page, pages[slot / PAGE]);
        const int* const words = reinterpret_cast<const int*>(layer);
        tile.biases[thread] = layer[page.biases_at + bias_head * PAGE + slot % PAGE];
        tile.positions[thread] = page.window == 0 ? slot : words[page.positions_at + kv_head * PAGE + slot % PAGE];
        if (page.window > 0) tile.evicted[thread] = words[page.evicted_at + kv_head * PAGE + slot % PAGE];
      }
    }
    __syncthreads();
    // Nothing here is seen by this warp's tokens.
    if (mine >= run.count || (page.window == 0 && base > positions[run.first] + mine + 15)) continue;

    float scores[KEYS / 8][4] = {};
#pragma unroll
    for (int step = 0; step < DIM / 16; step++)
#pragma unroll
      for (int pair = 0; pair < KEYS / 16; pair++) {
        const int at = (step * 16 + lane / 8 % 2 * 8 + lane % 8) * Tile::KEY_ROW + pair * 16 + lane / 16 * 8;
        unsigned r[4];
        load_matrices<true>(r, &tile.keys[0][at]);
        const unsigned b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (int wide = 0; wide < 2; wide++) {
          mma(scores[2 * pair + wide], high[step], b[wide]);
          mma(scores[2 * pair + wide], low[step], b[wide]);
        }
        load_matrices<true>(r, &tile.keys[1][at]);
        const unsigned rest[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (int wide = 0; wide < 2; wide++) mma(scores[2 * pair + wide], high[step], rest[wide]);
      }

    float top[2] = {best[0], best[1]};
#pragma unroll
    for (int wide = 0; wide < KEYS / 8; wide++)
#pragma unroll
      for (int part = 0; part < 4; part++) {
        const int slot = wide * 8 + 2 * t + part % 2;
        const int its = position[part / 2];
        const bool seen = tile.positions[slot] <= its && tile.evicted[slot] > its;
        const float score = seen ? scores[wide][part] * scale + tile.biases[slot] : -INFINITY;
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
        split_pair(weights[part], little[part], scores[2 * step + part / 2][part % 2 * 2], scores[2 * step + part / 2][part % 2 * 2 + 1]);
#pragma unroll
      for (int pair = 0; pair < DIM / 16; pair++) {
        const int at = (step * 16 + lane / 8 % 2 * 8 + lane % 8) * Tile::VALUE_ROW + pair * 16 + lane / 16 * 8;
        unsigned r[4];
        load_matrices<true>(r, &tile.values[0][at]);
        const unsigned b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (int wide = 0; wide < 2; wide++) {
          mma(sums[2 * pair + wide], weights, b[wide]);
          mma(sums[2 * pair + wide], little, b[wide]);
        }
        load_matrices<true>(r, &tile.values[1][at]);
        const unsigned rest[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
#pragma unroll
        for (int wide = 0; wide < 2; wide++) mma(sums[2 * pair + wide], weights, rest[wide]);
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
        if (index < dim) to[index] = tile.own[index] + sums[wide][2 * part + half] / total[part];
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
