// The C interface (doge.h) over the core. No exception crosses it: each becomes a code of the contract and a sentence.
#include "doge.h"
#include <cstdio>
#include <new>
#include "forms_half.h"
#include "rates.h"

namespace {

using namespace doge;

void fill(doge_error* error, const char* code, const std::string& message) {
  if (error == nullptr) return;
  std::snprintf(error->code, sizeof error->code, "%s", code);
  std::snprintf(error->message, sizeof error->message, "%s", message.c_str());
}

template <class Work>
int guarded(doge_error* error, Work work) {
  try {
    work();
    return 0;
  } catch (const Fault& fault) {
    fill(error, fault.code.c_str(), fault.message);
  } catch (const std::bad_alloc&) {
    fill(error, "out-of-memory", "The host has no memory left for this call.");
  } catch (const std::exception& other) {
    fill(error, "device-lost", std::string("The native code failed: ") + other.what());
  } catch (...) {
    fill(error, "device-lost", "The native code failed.");
  }
  return -1;
}

int whole(double value, const char* name, double least, double most) {
  if (value >= least && value <= most && value == std::floor(value)) return static_cast<int>(value);
  throw Fault{"invalid-argument", std::string(name) + " is " + std::to_string(value) + "; it must be a whole number from " +
                                      std::to_string(static_cast<int64_t>(least)) + " to " + std::to_string(static_cast<int64_t>(most)) + "."};
}

Config read(const doge_config& from) {
  constexpr double LARGE = 1 << 24;
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
  config.epsilon = static_cast<float>(from.norm_epsilon);
  config.max_positions = whole(from.max_positions, "max_positions", 1, LARGE);
  config.rope_type = whole(from.rope_type, "rope_type", 0, 2);
  config.rope_theta = from.rope_theta;
  config.rope_factor = from.rope_factor;
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
    throw Fault{"invalid-argument", "room is " + std::to_string(config.room) + " tokens, less than one context of " + std::to_string(config.context) +
                                        ": leave it out or ask for more."};
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
  if (config.experts > 0 && (config.side > MOST_SIDE || config.per_token > MOST_CHOSEN || config.per_token > config.side * config.side)) {
    throw Fault{"unsupported-layout", std::to_string(config.per_token) + " experts of " + std::to_string(config.side) + " x " + std::to_string(config.side) +
                                          ": this backend takes up to " + std::to_string(MOST_CHOSEN) + " of " + std::to_string(MOST_SIDE) + " x " +
                                          std::to_string(MOST_SIDE) + "."};
  }
  return config;
}

Context& device_of(doge_device* device) { return *reinterpret_cast<Context*>(device); }
Model& model_of(doge_model* model) { return *reinterpret_cast<Model*>(model); }
Sequence& sequence_of(doge_sequence* sequence) { return *reinterpret_cast<Sequence*>(sequence); }

/** A verb: nothing on a lost device, nothing before the weights are there. */
template <class Verb>
int call(doge_model* model, const doge_row* rows, int32_t count, doge_error* error, Verb verb) {
  return guarded(error, [&] {
    Model& its = model_of(model);
    its.device.require();
    if (!its.ready) throw Fault{"invalid-argument", "The weights of the model are not complete: call doge_model_ready first."};
    if (count > 0) verb(its, rows, count);
  });
}

}  // namespace

int doge_abi(void) { return DOGE_ABI; }

int doge_open(int device, doge_device** result, doge_error* error) {
  return guarded(error, [&] { *result = reinterpret_cast<doge_device*>(new Context(device)); });
}
void doge_close(doge_device* device) { delete reinterpret_cast<Context*>(device); }

int doge_model_create(doge_device* device, const doge_config* config, doge_model** result, doge_error* error) {
  return guarded(error, [&] {
    device_of(device).require();
    *result = reinterpret_cast<doge_model*>(new Model(device_of(device), read(*config)));
  });
}
int doge_model_write(doge_model* model, const char* name, const float* values, int64_t count, doge_error* error) {
  return guarded(error, [&] {
    model_of(model).device.require();
    model_of(model).weights.write(name, values, count);
  });
}
int doge_model_ready(doge_model* model, doge_error* error) {
  return guarded(error, [&] {
    model_of(model).device.require();  // other models may have been written to meanwhile, on other devices
    model_of(model).device.finish();
    model_of(model).weights.require_complete();
    model_of(model).prepare();
    model_of(model).ready = true;
  });
}
void doge_model_close(doge_model* model) { delete reinterpret_cast<Model*>(model); }
int64_t doge_model_room(const doge_model* model) { return reinterpret_cast<const Model*>(model)->room(); }
void doge_model_abort(doge_model* model, int on) { model_of(model).control->abort = on; }

int64_t doge_model_bytes(const doge_model* model) { return static_cast<int64_t>(reinterpret_cast<const Model*>(model)->weights.bytes()); }

void doge_device_counts(const doge_device* device, doge_counts* counts) {
  const Context& its = *reinterpret_cast<const Context*>(device);
  *counts = {its.launches, its.submissions, its.bytes_in, its.bytes_out, its.allocations, its.allocated};
}
int doge_device_rates(doge_device* device, int64_t bytes, int32_t effort, double* read, double* multiply, double* multiply_tiles, doge_error* error) {
  return guarded(error, [&] {
    if (bytes < 0 || effort < 1) throw Fault{"invalid-argument", "Rates need bytes of 0 or more and an effort of 1 or more."};
    device_of(device).require();
    measure_rates(device_of(device), static_cast<size_t>(bytes), effort, read, multiply, multiply_tiles);
  });
}

int doge_device_form(doge_device* device, int32_t rows, int32_t inner, int32_t outer, int32_t form, int32_t gated, int32_t together, double* apart,
                     double* seconds, doge_error* error) {
  return guarded(error, [&] {
    if (rows < 1 || inner < 1 || outer < 1 || together < 0) throw Fault{"invalid-argument", "A form needs matrices of one number at least."};
    device_of(device).require();
    measure_form(device_of(device), rows, inner, outer, form, gated != 0, together, apart, seconds);
  });
}

int doge_device_products(doge_device* device, int32_t kind, double* apart, doge_error* error) {
  return guarded(error, [&] {
    device_of(device).require();
    *apart = products_apart(device_of(device), kind);
  });
}
int doge_device_attention(doge_device* device, int32_t tokens, int32_t before, int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t together,
                          double* apart, double* seconds, doge_error* error) {
  return guarded(error, [&] {
    if (before < 0 || tokens <= before || kv_heads < 1 || heads < 1 || heads % kv_heads != 0 || head_dim < 1 || !attends_in_half(head_dim) || together < 0)
      throw Fault{"invalid-argument", "Attention in half precision needs tokens, whole groups of heads, and heads of 8 to 128 numbers in eights."};
    device_of(device).require();
    measure_attention(device_of(device), tokens, before, heads, kv_heads, head_dim, together, apart, seconds);
  });
}

int doge_sequence_create(doge_model* model, doge_sequence** result, doge_error* error) {
  return guarded(error, [&] {
    Model& its = model_of(model);
    auto made = std::make_unique<Sequence>(its, *its.pages, its.config.routes_spans(), &its.used);
    Sequence* const sequence = made.get();
    its.sequences[sequence] = std::move(made);
    *result = reinterpret_cast<doge_sequence*>(sequence);
  });
}
int doge_sequence_fork(doge_sequence* past, doge_sequence** result, doge_error* error) {
  return guarded(error, [&] {
    Model& its = sequence_of(past).model;
    auto made = std::make_unique<Sequence>(sequence_of(past));
    Sequence* const sequence = made.get();
    its.sequences[sequence] = std::move(made);
    *result = reinterpret_cast<doge_sequence*>(sequence);
  });
}
int doge_sequence_rewind(doge_sequence* sequence, int32_t length, doge_error* error) {
  return guarded(error, [&] {
    if (length < 0) throw Fault{"invalid-argument", "rewind to " + std::to_string(length) + "; it must be 0 or more."};
    sequence_of(sequence).rewind(length);
  });
}
void doge_sequence_close(doge_sequence* sequence) { sequence_of(sequence).model.sequences.erase(&sequence_of(sequence)); }
int32_t doge_sequence_length(const doge_sequence* sequence) { return reinterpret_cast<const Sequence*>(sequence)->length(); }

int doge_forward(doge_model* model, const doge_row* rows, int32_t count, float* logits, doge_error* error) {
  return call(model, rows, count, error, [&](Model& its, const doge_row* of, int many) { doge::forward(its, of, many, logits); });
}
int doge_score(doge_model* model, const doge_row* rows, int32_t count, float* scores, doge_error* error) {
  return call(model, rows, count, error, [&](Model& its, const doge_row* of, int many) { doge::score(its, of, many, scores); });
}
int doge_sample(doge_model* model, const doge_row* rows, int32_t count, doge_drawn* drawn, doge_error* error) {
  return call(model, rows, count, error, [&](Model& its, const doge_row* of, int many) { doge::sample(its, of, many, drawn); });
}
int doge_inspect(doge_model* model, const doge_row* rows, int32_t count, int layers, doge_tensor receive, void* context, doge_error* error) {
  return call(model, rows, count, error,
              [&](Model& its, const doge_row* of, int many) { doge::inspect(its, of, many, layers != 0, receive, context); });
}

int doge_kernel_rmsnorm(doge_device* device, float* out, const float* x, const float* weight, int32_t rows, int32_t width, float epsilon,
                        doge_error* error) {
  return guarded(error, [&] { single_rmsnorm(device_of(device), out, x, weight, rows, width, epsilon); });
}
int doge_kernel_matmul(doge_device* device, float* out, const float* x, const float* weight, const float* bias, int32_t rows, int32_t inner, int32_t outer,
                       doge_dtype dtype, doge_error* error) {
  return guarded(error, [&] { single_matmul(device_of(device), out, x, weight, bias, rows, inner, outer, static_cast<Type>(dtype)); });
}
int doge_kernel_rope(doge_device* device, float* x, int32_t heads, int32_t head_dim, int32_t position, double theta, doge_error* error) {
  return guarded(error, [&] { single_rope(device_of(device), x, heads, head_dim, position, theta); });
}
int doge_kernel_swiglu(doge_device* device, float* out, const float* gate, const float* up, int32_t width, doge_error* error) {
  return guarded(error, [&] { single_swiglu(device_of(device), out, gate, up, width); });
}
int doge_kernel_attention(doge_device* device, float* out, const float* query, const float* keys, const float* values, const float* bias, int32_t count,
                          int32_t head_dim, doge_error* error) {
  return guarded(error, [&] {
    if (head_dim > WARP * HELD) throw Fault{"invalid-argument", "A head of " + std::to_string(head_dim) + " numbers is too large."};
    single_attention(device_of(device), out, query, keys, values, bias, count, head_dim, 1, Type::F32);
  });
}
int doge_kernel_attention_text(doge_device* device, float* out, const float* queries, const float* keys, const float* values, const float* bias,
                               int32_t count, int32_t head_dim, doge_dtype dtype, doge_error* error) {
  return guarded(error, [&] {
    if (head_dim > WARP * HELD) throw Fault{"invalid-argument", "A head of " + std::to_string(head_dim) + " numbers is too large."};
    single_attention(device_of(device), out, queries, keys, values, bias, count, head_dim, count, static_cast<Type>(dtype));
  });
}
int doge_kernel_fragments(doge_device* device, float* d, uint32_t* registers, const float* a, const float* b, doge_error* error) {
  return guarded(error, [&] { single_fragments(device_of(device), d, registers, a, b); });
}
int doge_kernel_draw(doge_device* device, int32_t* id, const float* logits, int32_t vocabulary, int32_t position, const doge_row* row, doge_error* error) {
  return guarded(error, [&] { *id = single_draw(device_of(device), logits, vocabulary, position, *row); });
}

#if defined(DOGE_SHIM)
void doge_shim_fail(int allocation, int operation) {
  shim::runtime().refuse = allocation;
  shim::runtime().end = operation;
}
int doge_shim_made(void) { return shim::runtime().made; }
void doge_shim_alone(int launches, int graphs) {
  shim::runtime().alone = launches != 0;
  shim::runtime().alone_in_graphs = graphs != 0;
}
int64_t doge_shim_beside(void) { return shim::runtime().beside; }
void doge_shim_unclustered(int what) { shim::runtime().unclustered = what; }
int64_t doge_shim_clustered(void) { return shim::runtime().clustered; }
#endif
