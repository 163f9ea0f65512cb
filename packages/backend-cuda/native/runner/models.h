// Models with random weights, made on the spot through doge.h.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
#include "../doge.h"

namespace runner {

inline thread_local doge_error error;

inline void require(int status, const char* what) {
  if (status == 0) return;
  std::fprintf(stderr, "%s: [%s] %s\n", what, error.code, error.message);
  std::exit(1);
}

/** Numbers around 0 from one seed: splitmix64. */
struct Random {
  uint64_t state;
  double next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) / 9007199254740992.0 - 0.5;
  }
};

inline doge_config config_of(double vocabulary, double hidden, double inner, double layers, double heads, double dim, double context, double room) {
  doge_config config{};
  config.vocab_size = vocabulary;
  config.hidden_size = hidden;
  config.intermediate_size = inner;
  config.layers = layers;
  config.heads = heads;
  config.kv_heads = heads / 2;
  config.head_dim = dim;
  config.norm_epsilon = 1e-6;
  config.max_positions = context;
  config.rope_theta = 10000;
  config.rope_factor = 1;
  config.bias_heads = heads;
  config.tied = 1;
  config.context = context;
  config.room = room;
  return config;
}

inline void write(doge_model* model, Random& random, const std::string& name, int64_t count, double scale, double offset = 0) {
  constexpr int64_t PIECE = 1 << 20;
  std::vector<float> values;
  for (int64_t at = 0; at < count; at += PIECE) {
    values.resize(static_cast<size_t>(std::min(PIECE, count - at)));
    for (float& value : values) value = static_cast<float>(offset + scale * random.next());
    require(doge_model_write(model, name.c_str(), values.data(), static_cast<int64_t>(values.size()), &error), name.c_str());
  }
}

inline doge_model* loaded(doge_device* device, const doge_config& c, uint64_t seed) {
  doge_model* model = nullptr;
  require(doge_model_create(device, &c, &model, &error), "doge_model_create");
  Random random{seed};
  const auto n = [](double value) { return static_cast<int64_t>(value); };
  const int64_t hidden = n(c.hidden_size), queries = n(c.heads * c.head_dim), keys = n(c.kv_heads * c.head_dim);
  const double scale = 2.0 / std::sqrt(c.hidden_size);
  write(model, random, "model.embed_tokens.weight", n(c.vocab_size) * hidden, 0.1);
  for (int layer = 0; layer < static_cast<int>(c.layers); layer++) {
    const std::string at = "model.layers." + std::to_string(layer);
    const std::string attention = at + ".self_attn.";
    write(model, random, at + ".input_layernorm.weight", hidden, 0.2, 1);
    write(model, random, attention + "q_proj.weight", queries * hidden, scale);
    write(model, random, attention + "k_proj.weight", keys * hidden, scale);
    write(model, random, attention + "v_proj.weight", keys * hidden, scale);
    write(model, random, attention + "A", n(c.bias_heads), 0.6);
    write(model, random, attention + "dt_proj.weight", n(c.bias_heads) * keys, scale);
    write(model, random, attention + "o_proj.weight", hidden * queries, scale);
    write(model, random, at + ".input_residual", hidden, 0.5, 1);
    write(model, random, at + ".post_attention_layernorm.weight", hidden, 0.2, 1);
    write(model, random, at + ".mlp.gate_proj.weight", n(c.intermediate_size) * hidden, scale);
    write(model, random, at + ".mlp.up_proj.weight", n(c.intermediate_size) * hidden, scale);
    write(model, random, at + ".mlp.down_proj.weight", hidden * n(c.intermediate_size), scale);
    write(model, random, at + ".post_attention_residual", hidden, 0.5, 1);
  }
  write(model, random, "model.norm.weight", hidden, 0.2, 1);
  require(doge_model_ready(model, &error), "doge_model_ready");
  return model;
}

}  // namespace runner
