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
#include "decode_attention.cuh"
#include "decode_merge.cuh"
#include "embed.cuh"
#include "rmsnorm.cuh"
#include "rows.cuh"

namespace doge {

/** The better of two draws: the higher score, and of equal ones the lower id. No score is 0, and one that is none all ones. */
struct Best {
  unsigned long long score;
  int id;
  unsigned told;
};
static_assert(sizeof(DecodeLayer) % 4 == 0, "it is copied in words");
__device__ __forceinline__ unsigned long long ordered(double value) {
  const unsigned long long bits = static_cast<unsigned long long>(__double_as_longlong(value == 0.0 ? 0.0 : value));
  return bits >> 63 ? ~bits : bits | 1ull << 63;
}
__device__ __forceinline__ Best better(const Best& a, const Best& b) {
  const bool first = a.score > b.score || (a.score == b.score && a.id < b.id);
  return {first ? a.score : b.score, first ? a.id : b.id, a.told | b.told};
}
__device__ __forceinline__ Best block_best(Best mine, DecodeShared& shared, int which) {
  const int lane = static_cast<int>(threadIdx.x) % WARP;
  for (int mask = WARP / 2; mask > 0; mask /= 2)
    mine = better(mine, Best{__shfl_xor_sync(ALL, mine.score, mask), __shfl_xor_sync(ALL, mine.id, mask), __shfl_xor_sync(ALL, mine.told, mask)});
  if (lane == 0) {
    shared.best[which][threadIdx.x / WARP] = mine.score;
    shared.ids[which][threadIdx.x / WARP] = mine.id;
    shared.told[which][threadIdx.x / WARP] = mine.told;
  }
  __syncthreads();
  mine = {shared.best[which][0], shared.ids[which][0], shared.told[which][0]};
  for (int warp = 1; warp < DECODE_WARPS; warp++) mine = better(mine, Best{shared.best[which][warp], shared.ids[which][warp], shared.told[which][warp]});
  return mine;
}

/** Forms with known sizes are compiled for compute capability 9.0, where they were measured: elsewhere they would be megabytes for a guess. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900
#define DOGE_KNOWN_SIZES 1
#else
#define DOGE_KNOWN_SIZES 0
#endif

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
  constexpr int PAIRS = PAIRS_OF<HIDDEN>, INNER_PAIRS = PAIRS_OF<2 * HIDDEN>;
  const Sizes sizes = known<HIDDEN>(of.sizes);
  const Heads heads = known<HIDDEN>(of.heads);
  const int dim = heads.head_dim;
  const int group = heads.heads / heads.kv_heads;
  const int queries = heads.heads * dim;
  const Exchanges& between = of.between;

  const int words = static_cast<int>(sizeof(DecodeLayer) / 4);
  for (int index = thread; index < of.layer_count * words; index += DECODE_THREADS)
    reinterpret_cast<unsigned*>(shared.layers)[index] = reinterpret_cast<const unsigned*>(of.layers)[index];
  for (int index = thread; index < 2 * DECODE_WIDTH; index += DECODE_THREADS) shared.x[index / DECODE_WIDTH][index % DECODE_WIDTH] = 0.0f;
  // A group of one head has no weights for a second.
  for (int index = thread; index < DECODE_GROUP * CHUNK_SLOTS; index += DECODE_THREADS) shared.weights[index / CHUNK_SLOTS][index % CHUNK_SLOTS] = 0.0f;
  const RowState state = of.draw.states[0];
  for (int index = thread; index * PAGE < state.position + of.steps - 1 && index < DECODE_CONTEXT / PAGE; index += DECODE_THREADS)
    shared.pages[index] = of.call_pages[state.first_page + index];
  int left = state.left, position = state.position - 1, id = state.last, drawn = state.drawn;
  bool stopped = false, failed = false;
  unsigned epoch = *between.epoch;
  if (thread == 0) {
    const int counts[] = {heads.qkv_stride, sizes.hidden, sizes.intermediate, sizes.hidden, of.draw.vocabulary};
    for (int which = 0; which < MATRICES; which++) shared.counts[which] = counts[which];
    shared.head = of.head;
  }
  __syncthreads();
  // Turns go to the warps of all blocks: those of one block follow each other last.
  Ring<type> ring(of, shared, units + own_warp() * of.units * UNIT_BYTES, block + blocks * own_warp(), blocks * DECODE_WARPS);

  const bool attends = block < heads.kv_heads * of.slices;
  const int keeper = block - heads.kv_heads * of.slices;  // of which key/value head
  const bool keeps = keeper >= 0 && keeper < heads.kv_heads;
  int which = 0;  // of the two arrays in shared memory that phases use in turn
  float x[PAIRS][2];

  const auto columns = [&](auto what) {
    const int thread = own_thread();
#pragma unroll
    for (int each = 0; each < PAIRS; each++)
#pragma unroll
      for (int side = 0; side < 2; side++) {
        const int column = 2 * (thread + each * DECODE_THREADS) + side;
        if (column < sizes.hidden) what(each, side, column);
      }
  };
  // x <- the embedding of `id`, and its norm to shared memory, for all warps: as rmsnorm_kernel computes it, to the bit.
  const auto embedded = [&](const float* weight) {
    which ^= 1;
    const int thread = own_thread();
    float scales[PAIRS][2] = {};
    columns([&](int each, int side, int column) {
      x[each][side] = element(of.embedding, static_cast<size_t>(id), column);
      scales[each][side] = weight[column];
    });
    if (attends) __threadfence();  // what was kept before the last draw is seen; the embedding is waited for anyway
    float squares = 0.0f;
    columns([&](int each, int side, int) { squares = __fmaf_rn(x[each][side], x[each][side], squares); });
    squares = warp_sum(squares);
    if (thread % WARP == 0) shared.squares[which][thread / WARP] = squares;
    __syncthreads();
    squares = shared.squares[which][0];
    for (int each = 1; each < DECODE_WARPS; each++) squares += shared.squares[which][each];
    const float scale = 1.0f / sqrtf(squares / static_cast<float>(sizes.hidden) + of.epsilon);
    columns([&](int each, int side, int column) { shared.x[which][spread<type>(column)] = scales[each][side] * (x[each][side] * scale); });
    __syncthreads();
  };
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
    columns([&](int each, int side, int column) {
      gates[each][side] = gate[column];
      scales[each][side] = weight[column];
    });
    uint2 numbers[PAIRS];
    await(numbers, from, epoch, wanted, single);
    float squares = 0.0f;
    columns([&](int each, int side, int column) {
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

  for (int step = 0; step < of.steps && left > 0 && !stopped; step++) {
    int abort = 0;
    if (thread < dim / 2) {
      shared.cosine[thread] = shared.layers[0].rope.cosine[static_cast<size_t>(position) * static_cast<size_t>(dim / 2) + static_cast<size_t>(thread)];
      shared.sine[thread] = shared.layers[0].rope.sine[static_cast<size_t>(position) * static_cast<size_t>(dim / 2) + static_cast<size_t>(thread)];
    }

    for (int depth = 0; depth < of.layer_count; depth++) {
      const DecodeLayer& layer = shared.layers[depth];
      PageShape page = of.page;
      page.layer_at = of.layer_bytes * static_cast<size_t>(depth);
      if (depth == 0) {
        embedded(layer.input_norm);
        // Far away: asked for early, but not in front of this fence, which would wait for it, nor where a slice would wait at the ring's.
        if (block == blocks - 1 && thread == 0) abort = of.draw.control->abort;
      } else {
        normed(shared.layers[depth - 1].post_gate, layer.input_norm, between.update);
      }
      epoch++;
      multiply_normed(Turn<type, QKV>{}, depth == 0 ? nullptr : shared.squares[which], known<HIDDEN>(layer.matrices[QKV], sizes.hidden, heads.qkv_stride),
                      heads.qkv_stride, [&](int place, float value) { publish(between.qkv + place, value, epoch); });

      if (attends) attend(of, heads, layer.rope, page, block / of.slices, block % of.slices, position, epoch, shared);
      if (keeps && own_warp() < group) keep(of, heads, layer.rope, page, keeper * group + own_warp(), position, epoch, shared);

      // The slices of each head become one.
      which ^= 1;
      constexpr int AT_ONCE = HIDDEN == 0 ? 1 : PAIRS;
#pragma unroll 1
      for (int start = 0; start < queries; start += 2 * DECODE_THREADS * AT_ONCE)
        merge<AT_ONCE>(of, heads, start, position, epoch, [&](int column, float value) { shared.x[which][spread<type>(column)] = value; });
      __syncthreads();
      multiply(Turn<type, OUTPUT>{}, known<HIDDEN>(layer.matrices[OUTPUT], queries, sizes.hidden), sizes.hidden, [&](int place, float value) { publish(between.mixed + place, value, epoch); });

      normed(layer.input_gate, layer.post_norm, between.mixed);
      multiply_normed(Turn<type, GATE_UP>{}, shared.squares[which], known<HIDDEN>(layer.matrices[GATE_UP], sizes.hidden, 2 * sizes.intermediate), sizes.intermediate,
               [&](int place, float value) { publish(between.gated + place, value, epoch); });

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
        await(numbers, from, epoch, wanted, single);
#pragma unroll
        for (int each = 0; each < INNER_PAIRS; each++) {
          const int column = 2 * (thread + each * DECODE_THREADS);
          if (column < sizes.intermediate) shared.x[which][spread<type>(column)] = number(numbers[each].x);
          if (column + 1 < sizes.intermediate) shared.x[which][spread<type>(column + 1)] = number(numbers[each].y);
        }
      }
      __syncthreads();
      multiply(Turn<type, DOWN>{}, known<HIDDEN>(layer.matrices[DOWN], sizes.intermediate, sizes.hidden), sizes.hidden,
               [&](int place, float value) { publish(between.update + place, value, epoch); });
    }

    const Matrix head = known<HIDDEN>(of.head, sizes.hidden, of.head.outer);
    if (keeps) __threadfence();  // what it has kept is there for whoever sees its draw
    normed(shared.layers[of.layer_count - 1].post_gate, of.norm, between.update);
    if (of.logits != nullptr) {
      multiply_normed(Turn<type, HEAD>{}, shared.squares[which], head, of.draw.vocabulary, [&](int output, float value) { of.logits[output] = value; });
      break;
    }
    Best best{0, NOBODY, abort != 0 ? DRAW_ABORTED : 0};
    multiply_normed(Turn<type, HEAD>{}, shared.squares[which], head, of.draw.vocabulary, [&](int output, float logit) {
      best.told |= is_finite(logit) ? DRAW_FINITE : 0;
      if (logit != logit) best.score = ~0ull;
      const float score = score_of(of.draw, state, output, logit);
      if (score != -INFINITY) best = better(best, Best{ordered(with_noise(state, output, score, position + 1)), output, 0});
    });
    best = block_best(best, shared, 0);
    if (thread == 0) {
      Pair* const own = between.draws + 4 * block;
      publish(own, static_cast<unsigned>(best.score), epoch);
      publish(own + 1, static_cast<unsigned>(best.score >> 32), epoch);
      publish(own + 2, static_cast<unsigned>(best.id), epoch);
      publish(own + 3, best.told, epoch);
    }
    ring.refill();
    const Pair* const own_draw = between.draws + 4 * min(thread, blocks - 1);
    const Pair* const from[2] = {own_draw, own_draw + 2};
    uint2 numbers[2];
    await(numbers, from, epoch, thread < blocks ? 3 : 0);
    best = Best{0, NOBODY, 0};
    if (thread < blocks) best = Best{static_cast<unsigned long long>(numbers[0].y) << 32 | numbers[0].x, static_cast<int>(numbers[1].x), numbers[1].y};
    best = block_best(best, shared, 1);

    failed = best.score == ~0ull || (best.told & DRAW_FINITE) == 0;
    if (failed || best.score == 0) {
      left = -1;
      break;
    }
    id = best.id;
    position++;
    left--;
    if (thread == 0 && block == id / own_of(HEAD) % ring.warps % blocks && state.seen >= 0) atomicOr(of.draw.words + state.seen + (id >> 5), 1u << (id & 31));
    if (thread == 0 && block == 0) of.draw.ids[state.out + drawn] = id;
    drawn++;
    for (int stop = 0; stop < state.stop_count; stop++) stopped = stopped || of.draw.words[state.stops + stop] == static_cast<unsigned>(id);
    if ((best.told & DRAW_ABORTED) != 0) break;
  }

  ring.drain();
  // Everybody has read what the first block now writes: it got here by their numbers.
  if (block != 0 || thread != 0) return;
  *between.epoch = epoch;
  if (of.logits != nullptr) return;
  if (failed) of.draw.control->failed = 0;
  if (left <= 0 || stopped) of.draw.control->active = 0;
  RowState& to = of.draw.states[0];
  to.last = id;
  to.drawn = drawn;
  to.position = position + 1;
  to.left = stopped ? 0 : left;
  to.stopped = stopped ? 1 : 0;
}

}  // namespace doge
