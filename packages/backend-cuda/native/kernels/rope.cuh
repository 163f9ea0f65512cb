// rope: the norm of each query and key head where the layout has one, rotary positions in the half-split form (pairs i,
// i + headDim / 2), and the biases of each key.
#pragma once
#include "common.cuh"

namespace doge {

/** Where the parts of a token's projections stand in its row of `qkv`, each padded to PADDING numbers. */
struct Heads {
  int heads, kv_heads, bias_heads, head_dim;
  int key_at, value_at, qkv_stride;
  int delta_stride;
};

constexpr int ROPE_THREADS = 32;

/** One warp a head: grid (tokens, heads + kv_heads + 1), the last for the biases: exp(A softplus(delta)), in delta's place.
 *  cosine and sine (positions, head_dim / 2); norms (head_dim) or null. */
__global__ void rope_kernel(float* qkv, float* delta, const float* query_norm, const float* key_norm, const float* A,
                            const float* cosine, const float* sine, const int* positions, Heads shape, float epsilon) {
  const size_t token = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x);
  const int position = positions[token];
  if (position < 0) return;
  if (head == shape.heads + shape.kv_heads) {
    // In double precision, rounded once: where |A softplus| is tiny a bias is exactly 1 on every backend, and such keys tie.
    float* const row = delta + token * static_cast<size_t>(shape.delta_stride);
    for (int index = lane; index < shape.bias_heads; index += WARP) {
      const double z = static_cast<double>(row[index]);
      const double softplus = z > 20.0 ? z : log1p(exp(z));
      row[index] = static_cast<float>(exp(static_cast<double>(A[index]) * softplus));
    }
    return;
  }
  const bool query = head < shape.heads;
  float* const x = qkv + token * static_cast<size_t>(shape.qkv_stride) +
                   (query ? head * shape.head_dim : shape.key_at + (head - shape.heads) * shape.head_dim);
  const float* const weight = query ? query_norm : key_norm;
  const int half = shape.head_dim / 2;
  float scale = 1.0f;
  if (weight != nullptr) {
    float squares = 0.0f;
    for (int index = lane; index < shape.head_dim; index += WARP) squares = __fmaf_rn(x[index], x[index], squares);
    scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(shape.head_dim) + epsilon);
  }
  const float* const cosines = cosine + static_cast<size_t>(position) * static_cast<size_t>(half);
  const float* const sines = sine + static_cast<size_t>(position) * static_cast<size_t>(half);
  for (int index = lane; index < half; index += WARP) {
    float first = x[index];
    float second = x[index + half];
    if (weight != nullptr) {
      first = weight[index] * (first * scale);
      second = weight[index + half] * (second * scale);
    }
    x[index] = first * cosines[index] - second * sines[index];
    x[index + half] = second * cosines[index] + first * sines[index];
  }
}

}  // namespace doge
