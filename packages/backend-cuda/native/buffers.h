// What a model's calls work in: arrays on the device that grow with the largest call so far and stay.
#pragma once
#include "kernels/attention.cuh"
#include "kernels/attention_half.cuh"
#include "weights.h"

namespace doge {

/** An array on the device. Growing forgets what stood there; `grown` counts how often arrays moved, for captured graphs. */
template <class T>
class Array {
 public:
  Array(Device& device, int& grown) : device_(device), grown_(grown) {}
  ~Array() { device_.release(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* get() const { return data_; }
  operator T*() const { return data_; }

  /** At least `count` numbers; new ones are 0, which the padding of rows relies on. */
  void reserve(size_t count) {
    if (count <= count_) return;
    T* const larger = static_cast<T*>(device_.allocate(count * sizeof(T)));
    device_.release(data_);
    data_ = larger;
    count_ = count;
    grown_++;
    device_.fill(data_, 0, count * sizeof(T));
  }

 private:
  Device& device_;
  int& grown_;
  T* data_ = nullptr;
  size_t count_ = 0;
};

/** Logits at a time: as many as decoding steps have rows, so that the head's weights are read once for them. */
constexpr int HEAD_ROWS = 256;
/** Tokens that go through the layers together, unless a span that is routed together is longer. */
constexpr int TILE = 256;
/** The same where tensor cores make them short work. */
constexpr int PROMPT = 2048;

struct Buffers {
  explicit Buffers(Device& device) : device(device) {}

  Device& device;
  int grown = 0;
  // Of the tokens of a group: (tokens, width padded).
  Array<float> stream{device, grown}, update{device, grown}, normed{device, grown}, qkv{device, grown}, delta{device, grown},
      mixed{device, grown}, gate_up{device, grown}, router{device, grown}, expert_weights{device, grown};
  Array<int> expert_ids{device, grown}, slots{device, grown};
  // The same in half precision, where the matrices are too.
  Array<unsigned short> normed_half{device, grown}, qkv_half{device, grown}, mixed_half{device, grown}, gated_half{device, grown};
  // Of attention in half precision: slots of earlier calls, and where blocks that share a tile of queries meet.
  Array<unsigned short> past_half{device, grown};
  Array<float> past_biases{device, grown}, meeting{device, grown};
  Array<int> met{device, grown};
  // Of a decoding step: the token of each row, and runs of one token each.
  Array<int> step_ids{device, grown}, step_positions{device, grown}, step_rows{device, grown};
  Array<Run> step_runs{device, grown};
  Array<int> zero{device, grown};
  // Of some rows of logits.
  Array<unsigned short> head_half{device, grown};
  Array<float> head_normed{device, grown}, logits{device, grown}, scores{device, grown};
  Array<double> draw_weights{device, grown};
  // Of a call.
  Array<int> words{device, grown};
  Array<int> pages{device, grown};  // page numbers of all rows; an array of its own, for captured steps hold its address
  Array<RowState> states{device, grown};
  Array<int> ids_out{device, grown}, top_ids_out{device, grown};
  Array<float> logprobs_out{device, grown}, top_logprobs_out{device, grown};

  void reserve_tokens(const Config& config, const Heads& heads, int tokens, bool halves) {
    const size_t count = static_cast<size_t>(tokens);
    const auto rows = [count](int width) { return count * static_cast<size_t>(padded(width)); };
    stream.reserve(rows(config.hidden));
    update.reserve(rows(config.hidden));
    normed.reserve(rows(config.hidden));
    qkv.reserve(count * static_cast<size_t>(heads.qkv_stride));
    delta.reserve(count * static_cast<size_t>(heads.delta_stride));
    mixed.reserve(rows(config.queries()));
    gate_up.reserve(2 * rows(config.intermediate));
    slots.reserve(count * static_cast<size_t>(config.kv_heads));
    if (halves) {
      normed_half.reserve(rows(config.hidden));
      qkv_half.reserve(count * static_cast<size_t>(heads.qkv_stride));
      mixed_half.reserve(rows(config.queries()));
      gated_half.reserve(rows(config.intermediate));
    }
    if (config.experts == 0) return;
    router.reserve(rows(2 * config.side));
    expert_ids.reserve(count * static_cast<size_t>(config.per_token));
    expert_weights.reserve(count * static_cast<size_t>(config.per_token));
  }
  void reserve_half(const Heads& heads, int past, int shared) {
    past_half.reserve(static_cast<size_t>(past) * static_cast<size_t>(past_stride(heads)));
    past_biases.reserve(static_cast<size_t>(past) * static_cast<size_t>(heads.bias_heads));
    const size_t pairs = static_cast<size_t>(shared) * static_cast<size_t>(heads.heads);
    meeting.reserve(pairs * static_cast<size_t>(MOST_SHARES * part_words(HALF_HEAD)));
    met.reserve(pairs);
  }
  void reserve_logits(const Config& config, int rows, bool draws, bool halves) {
    const size_t count = static_cast<size_t>(rows);
    if (halves) head_half.reserve(count * static_cast<size_t>(padded(config.hidden)));
    head_normed.reserve(count * static_cast<size_t>(padded(config.hidden)));
    logits.reserve(count * static_cast<size_t>(config.vocabulary));
    if (!draws) return;
    scores.reserve(count * static_cast<size_t>(config.vocabulary));
    draw_weights.reserve(count * static_cast<size_t>(config.vocabulary));
  }
};

}  // namespace doge
