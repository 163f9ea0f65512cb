// What the launches of all steps of one row share on the host: the published shapes, the ring's length, and the arrays of their exchanges.
#pragma once
#include <array>
#include <cstdlib>
#include "buffers.h"
#include "kernels/decode_plan.cuh"

namespace doge {

/** Whether a model has one of the shapes that kernels have a form for, in the format that they are published in. */
inline bool is_published(const Config& config) {
  return config.intermediate == 2 * config.hidden && config.head_dim == DECODE_DIM && config.heads * DECODE_DIM == config.hidden && 2 * config.kv_heads == config.heads &&
         !config.attention_bias && !config.mlp_bias && config.dtype == Type::BF16;
}

/** Units of each warp's ring for which there is room in so many bytes of shared memory, or DOGE_RING of them, to compare; where lanes copy
 *  for themselves, a number that the kernel knows. */
inline int ring_units(int bytes, const Device& device, Type dtype) {
  const int room = std::min(bytes / (DECODE_WARPS * UNIT_BYTES), MOST_UNITS);
  const char* const wish = std::getenv("DOGE_RING");
  if (device.bulk_copies() && dtype != Type::Q8) return wish == nullptr ? room : std::max(1, std::min(std::atoi(wish), room));
  return !device.tensor_cores() ? std::min(room, 1) : room >= LANE_UNITS ? LANE_UNITS : room >= FEW_LANE_UNITS ? FEW_LANE_UNITS : std::min(room, 1);
}

/** The arrays of an exchange on the device, one behind the other, the epoch in front; all 0. */
class PairArrays {
 public:
  explicit PairArrays(Device& device) : device_(device) {}
  ~PairArrays() { device_.release(memory_); }
  PairArrays(const PairArrays&) = delete;
  PairArrays& operator=(const PairArrays&) = delete;

  /** Lengths in the order of Exchanges. What comes back: where `more` bytes stand behind them. */
  void* take(Exchanges& between, const std::array<int, 7>& lengths, size_t more = 0) {
    Pair** const arrays[] = {&between.qkv, &between.parts, &between.scores, &between.mixed, &between.gated, &between.update, &between.draws};
    size_t pairs = PADDING;
    for (const int length : lengths) pairs += static_cast<size_t>(padded(length));
    memory_ = device_.allocate(pairs * sizeof(Pair) + more);
    device_.fill(memory_, 0, pairs * sizeof(Pair));
    between.epoch = static_cast<unsigned*>(memory_);
    Pair* at = static_cast<Pair*>(memory_) + PADDING;
    for (size_t each = 0; each < lengths.size(); each++) {
      *arrays[each] = at;
      at += padded(lengths[each]);
    }
    return at;
  }

 private:
  Device& device_;
  void* memory_ = nullptr;
};

}  // namespace doge
