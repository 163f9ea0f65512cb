// draw: from logits to the next id, exactly as core's sampling.ts defines it (docs/contract.md, S3), and ln p of given ids.
//
// One block a row of logits. Rows without filters take one pass over them (scores.cuh). Nothing is sorted: each filter is a cut through
// the ordered bit patterns of the scores, found four bits to a round. Scores over the temperature, probabilities and noise are in double
// precision, as core's; sums run in one order.
#pragma once
#include "scores.cuh"

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

/** The greatest bits for which the weights of the scores at or above both them and `floor` sum to `target` or more. */
template <class T, class Weight>
__device__ __forceinline__ unsigned cut_at(const float* scores, int vocabulary, unsigned floor, T target, Weight weight, T* shared) {
  unsigned cut = 0;
  for (int shift = 28; shift >= 0; shift -= 4) {
    T reached[15] = {};
    for (int id = static_cast<int>(threadIdx.x); id < vocabulary; id += DRAW_THREADS) {
      const unsigned bits = ordered(scores[id]);
      if (scores[id] == -INFINITY || bits < floor || bits < cut) continue;
      const T its = weight(id);
#pragma unroll
      for (int digit = 1; digit < 16; digit++)
        if (bits >= (cut | static_cast<unsigned>(digit) << shift)) reached[digit - 1] += its;
    }
    block_sums(reached, shared);
    unsigned digit = 0;
#pragma unroll
    for (int each = 1; each < 16; each++)
      if (reached[each - 1] >= target) digit = static_cast<unsigned>(each);
    cut |= digit << shift;
  }
  return cut;
}

/** The id drawn for a row's next position under its filters; NOTHING or UNSOUND where there is none. */
__device__ __forceinline__ int chosen(const DrawPlan& plan, const RowState& state, const float* logits, float* scores, double* weights,
                                      DrawShared& shared) {
  const int vocabulary = plan.vocabulary;
  const int thread = static_cast<int>(threadIdx.x);
  int counts[3] = {};  // scores, NaN, finite
  unsigned long long best = 0;
  for (int id = thread; id < vocabulary; id += DRAW_THREADS) {
    const float logit = logits[id];
    const float score = score_of(plan, state, id, logit);
    scores[id] = score;
    counts[1] += logit != logit ? 1 : 0;
    counts[2] += is_finite(logit) ? 1 : 0;
    if (score == -INFINITY) continue;
    counts[0]++;
    const unsigned long long key = ranked(score, id);
    best = key > best ? key : best;
  }
  block_sums(counts, shared.counts);
  if (counts[1] > 0 || counts[2] == 0) return UNSOUND;
  if (counts[0] == 0) return NOTHING;
  best = block_max(best, shared.keys);
  const int first = static_cast<int>(0xffffffffu - static_cast<unsigned>(best & 0xffffffffu));

  __syncthreads();  // every score is written
  const unsigned highest = static_cast<unsigned>(best >> 32);
  const double top = static_cast<double>(scores[first]);
  const double temperature = state.temperature;
  unsigned cut = 0;
  if (state.top_k > 0 && state.top_k < counts[0])
    cut = cut_at<int>(scores, vocabulary, 0, state.top_k, [](int) { return 1; }, shared.counts);
  if (state.top_p < 1.0 || state.min_p > 0.0) {
    for (int id = thread; id < vocabulary; id += DRAW_THREADS) {
      const double score = static_cast<double>(scores[id]);
      weights[id] = score == top ? 1.0 : exp(score / temperature - top / temperature);
    }
  }
  if (state.top_p < 1.0) {
    double total[1] = {};
    for (int id = thread; id < vocabulary; id += DRAW_THREADS)
      if (scores[id] != -INFINITY && ordered(scores[id]) >= cut) total[0] += weights[id];
    block_sums(total, shared.sums);
    const unsigned found = cut_at<double>(scores, vocabulary, cut, state.top_p * total[0], [weights](int id) { return weights[id]; }, shared.sums);
    cut = found > cut ? found : cut;
    cut = cut > highest ? highest : cut;  // the most likely and its equals stay under any topP
  }
  double best_score = -INFINITY;
  int best_id = 0x7fffffff;
  for (int id = thread; id < vocabulary; id += DRAW_THREADS) {
    if (scores[id] == -INFINITY || ordered(scores[id]) < cut) continue;
    if (state.min_p > 0.0 && weights[id] < state.min_p) continue;
    const double score = with_noise(state, id, scores[id], state.position);
    if (score > best_score || best_id == 0x7fffffff) {
      best_score = score;
      best_id = id;
    }
  }
  const double winner = block_max(best_score, shared.sums);
  return -block_max(best_score == winner ? -best_id : -0x7fffffff, shared.counts);
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
      const int likely = static_cast<int>(0xffffffffu - static_cast<unsigned>(previous & 0xffffffffu));
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
