// draw: from logits to the next id, exactly as core's sampling.ts defines it (docs/contract.md, S3), and ln p of given ids.
//
// One block a row of logits. Rows without filters take one pass over them (scores.cuh), others mostly two (filters.cuh). Scores over the
// temperature, probabilities and noise are in double precision, as core's; sums run in one order.
#pragma once
#include "filters.cuh"

namespace doge {

/** Whether logits have no NaN and something finite; to every thread. */
__device__ __forceinline__ bool sound(const float* logits, int vocabulary, int* shared) {
  int counts[2] = {};  // NaN, finite
  for (int id = static_cast<int>(threadIdx.x); id < vocabulary; id += DRAW_THREADS) {
    counts[0] += logits[id] != logits[id] ? 1 : 0;
    counts[1] += is_finite(logits[id]) ? 1 : 0;
  }
  block_sums(counts, shared);
  return counts[0] == 0 && counts[1] > 0;
}

/** ln sum exp(logit) of sound logits, to every thread; NaN when one is infinite. */
__device__ __forceinline__ double log_sum_exp(const float* logits, int vocabulary, double* shared) {
  double highest = -INFINITY;
  for (int id = static_cast<int>(threadIdx.x); id < vocabulary; id += DRAW_THREADS)
    highest = static_cast<double>(logits[id]) > highest ? static_cast<double>(logits[id]) : highest;
  highest = block_max(highest, shared);
  if (highest == INFINITY) return NAN;
  double total = 0.0;
  for (int id = static_cast<int>(threadIdx.x); id < vocabulary; id += DRAW_THREADS)
    total += exp(static_cast<double>(logits[id]) - highest);
  return highest + log(block_sum(total, shared));
}

/** A row draws no more, by one thread. */
__device__ __forceinline__ void leave(const DrawPlan& plan) {
  if (atomicAdd(&plan.progress->drawing, -1) == 1) plan.control->active = 0;
}

/** Draws the next id of each row that still draws, and notes it. Grid (rows of logits); rows[i] is the row of logits i,
 *  positions[i] < 0: none. */
__global__ void draw_kernel(DrawPlan plan, const int* rows, const int* positions) {
  await_earlier();
  __shared__ DrawShared shared;
  const size_t index = blockIdx.x;
  // One thread of a launch asks the host whether to go on, early, and notes the answer for the next step.
  const int aborted = index == 0 && threadIdx.x == 0 ? plan.control->abort : 0;
  const int row = rows[index];
  RowState& state = plan.states[row];
  if (positions[index] < 0 || state.left <= 0) {
    if (aborted != 0) plan.progress->aborted = 1;
    return;
  }
  const int vocabulary = plan.vocabulary;
  const float* const logits = plan.logits + index * static_cast<size_t>(vocabulary);
  float* const scores = plan.scores + index * static_cast<size_t>(vocabulary);
  double* const weights = plan.weights + index * static_cast<size_t>(vocabulary);
  int id = unfiltered(state) ? greatest(plan, state, logits, shared) : chosen(plan, state, logits, scores, weights, shared);
  if (aborted != 0) plan.progress->aborted = 1;
  double normalizer = 0.0;
  if (id != UNSOUND && state.alternatives >= 0) {
    normalizer = log_sum_exp(logits, vocabulary, shared.sums);
    if (normalizer != normalizer) id = UNSOUND;
  }
  if (id == UNSOUND) {
    __syncthreads();
    if (threadIdx.x == 0) {
      atomicMin(const_cast<int*>(&plan.control->failed), row);
      state.left = -1;
      leave(plan);
    }
    return;
  }
  if (id >= 0 && state.alternatives > 0) {
    const int at = state.top_out + state.drawn * state.alternatives;
    unsigned long long previous = ~0ull;
    for (int place = 0; place < state.alternatives && place < vocabulary; place++) {
      unsigned long long key = 0;
      for (int each = static_cast<int>(threadIdx.x); each < vocabulary; each += DRAW_THREADS) {
        const unsigned long long its = ranked(logits[each], each);
        if (its < previous && its > key) key = its;
      }
      previous = block_max(key, shared.keys);
      const int likely = id_of(previous);
      if (threadIdx.x == 0) {
        plan.top_ids[at + place] = likely;
        plan.top_logprobs[at + place] = static_cast<float>(static_cast<double>(logits[likely]) - normalizer);
      }
    }
  }
  __syncthreads();  // all have read the state
  if (threadIdx.x != 0) return;
  if (id == NOTHING) {
    state.left = -1;
    leave(plan);
    return;
  }
  const int place = state.out + state.drawn;
  plan.ids[place] = id;
  if (state.alternatives >= 0) plan.logprobs[place] = static_cast<float>(static_cast<double>(logits[id]) - normalizer);
  state.last = id;
  state.drawn++;
  state.position++;
  state.left--;
  if (state.seen >= 0) plan.words[state.seen + (id >> 5)] |= 1u << (id & 31);
  for (int stop = 0; stop < state.stop_count; stop++) {
    if (plan.words[state.stops + stop] != static_cast<unsigned>(id)) continue;
    state.left = 0;
    state.stopped = 1;
  }
  if (state.left == 0) leave(plan);
}

/** out[i] = ln p of the id next[i] after logits i. Grid (rows of logits). */
__global__ void score_kernel(float* out, const float* logits, const int* next, const int* rows, int vocabulary, Control* control) {
  await_earlier();
  __shared__ DrawShared shared;
  const size_t index = blockIdx.x;
  const float* const own = logits + index * static_cast<size_t>(vocabulary);
  double normalizer = NAN;
  if (sound(own, vocabulary, shared.counts)) normalizer = log_sum_exp(own, vocabulary, shared.sums);
  if (threadIdx.x != 0) return;
  if (normalizer != normalizer)
    atomicMin(const_cast<int*>(&control->failed), rows[index]);
  else
    out[index] = static_cast<float>(static_cast<double>(own[next[index]]) - normalizer);
}

}  // namespace doge
