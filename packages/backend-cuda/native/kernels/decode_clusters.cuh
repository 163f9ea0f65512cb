// decode_clusters: steps of one row, layers and draws, in one launch, as decode.cuh, by clusters of blocks (cluster.cuh) that share a layer as
// devices would: a cluster has one query head, or none, and a part of the intermediate size. Inside a cluster numbers go straight to the shared
// memory of all its blocks; between clusters, by pairs (exchange.cuh), go only the sums of what the output's and the down matrix's columns give.
//
// A layer, B a barrier of the cluster:
//
//   its head's query, key and value, rows dealt to its warps                            -> all blocks, B; values: keepers of all clusters
//   slices of the keys before the token, by all blocks but the last, which keeps        -> all blocks, B
//   the slices become one in every block; the output's columns of this head             -> between clusters
//   each block adds all clusters' sums for its columns of the stream; norm              -> all blocks, B
//   gate and up of its part                                                              -> all blocks, B
//   the down matrix's columns of its part                                                -> between clusters
//   each block adds all clusters' sums for its columns of the stream; norm of the next  -> all blocks, B
//
// Layer 0's query, key and value are summed as decode_kernel sums them, to the bit; the two matrices that are cut by columns are not.
//
// No array of a peer is written before the peer has read it: between its reading and the next writing the two have met at a barrier. By the
// five barriers of a layer, in which a block arrives when it has read:
//
//   projected            written before the 1st, read before the 3rd; again behind the 5th
//   told, sums, score    written before the 2nd, read before the 3rd; again behind the next 1st
//   x[0], squares[0]     written before the 3rd, read before the 4th; written before the 5th, read before the next 1st; again behind the 2nd.
//                        By the head read before the block shows its draw, which all wait for
//   x[1]                 written by peers before the 4th, read before the 5th; again behind the next 3rd. In between by its own block alone:
//                        layer 0's norm, then what the slices become, read before the 1st and the 3rd
//
// A cluster without a head has no 1st and 2nd barrier, and does not read between the 5th and the 3rd.
//
// Nor is a pair written before all have read it. Every cluster shows by its sums of the down matrix, which all wait for, that it has read the
// layer's values and sums of the output. The sums of the down matrix stand in two arrays in turn, for in a layer a cluster without a head shows
// nothing but these: who writes one has seen that all have read the one before the last.
#pragma once
#include "cluster.cuh"
#include "decode_attention.cuh"
#include "decode_steps.cuh"

namespace doge {

/** Blocks of a cluster, clusters, and numbers of which a cluster's part of the intermediate size is a multiple: 16 bytes, of q8 a scale's. */
constexpr int MOST_RANKS = 16, MOST_CLUSTERS = 16, GRAIN = 8;

/** As OverBlocks; rows are short here, for a row of the output or of the down matrix is its part of the columns. */
struct OverClusters {
  __device__ static __forceinline__ constexpr int rows(int which) { return 0x44441 >> 4 * which & 15; }
  __device__ static __forceinline__ constexpr int outputs(int which) { return 0x44241 >> 4 * which & 15; }
  __device__ static __forceinline__ constexpr int depth(int which) { return 0x11114 >> 4 * which & 15; }
  static constexpr bool ALIKE = false;
  __device__ static __forceinline__ constexpr bool every(int which) { return which == QKV || which == GATE_UP; }  // what all peers get
  __device__ static __forceinline__ int row(const DecodeShared& shared, int which, int its);
};

struct ClusterShared : DecodeShared {
  int dim, starts[3];  // of the head; where its query's, key's and value's rows begin, less those that are dealt before
  float projected[3 * DECODE_DIM];           // its query, key and value
  alignas(8) float told[MOST_RANKS - 1][2];  // each slice's greatest score and sum of weights
  float sums[MOST_RANKS - 1][DECODE_DIM];    // and sums of weighted values
  float score;                               // of the token's own key
};
/** The ring begins at such a multiple. */
constexpr int CLUSTER_OWN = (static_cast<int>(sizeof(ClusterShared)) + 1023) / 1024 * 1024;

__device__ __forceinline__ int OverClusters::row(const DecodeShared& shared, int which, int its) {
  if (which != QKV) return its;
  const ClusterShared& own = static_cast<const ClusterShared&>(shared);
  return own.starts[(its >= own.dim ? 1 : 0) + (its >= 2 * own.dim ? 1 : 0)] + its;
}

/** A matrix from a row and a column on, multiples of what a scale and 16 bytes hold. */
template <Type type>
__device__ __forceinline__ void cut(Matrix& its, int row, int column) {
  const size_t at = static_cast<size_t>(row) * static_cast<size_t>(its.stride) + static_cast<size_t>(column);
  its.data = static_cast<const char*>(its.data) + at * static_cast<size_t>(WIDTH_OF<type>);
  if (its.scales != nullptr) its.scales += at / BLOCK;
  if (its.bias != nullptr) its.bias += row;
}

/** So many lanes. */
template <int COUNT>
struct Lanes {
  static constexpr int LANES = COUNT;
};

/** The columns of the stream that a block adds up, an even number. */
__device__ __forceinline__ int own_width(int hidden, int ranks) { return (hidden + 2 * ranks - 1) / (2 * ranks) * 2; }

/** Grid (clusters x blocks of each), all of them on the device at once. Its shared memory is all asked for by the launch: ClusterShared, then the
 *  ring. of.slices is the blocks of a cluster less one. */
template <Type type, int HIDDEN>
__global__ void __launch_bounds__(DECODE_THREADS, 1) decode_clusters_kernel(Decoding of) {
#if DOGE_KNOWN_SIZES
  DOGE_SHARED(memory);
  ClusterShared& shared = *reinterpret_cast<ClusterShared*>(memory);
  const int thread = static_cast<int>(threadIdx.x);
  const int block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  const int rank = cluster_rank(), ranks = cluster_size();
  const int head = block / ranks, clusters = blocks / ranks;  // the cluster's query head, where there are so many
  using Kept = KeptUnder<type>;
  constexpr int PAIRS = PAIRS_OF<HIDDEN>;
  const Sizes sizes = known<HIDDEN>(of.sizes);
  const Heads heads = known<HIDDEN>(of.heads);
  const int dim = heads.head_dim;
  const int group = heads.heads / heads.kv_heads;
  const int kv_head = head / group;
  const bool headed = head < heads.heads;
  const bool keeps = headed && rank == of.slices;
  const int stride = (sizes.hidden + PADDING - 1) / PADDING * PADDING;  // of a cluster's sums
  const Exchanges& between = of.between;

  // This cluster's part of the intermediate size.
  constexpr int GRAINS_OF = type == Type::Q8 ? BLOCK : GRAIN;
  const int grains = (sizes.intermediate + GRAINS_OF - 1) / GRAINS_OF;
  const int inner = grains * head / clusters * GRAINS_OF;
  const int inner_columns = grains * (head + 1) / clusters * GRAINS_OF - inner;
  const int inner_count = min(inner_columns, sizes.intermediate - inner);

  Steps row = begin(of, shared);
  if (thread == 0) {
    const Matrix* const its = of.layers[0].matrices;
    shared.dealt[QKV] = {headed ? 3 * dim : 0, its[QKV].stride, 0, 3 * dim};
    shared.dealt[OUTPUT] = {headed ? sizes.hidden : 0, dim, 0, its[OUTPUT].outer};
    shared.dealt[GATE_UP] = {inner_count, its[GATE_UP].stride, its[GATE_UP].outer / 2, its[GATE_UP].outer - inner};
    shared.dealt[DOWN] = {sizes.hidden, inner_columns, 0, its[DOWN].outer};
    shared.dealt[HEAD] = {of.draw.vocabulary, of.head.stride, 0, of.head.outer};
    shared.dim = dim;
    shared.starts[0] = head * dim;
    shared.starts[1] = heads.key_at + (kv_head - 1) * dim;
    shared.starts[2] = heads.value_at + (kv_head - 2) * dim;
  }
  for (int index = thread; index < 2 * DECODE_THREADS; index += DECODE_THREADS) shared.squares[index / DECODE_THREADS][index % DECODE_THREADS] = 0.0f;
  __syncthreads();
  for (int depth = thread; depth < of.layer_count; depth += DECODE_THREADS) {
    Matrix* const its = shared.layers[depth].matrices;
    if (headed) cut<type>(its[OUTPUT], 0, head * dim);
    cut<type>(its[GATE_UP], inner, 0);
    cut<type>(its[DOWN], 0, inner);
    if (block >= ranks) its[OUTPUT].bias = its[DOWN].bias = nullptr;  // sums are added up: one cluster has them
  }
  // Peers send to what is begun.
  cluster_arrive();
  cluster_wait();
  Ring<type, OverClusters> ring(of, shared, memory + CLUSTER_OWN + own_warp() * of.units * UNIT_BYTES, Team{rank + ranks * own_warp(), ranks * DECODE_WARPS},
                                Team{block + blocks * own_warp(), blocks * DECODE_WARPS});

  // This thread's two columns of the stream, of those that its block adds up.
  float x[2] = {};
  const int width = own_width(sizes.hidden, ranks);
  const auto own_column = [&] { return 2 * own_thread() < width ? rank * width + 2 * own_thread() : sizes.hidden; };

  // Sent to every peer, by so many lanes that all hold it.
  const auto to_all = [&](auto share, float* to, float value) {
    constexpr int SHARE = decltype(share)::LANES;
    for (int peer = own_thread() % SHARE; peer < ranks; peer += SHARE) send(to, peer, value);
  };
  // x <- gate x + the sums of `count` clusters in their order, and under the norm's weights to all blocks. The norm's scale is the products' (Turn).
  const auto normed = [&](const float* gate, const float* weight, const Pair* sums, int count) {
    const int warp = own_warp();
    if (2 * WARP * warp < width) {
      const int column = own_column();
      const bool mine = column < sizes.hidden, two = column + 1 < sizes.hidden;
      float gates[2] = {}, scales[2] = {}, sum[2] = {};
#pragma unroll
      for (int side = 0; side < 2; side++) {
        if (!(side == 0 ? mine : two)) continue;
        gates[side] = gate[column + side];
        scales[side] = weight[column + side];
      }
      constexpr int AT_ONCE = 8;
#pragma unroll 1
      for (int start = 0; start < count; start += AT_ONCE) {
        const Pair* from[AT_ONCE];
        unsigned wanted = 0;
#pragma unroll
        for (int each = 0; each < AT_ONCE; each++) {
          const bool its = mine && start + each < count;
          from[each] = sums + (its ? (start + each) * stride + column : 0);
          wanted |= its ? 1u << each : 0u;
        }
        uint2 numbers[AT_ONCE];
        await(numbers, from, row.epoch, wanted, two ? 0u : ~0u);
#pragma unroll
        for (int each = 0; each < AT_ONCE; each++) {
          sum[0] += number(numbers[each].x);
          sum[1] += two ? number(numbers[each].y) : 0.0f;
        }
      }
      float squares = 0.0f;
#pragma unroll
      for (int side = 0; side < 2; side++) {
        x[side] = __fmaf_rn(gates[side], x[side], sum[side]);
        squares = __fmaf_rn(x[side], x[side], squares);
      }
      squares = warp_sum(squares);
      if (mine)
        for (int each = 0; each < ranks; each++)
          send_two(&shared.x[0][spread<type>(column)], (rank + each) & (ranks - 1), scales[0] * x[0], scales[1] * x[1]);
      const int warps = (width + 2 * WARP - 1) / (2 * WARP);
      to_all(Lanes<WARP>{}, &shared.squares[0][rank * warps + warp], squares);
    }
    cluster_arrive();
    cluster_wait();
  };
  // The slices of the head become one.
  const auto merge = [&](int active) {
    const int column = own_thread(), lane = column % WARP;
    if (own_warp() * WARP >= dim) return;
    const bool mine = lane < active;
    const float own = shared.score;
    const float best = mine ? shared.told[lane][0] : -INFINITY;
    const float top = max(own, warp_max(best));
    const float weight = slice_weight(best, top);
    const float part = mine ? shared.told[lane][1] * weight : 0.0f;
    float sum = 0.0f, total = expf(own - top);  // its value less itself is nothing
#pragma unroll 1
    for (int slice = 0; slice < active; slice++) {
      total += __shfl_sync(ALL, part, slice);
      sum = __fmaf_rn(shared.sums[slice][min(column, dim - 1)], __shfl_sync(ALL, weight, slice), sum);
    }
    if (column < dim) shared.x[1][spread<type>(column)] = as_kept<Kept>(shared.projected[2 * dim + column]) + sum / total;
  };
  const auto multiply = [&](auto turn, const float* from, Matrix weight, int columns, int count, auto emit) {
    weight.stride = columns;
    decltype(turn)::template multiply<false>(ring, weight, from, nullptr, 0.0f, count, emit);
  };
  const auto multiply_normed = [&](auto turn, const float* from, const float* squares, const Matrix& weight, int count, auto emit, auto end) {
    decltype(turn)::template multiply<true>(ring, weight, from, squares, of.epsilon, count, emit, end);
  };

  for (int step = 0; step < of.steps && row.left > 0 && !row.stopped; step++) {
    int abort = 0;
    put_angles(shared, dim, row.position);
    const int active = min(of.slices, (row.position + CHUNK_SLOTS - 1) / CHUNK_SLOTS);  // slices that have keys
    const Pair* update = nullptr;

    for (int depth = 0; depth < of.layer_count; depth++) {
      const DecodeLayer& layer = shared.layers[depth];
      PageShape page = of.page;
      page.layer_at = page.layer_bytes * static_cast<size_t>(depth);
      if (depth == 0) {
        if (headed) {
          float all[PAIRS][2];
          embed_normed<type>(all, of, shared, 1, sizes.hidden, row.id, layer.input_norm, rank < of.slices);
        }
        const int column = own_column();
#pragma unroll
        for (int side = 0; side < 2; side++) x[side] = column + side < sizes.hidden ? element(of.embedding, static_cast<size_t>(row.id), column + side) : 0.0f;
        if (block == blocks - 1 && thread == 0) abort = of.draw.control->abort;  // see decode_kernel; the last block has no slice
      } else {
        normed(shared.layers[depth - 1].post_gate, layer.input_norm, update, clusters);
      }
      row.epoch++;

      if (headed) {
        multiply_normed(Turn<type, QKV, OverClusters>{}, shared.x[depth == 0 ? 1 : 0], depth == 0 ? nullptr : shared.squares[0],
                 known<HIDDEN>(layer.matrices[QKV], sizes.hidden, heads.qkv_stride), 3 * dim,
                 [&](int place, float value) {
                   if (place >= 2 * dim && head % group == 0 && own_thread() % WARP == 0)
                     publish(between.qkv + heads.value_at + (kv_head - 2) * dim + place, value, row.epoch);
                   to_all(Lanes<WARP>{}, &shared.projected[place], value);
                 },
                 [] { cluster_arrive(); });
        if (rank < active) {
          attend<Kept, 1>(
              Slice{head, 1, rank, of.slices, row.position}, heads, page, shared,
              [&] {
                cluster_wait();
                const int warp = own_warp();
                if (warp > 1) return;
                float four[4];
                four_at(four, shared.projected + (warp == 0 ? 0 : 2 * dim), dim / 2);
                if (warp == 0) turn(four, layer.rope.query_norm, layer.rope.epsilon, dim, shared);
                put_four(warp == 0 ? shared.query[0] : shared.value, four, dim / 2);
              },
              [&](float best, float total) {
                const int lane = own_thread() % WARP;
                if (lane < ranks) send_two(shared.told[rank], lane, best, total);
              },
              [&](int, int column, float sum) {
                for (int each = 0; each < ranks; each++) send(&shared.sums[rank][column], (rank + each) & (ranks - 1), sum);
              });
        } else if (keeps && own_warp() == 0) {
          keep<Kept>(
              heads, layer.rope, page, between.qkv, head, row.position, row.epoch, shared,
              [&](float(&parts)[3][4]) {
                cluster_wait();
#pragma unroll
                for (int part = 0; part < 3; part++) four_at(parts[part], shared.projected + part * dim, dim / 2);
              },
              [&](float score) { to_all(Lanes<WARP>{}, &shared.score, score); });
        } else {
          cluster_wait();
        }
        cluster_arrive();
        cluster_wait();
        merge(active);
        __syncthreads();
        multiply(Turn<type, OUTPUT, OverClusters>{}, shared.x[1], known<HIDDEN>(layer.matrices[OUTPUT], sizes.hidden, sizes.hidden), dim, sizes.hidden,
                 [&](int place, float value) { publish(between.mixed + head * stride + place, value, row.epoch); });
      }

      normed(layer.input_gate, layer.post_norm, between.mixed, heads.heads);
      multiply_normed(Turn<type, GATE_UP, OverClusters>{}, shared.x[0], shared.squares[0], known<HIDDEN>(layer.matrices[GATE_UP], sizes.hidden, 2 * sizes.intermediate),
               inner_count, [&](int place, float value) { to_all(Lanes<WARP / 4>{}, &shared.x[1][spread<type>(place)], value); },
               [] { cluster_arrive(); });
      cluster_wait();
      Pair* const its_update = between.update + (row.epoch & 1 ? clusters * stride : 0);
      multiply(Turn<type, DOWN, OverClusters>{}, shared.x[1], known<HIDDEN>(layer.matrices[DOWN], sizes.intermediate, sizes.hidden), inner_columns, sizes.hidden,
               [&](int place, float value) { publish(its_update + head * stride + place, value, row.epoch); });
      update = its_update;
    }

    if (keeps) __threadfence();  // what it has kept is there for whoever sees its draw
    normed(shared.layers[of.layer_count - 1].post_gate, of.norm, update, clusters);
    if (!draw_next(of, shared, ring, row, abort, [&](auto emit) {
          multiply_normed(Turn<type, HEAD, OverClusters>{}, shared.x[0], shared.squares[0], known<HIDDEN>(of.head, sizes.hidden, of.head.outer), of.draw.vocabulary, emit,
                          Nothing{});
        }))
      break;
  }

  ring.drain();
  leave(of, row);
  // Nobody ends while a peer may write to it.
  cluster_arrive();
  cluster_wait();
#endif
}

}  // namespace doge
