// draw: from logits to the next id, exactly as core's sampling.ts defines it (docs/contract.md, S3), and ln p of given ids.
//
// One block a row of logits. Nothing is sorted: each filter is a cut through the ordered bit patterns of the scores, found four
// bits to a round. Scores over the temperature, probabilities and noise are in double precision, as core's; sums run in one order.
#pragma once
#include "common.cuh"

namespace doge {

constexpr int DRAW_THREADS = 256;

/** Where a call's draws come from and go to. */
struct DrawPlan {
  RowState* states;
  unsigned* words;      // the bits of allowed and seen ids, and stop ids
  int* ids;
  float* logprobs;
  int* top_ids;
  float* top_logprobs;
  float* scores;        // (rows of logits, vocabulary), scratch
  double* weights;      // (rows of logits, vocabulary), scratch
  Control* control;
  const float* logits;  // (rows of logits, vocabulary)
  int vocabulary;
};

/** First word of pcg3d. Source: Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020. */
__device__ __forceinline__ unsigned pcg3d(unsigned x, unsigned y, unsigned z) {
  x = x * 1664525u + 1013904223u;
  y = y * 1664525u + 1013904223u;
  z = z * 1664525u + 1013904223u;
  x += y * z;
  y += z * x;
  z += x * y;
  x ^= x >> 16;
  y ^= y >> 16;
  z ^= z >> 16;
  return x + y * z;
}

/** The Gumbel noise of a hash (contract S3). */
__device__ __forceinline__ double gumbel(unsigned hash) {
  const double v = (static_cast<double>(hash) + 0.5) / 4294967296.0;
  const double exponential = v < 1.0 / 16.0
                                 ? v * (1.0 + v * (1.0 / 2.0 + v * (1.0 / 3.0 + v * (1.0 / 4.0 + v / 5.0))))
                                 : -log((static_cast<double>(~hash) + 0.5) / 4294967296.0);
  return -log(exponential);
}

__device__ __forceinline__ bool is_finite(float value) { return value - value == 0.0f; }

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

struct DrawShared {
  int counts[DRAW_THREADS / WARP * 15];
  double sums[DRAW_THREADS / WARP * 15];
  unsigned long long keys[DRAW_THREADS / WARP];
};

/** Bits that put the greater number first, and of equal ones the lower id. */
__device__ __forceinline__ unsigned long long ranked(float value, int id) {
  return static_cast<unsigned long long>(ordered(value)) << 32 | (0xffffffffu - static_cast<unsigned>(id));
}

/** A logit as a row's draws see it: under its penalty, -inf where it is not allowed. */
__device__ __forceinline__ float score_of(const DrawPlan& plan, const RowState& state, int id, float logit) {
  const unsigned bit = 1u << (id & 31);
  if (state.allowed >= 0 && (plan.words[state.allowed + (id >> 5)] & bit) == 0) return -INFINITY;
  // Drawn ids are marked while steps go on in one launch.
  if (state.seen < 0 || (*static_cast<volatile unsigned*>(&plan.words[state.seen + (id >> 5)]) & bit) == 0) return logit;
  return static_cast<float>(logit < 0.0f ? static_cast<double>(logit) * state.penalty : static_cast<double>(logit) / state.penalty);
}

/** What the greatest of is drawn, where no filter is set. */
__device__ __forceinline__ double with_noise(const RowState& state, int id, float score, int position) {
  if (state.temperature == 0.0) return static_cast<double>(score);
  return static_cast<double>(score) / state.temperature + gumbel(pcg3d(static_cast<unsigned>(id), static_cast<unsigned>(position), state.seed));
}

/** The id drawn from sound logits for a row's next position, or -1 when nothing is allowed. */
__device__ __forceinline__ int chosen(const DrawPlan& plan, const RowState& state, const float* logits, float* scores, double* weights,
                                      DrawShared& shared) {
  const int vocabulary = plan.vocabulary;
  const int thread = static_cast<int>(threadIdx.x);
  int counts[1] = {};
  unsigned long long best = 0;
  for (int id = thread; id < vocabulary; id += DRAW_THREADS) {
    const float score = score_of(plan, state, id, logits[id]);
    scores[id] = score;
    if (score == -INFINITY) continue;
    counts[0]++;
    const unsigned long long key = ranked(score, id);
    best = key > best ? key : best;
  }
  block_sums(counts, shared.counts);
  if (counts[0] == 0) return -1;
  best = block_max(best, shared.keys);
  const int first = static_cast<int>(0xffffffffu - static_cast<unsigned>(best & 0xffffffffu));
  if (state.temperature == 0.0) return first;

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

/** The likeliest id of logits that nothing changes, in one pass over them; -1: nothing is finite, or something is no number. As
 *  sound() and chosen() find it. */
__device__ __forceinline__ int likeliest(const float* logits, int vocabulary, DrawShared& shared) {
  int counts[2] = {};  // NaN, finite
  float best = -INFINITY;
  int best_id = -1;
  const auto look = [&](float value, int id) {
    counts[0] += value != value ? 1 : 0;
    counts[1] += is_finite(value) ? 1 : 0;
    if (value > best) {
      best = value;
      best_id = id;
    }
  };
  // Four at a time where rows begin at multiples of 16 bytes.
  const int whole = vocabulary % 4 == 0 ? vocabulary : 0;
#pragma unroll 4
  for (int id = 4 * static_cast<int>(threadIdx.x); id < whole; id += 4 * DRAW_THREADS) {
    const float4 four = *reinterpret_cast<const float4*>(logits + id);
    look(four.x, id);
    look(four.y, id + 1);
    look(four.z, id + 2);
    look(four.w, id + 3);
  }
  for (int id = whole + static_cast<int>(threadIdx.x); id < vocabulary; id += DRAW_THREADS) look(logits[id], id);
  block_sums(counts, shared.counts);
  const unsigned long long key = block_max(best_id < 0 ? 0ull : ranked(best, best_id), shared.keys);
  if (counts[0] > 0 || counts[1] == 0) return -1;
  return static_cast<int>(0xffffffffu - static_cast<unsigned>(key & 0xffffffffu));
}

/** Draws the next id of each row that still draws, and notes it. Grid (rows of logits); rows[i] is the row of logits i,
 *  positions[i] < 0: none. */
__global__ void draw_kernel(DrawPlan plan, const int* rows, const int* positions) {
  __shared__ DrawShared shared;
  const size_t index = blockIdx.x;
  if (positions[index] < 0) return;
  const int row = rows[index];
  RowState& state = plan.states[row];
  const int vocabulary = plan.vocabulary;
  const float* const logits = plan.logits + index * static_cast<size_t>(vocabulary);
  if (state.left <= 0) return;
  const bool greedy = state.temperature == 0.0 && state.alternatives < 0 && state.allowed < 0 && state.seen < 0;
  const int greatest = greedy ? likeliest(logits, vocabulary, shared) : -1;
  bool good = greedy ? greatest >= 0 : sound(logits, vocabulary, shared.counts);
  double normalizer = 0.0;
  if (good && state.alternatives >= 0) {
    normalizer = log_sum_exp(logits, vocabulary, shared.sums);
    good = normalizer == normalizer;
  }
  if (!good) {
    __syncthreads();
    if (threadIdx.x == 0) {
      atomicMin(const_cast<int*>(&plan.control->failed), row);
      state.left = -1;
      atomicAdd(const_cast<int*>(&plan.control->active), -1);
    }
    return;
  }
  float* const scores = plan.scores + index * static_cast<size_t>(vocabulary);
  double* const weights = plan.weights + index * static_cast<size_t>(vocabulary);
  const int id = greedy ? greatest : chosen(plan, state, logits, scores, weights, shared);
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
  if (id < 0) {
    state.left = -1;
    atomicAdd(const_cast<int*>(&plan.control->active), -1);
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
  if (state.left == 0) atomicAdd(const_cast<int*>(&plan.control->active), -1);
}

/** out[i] = ln p of the id next[i] after logits i. Grid (rows of logits). */
__global__ void score_kernel(float* out, const float* logits, const int* next, const int* rows, int vocabulary, Control* control) {
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
