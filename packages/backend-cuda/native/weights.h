// The weights of a model on the device: planned as one allocation, then written as their values come in, rounded to the dtype
// exactly as core's quantize.ts does.
#pragma once
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>
#include "doge.h"
#include "kernels/common.cuh"

namespace doge {

inline int padded(int width) { return (width + PADDING - 1) / PADDING * PADDING; }

/** Whole numbers of doge_config, checked. */
struct Config {
  int vocabulary, hidden, intermediate, layers, heads, kv_heads, head_dim, bias_heads, window;
  float epsilon;
  int max_positions, rope_type;
  double rope_theta, rope_factor;
  bool qk_norm, attention_bias, mlp_bias, tied;
  int experts, per_token, side;
  bool normalize, sorted, reference_routing;
  Type dtype;
  int context;
  int64_t room;

  int queries() const { return heads * head_dim; }
  int keys() const { return kv_heads * head_dim; }
  bool routes_spans() const { return experts > 0 && reference_routing; }
};

struct Layer {
  float *input_norm, *input_gate, *post_norm, *post_gate, *query_norm, *key_norm, *A;
  Matrix qkv, delta, output, gate_up, down, router, experts_down, experts_up;
};

/** f32 -> bf16, to the nearest, ties to even. Weights are finite. */
inline uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/** One row of core's q8: blocks of 32 columns, scale f32(max / 127), codes rounded half away from zero in double precision. */
inline void quantize_q8(const float* row, int columns, int8_t* codes, float* scales) {
  for (int from = 0; from < columns; from += BLOCK) {
    const int to = std::min(from + BLOCK, columns);
    float most = 0.0f;
    for (int at = from; at < to; at++) most = std::fabs(row[at]) > most ? std::fabs(row[at]) : most;
    const float scale = static_cast<float>(static_cast<double>(most) / 127.0);
    scales[from / BLOCK] = scale;
    for (int at = from; at < to; at++) {
      const double code = scale == 0.0f ? 0.0 : std::round(static_cast<double>(row[at]) / static_cast<double>(scale));
      codes[at] = static_cast<int8_t>(std::max(-127.0, std::min(127.0, code)));
    }
  }
}

class Weights {
 public:
  Weights(Device& device, const Config& config) : config(config), device_(device) {
    plan(nullptr);
    base_ = static_cast<char*>(device.allocate(size_));
    try {
      device.fill(base_, 0, size_);
    } catch (...) {
      device.release(base_);
      throw;
    }
    targets_.clear();
    layers.clear();
    plan(base_);
  }
  ~Weights() { device_.release(base_); }
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const Config config;
  Matrix embedding, head;
  float* norm;
  std::vector<Layer> layers;
  size_t bytes() const { return size_; }

  /** The next values of a tensor. */
  void write(const std::string& name, const float* values, int64_t count) {
    const auto found = targets_.find(name);
    if (found == targets_.end()) throw Fault{"invalid-argument", "The model has no tensor " + name.substr(0, 300) + "."};
    Target& target = found->second;
    if (count < 0 || count > target.rows * target.columns - target.written) {
      throw Fault{"invalid-argument", "The tensor " + name + " has " + std::to_string(target.rows * target.columns) + " values; " +
                                          std::to_string(target.written + count) + " were written."};
    }
    // Whole rows at a time: the rest of a piece waits for the next.
    std::vector<float> joined;
    const float* from = values;
    int64_t left = count;
    if (!target.rest.empty()) {
      joined.swap(target.rest);
      joined.insert(joined.end(), values, values + count);
      from = joined.data();
      left = static_cast<int64_t>(joined.size());
    }
    const int64_t whole = left / target.columns;
    if (whole > 0) put(target, from, whole);
    target.rest.assign(from + whole * target.columns, from + left);
    target.written += count;
  }

  void require_complete() const {
    std::string missing;
    for (const auto& [name, target] : targets_) {
      if (target.written == target.rows * target.columns) continue;
      if (missing.size() < 200) missing += (missing.empty() ? "" : ", ") + name;
    }
    if (!missing.empty()) throw Fault{"tensor-mismatch", "These tensors did not arrive whole: " + missing + "."};
  }

 private:
  struct Target {
    char* data = nullptr;
    float* scales = nullptr;
    int64_t rows = 0, columns = 0, stride = 0;
    Type type = Type::F32;
    int64_t row = 0;  // rows written
    int64_t written = 0;
    std::vector<float> rest;
  };

  static size_t width(Type type) { return type == Type::F32 ? 4 : type == Type::BF16 ? 2 : 1; }

  /** Bytes at a multiple of 256 from the start; null while only counting. */
  char* take(size_t bytes) {
    const size_t at = size_;
    size_ += (bytes + 255) / 256 * 256;
    return counting_ ? nullptr : base_ + at;
  }
  float* vector(const std::string& name, int count) {
    float* const at = reinterpret_cast<float*>(take(static_cast<size_t>(count) * 4));
    targets_[name] = Target{reinterpret_cast<char*>(at), nullptr, 1, count, count, Type::F32, 0, 0, {}};
    return at;
  }
  Matrix matrix(int outer, int inner, Type type, bool biased) {
    Matrix result{};
    result.inner = inner;
    result.outer = outer;
    result.stride = padded(inner);
    result.type = type;
    const size_t count = static_cast<size_t>(outer) * static_cast<size_t>(result.stride);
    result.data = take(count * width(type));
    result.scales = type == Type::Q8 ? reinterpret_cast<float*>(take(count / BLOCK * 4)) : nullptr;
    result.bias = biased ? reinterpret_cast<float*>(take(static_cast<size_t>(outer) * 4)) : nullptr;
    return result;
  }
  /** `rows` outputs of a matrix, from `first` on, are the linear layer or table `name`. */
  void part(const Matrix& whole, const std::string& name, int first, int rows, bool biased) {
    Target target;
    const size_t at = static_cast<size_t>(first) * static_cast<size_t>(whole.stride);
    if (!counting_) {
      target.data = static_cast<char*>(const_cast<void*>(whole.data)) + at * width(whole.type);
      if (whole.scales != nullptr) target.scales = const_cast<float*>(whole.scales) + at / BLOCK;
    }
    target.rows = rows;
    target.columns = whole.inner;
    target.stride = whole.stride;
    target.type = whole.type;
    targets_[name + ".weight"] = target;
    if (!biased) return;
    targets_[name + ".bias"] = Target{
        counting_ ? nullptr : reinterpret_cast<char*>(const_cast<float*>(whole.bias) + first), nullptr, 1, rows, rows, Type::F32, 0, 0, {}};
  }
  Matrix linear(const std::string& name, int outer, int inner, Type type, bool biased) {
    const Matrix result = matrix(outer, inner, type, biased);
    part(result, name, 0, outer, biased);
    return result;
  }

  void plan(char* base) {
    counting_ = base == nullptr;
    size_ = 0;
    const Type type = config.dtype;
    const int queries = config.queries();
    const int keys = config.keys();
    embedding = linear("model.embed_tokens", config.vocabulary, config.hidden, type, false);
    for (int number = 0; number < config.layers; number++) {
      const std::string at = "model.layers." + std::to_string(number);
      Layer layer{};
      layer.input_norm = vector(at + ".input_layernorm.weight", config.hidden);
      layer.qkv = matrix(padded(queries) + 2 * padded(keys), config.hidden, type, config.attention_bias);
      part(layer.qkv, at + ".self_attn.q_proj", 0, queries, config.attention_bias);
      part(layer.qkv, at + ".self_attn.k_proj", padded(queries), keys, config.attention_bias);
      part(layer.qkv, at + ".self_attn.v_proj", padded(queries) + padded(keys), keys, config.attention_bias);
      if (config.qk_norm) {
        layer.query_norm = vector(at + ".self_attn.q_norm.weight", config.head_dim);
        layer.key_norm = vector(at + ".self_attn.k_norm.weight", config.head_dim);
      }
      layer.A = vector(at + ".self_attn.A", config.bias_heads);
      layer.delta = linear(at + ".self_attn.dt_proj", config.bias_heads, keys, Type::F32, config.attention_bias);
      layer.output = linear(at + ".self_attn.o_proj", config.hidden, queries, type, config.attention_bias);
      layer.input_gate = vector(at + ".input_residual", config.hidden);
      layer.post_norm = vector(at + ".post_attention_layernorm.weight", config.hidden);
      layer.gate_up = matrix(2 * padded(config.intermediate), config.hidden, type, config.mlp_bias);
      part(layer.gate_up, at + ".mlp.gate_proj", 0, config.intermediate, config.mlp_bias);
      part(layer.gate_up, at + ".mlp.up_proj", padded(config.intermediate), config.intermediate, config.mlp_bias);
      layer.down = linear(at + ".mlp.down_proj", config.hidden, config.intermediate, type, config.mlp_bias);
      if (config.experts > 0) {
        layer.router = linear(at + ".mlp.router_gate", 2 * config.side, config.hidden, Type::F32, false);
        layer.experts_down = linear(at + ".mlp.down_embed", config.experts, config.hidden, type, false);
        layer.experts_up = linear(at + ".mlp.up_embed", config.experts, config.hidden, type, false);
      }
      layer.post_gate = vector(at + ".post_attention_residual", config.hidden);
      layers.push_back(layer);
    }
    norm = vector("model.norm.weight", config.hidden);
    head = config.tied ? embedding : linear("lm_head", config.vocabulary, config.hidden, type, false);
  }

  /** Whole rows, from the first that is not written on. */
  void put(Target& target, const float* values, int64_t rows) {
    const size_t stride = static_cast<size_t>(target.stride);
    const size_t columns = static_cast<size_t>(target.columns);
    const size_t count = static_cast<size_t>(rows);
    char* const to = target.data + static_cast<size_t>(target.row) * stride * width(target.type);
    if (target.type == Type::F32 && stride == columns) {
      device_.upload(to, values, count * columns * 4);
    } else if (target.type == Type::Q8) {
      const size_t blocks = stride / BLOCK;
      std::vector<int8_t> codes(count * stride, 0);
      std::vector<float> scales(count * blocks, 0.0f);
      for (size_t row = 0; row < count; row++)
        quantize_q8(values + row * columns, static_cast<int>(columns), codes.data() + row * stride, scales.data() + row * blocks);
      device_.upload(to, codes.data(), codes.size());
      device_.upload(target.scales + static_cast<size_t>(target.row) * blocks, scales.data(), scales.size() * 4);
    } else {
      std::vector<char> staged(count * stride * width(target.type), 0);
      for (size_t row = 0; row < count; row++)
        for (size_t column = 0; column < columns; column++) {
          const float value = values[row * columns + column];
          if (target.type == Type::F32)
            reinterpret_cast<float*>(staged.data())[row * stride + column] = value;
          else
            reinterpret_cast<uint16_t*>(staged.data())[row * stride + column] = to_bf16(value);
        }
      device_.upload(to, staged.data(), staged.size());
    }
    target.row += rows;
  }

  Device& device_;
  char* base_ = nullptr;
  size_t size_ = 0;
  bool counting_ = true;
  std::map<std::string, Target> targets_;
};

}  // namespace doge
