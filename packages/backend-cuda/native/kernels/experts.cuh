// experts: the routed half of the Cross Domain Mixture of Experts: product-key choice among one-neuron experts.
//
// Source: He, Mixture of a Million Experts (product keys over single-neuron experts); transformers `DogeCDMoE`.
#pragma once
#include "embed.cuh"
#include "swiglu.cuh"

namespace doge {

struct ExpertShape {
  int side, per_token, normalize, sorted;
  int router_stride;
  int hidden, stride;  // of the stream's rows
};

constexpr int CHOOSE_THREADS = 256;
constexpr int EXPERT_THREADS = 128;
/** Keys of one half: 256 * 256 experts at most. */
constexpr int MOST_SIDE = 256;
/** Experts of one token. */
constexpr int MOST_CHOSEN = 256;

/**
 * The experts of each token and their weights. Grid (tokens).
 *
 * The router's output is read as flat rows of `side` scores; the halves of token t are rows t * step and t * step + split.
 * (step 2, split 1) is each token's own two halves; (step 1, split R) is how the published models were trained, with R tokens
 * routed together. Of all side * side pairs the best are found by their bits, four to a round; of equal ones the lowest ids.
 *
 * @param ids, weights (tokens, per_token), in the order of ids
 */
__global__ void choose_kernel(int* ids, float* weights, const float* router, const int* positions, int step, int split,
                              ExpertShape shape) {
  await_earlier();
  __shared__ float halves[2][MOST_SIDE];
  __shared__ float turned[2][MOST_SIDE];
  __shared__ int counts[CHOOSE_THREADS / WARP * 15];
  __shared__ int before[CHOOSE_THREADS + 1];
  __shared__ int ties[CHOOSE_THREADS + 1];
  __shared__ int chosen[MOST_CHOSEN];
  __shared__ float scores[MOST_CHOSEN];
  __shared__ float numbers[CHOOSE_THREADS / WARP];
  const int token = static_cast<int>(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  if (positions[token] < 0) return;
  const int side = shape.side;
  for (int index = thread; index < 2 * side; index += CHOOSE_THREADS) {
    const int flat = token * step + (index < side ? 0 : split);  // a row of `side` scores
    halves[index / side][index % side] =
        router[static_cast<size_t>(flat / 2) * static_cast<size_t>(shape.router_stride) + static_cast<size_t>(flat % 2 * side + index % side)];
  }
  __syncthreads();
  if (shape.sorted) {
    for (int index = thread; index < 2 * side; index += CHOOSE_THREADS) {
      const float* const half = halves[index / side];
      const float own = half[index % side];
      int rank = 0;
      for (int other = 0; other < side; other++)
        rank += half[other] > own || (half[other] == own && other < index % side) ? 1 : 0;
      turned[index / side][rank] = own;
    }
    __syncthreads();
  }
  const float* const x = shape.sorted ? turned[0] : halves[0];
  const float* const y = shape.sorted ? turned[1] : halves[1];
  const int pairs = side * side;

  // The bits of the k-th best score: the greatest for which k pairs are at least as good.
  unsigned cut = 0;
  for (int shift = 28; shift >= 0; shift -= 4) {
    int reached[15] = {};
    for (int pair = thread; pair < pairs; pair += CHOOSE_THREADS) {
      const unsigned bits = ordered(x[pair / side] + y[pair % side]);
#pragma unroll
      for (int digit = 1; digit < 16; digit++) reached[digit - 1] += bits >= (cut | static_cast<unsigned>(digit) << shift) ? 1 : 0;
    }
    block_sums(reached, counts);
    unsigned digit = 0;
#pragma unroll
    for (int each = 1; each < 16; each++)
      if (reached[each - 1] >= shape.per_token) digit = static_cast<unsigned>(each);
    cut |= digit << shift;
  }

  // Every thread looks at a stretch of ids: those above the cut are chosen, those on it as far as there is room, by id.
  const int stretch = (pairs + CHOOSE_THREADS - 1) / CHOOSE_THREADS;
  const int from = min(pairs, thread * stretch);
  const int to = min(pairs, from + stretch);
  int above = 0;
  int equal = 0;
  for (int pair = from; pair < to; pair++) {
    const unsigned bits = ordered(x[pair / side] + y[pair % side]);
    above += bits > cut ? 1 : 0;
    equal += bits == cut ? 1 : 0;
  }
  before[thread + 1] = above;
  ties[thread + 1] = equal;
  __syncthreads();
  if (thread == 0) {
    before[0] = 0;
    ties[0] = 0;
    for (int each = 0; each < CHOOSE_THREADS; each++) {
      before[each + 1] += before[each];
      ties[each + 1] += ties[each];
    }
  }
  __syncthreads();
  const int wanted = shape.per_token - before[CHOOSE_THREADS];  // of the ties
  int tie = ties[thread];
  int place = before[thread] + min(tie, wanted);
  for (int pair = from; pair < to; pair++) {
    const float score = x[pair / side] + y[pair % side];
    const unsigned bits = ordered(score);
    if (bits < cut || (bits == cut && tie++ >= wanted)) continue;
    chosen[place] = pair;
    scores[place] = score;
    place++;
  }
  __syncthreads();
  const float own = thread < shape.per_token ? scores[thread] : -INFINITY;
  const float top = block_max(own, numbers);
  float weight = thread < shape.per_token ? expf(own - top) : 0.0f;
  weight = weight / block_sum(weight, numbers);
  if (shape.normalize) weight = weight / block_sum(weight, numbers);
  if (thread >= shape.per_token) return;
  ids[token * shape.per_token + thread] = chosen[thread];
  weights[token * shape.per_token + thread] = weight;
}

/** weights <- silu(down[e] . x[t]) * weights, one warp an expert. Grid (tokens, ceil(per_token / 4)). */
__global__ void experts_down_kernel(float* weights, const int* ids, const float* x, const int* positions, Matrix down,
                                    ExpertShape shape) {
  await_earlier();
  const int token = static_cast<int>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % WARP;
  const int which = static_cast<int>(blockIdx.y) * (EXPERT_THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
  if (which >= shape.per_token || positions[token] < 0) return;
  const size_t expert = static_cast<size_t>(ids[token * shape.per_token + which]);
  const float* const row = x + static_cast<size_t>(token) * static_cast<size_t>(shape.stride);
  float dot = 0.0f;
  for (int column = lane; column < shape.hidden; column += WARP) dot = __fmaf_rn(element(down, expert, column), row[column], dot);
  dot = warp_sum(dot);
  if (lane == 0) weights[token * shape.per_token + which] *= silu(dot);
}

/** out[t] += sum_e weights[e] up[e]. Grid (tokens, ceil(hidden / 128)). */
__global__ void experts_up_kernel(float* out, const float* weights, const int* ids, const int* positions, Matrix up,
                                  ExpertShape shape) {
  await_earlier();
  const int token = static_cast<int>(blockIdx.x);
  const int column = static_cast<int>(blockIdx.y * EXPERT_THREADS + threadIdx.x);
  if (column >= shape.hidden || positions[token] < 0) return;
  float sum = 0.0f;
  for (int which = 0; which < shape.per_token; which++)
    sum = __fmaf_rn(weights[token * shape.per_token + which],
                    element(up, static_cast<size_t>(ids[token * shape.per_token + which]), column), sum);
  out[static_cast<size_t>(token) * static_cast<size_t>(shape.stride) + static_cast<size_t>(column)] += sum;
}

}  // namespace doge
