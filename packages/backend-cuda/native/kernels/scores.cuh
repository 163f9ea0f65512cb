// scores: what the greatest of is drawn, and the greatest where no filter is set: one pass over the logits, which tells too whether they
// are sound.
//
// Scores over the temperature and their noise are in double precision, as core's, and cost a hundred operations each. So an id's score is
// first bounded from above by a few of f32: what cannot beat the best is never computed.
#pragma once
#include "common.cuh"

namespace doge {

constexpr int DRAW_THREADS = 256;
/** What a thread has on its way at once, of 16 bytes each: a row of 32,768 logits is four turns of a block. */
constexpr int DRAW_FOURS = 8;

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
  Progress* progress;
  const float* logits;  // (rows of logits, vocabulary)
  int vocabulary;
};

/** First word of pcg3d. Source: Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020. */
__host__ __device__ __forceinline__ unsigned pcg3d(unsigned x, unsigned y, unsigned z) {
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

/** Bits that put the greater number first, and of equal ones the lower id. */
__device__ __forceinline__ unsigned long long ranked(float value, int id) {
  return static_cast<unsigned long long>(ordered(value)) << 32 | (0xffffffffu - static_cast<unsigned>(id));
}
__device__ __forceinline__ unsigned bits_of(unsigned long long key) { return static_cast<unsigned>(key >> 32); }
__device__ __forceinline__ int id_of(unsigned long long key) { return static_cast<int>(0xffffffffu - static_cast<unsigned>(key & 0xffffffffu)); }

__device__ __forceinline__ float penalized(float logit, double penalty) {
  return static_cast<float>(logit < 0.0f ? static_cast<double>(logit) * penalty : static_cast<double>(logit) / penalty);
}
/** A logit as a row's draws see it: under its penalty, -inf where it is not allowed. */
template <class Penalty>
__device__ __forceinline__ float score_of(const DrawPlan& plan, const RowState& state, int id, float logit, Penalty penalty) {
  const unsigned bit = 1u << (id & 31);
  if (state.allowed >= 0 && (plan.words[state.allowed + (id >> 5)] & bit) == 0) return -INFINITY;
  // Drawn ids are marked while steps go on in one launch.
  if (state.seen < 0 || (*static_cast<volatile unsigned*>(&plan.words[state.seen + (id >> 5)]) & bit) == 0) return logit;
  return penalty(logit, state.penalty);
}
__device__ __forceinline__ float score_of(const DrawPlan& plan, const RowState& state, int id, float logit) {
  return score_of(plan, state, id, logit, [](float its, double penalty) { return penalized(its, penalty); });
}

/** What the greatest of is drawn, where no filter is set. */
__device__ __forceinline__ double with_noise(const RowState& state, int id, float score, int position) {
  if (state.temperature == 0.0) return static_cast<double>(score);
  return static_cast<double>(score) / state.temperature + gumbel(pcg3d(static_cast<unsigned>(id), static_cast<unsigned>(position), state.seed));
}

/** Logits that a block's threads have in one turn. */
constexpr int DRAW_TURN = 4 * DRAW_THREADS;

/** look(id, four logits) for the thread's part of a row, ids ascending; behind the row's end too, where a logit is -inf: neither finite
 *  nor drawn. */
template <class Look>
__device__ __forceinline__ void each_four(const float* logits, int vocabulary, Look look) {
  int start = 4 * static_cast<int>(threadIdx.x);
  // Rows that do not begin at multiples of 16 bytes are read number by number, in the loop that ends the others.
  for (; vocabulary % 4 == 0 && start + (DRAW_FOURS - 1) * DRAW_TURN < vocabulary; start += DRAW_FOURS * DRAW_TURN) {
    // All are on their way before the first is looked at.
    float4 held[DRAW_FOURS];
#pragma unroll
    for (int each = 0; each < DRAW_FOURS; each++) held[each] = *reinterpret_cast<const float4*>(logits + start + each * DRAW_TURN);
#pragma unroll
    for (int each = 0; each < DRAW_FOURS; each++) look(start + each * DRAW_TURN, held[each]);
  }
#pragma unroll 1
  for (; start < vocabulary; start += DRAW_TURN) {
    float4 held{logits[start], -INFINITY, -INFINITY, -INFINITY};
    if (start + 1 < vocabulary) held.y = logits[start + 1];
    if (start + 2 < vocabulary) held.z = logits[start + 2];
    if (start + 3 < vocabulary) held.w = logits[start + 3];
    look(start, held);
  }
}

/** No less than with_noise() of the same id, in f32. `inverse`: 1 / temperature to the nearest; temperatures are from 1e-6 to 1e6.
 *
 *  The quotient: `inverse` and the product are off by 2^-24 of themselves each, or, where the product is below the least normal number, by
 *  less than that; so x + |x| 2^-20 is above it by 3/4 of that at least, or below by 2^-126. Where x overflows it is +inf, or kept finite
 *  where the quotient is below all of f32.
 *
 *  The noise, -ln E with E = -ln(1 - v) >= v: at most -ln v. With c leading zeros of the hash, v >= 2^-(c + 1), so it is no more than
 *  (c + 1) ln 2 <= 22.9. Rounding in f64 is below 1e-14, that of the sums of f32 below 2^-23 (|x| + 23): what is added to
 *  either covers it. */
__device__ __forceinline__ float above(float score, float inverse, unsigned hash) {
  const float x = max(score * inverse, -3e38f);
  return __fmaf_rn(fabsf(x), 9.5367431640625e-07f, x) + __fmaf_rn(static_cast<float>(__clz(static_cast<int>(hash))), 0.693148f, 0.694f);
}

/** What is called for few ids need not stand in each loop: with_noise() and the penalty of score_of(), once in the code. */
#if defined(DOGE_SHIM)
#define DOGE_ONCE inline
#else
#define DOGE_ONCE __device__ __noinline__
#endif
DOGE_ONCE double exact_score(float score, double temperature, unsigned hash) { return static_cast<double>(score) / temperature + gumbel(hash); }
DOGE_ONCE float under_penalty(float logit, double penalty) { return penalized(logit, penalty); }
__device__ __forceinline__ float few_score(const DrawPlan& plan, const RowState& state, int id, float logit) {
  return score_of(plan, state, id, logit, [](float its, double penalty) { return under_penalty(its, penalty); });
}

/** Whether no filter has to see all of a row's scores. */
__host__ __device__ __forceinline__ bool unfiltered(const RowState& state) {
  return state.temperature == 0.0 || (state.top_k <= 0 && state.top_p >= 1.0 && state.min_p <= 0.0);
}

constexpr int NOTHING = -1;  // nothing is allowed
constexpr int UNSOUND = -2;  // a logit is NaN, or none is finite

/** What a block's threads tell each other. */
struct DrawShared {
  int counts[DRAW_THREADS / WARP * 15];
  double sums[DRAW_THREADS / WARP * 15];
  unsigned long long keys[DRAW_THREADS / WARP];
};

/** Of the threads' ids the one with the greatest score, of equal ones the lowest. */
__device__ __forceinline__ int winner_of(double score, int id, DrawShared& shared) {
  const double winner = block_max(score, shared.sums);
  return -block_max(score == winner ? -id : -NOBODY, shared.counts);
}

/** What a thread knows of its part of a row. */
struct Seen {
  int counts[2];  // NaN, finite
  int id;         // whose score, or its bound, is the greatest, of equal scores the lowest; NOBODY: none
  float bound, score;
  float next;     // no other's bound is above it

  __device__ __forceinline__ void add(int its_id, float its_bound, float its_score) {
    const bool better = its_bound > bound;
    next = better ? bound : its_bound > next ? its_bound : next;
    bound = better ? its_bound : bound;
    score = better ? its_score : score;
    id = better ? its_id : id;
  }
};

/** A pass over the thread's part: NOISY by bounds, else by scores. */
template <bool NOISY>
__device__ __forceinline__ Seen looked(const DrawPlan& plan, const RowState& state, const float* logits, float inverse) {
  Seen seen{{0, 0}, NOBODY, -INFINITY, -INFINITY, -INFINITY};
  const unsigned* const allowed = state.allowed < 0 ? nullptr : plan.words + state.allowed;
  const unsigned* const drawn = state.seen < 0 ? nullptr : plan.words + state.seen;
  const unsigned position = static_cast<unsigned>(state.position), seed = state.seed;
  const auto bound_of = [&](int id, float score) {
    return !NOISY || score == -INFINITY ? score : above(score, inverse, pcg3d(static_cast<unsigned>(id), position, seed));
  };
  const auto look = [&](int id, const float4& four) {
    // Four ids are of one word.
    unsigned bits = 15;
    if (allowed != nullptr) bits &= allowed[id >> 5] >> (id & 31);
    if (drawn != nullptr) bits &= ~(drawn[id >> 5] >> (id & 31));
    const float its[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int each = 0; each < 4; each++) {
      seen.counts[0] += its[each] != its[each] ? 1 : 0;
      seen.counts[1] += is_finite(its[each]) ? 1 : 0;
      const float score = (bits >> each & 1) != 0 ? its[each] : -INFINITY;
      seen.add(id + each, bound_of(id + each, score), score);
    }
  };
  each_four(logits, plan.vocabulary, look);
  if (drawn == nullptr) return seen;
  // What is under a penalty are few ids: those of the thread's part come last, each by itself.
#pragma unroll 1
  for (int four = 4 * static_cast<int>(threadIdx.x); four < plan.vocabulary; four += DRAW_TURN) {
#pragma unroll 1
    for (unsigned bits = drawn[four >> 5] >> (four & 31) & 15; bits != 0; bits &= bits - 1) {
      const int id = four + 31 - __clz(static_cast<int>(bits & (0u - bits)));
      const float score = logits[id] == -INFINITY ? -INFINITY : few_score(plan, state, id, logits[id]);
      if (!NOISY && score == seen.score && id < seen.id && score != -INFINITY) seen.id = id;
      seen.add(id, bound_of(id, score), score);
    }
  }
  return seen;
}

/** The id of the greatest score, of equal ones the lowest; NOTHING or UNSOUND where there is none. For rows without filters. */
__device__ __forceinline__ int greatest(const DrawPlan& plan, const RowState& state, const float* logits, DrawShared& shared) {
  const bool noisy = state.temperature != 0.0;
  const float inverse = static_cast<float>(1.0 / state.temperature);
  Seen seen = noisy ? looked<true>(plan, state, logits, inverse) : looked<false>(plan, state, logits, inverse);
  block_sums(seen.counts, shared.counts);
  if (seen.counts[0] > 0 || seen.counts[1] == 0) return UNSOUND;
  if (!noisy) {
    const unsigned long long key = block_max(seen.id == NOBODY ? 0ull : ranked(seen.score, seen.id), shared.keys);
    return key == 0 ? NOTHING : id_of(key);
  }
  // Of each thread the id with the greatest bound; whoever may have a greater one than the greatest of those looks again.
  int id = seen.id;
  const auto hash_of = [&](int each) { return pcg3d(static_cast<unsigned>(each), static_cast<unsigned>(state.position), state.seed); };
  double score = id == NOBODY ? -INFINITY : exact_score(seen.score, state.temperature, hash_of(id));
  const double found = block_max(score, shared.sums);
  if (static_cast<double>(seen.next) >= found) {
#pragma unroll 1
    for (int each = 4 * static_cast<int>(threadIdx.x); each < plan.vocabulary; each += each % 4 < 3 ? 1 : DRAW_TURN - 3) {
      const float its = logits[each] == -INFINITY ? -INFINITY : few_score(plan, state, each, logits[each]);
      const unsigned hash = hash_of(each);
      if (its == -INFINITY || static_cast<double>(above(its, inverse, hash)) < found) continue;
      const double exact = exact_score(its, state.temperature, hash);
      if (exact < score || (exact == score && each >= id)) continue;
      score = exact;
      id = each;
    }
  }
  const int winner = winner_of(score, id, shared);
  return winner == NOBODY ? NOTHING : winner;
}

}  // namespace doge
