// rope: the norm of each query and key head where the layout has one, rotary positions in the half-split form (pairs i,
// i + headDim / 2), the biases of each key, and where no window chooses slots, keys, values and biases into their pages.
//
// A block takes one part of 16 tokens. Those of a prompt follow each other and so fill a page slot by slot: keys, which stand there turned,
// go through shared memory and leave in stretches of up to 64 bytes, not number by number.
#pragma once
#include "kept.cuh"
#include "matmul.cuh"

namespace doge {

/** What a layer's rope reads beside the projections: norms (head_dim) or null, A (bias_heads), cosine and sine (positions,
 *  head_dim / 2). */
struct RopeWeights {
  const float *query_norm, *key_norm, *A, *cosine, *sine;
  Matrix delta;  // f32 (bias_heads, keys)
  float epsilon;
};

constexpr int ROPE_THREADS = 128;
constexpr int ROPE_WARPS = ROPE_THREADS / WARP;
/** Tokens of a block, and how many of them each warp has. */
constexpr int ROPE_TOKENS = PAGE;
constexpr int ROPE_TURNS = ROPE_TOKENS / ROPE_WARPS;
/** Biases of a block's part: with a warp's tokens as many as it has lanes. */
constexpr int ROPE_BIASES = WARP / ROPE_TURNS;

/** A bias, exp(A softplus(dt_proj values)), of the dot of its row of dt_proj with a token's values. */
__device__ __forceinline__ float bias_of(float dot, const RopeWeights& weights, int index) {
  // In double precision, rounded once: where |A softplus| is tiny a bias is exactly 1 on every backend, and such keys tie.
  const double z = static_cast<double>(dot + (weights.delta.bias == nullptr ? 0.0f : weights.delta.bias[index]));
  const double softplus = z > 20.0 ? z : log1p(exp(z));
  return static_cast<float>(exp(static_cast<double>(weights.A[index]) * softplus));
}
/** Four columns of that dot; a lane takes every 32nd four, and lanes are added as matmul_kernel adds them. */
__device__ __forceinline__ float plus_four(float sum, const float (&values)[4], const float4& row) {
  float four[4];
  Format<Type::F32>::expand(four, row);
#pragma unroll
  for (int each = 0; each < 4; each++) sum = __fmaf_rn(values[each], four[each], sum);
  return sum;
}

/** Numbers `index` and `index` + `half` of a head, under its norm where there is one, turned by their position's angle. */
__device__ __forceinline__ void turn_pair(float& first, float& second, const float* weight, int index, int half, float scale, float cosine, float sine) {
  if (weight != nullptr) {
    first = weight[index] * (first * scale);
    second = weight[index + half] * (second * scale);
  }
  const float before = first;
  first = before * cosine - second * sine;
  second = second * cosine + before * sine;
}
/** The same where they stand. */
__device__ __forceinline__ void rotate(float* x, int index, int half, const float* weight, float scale, float cosine, float sine) {
  float first = x[index];
  float second = x[index + half];
  turn_pair(first, second, weight, index, half, scale, cosine, sine);
  x[index] = first;
  x[index + half] = second;
}

/** Sum number `lane` of 32 over the warp, added in the order of a butterfly: each step hands over the half that the other lane keeps. */
__device__ __forceinline__ float own_sum(float (&sums)[WARP]) {
#pragma unroll
  for (int mask = WARP / 2; mask > 0; mask /= 2) {
    const bool high = (threadIdx.x & static_cast<unsigned>(mask)) != 0;
#pragma unroll
    for (int each = 0; each < WARP / 2; each++) {
      if (each >= mask) continue;  // a bound that all steps share: registers cannot be indexed
      const float got = __shfl_xor_sync(ALL, high ? sums[each] : sums[each + mask], mask);
      sums[each] = (high ? sums[each + mask] : sums[each]) + got;
    }
  }
  return sums[0];
}

/** What the threads of a block know of its tokens: thread t of token t % 16. `layer`: its layer of the page that keeps it, null: nothing
 *  is kept; `position` -1: no token. */
struct RopeToken {
  float* layer;
  int position;
  /** The same of another of the tokens; by all lanes of a warp. */
  __device__ __forceinline__ RopeToken of(int which) const {
    const auto bits = __shfl_sync(ALL, reinterpret_cast<unsigned long long>(layer), which);
    return {reinterpret_cast<float*>(bits), __shfl_sync(ALL, position, which)};
  }
};

/** Biases `first` to `first` + 7 of a warp's tokens: the dot of each row of dt_proj with the values, a bias a lane. */
__device__ __forceinline__ void rope_biases(float* delta, const float* qkv, size_t tokens, const RopeToken& own, int first, const RopeWeights& weights,
                                            const PageShape& page, const Heads& shape) {
  constexpr int FOURS = 4;
  const int lane = static_cast<int>(threadIdx.x) % WARP;
  const int warp = static_cast<int>(threadIdx.x) / WARP;
  bool there[ROPE_TURNS];
#pragma unroll
  for (int turn = 0; turn < ROPE_TURNS; turn++) there[turn] = own.of(warp + turn * ROPE_WARPS).position >= 0;
  float sums[WARP] = {};
  for (int start = lane * 4; start < weights.delta.stride; start += FOURS * WARP * 4) {
    // All are on their way before the first is used.
    float4 values[ROPE_TURNS][FOURS];
#pragma unroll
    for (int turn = 0; turn < ROPE_TURNS; turn++) {
      const float* const row = qkv + (tokens + static_cast<size_t>(warp + turn * ROPE_WARPS)) * static_cast<size_t>(shape.qkv_stride) + shape.value_at;
#pragma unroll
      for (int each = 0; each < FOURS; each++) {
        const int column = start + each * WARP * 4;
        values[turn][each] = float4{0.0f, 0.0f, 0.0f, 0.0f};
        if (there[turn] && column < weights.delta.stride) values[turn][each] = *reinterpret_cast<const float4*>(row + column);
      }
    }
#pragma unroll
    for (int bias = 0; bias < ROPE_BIASES; bias++) {
      if (first + bias >= shape.bias_heads) break;
      float4 row[FOURS];
#pragma unroll
      for (int each = 0; each < FOURS; each++) {
        const int column = start + each * WARP * 4;
        row[each] = Format<Type::F32>::fetch(weights.delta, static_cast<size_t>(first + bias), column < weights.delta.stride ? column : start);
      }
#pragma unroll
      for (int each = 0; each < FOURS; each++)
#pragma unroll
        for (int turn = 0; turn < ROPE_TURNS; turn++) {
          const float4& its = values[turn][each];
          float& sum = sums[turn * ROPE_BIASES + bias];
          if (start + each * WARP * 4 < weights.delta.stride) sum = plus_four(sum, {its.x, its.y, its.z, its.w}, row[each]);
        }
    }
  }
  let_next_come();
  const float dot = own_sum(sums);
  const int which = warp + lane / ROPE_BIASES * ROPE_WARPS;
  const RopeToken token = own.of(which);
  const int index = first + lane % ROPE_BIASES;
  if (token.position < 0 || index >= shape.bias_heads) return;
  const float bias = bias_of(dot, weights, index);
  delta[(tokens + static_cast<size_t>(which)) * static_cast<size_t>(shape.delta_stride) + static_cast<size_t>(index)] = bias;
  if (token.layer != nullptr) token.layer[page.biases_at + index * PAGE + token.position % PAGE] = bias;
}

/** Pairs of a head's numbers that a lane has at a time. */
constexpr int ROPE_PAIRS = 2;
constexpr int ROPE_PASS = ROPE_PAIRS * WARP;

/** Parts of a token: query heads, key heads, value heads, and biases by eights. Grid (ceil(count / 16), parts). Queries and keys turn
 *  where they stand, in `qkv`; or with `halves`, unless that is null, all three go there and qkv keeps what it has. Without a window keys,
 *  values and biases go into their page too. `delta` (tokens, delta_stride) gets the biases. */
__global__ void __launch_bounds__(ROPE_THREADS)
    rope_kernel(float* qkv, float* delta, unsigned short* halves, RopeWeights weights, const int* positions, const int* rows, const RowState* states,
                const int* call_pages, PageShape page, Heads shape, int count) {
  await_earlier();
  __shared__ float turned[2][ROPE_PASS][ROPE_TOKENS + 1];  // of a key head, so that lanes meet in a bank neither way
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % WARP;
  const int warp = thread / WARP;
  const size_t tokens = static_cast<size_t>(blockIdx.x) * ROPE_TOKENS;
  const size_t mine = tokens + static_cast<size_t>(thread % ROPE_TOKENS);
  RopeToken own{nullptr, mine < static_cast<size_t>(count) ? positions[mine] : -1};
  if (own.position >= 0 && page.window == 0) own.layer = layer_of(page, call_pages[states[rows[mine]].first_page + own.position / PAGE]);
  const int part = static_cast<int>(blockIdx.y);
  const int value_head = part - shape.heads - shape.kv_heads;
  if (value_head >= shape.kv_heads) return rope_biases(delta, qkv, tokens, own, (value_head - shape.kv_heads) * ROPE_BIASES, weights, page, shape);

  const bool is_value = value_head >= 0;
  const int key_head = is_value ? -1 : part - shape.heads;
  const int dim = shape.head_dim, half = dim / 2;
  const size_t stride = static_cast<size_t>(shape.qkv_stride);
  const size_t first_row = (tokens + static_cast<size_t>(warp)) * stride +
                           static_cast<size_t>(is_value ? shape.value_at + value_head * dim : key_head >= 0 ? shape.key_at + key_head * dim : part * dim);
  const float* const weight = is_value ? nullptr : key_head < 0 ? weights.query_norm : weights.key_norm;
  RopeToken its[ROPE_TURNS];
  float scales[ROPE_TURNS];
#pragma unroll
  for (int turn = 0; turn < ROPE_TURNS; turn++) {
    its[turn] = own.of(warp + turn * ROPE_WARPS);
    scales[turn] = 1.0f;
    if (weight == nullptr) continue;
    const float* const row = qkv + first_row + static_cast<size_t>(turn * ROPE_WARPS) * stride;
    float squares = 0.0f;
    for (int index = lane; its[turn].position >= 0 && index < dim; index += WARP) squares = __fmaf_rn(row[index], row[index], squares);
    scales[turn] = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + weights.epsilon);
  }
#pragma unroll 1
  for (int base = 0; base < half; base += ROPE_PASS) {
    // All are on their way before the first is turned.
    float x[ROPE_TURNS][ROPE_PAIRS][2], angles[ROPE_TURNS][ROPE_PAIRS][2];
#pragma unroll
    for (int turn = 0; turn < ROPE_TURNS; turn++)
#pragma unroll
      for (int pair = 0; pair < ROPE_PAIRS; pair++) {
        const int index = base + lane + pair * WARP;
        const bool there = its[turn].position >= 0 && index < half;
        const size_t angle = there ? static_cast<size_t>(its[turn].position) * static_cast<size_t>(half) + static_cast<size_t>(index) : 0;
        angles[turn][pair][0] = is_value ? 1.0f : weights.cosine[angle];
        angles[turn][pair][1] = is_value ? 0.0f : weights.sine[angle];
        const float* const row = qkv + first_row + static_cast<size_t>(turn * ROPE_WARPS) * stride + index;
        x[turn][pair][0] = there ? row[0] : 0.0f;
        x[turn][pair][1] = there ? row[half] : 0.0f;
      }
    let_next_come();
#pragma unroll
    for (int turn = 0; turn < ROPE_TURNS; turn++) {
      const RopeToken& token = its[turn];
      if (token.position < 0) continue;
#pragma unroll
      for (int pair = 0; pair < ROPE_PAIRS; pair++) {
        const int index = base + lane + pair * WARP;
        if (index >= half) continue;
        float first = x[turn][pair][0], second = x[turn][pair][1];
        const size_t at = first_row + static_cast<size_t>(turn * ROPE_WARPS) * stride + static_cast<size_t>(index);
        if (!is_value) turn_pair(first, second, weight, index, half, scales[turn], angles[turn][pair][0], angles[turn][pair][1]);
        if (halves != nullptr) {
          halves[at] = half_of(first);
          halves[at + static_cast<size_t>(half)] = half_of(second);
        } else if (!is_value) {
          qkv[at] = first;
          qkv[at + static_cast<size_t>(half)] = second;
        }
        if (is_value && token.layer != nullptr) {
          const int to = page.values_at + (value_head * PAGE + token.position % PAGE) * dim + index;
          put_kept(token.layer, page, to, first);
          put_kept(token.layer, page, to + half, second);
        }
        if (key_head >= 0) {
          turned[0][index - base][warp + turn * ROPE_WARPS] = first;
          turned[1][index - base][warp + turn * ROPE_WARPS] = second;
        }
      }
    }
    if (key_head < 0) continue;
    __syncthreads();
    for (int index = thread / ROPE_TOKENS; own.layer != nullptr && index < ROPE_PASS && base + index < half; index += ROPE_THREADS / ROPE_TOKENS)
#pragma unroll
      for (int side = 0; side < 2; side++)
        put_kept(own.layer, page, (key_head * dim + side * half + base + index) * PAGE + own.position % PAGE, turned[side][index][thread % ROPE_TOKENS]);
    __syncthreads();
  }
}

/** The launch for some tokens. */
inline void rope(Device& device, float* qkv, float* delta, unsigned short* halves, const RopeWeights& weights, const int* positions, const int* rows,
                 const RowState* states, const int* call_pages, const PageShape& page, const Heads& shape, int count) {
  const int parts = shape.heads + 2 * shape.kv_heads + (shape.bias_heads + ROPE_BIASES - 1) / ROPE_BIASES;
  device.launch(rope_kernel, dim3(static_cast<unsigned>((count + ROPE_TOKENS - 1) / ROPE_TOKENS), static_cast<unsigned>(parts)), ROPE_THREADS, qkv, delta, halves,
                weights, positions, rows, states, call_pages, page, shape, count);
}

}  // namespace doge
