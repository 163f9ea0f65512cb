// decode: steps of one row, layers and draws, in one launch: a block for each processor, which stays for all of them.
//
// Every block keeps the residual stream and computes norms for itself. Five exchanges a layer (exchange.cuh) stand where launches would:
// projections, slices of attention, its output, the gated unit, and what goes back into the stream; one more for the draw. While a block
// waits for numbers, the weights that it multiplies them with come through its ring (ring.cuh), and those of the next layer behind them.
//
// A matrix's rows belong to the warps of all blocks in turn. The keys before a step's token are attended to by a few blocks for each
// key/value head, its slices, 64 slots to one in turn; the token's own key by another, which also keeps it. Sums run in the order of
// matmul_kernel, and layer 0's first norm in that of rmsnorm_kernel, so equal tokens have bit-equal values there beside those of prompts;
// the scale of every other norm is multiplied with the sums, where nobody waits for it. For models without experts, without a window in
// force, and of bounded size (decodes).
#pragma once
#include "decode_pairs.cuh"
#include "decode_steps.cuh"
#include "rmsnorm.cuh"

namespace doge {

/** Grid (blocks), all of them on the device at once. */
template <Type type, int HIDDEN>
__global__ void __launch_bounds__(DECODE_THREADS, 1) decode_kernel(Decoding of) {
#if !DOGE_KNOWN_SIZES
  if constexpr (HIDDEN > 0) return;
#endif
  __shared__ DecodeShared shared;
  DOGE_SHARED(units);
  const int thread = static_cast<int>(threadIdx.x);
  const int block = static_cast<int>(blockIdx.x);
  const int blocks = static_cast<int>(gridDim.x);
  using Kept = KeptUnder<type>;
  constexpr int PAIRS = PAIRS_OF<HIDDEN>, INNER_PAIRS = PAIRS_OF<2 * HIDDEN>;
  const Sizes sizes = known<HIDDEN>(of.sizes);
  const Heads heads = known<HIDDEN>(of.heads);
  const int dim = heads.head_dim;
  const int group = heads.heads / heads.kv_heads;
  const int queries = heads.heads * dim;
  const Exchanges& between = of.between;

  Steps row = begin(of, shared);
  if (thread == 0) {
    const int counts[] = {heads.qkv_stride, sizes.hidden, sizes.intermediate, sizes.hidden, of.draw.vocabulary};
    for (int which = 0; which < MATRICES; which++) {
      const Matrix& its = which == HEAD ? of.head : of.layers[0].matrices[which];
      shared.dealt[which] = {counts[which], its.stride, its.outer / 2, its.outer};
    }
  }
  __syncthreads();
  // Turns go to the warps of all blocks: those of one block follow each other last.
  const Team team{block + blocks * own_warp(), blocks * DECODE_WARPS};
  Ring<type, OverBlocks> ring(of, shared, units + own_warp() * of.units * UNIT_BYTES, team, team);

  const bool attends = block < heads.kv_heads * of.slices;
  const int keeper = block - heads.kv_heads * of.slices;  // of which key/value head
  const bool keeps = keeper >= 0 && keeper < heads.kv_heads;
  int which = 0;  // of the two arrays in shared memory that phases use in turn
  float x[PAIRS][2] = {};

  // x <- gate x + update, as soon as that comes, and with the norm's weights to shared memory. The norm's scale is the products' (Turn).
  const auto normed = [&](const float* gate, const float* weight, const Pair* update) {
    which ^= 1;
    const int thread = own_thread();
    float gates[PAIRS][2] = {}, scales[PAIRS][2] = {};
    const Pair* from[PAIRS];
    unsigned wanted = 0, single = 0;
#pragma unroll
    for (int each = 0; each < PAIRS; each++) {
      const int column = 2 * (thread + each * DECODE_THREADS);
      from[each] = update + (column < sizes.hidden ? column : 0);
      if (column < sizes.hidden) wanted |= 1u << each;
      if (column + 1 == sizes.hidden) single |= 1u << each;
    }
    own_columns<PAIRS>(sizes.hidden, [&](int each, int side, int column) {
      gates[each][side] = gate[column];
      scales[each][side] = weight[column];
    });
    uint2 numbers[PAIRS];
    await(numbers, from, row.epoch, wanted, single);
    float squares = 0.0f;
    own_columns<PAIRS>(sizes.hidden, [&](int each, int side, int column) {
      x[each][side] = __fmaf_rn(gates[each][side], x[each][side], number(side == 0 ? numbers[each].x : numbers[each].y));
      squares = __fmaf_rn(x[each][side], x[each][side], squares);
      shared.x[which][spread<type>(column)] = scales[each][side] * x[each][side];
    });
    shared.squares[which][thread] = squares;
    __syncthreads();
  };
  const auto multiply = [&](auto turn, const Matrix& weight, int count, auto emit) {
    decltype(turn)::template multiply<false>(ring, weight, shared.x[which], nullptr, 0.0f, count, emit);
  };
  const auto multiply_normed = [&](auto turn, const float* squares, const Matrix& weight, int count, auto emit) {
    decltype(turn)::template multiply<true>(ring, weight, shared.x[which], squares, of.epsilon, count, emit);
  };

  for (int step = 0; step < of.steps && row.left > 0 && !row.stopped; step++) {
    int abort = 0;
    put_angles(shared, dim, row.position);

    for (int depth = 0; depth < of.layer_count; depth++) {
      const DecodeLayer& layer = shared.layers[depth];
      PageShape page = of.page;
      page.layer_at = page.layer_bytes * static_cast<size_t>(depth);
      if (depth == 0) {
        which ^= 1;
        embed_normed<type>(x, of, shared, which, sizes.hidden, row.id, layer.input_norm, attends);
        // Far away: asked for early, but not in front of this fence, which would wait for it, nor where a slice would wait at the ring's.
        if (block == blocks - 1 && thread == 0) abort = of.draw.control->abort;
      } else {
        normed(shared.layers[depth - 1].post_gate, layer.input_norm, between.update);
      }
      row.epoch++;
      multiply_normed(Turn<type, QKV, OverBlocks>{}, depth == 0 ? nullptr : shared.squares[which], known<HIDDEN>(layer.matrices[QKV], sizes.hidden, heads.qkv_stride),
                      heads.qkv_stride, [&](int place, float value) { publish(between.qkv + place, value, row.epoch); });

      if (attends) attend_by_pairs<Kept>(of, heads, layer.rope, page, block / of.slices, block % of.slices, row.position, row.epoch, shared);
      if (keeps && own_warp() < group) keep_by_pairs<Kept>(of, heads, layer.rope, page, keeper * group + own_warp(), row.position, row.epoch, shared);

      // The slices of each head become one.
      which ^= 1;
      constexpr int AT_ONCE = HIDDEN == 0 ? 1 : PAIRS;
#pragma unroll 1
      for (int start = 0; start < queries; start += 2 * DECODE_THREADS * AT_ONCE)
        merge<Kept, AT_ONCE>(of, heads, start, row.position, row.epoch, [&](int column, float value) { shared.x[which][spread<type>(column)] = value; });
      __syncthreads();
      multiply(Turn<type, OUTPUT, OverBlocks>{}, known<HIDDEN>(layer.matrices[OUTPUT], queries, sizes.hidden), sizes.hidden, [&](int place, float value) { publish(between.mixed + place, value, row.epoch); });

      normed(layer.input_gate, layer.post_norm, between.mixed);
      multiply_normed(Turn<type, GATE_UP, OverBlocks>{}, shared.squares[which], known<HIDDEN>(layer.matrices[GATE_UP], sizes.hidden, 2 * sizes.intermediate), sizes.intermediate,
               [&](int place, float value) { publish(between.gated + place, value, row.epoch); });

      which ^= 1;
      {
        const int thread = own_thread();
        const Pair* from[INNER_PAIRS];
        unsigned wanted = 0, single = 0;
#pragma unroll
        for (int each = 0; each < INNER_PAIRS; each++) {
          const int column = 2 * (thread + each * DECODE_THREADS);
          from[each] = between.gated + (column < sizes.intermediate ? column : 0);
          if (column < sizes.intermediate) wanted |= 1u << each;
          if (column + 1 == sizes.intermediate) single |= 1u << each;
        }
        uint2 numbers[INNER_PAIRS];
        await(numbers, from, row.epoch, wanted, single);
#pragma unroll
        for (int each = 0; each < INNER_PAIRS; each++) {
          const int column = 2 * (thread + each * DECODE_THREADS);
          if (column < sizes.intermediate) shared.x[which][spread<type>(column)] = number(numbers[each].x);
          if (column + 1 < sizes.intermediate) shared.x[which][spread<type>(column + 1)] = number(numbers[each].y);
        }
      }
      __syncthreads();
      multiply(Turn<type, DOWN, OverBlocks>{}, known<HIDDEN>(layer.matrices[DOWN], sizes.intermediate, sizes.hidden), sizes.hidden,
               [&](int place, float value) { publish(between.update + place, value, row.epoch); });
    }

    const Matrix head = known<HIDDEN>(of.head, sizes.hidden, of.head.outer);
    if (keeps) __threadfence();  // what it has kept is there for whoever sees its draw
    normed(shared.layers[of.layer_count - 1].post_gate, of.norm, between.update);
    if (!draw_next(of, shared, ring, row, abort, [&](auto emit) {
          multiply_normed(Turn<type, HEAD, OverBlocks>{}, shared.squares[which], head, of.draw.vocabulary, emit);
        }))
      break;
  }

  ring.drain();
  leave(of, row);
}

}  // namespace doge
