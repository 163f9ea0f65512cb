// decode_steps: what every launch of all steps of one row (decode.cuh, clusters.cuh) does the same: its beginning, the embedding, the head with the
// draw, and what it leaves behind.
#pragma once
#include "decode_plan.cuh"
#include "embed.cuh"
#include "rows.cuh"

namespace doge {

/** Where the row is, the same in every block. */
struct Steps {
  const RowState state;
  int left, position, id, drawn;  // position: of the step's token
  bool stopped, failed;
  unsigned epoch;
};
static_assert(sizeof(DecodeLayer) % 4 == 0, "it is copied in words");

/** The row, and what stands in shared memory for all steps; a barrier follows. */
__device__ __forceinline__ Steps begin(const Decoding& of, DecodeShared& shared) {
  const int thread = own_thread();
  const int words = static_cast<int>(sizeof(DecodeLayer) / 4);
  for (int index = thread; index < of.layer_count * words; index += DECODE_THREADS)
    reinterpret_cast<unsigned*>(shared.layers)[index] = reinterpret_cast<const unsigned*>(of.layers)[index];
  for (int index = thread; index < 2 * DECODE_WIDTH; index += DECODE_THREADS) shared.x[index / DECODE_WIDTH][index % DECODE_WIDTH] = 0.0f;
  // A group of one head has no weights for a second.
  for (int index = thread; index < DECODE_GROUP * CHUNK_SLOTS; index += DECODE_THREADS) shared.weights[index / CHUNK_SLOTS][index % CHUNK_SLOTS] = 0.0f;
  const RowState state = of.draw.states[0];
  for (int index = thread; index * PAGE < state.position + of.steps - 1 && index < DECODE_CONTEXT / PAGE; index += DECODE_THREADS)
    shared.pages[index] = of.call_pages[state.first_page + index];
  if (thread == 0) shared.head = of.head;
  return {state, state.left, state.position - 1, state.last, state.drawn, false, false, *of.between.epoch};
}

/** The angles of a position, for all warps behind the next barrier. */
__device__ __forceinline__ void put_angles(DecodeShared& shared, int dim, int position) {
  const int thread = own_thread();
  if (thread >= dim / 2) return;
  shared.cosine[thread] = shared.layers[0].rope.cosine[static_cast<size_t>(position) * static_cast<size_t>(dim / 2) + static_cast<size_t>(thread)];
  shared.sine[thread] = shared.layers[0].rope.sine[static_cast<size_t>(position) * static_cast<size_t>(dim / 2) + static_cast<size_t>(thread)];
}

/** what(each, side, column) for the columns of a row of `width` numbers that are this thread's, pair by pair. */
template <int PAIRS, class What>
__device__ __forceinline__ void own_columns(int width, What what) {
  const int thread = own_thread();
#pragma unroll
  for (int each = 0; each < PAIRS; each++)
#pragma unroll
    for (int side = 0; side < 2; side++) {
      const int column = 2 * (thread + each * DECODE_THREADS) + side;
      if (column < width) what(each, side, column);
    }
}

/** x <- the embedding of `id`, this thread's columns of it, and its norm to array `which` for all warps: as rmsnorm_kernel computes it, to the
 *  bit. `attends`: this block reads what was kept. */
template <Type type, int PAIRS>
__device__ __forceinline__ void embed_normed(float (&x)[PAIRS][2], const Decoding& of, DecodeShared& shared, int which, int hidden, int id, const float* weight, bool attends) {
  const int thread = own_thread();
  float scales[PAIRS][2] = {};
  own_columns<PAIRS>(hidden, [&](int each, int side, int column) {
    x[each][side] = element(of.embedding, static_cast<size_t>(id), column);
    scales[each][side] = weight[column];
  });
  if (attends) __threadfence();  // what was kept before the last draw is seen; the embedding is waited for anyway
  float squares = 0.0f;
  own_columns<PAIRS>(hidden, [&](int each, int side, int) { squares = __fmaf_rn(x[each][side], x[each][side], squares); });
  squares = warp_sum(squares);
  if (thread % WARP == 0) shared.squares[which][thread / WARP] = squares;
  __syncthreads();
  squares = shared.squares[which][0];
  for (int each = 1; each < DECODE_WARPS; each++) squares += shared.squares[which][each];
  const float scale = 1.0f / sqrtf(squares / static_cast<float>(hidden) + of.epsilon);
  own_columns<PAIRS>(hidden, [&](int each, int side, int column) { shared.x[which][spread<type>(column)] = scales[each][side] * (x[each][side] * scale); });
  __syncthreads();
}

/** The better of two draws: the higher score, and of equal ones the lower id. No score is 0, and one that is none all ones. */
struct Best {
  unsigned long long score;
  int id;
  unsigned told;
};
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

/** The head's products and the draw from them: whether another step follows. multiply(emit) is the head's turns, of a normed row. */
template <class Its, class Multiply>
__device__ __forceinline__ bool draw_next(const Decoding& of, DecodeShared& shared, Its& ring, Steps& row, int abort, Multiply multiply) {
  if (of.logits != nullptr) {
    multiply([&](int output, float value) { of.logits[output] = value; });
    return false;
  }
  const int thread = own_thread();
  const int block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  const RowState& state = row.state;
  Best best{0, NOBODY, abort != 0 ? DRAW_ABORTED : 0};
  multiply([&](int output, float logit) {
    best.told |= is_finite(logit) ? DRAW_FINITE : 0;
    if (logit != logit) best.score = ~0ull;
    const float score = score_of(of.draw, state, output, logit);
    if (score != -INFINITY) best = better(best, Best{ordered(with_noise(state, output, score, row.position + 1)), output, 0});
  });
  best = block_best(best, shared, 0);
  if (thread == 0) {
    Pair* const own = of.between.draws + 4 * block;
    publish(own, static_cast<unsigned>(best.score), row.epoch);
    publish(own + 1, static_cast<unsigned>(best.score >> 32), row.epoch);
    publish(own + 2, static_cast<unsigned>(best.id), row.epoch);
    publish(own + 3, best.told, row.epoch);
  }
  ring.refill();
  const Pair* const own_draw = of.between.draws + 4 * min(thread, blocks - 1);
  const Pair* const from[2] = {own_draw, own_draw + 2};
  uint2 numbers[2];
  await(numbers, from, row.epoch, thread < blocks ? 3 : 0);
  best = Best{0, NOBODY, 0};
  if (thread < blocks) best = Best{static_cast<unsigned long long>(numbers[0].y) << 32 | numbers[0].x, static_cast<int>(numbers[1].x), numbers[1].y};
  best = block_best(best, shared, 1);

  row.failed = best.score == ~0ull || (best.told & DRAW_FINITE) == 0;
  if (row.failed || best.score == 0) {
    row.left = -1;
    return false;
  }
  const int id = best.id;
  row.id = id;
  row.position++;
  row.left--;
  if (thread == 0 && block == ring.turn_at(HEAD, id) % blocks && state.seen >= 0) atomicOr(of.draw.words + state.seen + (id >> 5), 1u << (id & 31));
  if (thread == 0 && block == 0) of.draw.ids[state.out + row.drawn] = id;
  row.drawn++;
  for (int stop = 0; stop < state.stop_count; stop++) row.stopped = row.stopped || of.draw.words[state.stops + stop] == static_cast<unsigned>(id);
  return (best.told & DRAW_ABORTED) == 0;
}

/** What the launch leaves behind. Everybody has read what the first block now writes: it got here by their numbers. */
__device__ __forceinline__ void leave(const Decoding& of, const Steps& row) {
  if (blockIdx.x != 0 || own_thread() != 0) return;
  *of.between.epoch = row.epoch;
  if (of.logits != nullptr) return;
  if (row.failed) of.draw.control->failed = 0;
  if (row.left <= 0 || row.stopped) of.draw.control->active = 0;
  RowState& to = of.draw.states[0];
  to.last = row.id;
  to.drawn = row.drawn;
  to.position = row.position + 1;
  to.left = row.stopped ? 0 : row.left;
  to.stopped = row.stopped ? 1 : 0;
}

}  // namespace doge
