// The model as decode.cuh takes it: which models it takes, its table of layers, the arrays of its exchanges, and its launch.
#pragma once
#include <cstdlib>
#include <memory>
#include "buffers.h"
#include "clusters.h"
#include "kernels/decode.cuh"

namespace doge {

/** Whether decode_kernel takes such a model. */
inline bool decodes(const Config& config, int window) {
  return config.experts == 0 && window == 0 && config.layers <= DECODE_LAYERS && std::max({config.hidden, config.intermediate, config.queries()}) <= DECODE_WIDTH &&
         config.keys() <= DECODE_WIDTH / 2 && config.heads <= DECODE_GROUP * config.kv_heads && config.head_dim <= DECODE_DIM && config.head_dim % 4 == 0 &&
         config.context <= DECODE_CONTEXT;
}

/** Whether a row's draws can be made where its logits are. */
inline bool draws_at_once(const RowState& state) { return state.alternatives < 0 && unfiltered(state); }

class Decoder {
 public:
  /** `cosine`, `sine` (context, head_dim / 2). */
  Decoder(Device& device, const Weights& weights, const Heads& heads, const float* cosine, const float* sine) : device_(device) {
    const Config& config = weights.config;
    choose(config, device.warpgroups());
    plan_.bulk = device.bulk_copies();
    constexpr int OWN = (static_cast<int>(sizeof(DecodeShared)) + 1023) / 1024 * 1024;  // the ring begins at such a multiple
    plan_.units = ring_units(device.shared_memory() - OWN, device, config.dtype);
    shared_ = plan_.units * DECODE_WARPS * UNIT_BYTES;
    const int room = plan_.units < 1 ? 0 : device.together(shared_, kernel_, DECODE_THREADS);
    // Each block takes part in every exchange, so that nobody falls behind by more than one.
    blocks_ = std::min({room, config.hidden, DECODE_THREADS});
    plan_.slices = std::min(DECODE_SLICES, blocks_ / config.kv_heads - 1);
    if (plan_.slices < 1) return;
    std::vector<DecodeLayer> layers;
    for (const Layer& layer : weights.layers)
      layers.push_back({{layer.qkv, layer.output, layer.gate_up, layer.down},
                        {layer.query_norm, layer.key_norm, layer.A, cosine, sine, layer.delta, config.epsilon},
                        layer.input_norm, layer.input_gate, layer.post_norm, layer.post_gate});
    plan_.layer_count = config.layers;
    plan_.embedding = weights.embedding;
    plan_.head = weights.head;
    plan_.norm = weights.norm;
    plan_.sizes = {config.hidden, config.intermediate};
    plan_.epsilon = config.epsilon;
    plan_.heads = heads;
    const int width = padded(config.hidden);
    const size_t bytes = layers.size() * sizeof(DecodeLayer);
    void* const table = pairs_.take(plan_.between, {heads.qkv_stride, padded(config.heads * plan_.slices * (config.head_dim + 2)), 2 * config.heads, width, padded(config.intermediate), width, 4 * blocks_}, bytes);
    device.upload(table, layers.data(), bytes);
    plan_.layers = static_cast<const DecodeLayer*>(table);
    device.finish();
    clusters_ = std::make_unique<Clusters>(device, config, plan_);
    if (!clusters_->ready()) clusters_.reset();
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  bool ready() const { return plan_.layers != nullptr; }

  /** Up to `steps` steps of the call's only row; with `logits` one, which ends with them and draws nothing. False: the driver refuses such
   *  launches, now and from now on. */
  bool launch(const DrawPlan& draw, const PageShape& page, const int* call_pages, int steps, float* logits = nullptr) {
    Decoding of = plan_;
    of.draw = draw;
    of.page = page;
    of.call_pages = call_pages;
    of.steps = steps;
    of.logits = logits;
    if (clusters_ != nullptr && clusters_->launch(of)) return true;
    refused_ = refused_ || !device_.launch_together(shared_, kernel_, blocks_, DECODE_THREADS, of);
    return !refused_;
  }

 private:
  using Kernel = void (*)(Decoding);
  /** The kernel of a published shape in the format that they are published in where it is `known`, else that of any shape. */
  void choose(const Config& config, bool known) {
    const int hidden = config.hidden;
    const bool published = known && is_published(config);
    if (published && hidden == 256) kernel_ = decode_kernel<Type::BF16, 256>;
    if (published && hidden == 512) kernel_ = decode_kernel<Type::BF16, 512>;
    if (published && hidden == 768) kernel_ = decode_kernel<Type::BF16, 768>;
    if (published && hidden == 1024) kernel_ = decode_kernel<Type::BF16, 1024>;
    if (kernel_ != nullptr) return;
    kernel_ = config.dtype == Type::F32 ? decode_kernel<Type::F32, 0> : config.dtype == Type::BF16 ? decode_kernel<Type::BF16, 0> : decode_kernel<Type::Q8, 0>;
  }

  Device& device_;
  PairArrays pairs_{device_};
  std::unique_ptr<Clusters> clusters_;
  Kernel kernel_ = nullptr;
  Decoding plan_{};
  int blocks_ = 0, shared_ = 0;
  bool refused_ = false;
};

}  // namespace doge
