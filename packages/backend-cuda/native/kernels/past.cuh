// past: keys, values and biases of earlier calls out of their pages of halves, slot by slot, so that the attention of a prompt reads them as
// it reads those of its own tokens, once for each of its tiles.
#pragma once
#include "kept.cuh"

namespace doge {

/** Some slots of a row's earlier tokens: `count` of them from `slot` on; the first goes to row `to`. */
struct PastSlots {
  int row, slot, count, to;
};
constexpr int PAST_SLOTS = 64;
constexpr int PAST_THREADS = 128;

/** Where they go: halves (slots, 2 kv_heads head_dim), keys before values, and biases (slots, bias_heads). */
struct Past {
  unsigned short* halves;
  float* biases;
};
__host__ __device__ constexpr int past_stride(const Heads& shape) { return 2 * shape.kv_heads * shape.head_dim; }

/** Grid (parts, kv_heads + 1): each head's keys and values, and all biases. Slots begin at a multiple of four; head_dim is even. */
__global__ void past_kernel(Past past, const PastSlots* parts, const RowState* states, const int* call_pages, PageShape page, Heads shape) {
  await_earlier();
  const PastSlots its = parts[blockIdx.x];
  const int* const pages = call_pages + states[its.row].first_page;
  const int head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  const auto layer = [&](int slot) { return layer_of(page, pages[slot / PAGE]); };
  if (head == shape.kv_heads) {
    for (int each = thread; each < its.count * shape.bias_heads; each += PAST_THREADS) {
      const int slot = its.slot + each / shape.bias_heads, index = each % shape.bias_heads;
      past.biases[static_cast<size_t>(its.to) * static_cast<size_t>(shape.bias_heads) + static_cast<size_t>(each)] =
          layer(slot)[page.biases_at + index * PAGE + slot % PAGE];
    }
    return;
  }
  const int dim = shape.head_dim;
  const auto to = [&](int slot, int at) {
    return reinterpret_cast<unsigned*>(past.halves + static_cast<size_t>(its.to + slot - its.slot) * static_cast<size_t>(past_stride(shape)) + at);
  };
  for (int each = thread; each < dim / 2 * (PAST_SLOTS / 4); each += PAST_THREADS) {
    const int index = each % (dim / 2) * 2, slot = its.slot + each / (dim / 2) * 4;
    if (slot >= its.slot + its.count) break;
    const Half* const from = kept_in<Half>(layer(slot)) + (head * dim + index) * PAGE + slot % PAGE;
    const uint2 first = four_kept(from), second = four_kept(from + PAGE);
    // Four slots of two numbers become two numbers of four slots.
#pragma unroll
    for (int part = 0; part < 4; part++) {
      const unsigned one = part < 2 ? first.x : first.y, other = part < 2 ? second.x : second.y;
      if (slot + part < its.slot + its.count) *to(slot + part, head * dim + index) = part % 2 == 0 ? (one & 0xffffu) | other << 16 : one >> 16 | (other & 0xffff0000u);
    }
  }
  for (int each = thread; each < dim / 2 * its.count; each += PAST_THREADS) {
    const int index = each % (dim / 2) * 2, slot = its.slot + each / (dim / 2);
    const Half* const from = kept_in<Half>(layer(slot)) + page.values_at + (head * PAGE + slot % PAGE) * dim + index;
    *to(slot, (shape.kv_heads + head) * dim + index) = *reinterpret_cast<const unsigned*>(from);
  }
}

}  // namespace doge
