// What is asked of all that comes in through doge.h, before anything is done with it: a caller's mistake is a fault with a name, nothing
// is changed by it, and no memory is touched that was not handed over.
#pragma once
#include <cmath>
#include <set>
#include "model.h"

namespace doge {

/** The most that a width or a length may be: products of two stay far from what counts them. */
constexpr double LARGE = 1 << 24;

inline std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.12g", value);
  return text;
}

[[noreturn]] inline void refuse(const std::string& message) { throw Fault{"invalid-argument", message}; }

inline void given(const void* pointer, const char* name) {
  if (pointer == nullptr) refuse(std::string(name) + " is null: hand over what it should point to.");
}

inline int whole(double value, const std::string& name, double least, double most) {
  if (value >= least && value <= most && value == std::floor(value)) return static_cast<int>(value);
  refuse(name + " is " + shown(value) + "; it must be a whole number from " + shown(least) + " to " + shown(most) + ".");
}

inline double between(double value, const std::string& name, double least, double most) {
  if (value >= least && value <= most) return value;
  refuse(name + " is " + shown(value) + "; it must be from " + shown(least) + " to " + shown(most) + ".");
}

/** `experts` of 0: a dense model. */
inline void check_experts(const Config& config) {
  if (config.experts == 0) return;
  if (config.side > MOST_SIDE || config.per_token > MOST_CHOSEN || config.per_token > config.side * config.side) {
    throw Fault{"unsupported-layout", std::to_string(config.per_token) + " experts of " + std::to_string(config.side) + " x " + std::to_string(config.side) +
                                          ": this backend takes up to " + std::to_string(MOST_CHOSEN) + " of " + std::to_string(MOST_SIDE) + " x " +
                                          std::to_string(MOST_SIDE) + "."};
  }
  // The router's pairs name experts up to side * side.
  if (config.side < 1 || config.per_token < 1 || config.side * config.side > config.experts) {
    throw Fault{"config-invalid", std::to_string(config.per_token) + " of " + std::to_string(config.experts) + " experts by " + std::to_string(config.side) +
                                      " keys: experts_per_token and experts_side must be 1 or more, and there must be an expert for every pair of keys."};
  }
}

inline Config config_of(const doge_config& from) {
  Config config{};
  config.vocabulary = whole(from.vocab_size, "vocab_size", 1, LARGE);
  config.hidden = whole(from.hidden_size, "hidden_size", 1, LARGE);
  config.intermediate = whole(from.intermediate_size, "intermediate_size", 1, LARGE);
  config.layers = whole(from.layers, "layers", 1, 65535);
  config.heads = whole(from.heads, "heads", 1, 4096);
  config.kv_heads = whole(from.kv_heads, "kv_heads", 1, config.heads);
  config.head_dim = whole(from.head_dim, "head_dim", 2, LARGE);
  config.bias_heads = whole(from.bias_heads, "bias_heads", 1, config.heads);
  config.window = whole(from.window, "window", 0, LARGE);
  config.epsilon = static_cast<float>(between(from.norm_epsilon, "norm_epsilon", 0, 1));
  config.max_positions = whole(from.max_positions, "max_positions", 1, LARGE);
  config.rope_type = whole(from.rope_type, "rope_type", 0, 2);
  config.rope_theta = between(from.rope_theta, "rope_theta", 1e-30, 1e30);
  config.rope_factor = between(from.rope_factor, "rope_factor", 1e-30, 1e30);
  config.qk_norm = from.qk_norm != 0.0;
  config.attention_bias = from.attention_bias != 0.0;
  config.mlp_bias = from.mlp_bias != 0.0;
  config.tied = from.tied != 0.0;
  config.experts = whole(from.experts, "experts", 0, LARGE);
  config.per_token = whole(from.experts_per_token, "experts_per_token", 0, LARGE);
  config.side = whole(from.experts_side, "experts_side", 0, LARGE);
  config.normalize = from.experts_normalize != 0.0;
  config.sorted = from.experts_sorted != 0.0;
  config.reference_routing = from.reference_routing != 0.0;
  config.dtype = static_cast<Type>(whole(from.dtype, "dtype", 0, 2));
  config.context = whole(from.context, "context", 1, LARGE);
  config.room = static_cast<int64_t>(whole(from.room, "room", 1, 2147483647.0 - LARGE));
  if (config.room < config.context) {
    refuse("room is " + std::to_string(config.room) + " tokens, less than one context of " + std::to_string(config.context) +
           ": leave it out or ask for more.");
  }
  if (config.heads % config.kv_heads != 0 || config.head_dim % 2 != 0 || config.heads % config.bias_heads != 0 || config.bias_heads % config.kv_heads != 0)
    throw Fault{"config-invalid", "The numbers of heads do not divide each other, or head_dim is odd."};
  if (config.head_dim > WARP * HELD) {
    throw Fault{"unsupported-layout", "Heads of " + std::to_string(config.head_dim) + " numbers: this backend takes up to " + std::to_string(WARP * HELD) + "."};
  }
  if (config.window > 0 && config.bias_heads != config.kv_heads) {
    throw Fault{"unsupported-layout", "A keep window of " + std::to_string(config.window) + " needs one bias per key/value head: the checkpoint has " +
                                          std::to_string(config.bias_heads) + " biases for " + std::to_string(config.kv_heads) + " heads."};
  }
  check_experts(config);
  return config;
}

inline void check_tokens(const doge_row& row, int vocabulary, const std::string& where) {
  if (row.token_count < 0) refuse(where + "token_count is " + std::to_string(row.token_count) + "; it must be 0 or more.");
  if (row.token_count > 0) given(row.tokens, (where + "tokens").c_str());
  for (int token = 0; token < row.token_count; token++) {
    if (row.tokens[token] >= 0 && row.tokens[token] < vocabulary) continue;
    throw Fault{"invalid-token", where + "id " + std::to_string(row.tokens[token]) + " is outside the vocabulary of " + std::to_string(vocabulary) + "."};
  }
}

/** The ranges of core's validateSampling. */
inline void check_sampling(const doge_row& row, const std::string& where) {
  if (row.temperature != 0.0) between(row.temperature, where + "temperature", 1e-6, 1e6);
  if (row.top_k < 0) refuse(where + "top_k is " + std::to_string(row.top_k) + "; it must be 0 (keep all) or more.");
  between(row.top_p, where + "top_p", 0, 1);
  between(row.min_p, where + "min_p", 0, 1);
  if (!(row.repetition_penalty > 0.0 && std::isfinite(row.repetition_penalty)))
    refuse(where + "repetition_penalty is " + shown(row.repetition_penalty) + "; it must be a finite number above 0 (1: none).");
}

/** The rows of a call: of sequences of this model that are open, each once. */
inline void check_rows(const Model& model, const doge_row* rows, int count, bool draws) {
  const int vocabulary = model.config.vocabulary;
  std::set<const doge_sequence*> met;
  for (int index = 0; index < count; index++) {
    const doge_row& row = rows[index];
    const std::string where = "row " + std::to_string(index) + ": ";
    if (model.sequences.count(reinterpret_cast<Sequence*>(row.sequence)) == 0) refuse(where + "its sequence is no open one of this model.");
    if (!met.insert(row.sequence).second) refuse(where + "its sequence is that of an earlier row too; fork it.");
    check_tokens(row, vocabulary, where);
    if (!draws) continue;
    if (row.count < 0) refuse(where + "count is " + std::to_string(row.count) + "; it must be 0 or more.");
    whole(row.alternatives, where + "alternatives", -1, vocabulary);
    whole(row.stop_count, where + "stop_count", 0, LARGE);
    if (row.stop_count > 0) given(row.stops, (where + "stops").c_str());
    check_sampling(row, where);
  }
}

/** Room for what a row is to draw: all that it asked for. */
inline void check_drawn(const doge_row* rows, const doge_drawn* drawn, int count) {
  for (int index = 0; index < count; index++) {
    if (rows[index].count <= 0) continue;
    const std::string where = "row " + std::to_string(index) + ": ";
    given(drawn[index].ids, (where + "ids").c_str());
    if (rows[index].alternatives >= 0) given(drawn[index].logprobs, (where + "logprobs").c_str());
    if (rows[index].alternatives <= 0) continue;
    given(drawn[index].top_ids, (where + "top_ids").c_str());
    given(drawn[index].top_logprobs, (where + "top_logprobs").c_str());
  }
}

}  // namespace doge
