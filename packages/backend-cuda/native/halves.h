// A model's matrices in half precision, for the products of many tokens by warpgroups: made from its bf16 weights when those are
// complete. They take as much memory again.
#pragma once
#include "kernels/matmul_warpgroup.cuh"
#include "weights.h"

namespace doge {

struct HalfLayer {
  HalfMatrix qkv, output, gate_up, down;
};

class Halves {
 public:
  Halves(Device& device, const Weights& weights) : device_(device), weights_(weights) {
    plan();
    base_ = static_cast<char*>(device.allocate(size_));
    plan();
  }
  ~Halves() { device_.release(base_); }
  Halves(const Halves&) = delete;
  Halves& operator=(const Halves&) = delete;

  std::vector<HalfLayer> layers;
  HalfMatrix head;

  /** Once all weights are there. */
  void convert() {
    for (size_t index = 0; index < layers.size(); index++) {
      const Layer& from = weights_.layers[index];
      const HalfLayer& to = layers[index];
      convert(to.qkv, from.qkv);
      convert(to.output, from.output);
      convert(to.gate_up, from.gate_up);
      convert(to.down, from.down);
    }
    convert(head, weights_.head);
  }

 private:
  void convert(const HalfMatrix& to, const Matrix& from) {
    device_.launch(halve_kernel, dim3(static_cast<unsigned>(from.outer)), HALVE_THREADS, const_cast<unsigned short*>(to.data), const_cast<float*>(to.scales), from,
                   to.gated);
  }
  /** Offsets while there is no memory yet, then addresses. */
  void plan() {
    size_ = 0;
    layers.clear();
    for (const Layer& layer : weights_.layers)
      layers.push_back({matrix(layer.qkv), matrix(layer.output), matrix(layer.gate_up, layer.gate_up.outer / 2), matrix(layer.down)});
    head = matrix(weights_.head);
  }
  HalfMatrix matrix(const Matrix& from, int gated = 0) {
    const size_t outer = static_cast<size_t>(from.outer);
    const auto data = reinterpret_cast<const unsigned short*>(take(outer * static_cast<size_t>(from.stride) * 2));
    const auto scales = reinterpret_cast<const float*>(take((outer + 1) * 4));  // outputs are taken in pairs
    return {data, scales, from.bias, from.outer, from.stride, gated};
  }
  char* take(size_t bytes) {
    const size_t at = size_;
    size_ += (bytes + 255) / 256 * 256;
    return base_ == nullptr ? nullptr : base_ + at;
  }

  Device& device_;
  const Weights& weights_;
  char* base_ = nullptr;
  size_t size_ = 0;
};

/** `count` outputs of a matrix, from `first` on. */
inline HalfMatrix outputs(const HalfMatrix& whole, int first, int count) {
  HalfMatrix part = whole;
  part.data += static_cast<size_t>(first) * static_cast<size_t>(whole.stride);
  part.scales += first;
  if (whole.bias != nullptr) part.bias += first;
  part.outer = count;
  return part;
}

}  // namespace doge
