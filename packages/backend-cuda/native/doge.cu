// The C interface (doge.h) over the core. No exception crosses it: each becomes a code of the contract and a sentence.
#include "doge.h"
#include <cstdio>
#include <new>
#include "arguments.h"
#include "forms_half.h"
#include "rates.h"

namespace {

using namespace doge;

void fill(doge_error* error, const char* code, const std::string& message) {
  if (error == nullptr) return;
  std::snprintf(error->code, sizeof error->code, "%s", code);
  const bool whole = message.size() < sizeof error->message;
  std::snprintf(error->message, sizeof error->message, whole ? "%s" : "%.470s ...", message.c_str());
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

/** Errors: "invalid-argument" for null. */
Context& device_of(doge_device* device) {
  given(device, "device");
  return *reinterpret_cast<Context*>(device);
}
Model& model_of(doge_model* model) {
  given(model, "model");
  return *reinterpret_cast<Model*>(model);
}
Sequence& sequence_of(doge_sequence* sequence) {
  given(sequence, "sequence");
  return *reinterpret_cast<Sequence*>(sequence);
}

/** What single kernels take. */
constexpr double MOST_ROWS = 65535;
void arrays(std::initializer_list<const float*> all) {
  for (const float* const each : all) given(each, "an array");
}
int dim_of(int32_t head_dim) { return whole(head_dim, "head_dim", 1, WARP * HELD); }
Type type_of(doge_dtype dtype) { return static_cast<Type>(whole(static_cast<double>(dtype), "dtype", 0, 2)); }

/** A verb: nothing on a lost device, nothing before the weights are there. */
template <class Verb>
int call(doge_model* model, const doge_row* rows, int32_t count, doge_error* error, Verb verb) {
  return guarded(error, [&] {
    Model& its = model_of(model);
    if (count < 0) refuse("count is " + std::to_string(count) + " rows; it must be 0 or more.");
    if (count > 0) given(rows, "rows");
    its.device.require();
    if (!its.ready) throw Fault{"invalid-argument", "The weights of the model are not complete: call doge_model_ready first."};
    if (count > 0) verb(its, rows, count);
  });
}

}  // namespace

int doge_abi(void) { return DOGE_ABI; }

int doge_open(int device, doge_device** result, doge_error* error) {
  return guarded(error, [&] {
    given(result, "result");
    *result = reinterpret_cast<doge_device*>(new Context(device));
  });
}
void doge_close(doge_device* device) { delete reinterpret_cast<Context*>(device); }

int doge_model_create(doge_device* device, const doge_config* config, doge_model** result, doge_error* error) {
  return guarded(error, [&] {
    given(config, "config");
    given(result, "result");
    device_of(device).require();
    *result = reinterpret_cast<doge_model*>(new Model(device_of(device), config_of(*config)));
  });
}
int doge_model_write(doge_model* model, const char* name, const float* values, int64_t count, doge_error* error) {
  return guarded(error, [&] {
    given(name, "name");
    if (count > 0) given(values, "values");
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
    for (const double* each : {read, multiply, multiply_tiles}) given(each, "read, multiply or multiply_tiles");
    if (bytes < 0 || effort < 1) throw Fault{"invalid-argument", "Rates need bytes of 0 or more and an effort of 1 or more."};
    device_of(device).require();
    measure_rates(device_of(device), static_cast<size_t>(bytes), effort, read, multiply, multiply_tiles);
  });
}

int doge_device_form(doge_device* device, int32_t rows, int32_t inner, int32_t outer, int32_t form, int32_t gated, int32_t together, double* apart,
                     double* seconds, doge_error* error) {
  return guarded(error, [&] {
    for (const double* each : {apart, seconds}) given(each, "apart or seconds");
    if (rows < 1 || inner < 1 || outer < 1 || together < 0) throw Fault{"invalid-argument", "A form needs matrices of one number at least."};
    device_of(device).require();
    measure_form(device_of(device), rows, inner, outer, form, gated != 0, together, apart, seconds);
  });
}

int doge_device_products(doge_device* device, int32_t kind, double* apart, doge_error* error) {
  return guarded(error, [&] {
    given(apart, "apart");
    device_of(device).require();
    *apart = products_apart(device_of(device), kind);
  });
}
int doge_device_attention(doge_device* device, int32_t tokens, int32_t before, int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t together,
                          double* apart, double* seconds, doge_error* error) {
  return guarded(error, [&] {
    for (const double* each : {apart, seconds}) given(each, "apart or seconds");
    if (before < 0 || tokens <= before || kv_heads < 1 || heads < 1 || heads % kv_heads != 0 || head_dim < 1 || !attends_in_half(head_dim) || together < 0)
      throw Fault{"invalid-argument", "Attention in half precision needs tokens, whole groups of heads, and heads of 8 to 128 numbers in eights."};
    device_of(device).require();
    measure_attention(device_of(device), tokens, before, heads, kv_heads, head_dim, together, apart, seconds);
  });
}

int doge_sequence_create(doge_model* model, doge_sequence** result, doge_error* error) {
  return guarded(error, [&] {
    given(result, "result");
    Model& its = model_of(model);
    auto made = std::make_unique<Sequence>(its, *its.pages, its.config.routes_spans(), &its.used);
    Sequence* const sequence = made.get();
    its.sequences[sequence] = std::move(made);
    *result = reinterpret_cast<doge_sequence*>(sequence);
  });
}
int doge_sequence_fork(doge_sequence* past, doge_sequence** result, doge_error* error) {
  return guarded(error, [&] {
    given(result, "result");
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
void doge_sequence_close(doge_sequence* sequence) {
  if (sequence != nullptr) sequence_of(sequence).model.sequences.erase(&sequence_of(sequence));
}
int32_t doge_sequence_length(const doge_sequence* sequence) { return reinterpret_cast<const Sequence*>(sequence)->length(); }

int doge_forward(doge_model* model, const doge_row* rows, int32_t count, float* logits, doge_error* error) {
  return call(model, rows, count, error, [&](Model& its, const doge_row* of, int many) {
    given(logits, "logits");
    doge::forward(its, of, many, logits);
  });
}
int doge_score(doge_model* model, const doge_row* rows, int32_t count, float* scores, doge_error* error) {
  return call(model, rows, count, error, [&](Model& its, const doge_row* of, int many) {
    if (std::any_of(of, of + many, [](const doge_row& row) { return row.token_count > 0; })) given(scores, "scores");
    doge::score(its, of, many, scores);
  });
}
int doge_sample(doge_model* model, const doge_row* rows, int32_t count, doge_drawn* drawn, doge_error* error) {
  return call(model, rows, count, error, [&](Model& its, const doge_row* of, int many) {
    given(drawn, "drawn");
    check_drawn(of, drawn, many);
    doge::sample(its, of, many, drawn);
  });
}
int doge_inspect(doge_model* model, const doge_row* rows, int32_t count, int layers, doge_tensor receive, void* context, doge_error* error) {
  return call(model, rows, count, error, [&](Model& its, const doge_row* of, int many) {
    if (receive == nullptr) refuse("receive is null: hand over what takes the tensors.");
    doge::inspect(its, of, many, layers != 0, receive, context);
  });
}

int doge_kernel_rmsnorm(doge_device* device, float* out, const float* x, const float* weight, int32_t rows, int32_t width, float epsilon,
                        doge_error* error) {
  return guarded(error, [&] {
    arrays({out, x, weight});
    single_rmsnorm(device_of(device), out, x, weight, whole(rows, "rows", 1, MOST_ROWS), whole(width, "width", 1, LARGE), epsilon);
  });
}
int doge_kernel_matmul(doge_device* device, float* out, const float* x, const float* weight, const float* bias, int32_t rows, int32_t inner, int32_t outer,
                       doge_dtype dtype, doge_error* error) {
  return guarded(error, [&] {
    arrays({out, x, weight});
    single_matmul(device_of(device), out, x, weight, bias, whole(rows, "rows", 1, MOST_ROWS), whole(inner, "inner", 1, LARGE), whole(outer, "outer", 1, LARGE),
                  type_of(dtype));
  });
}
int doge_kernel_rope(doge_device* device, float* x, int32_t heads, int32_t head_dim, int32_t position, double theta, doge_error* error) {
  return guarded(error, [&] {
    arrays({x});
    if (head_dim % 2 != 0) refuse("head_dim is " + std::to_string(head_dim) + "; numbers are turned in pairs, so it must be even.");
    single_rope(device_of(device), x, whole(heads, "heads", 1, 4096), dim_of(head_dim), whole(position, "position", 0, LARGE), theta);
  });
}
int doge_kernel_swiglu(doge_device* device, float* out, const float* gate, const float* up, int32_t width, doge_error* error) {
  return guarded(error, [&] {
    arrays({out, gate, up});
    single_swiglu(device_of(device), out, gate, up, whole(width, "width", 1, LARGE / 4));
  });
}
int doge_kernel_attention(doge_device* device, float* out, const float* query, const float* keys, const float* values, const float* bias, int32_t count,
                          int32_t head_dim, doge_error* error) {
  return guarded(error, [&] {
    arrays({out, query, keys, values, bias});
    single_attention(device_of(device), out, query, keys, values, bias, whole(count, "count", 1, LARGE), dim_of(head_dim), 1, Type::F32);
  });
}
int doge_kernel_attention_text(doge_device* device, float* out, const float* queries, const float* keys, const float* values, const float* bias,
                               int32_t count, int32_t head_dim, doge_dtype dtype, doge_error* error) {
  return guarded(error, [&] {
    arrays({out, queries, keys, values, bias});
    single_attention(device_of(device), out, queries, keys, values, bias, whole(count, "count", 1, MOST_ROWS), dim_of(head_dim), count, type_of(dtype));
  });
}
int doge_kernel_fragments(doge_device* device, float* d, uint32_t* registers, const float* a, const float* b, doge_error* error) {
  return guarded(error, [&] {
    arrays({d, a, b});
    given(registers, "registers");
    single_fragments(device_of(device), d, registers, a, b);
  });
}
int doge_kernel_draw(doge_device* device, int32_t* id, const float* logits, int32_t vocabulary, int32_t position, const doge_row* row, doge_error* error) {
  return guarded(error, [&] {
    arrays({logits});
    given(id, "id");
    given(row, "row");
    whole(vocabulary, "vocabulary", 1, LARGE);
    check_tokens(*row, vocabulary, "");
    check_sampling(*row, "");
    *id = single_draw(device_of(device), logits, vocabulary, whole(position, "position", 0, LARGE), *row);
  });
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
