// rope: the norm of each query and key head where the layout has one, rotary positions in the half-split form (pairs i,
// i + headDim / 2), the biases of each key, and where no window chooses slots, keys, values and biases into their pages.
#pragma once
#include "matmul.cuh"
#include "pages.cuh"

namespace doge {

/** What a layer's rope reads beside the projections: norms (head_dim) or null, A (bias_heads), cosine and sine (positions,
 *  head_dim / 2). */
struct RopeWeights {
  const float *query_norm, *key_norm, *A, *cosine, *sine;
  Matrix delta;  // f32 (bias_heads, keys)
  float epsilon;
};

constexpr int ROPE_THREADS = 32;

/** Where a token without a window keeps its keys: its layer of the page of its position. */
struct Slot {
  float* layer;
  int lane;
};
__device__ __forceinline__ Slot slot_of(const PageShape& page, const int* pages, int position) {
  return {layer_of(page, pages[position / PAGE]), position % PAGE};
}

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
__device__ __forceinline__ void rotate(float* x, int index, int half, const float* weight, float scale, float cosine, float sine) {
  float first = x[index];
  float second = x[index + half];
  if (weight != nullptr) {
    first = weight[index] * (first * scale);
    second = weight[index + half] * (second * scale);
  }
  x[index] = first * cosine - second * sine;
  x[index + half] = second * cosine + first * sine;
}

/** One warp a head of a token: grid (tokens, heads + 2 kv_heads + 1): queries and keys turned in place, values, then the biases.
 *  Without a window all but queries go into their page too. `delta` (tokens, delta_stride) gets the biases. */
__global__ void rope_kernel(float* qkv, float* delta, RopeWeights weights, const int* positions, const int* rows, const RowState* states,
                            const int* call_pages, PageShape page, Heads shape) {
  const size_t token = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x);
  const int position = positions[token];
  if (position < 0) return;
  float* const row = qkv + token * static_cast<size_t>(shape.qkv_stride);
  const bool stores = page.window == 0;
  const Slot slot = stores ? slot_of(page, call_pages + states[rows[token]].first_page, position) : Slot{nullptr, 0};
  const int value_head = head - shape.heads - shape.kv_heads;
  if (value_head == shape.kv_heads) {
    for (int index = 0; index < shape.bias_heads; index++) {
      float sum = 0.0f;
      for (int column = lane * 4; column < weights.delta.stride; column += WARP * 4) {
        const float4 four = *reinterpret_cast<const float4*>(row + shape.value_at + column);
        sum = plus_four(sum, {four.x, four.y, four.z, four.w}, Format<Type::F32>::fetch(weights.delta, static_cast<size_t>(index), column));
      }
      sum = warp_sum(sum);
      if (lane != index % WARP) continue;
      const float bias = bias_of(sum, weights, index);
      delta[token * static_cast<size_t>(shape.delta_stride) + static_cast<size_t>(index)] = bias;
      if (stores) slot.layer[page.biases_at + index * PAGE + slot.lane] = bias;
    }
    return;
  }
  if (value_head >= 0) {
    const float* const value = row + shape.value_at + value_head * shape.head_dim;
    for (int index = lane; stores && index < shape.head_dim; index += WARP)
      slot.layer[page.values_at + (value_head * PAGE + slot.lane) * shape.head_dim + index] = value[index];
    return;
  }
  const bool query = head < shape.heads;
  float* const x = row + (query ? head * shape.head_dim : shape.key_at + (head - shape.heads) * shape.head_dim);
  float* const key = !query && stores ? slot.layer + (head - shape.heads) * shape.head_dim * PAGE + slot.lane : nullptr;
  const float* const weight = query ? weights.query_norm : weights.key_norm;
  const int half = shape.head_dim / 2;
  float scale = 1.0f;
  if (weight != nullptr) {
    float squares = 0.0f;
    for (int index = lane; index < shape.head_dim; index += WARP) squares = __fmaf_rn(x[index], x[index], squares);
    scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(shape.head_dim) + weights.epsilon);
  }
  const float* const cosines = weights.cosine + static_cast<size_t>(position) * static_cast<size_t>(half);
  const float* const sines = weights.sine + static_cast<size_t>(position) * static_cast<size_t>(half);
  for (int index = lane; index < half; index += WARP) {
    rotate(x, index, half, weight, scale, cosines[index], sines[index]);
    if (key == nullptr) continue;
    key[index * PAGE] = x[index];
    key[(index + half) * PAGE] = x[index + half];
  }
}

}  // namespace doge
