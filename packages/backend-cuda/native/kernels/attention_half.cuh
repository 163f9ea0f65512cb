// attention for many tokens of one row in half precision, by warpgroups, where no window drops keys: 64 queries of a head against the
// keys they see, 64 at a time, with the running softmax of flash attention. Each group of four warps takes a head, and two heads that
// read the same keys share a block. A group's queries stay in its registers, and so do the weights that multiply the values.
//
// While a chunk's scores become weights, the values of the chunk before are being multiplied: each turn asks for its own scores and for
// the sums of the turn before, and waits for one after the other. So keys and values arrive one turn apart.
//
// The keys and values of the run itself are halves that rope has written beside the projections, the same as in their pages; those of earlier
// calls past_kernel has brought from there.
//
// Sources: Dao, FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning; Shah et al., FlashAttention-3: Fast
// and Accurate Attention with Asynchrony and Low-precision.
#pragma once
#include "meeting.cuh"
#include "past.cuh"
#include "warpgroup.cuh"

namespace doge {

/** Heads that are taken: of up to this many numbers, and a multiple of 8. */
constexpr int HALF_HEAD = 128;

/** Shared memory: places for the keys of a turn and the values of the turn before, both as operands of 64 rows. */
template <int DIM, int GROUPS>
struct ChunkStages {
  static constexpr int BLOCK = CHUNK * ROW_BYTES;  // 64 numbers of every key
  static constexpr int OPERAND = DIM / DEEP * BLOCK;
  static constexpr int BYTES = 2 * OPERAND;
  static constexpr int COUNT = GROUPS == 1 ? 3 : 4;
  static constexpr int AHEAD = COUNT - 1;
};

/** Softmax attention as attention_kernel, into halves. Grid (heads / GROUPS, units); `halves` (tokens, qkv_stride): queries, keys and
 *  values as rope leaves them; `biases` (tokens, delta_stride); `past`: those of earlier calls; `scale`: what scores are
 *  multiplied by, times log2(e). The heads of a block have one key/value head. */
template <int DIM, int GROUPS>
__global__ void __launch_bounds__(GROUPS * GROUP_THREADS, GROUPS == 1 ? 2 : 1)
    attention_half_kernel(unsigned short* mixed, int mixed_stride, const unsigned short* halves, const float* biases, Past past, const QueryUnit* units,
                          Heads shape, float scale, Meeting meeting) {
  await_earlier();
#if DOGE_WARPGROUP
  using Stages = ChunkStages<DIM, GROUPS>;
  constexpr int THREADS = GROUPS * GROUP_THREADS;
  constexpr int STEPS = CHUNK / STEP;
  DOGE_SHARED(shared);
  __shared__ float its_biases[GROUPS][Stages::COUNT][CHUNK];
  const QueryUnit unit = units[blockIdx.y];
  const int group = static_cast<int>(threadIdx.x) / GROUP_THREADS;
  const int thread = static_cast<int>(threadIdx.x) % GROUP_THREADS;
  const int g = thread % WARP / 4, t = thread % 4;
  const int mine = thread / WARP * 16 + g;  // of the tile's rows, and mine + 8
  const int head = static_cast<int>(blockIdx.x) * GROUPS + group;
  const int kv_head = head / (shape.heads / shape.kv_heads);
  const int bias_head = head / (shape.heads / shape.bias_heads);
  const int dim = shape.head_dim;
  const int before = unit.position - (unit.first - unit.start);  // slots of earlier calls
  const int slots = unit.position + unit.count;
  const int turns = (chunks_of(slots) - unit.share + unit.shares - 1) / unit.shares;
  const auto base_of = [&](int turn) { return (turn * unit.shares + unit.share) * CHUNK; };

  // A thread brings the same place of some rows, whose places are exchanged alike: they are a multiple of eight apart.
  constexpr int PLACES = DIM / 8, APART = THREADS / PLACES;
  const int place = static_cast<int>(threadIdx.x) % PLACES, own_row = static_cast<int>(threadIdx.x) / PLACES;
  const int own_at = place / 8 * Stages::BLOCK + operand_at(own_row, place % 8);
  const unsigned short* const run = halves + static_cast<size_t>(unit.start) * static_cast<size_t>(shape.qkv_stride) + kv_head * dim + place * 8;
  const unsigned short* const earlier = past.halves + static_cast<size_t>(unit.past) * static_cast<size_t>(past_stride(shape)) + kv_head * dim + place * 8;
  const bool held = place * 8 < dim;
  const auto bring = [&](unsigned char* operand, int base, int run_at, int earlier_at) {
    unsigned char* const to = operand + own_at;
    if (base >= before && base + CHUNK <= slots) {
      const unsigned short* const from = run + run_at + static_cast<ptrdiff_t>(base + own_row - before) * shape.qkv_stride;
#pragma unroll
      for (int row = 0; row < CHUNK; row += APART) copy_async(to + row * ROW_BYTES, from + static_cast<ptrdiff_t>(row) * shape.qkv_stride, held);
      return;
    }
#pragma unroll 1
    for (int row = 0; row < CHUNK; row += APART) {
      const int slot = base + own_row + row;
      const bool valid = held && slot < slots;
      const unsigned short* const from = slot >= before ? run + run_at + static_cast<ptrdiff_t>(slot - before) * shape.qkv_stride
                                                        : earlier + earlier_at + static_cast<ptrdiff_t>(slot) * past_stride(shape);
      copy_async(to + row * ROW_BYTES, valid ? from : halves, valid);
    }
  };
  // The keys and biases of a turn, and the values of the one before.
  const auto load = [&](int turn) {
    unsigned char* const stage = shared + turn % Stages::COUNT * Stages::BYTES;
    if (turn < turns) {
      const int base = base_of(turn);
      bring(stage, base, shape.key_at, 0);
      if (thread < CHUNK) {
        const int slot = base + thread;
        const float* const from = slot >= before ? biases + static_cast<size_t>(unit.start + slot - before) * static_cast<size_t>(shape.delta_stride)
                                                 : past.biases + static_cast<size_t>(unit.past + slot) * static_cast<size_t>(shape.bias_heads);
        copy_async_word(&its_biases[group][turn % Stages::COUNT][thread], slot < slots ? from + bias_head : biases, slot < slots);
      }
    }
    if (turn > 0 && turn <= turns) bring(stage + Stages::OPERAND, base_of(turn - 1), shape.value_at, shape.kv_heads * dim);
    copy_commit();
  };
#pragma unroll 1
  for (int turn = 0; turn < Stages::AHEAD; turn++) load(turn);

  // Left operands of the scores, as lanes hold them.
  unsigned queries[DIM / STEP][4];
#pragma unroll
  for (int down = 0; down < 2; down++) {
    const bool there = mine + 8 * down < unit.count;
    const unsigned* const from = reinterpret_cast<const unsigned*>(
        halves + static_cast<size_t>(unit.first + (there ? mine + 8 * down : 0)) * static_cast<size_t>(shape.qkv_stride) + head * dim + 2 * t);
#pragma unroll
    for (int step = 0; step < DIM / STEP; step++)
#pragma unroll
      for (int part = 0; part < 2; part++)
        queries[step][2 * part + down] = there && step * STEP + 8 * part < dim ? from[(step * STEP + 8 * part) / 2] : 0u;
  }

  float best[2] = {-INFINITY, -INFINITY};
  float total[2] = {};
  float fade[2];
  float scores[CHUNK / 2] = {};
  float sums[DIM / 2] = {};
  unsigned weights[STEPS][4] = {};

  /** Until this turn's operands are there for all, and those of the turn before are read by none. */
  const auto arrive = [&] {
    copy_wait<Stages::AHEAD - 1>();
    show_products();
    __syncthreads();
  };
  const auto ask_scores = [&](int turn) {
    const uint64_t keys = descriptor(shared + turn % Stages::COUNT * Stages::BYTES);
#pragma unroll
    for (int step = 0; step < DIM / STEP; step++)
      multiply_held<CHUNK, false>(scores, queries[step], further(keys, step * STEP / DEEP * Stages::BLOCK + step * STEP % DEEP * 2), step > 0);
    multiply_commit();
  };
  /** Of the values that came with a turn. */
  const auto ask_sums = [&](int turn) {
    const uint64_t values = descriptor(shared + turn % Stages::COUNT * Stages::BYTES + Stages::OPERAND, Stages::BLOCK);
#pragma unroll
    for (int step = 0; step < STEPS; step++) multiply_held<DIM, true>(sums, weights[step], further(values, step * STEP * ROW_BYTES), true);
    multiply_commit();
  };
  /** Scores become weights; best, total, and by how much what was summed before fades. */
  const auto weigh = [&](int turn) {
    const float* const bias = &its_biases[group][turn % Stages::COUNT][2 * t];
    const int behind = base_of(turn) - unit.position - mine;
    if (behind + CHUNK - 1 + g > 0) {
      // Not all slots are seen by all of the warp's tokens.
#pragma unroll
      for (int each = 0; each < CHUNK / 2; each++)
        if (behind + each / 4 * 8 + 2 * t + each % 2 > each / 2 % 2 * 8) scores[each] = -INFINITY;
    }
    float top[2] = {best[0], best[1]};
#pragma unroll
    for (int wide = 0; wide < CHUNK / 8; wide++)
#pragma unroll
      for (int part = 0; part < 4; part++) {
        float& score = scores[4 * wide + part];
        score = __fmaf_rn(score, scale, bias[8 * wide + part % 2] * LOG2E);
        top[part / 2] = fmaxf(score, top[part / 2]);
      }
    float least[2];
#pragma unroll
    for (int part = 0; part < 2; part++) {
      // The four lanes of a row.
#pragma unroll
      for (int mask = 1; mask <= 2; mask *= 2) top[part] = fmaxf(top[part], __shfl_xor_sync(ALL, top[part], mask));
      // Where nothing was seen yet all powers are 0.
      least[part] = top[part] == -INFINITY ? 0.0f : top[part];
      fade[part] = power_of_two(best[part] - least[part]);
      best[part] = top[part];
      total[part] *= fade[part];
    }
#pragma unroll
    for (int each = 0; each < CHUNK / 2; each++) {
      scores[each] = power_of_two(scores[each] - least[each / 2 % 2]);
      total[each / 2 % 2] += scores[each];
    }
  };
  /** What was summed so far fades, and the scores' weights become a left operand: once no product reads or writes either. */
  const auto turn_over = [&] {
    multiply_wait(sums);
#pragma unroll
    for (int each = 0; each < DIM / 2; each++) sums[each] *= fade[each / 2 % 2];
#pragma unroll
    for (int step = 0; step < STEPS; step++)
#pragma unroll
      for (int part = 0; part < 4; part++) weights[step][part] = half_pair_of(scores[8 * step + 2 * part], scores[8 * step + 2 * part + 1]);
  };
  const auto begin = [&] {
    settle(scores);
    settle(sums);
#pragma unroll
    for (int step = 0; step < STEPS; step++) settle(weights[step]);
    multiply_begin();
  };

  arrive();
  begin();
  ask_scores(0);
  load(Stages::AHEAD);
  multiply_wait(scores);
  weigh(0);
#pragma unroll 1
  for (int turn = 1; turn < turns; turn++) {
    // Here and not behind `weigh`, where the compiler would wait for sums first.
    turn_over();
    arrive();
    begin();
    ask_scores(turn);
    ask_sums(turn);
    load(turn + Stages::AHEAD);
    multiply_wait<1>(scores);
    weigh(turn);
  }
  turn_over();
  arrive();
  begin();
  ask_sums(turns);
  multiply_wait(sums);
  copy_wait<0>();
  let_next_come();

#pragma unroll
  for (int part = 0; part < 2; part++)
#pragma unroll
    for (int mask = 1; mask <= 2; mask *= 2) total[part] += __shfl_xor_sync(ALL, total[part], mask);

  if (unit.shares > 1 && !meet<DIM>(meeting, unit, shape.heads, head, sums, best, total)) return;

#pragma unroll
  for (int part = 0; part < 2; part++) {
    if (mine + 8 * part >= unit.count) continue;
    const float share = 1.0f / total[part];
    unsigned short* const to = mixed + static_cast<size_t>(unit.first + mine + 8 * part) * static_cast<size_t>(mixed_stride) + head * dim + 2 * t;
#pragma unroll
    for (int wide = 0; wide < DIM / 8; wide++)
      if (wide * 8 < dim) *reinterpret_cast<unsigned*>(to + wide * 8) = half_pair(sums[4 * wide + 2 * part] * share, sums[4 * wide + 2 * part + 1] * share);
  }
#endif
}

/** Whether heads of this many numbers are taken. */
inline bool attends_in_half(int head_dim) { return head_dim <= HALF_HEAD && head_dim % 8 == 0; }

/** Heads that a block takes, and blocks of them that a device has room for. */
inline int heads_together(const Heads& shape) { return shape.heads / shape.kv_heads % 2 == 0 ? 2 : 1; }
inline int places_for(int processors, int together) { return together == 2 ? processors : 2 * processors; }

/** The launch for some units (units_of). */
inline void attention_half(Device& device, int count, unsigned short* mixed, int mixed_stride, const unsigned short* halves, const float* biases,
                           const Past& past, const QueryUnit* units, const Heads& shape, const Meeting& meeting) {
  const int together = heads_together(shape);
  const dim3 grid(static_cast<unsigned>(shape.heads / together), static_cast<unsigned>(count));
  const auto launch = [&](auto kernel, int shared) {
    device.launch_with(shared, kernel, grid, together * GROUP_THREADS, mixed, mixed_stride, halves, biases, past, units, shape,
                       LOG2E / std::sqrt(static_cast<float>(shape.head_dim)), meeting);
  };
  const auto launch_for = [&](auto groups) {
    constexpr int GROUPS = decltype(groups)::value, SMALL = HALF_HEAD / 2;
    if (shape.head_dim <= SMALL)
      launch(attention_half_kernel<SMALL, GROUPS>, ChunkStages<SMALL, GROUPS>::COUNT * ChunkStages<SMALL, GROUPS>::BYTES);
    else
      launch(attention_half_kernel<HALF_HEAD, GROUPS>, ChunkStages<HALF_HEAD, GROUPS>::COUNT * ChunkStages<HALF_HEAD, GROUPS>::BYTES);
  };
  if (together == 2)
    launch_for(std::integral_constant<int, 2>{});
  else
    launch_for(std::integral_constant<int, 1>{});
}

}  // namespace doge
