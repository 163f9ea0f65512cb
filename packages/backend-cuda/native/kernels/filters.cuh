// filters: the draw of a row under top-k, top-p and min-p (docs/contract.md, S3).
//
// The topK most likely ids are few, and found without a sort of all: no score among them is below the topK-th greatest of the threads' own
// greatest, and few others reach it. Those are listed, and the rest of the draw is about the list. Where topK is not given, or the list
// too short for what stands there, each filter is a cut through the ordered bit patterns of all scores, found four bits to a round.
#pragma once
#include "scores.cuh"

namespace doge {

/** Places of the list. */
constexpr int LIKELY = 512;
static_assert(LIKELY == 2 * DRAW_THREADS, "a thread has two places");

/** The likely ids of a row, the most likely first. */
struct Likely {
  unsigned long long keys[LIKELY];  // ranked()
  double weights[LIKELY];
  unsigned greatest[DRAW_THREADS], floor;
  int count;
};

/** e^((score - top) / temperature): exactly 1 for the most likely and its equals. */
__device__ __forceinline__ double weight_of(float score, double top, double temperature) {
  return static_cast<double>(score) == top ? 1.0 : exp(static_cast<double>(score) / temperature - top / temperature);
}

/** Lists what is at or above the k-th greatest of the threads' own greatest bits (0: a thread has none), and tells every thread how many
 *  that are; more than LIKELY: they are not listed. */
__device__ __forceinline__ int list_likely(const float* scores, int vocabulary, int k, unsigned greatest, Likely& likely) {
  const int thread = static_cast<int>(threadIdx.x);
  likely.greatest[thread] = greatest;
  if (thread == 0) {
    likely.count = 0;
    likely.floor = 0;
  }
  __syncthreads();
  int before = 0;
#pragma unroll 8
  for (int other = 0; other < DRAW_THREADS; other++) {
    const unsigned its = likely.greatest[other];
    before += its > greatest || (its == greatest && other < thread) ? 1 : 0;
  }
  if (before == k - 1) likely.floor = greatest;
  __syncthreads();
  const unsigned floor = likely.floor;
  each_four(scores, vocabulary, [&](int id, const float4& four) {
    const float its[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int each = 0; each < 4; each++) {
      if (its[each] == -INFINITY || ordered(its[each]) < floor) continue;
      const int place = atomicAdd(&likely.count, 1);
      if (place < LIKELY) likely.keys[place] = ranked(its[each], id + each);
    }
  });
  __syncthreads();
  const int count = likely.count;
  if (count > LIKELY) return count;
  // In whatever order they came, each counts those before it.
  unsigned long long own[2] = {};
  int places[2] = {};
#pragma unroll
  for (int side = 0; side < 2; side++) {
    const int at = thread + side * DRAW_THREADS;
    if (at < count) own[side] = likely.keys[at];
  }
  for (int other = 0; other < count; other++) {
    const unsigned long long its = likely.keys[other];
#pragma unroll
    for (int side = 0; side < 2; side++) places[side] += its > own[side] ? 1 : 0;
  }
  __syncthreads();
#pragma unroll
  for (int side = 0; side < 2; side++)
    if (thread + side * DRAW_THREADS < count) likely.keys[places[side]] = own[side];
  __syncthreads();
  return count;
}

/** Of a list's first `count`, how many a share of their weights keeps; the most likely and its equals always stay. By each thread alike. */
__device__ __forceinline__ int kept_by_share(const Likely& likely, int count, double share) {
  double total = 0.0;
  for (int at = 0; at < count; at++) total += likely.weights[at];
  const double target = share * total;
  double reached = 0.0;
  for (int at = 0; at < count; at++) {
    reached += likely.weights[at];
    const bool last = at + 1 == count || bits_of(likely.keys[at + 1]) != bits_of(likely.keys[at]);
    if (last && reached >= target) return at + 1;
  }
  return count;
}

/** The id drawn from a list that has the topK most likely and `count` ids in all. */
__device__ __forceinline__ int chosen_of_likely(const RowState& state, const float* scores, double top, int count, Likely& likely, DrawShared& shared) {
  const unsigned cut = bits_of(likely.keys[state.top_k - 1]);
  while (bits_of(likely.keys[count - 1]) < cut) count--;
  float own[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int side = 0; side < 2; side++) {
    const int at = static_cast<int>(threadIdx.x) + side * DRAW_THREADS;
    if (at >= count) continue;
    own[side] = scores[id_of(likely.keys[at])];
    if (state.top_p < 1.0 || state.min_p > 0.0) likely.weights[at] = weight_of(own[side], top, state.temperature);
  }
  __syncthreads();
  if (state.top_p < 1.0) count = kept_by_share(likely, count, state.top_p);
  double best_score = -INFINITY;
  int best_id = NOBODY;
#pragma unroll 1
  for (int side = 0; side < 2; side++) {
    const int at = static_cast<int>(threadIdx.x) + side * DRAW_THREADS;
    if (at >= count || (state.min_p > 0.0 && likely.weights[at] < state.min_p)) continue;
    const int id = id_of(likely.keys[at]);
    const double score = with_noise(state, id, own[side], state.position);
    if (best_id != NOBODY && (score < best_score || (score == best_score && id > best_id))) continue;
    best_score = score;
    best_id = id;
  }
  return winner_of(best_score, best_id, shared);
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

/** The id drawn from all of a row's `count` scores. */
__device__ __forceinline__ int chosen_of_all(const RowState& state, const float* scores, double* weights, int vocabulary, int count, unsigned highest,
                                             double top, DrawShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  unsigned cut = 0;
  if (state.top_k > 0 && state.top_k < count)
    cut = cut_at<int>(scores, vocabulary, 0, state.top_k, [](int) { return 1; }, shared.counts);
  // Nothing below the cut is weighed: an exponential of 64 bits costs more than all else here.
  const auto kept = [&](int id) { return scores[id] != -INFINITY && ordered(scores[id]) >= cut; };
  if (state.top_p < 1.0 || state.min_p > 0.0) {
    for (int id = thread; id < vocabulary; id += DRAW_THREADS)
      if (kept(id)) weights[id] = weight_of(scores[id], top, state.temperature);
  }
  if (state.top_p < 1.0) {
    double total[1] = {};
    for (int id = thread; id < vocabulary; id += DRAW_THREADS)
      if (kept(id)) total[0] += weights[id];
    block_sums(total, shared.sums);
    const unsigned found = cut_at<double>(scores, vocabulary, cut, state.top_p * total[0], [weights](int id) { return weights[id]; }, shared.sums);
    cut = found > cut ? found : cut;
    cut = cut > highest ? highest : cut;  // the most likely and its equals stay under any topP
  }
  double best_score = -INFINITY;
  int best_id = NOBODY;
  for (int id = thread; id < vocabulary; id += DRAW_THREADS) {
    if (!kept(id) || (state.min_p > 0.0 && weights[id] < state.min_p)) continue;
    const double score = with_noise(state, id, scores[id], state.position);
    if (best_id != NOBODY && score <= best_score) continue;
    best_score = score;
    best_id = id;
  }
  return winner_of(best_score, best_id, shared);
}

/** The id drawn for a row's next position under its filters; NOTHING or UNSOUND where there is none. */
__device__ __forceinline__ int chosen(const DrawPlan& plan, const RowState& state, const float* logits, float* scores, double* weights,
                                      DrawShared& shared) {
  __shared__ Likely likely;
  int counts[3] = {};  // scores, NaN, finite
  unsigned long long best = 0;
  const bool whole = plan.vocabulary % 4 == 0;
  each_four(logits, plan.vocabulary, [&](int id, const float4& four) {
    const float its[4] = {four.x, four.y, four.z, four.w};
    float to[4];
#pragma unroll
    for (int each = 0; each < 4; each++) {
      const bool there = id + each < plan.vocabulary;
      to[each] = there ? few_score(plan, state, id + each, its[each]) : -INFINITY;
      counts[1] += its[each] != its[each] ? 1 : 0;
      counts[2] += is_finite(its[each]) ? 1 : 0;
      if (there && !whole) scores[id + each] = to[each];
      if (to[each] == -INFINITY) continue;
      counts[0]++;
      const unsigned long long key = ranked(to[each], id + each);
      best = key > best ? key : best;
    }
    if (whole) *reinterpret_cast<float4*>(scores + id) = float4{to[0], to[1], to[2], to[3]};
  });
  const unsigned own = bits_of(best);
  block_sums(counts, shared.counts);
  if (counts[1] > 0 || counts[2] == 0) return UNSOUND;
  if (counts[0] == 0) return NOTHING;
  best = block_max(best, shared.keys);
  const double top = static_cast<double>(scores[id_of(best)]);
  if (state.top_k > 0 && state.top_k < counts[0]) {
    const int count = list_likely(scores, plan.vocabulary, state.top_k, own, likely);
    if (count <= LIKELY) return chosen_of_likely(state, scores, top, count, likely, shared);
  }
  return chosen_of_all(state, scores, weights, plan.vocabulary, counts[0], bits_of(best), top, shared);
}

}  // namespace doge
