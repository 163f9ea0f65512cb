// The binding of doge.h for Node: Node-API only, so one file serves every Node from 18 on. It copies what JavaScript hands over,
// runs verbs on a worker thread, and settles promises. Arguments are checked by the TypeScript above it and by doge.h.
#define NAPI_VERSION 8
#include <node_api.h>
#include <cstring>
#include <memory>
#include <string>
#include <vector>
#include "doge.h"

namespace {

/** A device, model or sequence in the hands of JavaScript; null once closed. */
struct Handle {
  void* pointer;
};

napi_value thrown(napi_env env, const doge_error& error) {
  napi_throw_error(env, error.code, error.message);
  return nullptr;
}

struct Arguments {
  napi_env env;
  napi_value values[10];
  size_t count = 10;
  Arguments(napi_env env_, napi_callback_info info) : env(env_) { napi_get_cb_info(env, info, &count, values, nullptr, nullptr); }
  double number(size_t at) const {
    double result = 0;
    napi_get_value_double(env, values[at], &result);
    return result;
  }
  int integer(size_t at) const { return static_cast<int>(number(at)); }
  std::string text(size_t at) const {
    size_t length = 0;
    if (napi_get_value_string_utf8(env, values[at], nullptr, 0, &length) != napi_ok) return "";
    std::string result(length, '\0');
    napi_get_value_string_utf8(env, values[at], result.data(), length + 1, &length);
    return result;
  }
  bool is(size_t at, napi_valuetype type) const {
    napi_valuetype found = napi_undefined;
    return at < count && napi_typeof(env, values[at], &found) == napi_ok && found == type;
  }
};

Handle* handle_of(napi_env env, napi_value value) {
  void* pointer = nullptr;
  if (napi_get_value_external(env, value, &pointer) != napi_ok || pointer == nullptr || static_cast<Handle*>(pointer)->pointer == nullptr) {
    napi_throw_error(env, "closed", "This handle was closed or never was one: nothing can be asked of it.");
    return nullptr;
  }
  return static_cast<Handle*>(pointer);
}
template <class T>
T* pointer_of(napi_env env, napi_value value) {
  Handle* const handle = handle_of(env, value);
  return handle == nullptr ? nullptr : static_cast<T*>(handle->pointer);
}

/** An external for a pointer. What it points to is closed by name, never by the garbage collector: its owner knows the order. */
napi_value external(napi_env env, void* pointer) {
  napi_value result;
  napi_create_external(
      env, new Handle{pointer}, [](napi_env, void* data, void*) { delete static_cast<Handle*>(data); }, nullptr, &result);
  return result;
}

napi_value number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}
void set(napi_env env, napi_value object, const char* name, napi_value value) { napi_set_named_property(env, object, name, value); }
napi_value string(napi_env env, const char* text) {
  napi_value result;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &result);
  return result;
}
template <class T>
napi_value typed(napi_env env, napi_typedarray_type type, const T* from, size_t count) {
  void* data = nullptr;
  napi_value buffer, result;
  napi_create_arraybuffer(env, count * sizeof(T), &data, &buffer);
  if (count > 0) std::memcpy(data, from, count * sizeof(T));
  napi_create_typedarray(env, type, count, buffer, 0, &result);
  return result;
}
template <class T>
bool copied(napi_env env, napi_value value, std::vector<T>& to) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok) return false;
  const T* const from = static_cast<const T*>(data);
  to.assign(from, from + length);
  return true;
}

/** probe(device, driver?) */
napi_value probe(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const std::string driver = arguments.is(1, napi_string) ? arguments.text(1) : "";
  doge_probe_result result;
  doge_probe(arguments.integer(0), driver.empty() ? nullptr : driver.c_str(), &result);
  napi_value object, available;
  napi_create_object(env, &object);
  napi_get_boolean(env, result.available != 0, &available);
  set(env, object, "available", available);
  set(env, object, "reason", string(env, result.reason));
  set(env, object, "why", string(env, result.why));
  set(env, object, "name", string(env, result.name));
  set(env, object, "driver", number(env, result.driver));
  set(env, object, "runtime", number(env, result.runtime));
  set(env, object, "capability", number(env, result.capability));
  return object;
}

/** open(device) */
napi_value open(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_device* device = nullptr;
  doge_error error;
  if (doge_open(arguments.integer(0), &device, &error) != 0) return thrown(env, error);
  return external(env, device);
}
napi_value close_device(napi_env env, napi_callback_info info) {
  Handle* const handle = handle_of(env, Arguments(env, info).values[0]);
  if (handle == nullptr) return nullptr;
  doge_close(static_cast<doge_device*>(handle->pointer));
  handle->pointer = nullptr;
  return nullptr;
}
/** counts(device): launches, bytes, allocations */
napi_value counts(napi_env env, napi_callback_info info) {
  doge_device* const device = pointer_of<doge_device>(env, Arguments(env, info).values[0]);
  if (device == nullptr) return nullptr;
  int64_t found[3];
  doge_device_counts(device, &found[0], &found[1], &found[2]);
  const double numbers[3] = {static_cast<double>(found[0]), static_cast<double>(found[1]), static_cast<double>(found[2])};
  return typed(env, napi_float64_array, numbers, 3);
}

/** create(device, Float64Array of doge_config) */
napi_value create(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_device* const device = pointer_of<doge_device>(env, arguments.values[0]);
  if (device == nullptr) return nullptr;
  std::vector<double> numbers;
  doge_config config;
  if (!copied(env, arguments.values[1], numbers) || numbers.size() * sizeof(double) != sizeof config) {
    napi_throw_error(env, "invalid-argument", "The config is not a Float64Array of the length that doge.h has.");
    return nullptr;
  }
  std::memcpy(&config, numbers.data(), sizeof config);
  doge_model* model = nullptr;
  doge_error error;
  if (doge_model_create(device, &config, &model, &error) != 0) return thrown(env, error);
  return external(env, model);
}
/** write(model, name, Float32Array) */
napi_value write(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_model* const model = pointer_of<doge_model>(env, arguments.values[0]);
  if (model == nullptr) return nullptr;
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  napi_get_typedarray_info(env, arguments.values[2], &type, &length, &data, nullptr, nullptr);
  doge_error error;
  if (doge_model_write(model, arguments.text(1).c_str(), static_cast<const float*>(data), static_cast<int64_t>(length), &error) != 0)
    return thrown(env, error);
  return nullptr;
}
napi_value ready(napi_env env, napi_callback_info info) {
  doge_model* const model = pointer_of<doge_model>(env, Arguments(env, info).values[0]);
  doge_error error;
  if (model != nullptr && doge_model_ready(model, &error) != 0) return thrown(env, error);
  return nullptr;
}
napi_value close_model(napi_env env, napi_callback_info info) {
  Handle* const handle = handle_of(env, Arguments(env, info).values[0]);
  if (handle == nullptr) return nullptr;
  doge_model_close(static_cast<doge_model*>(handle->pointer));
  handle->pointer = nullptr;
  return nullptr;
}
napi_value room(napi_env env, napi_callback_info info) {
  doge_model* const model = pointer_of<doge_model>(env, Arguments(env, info).values[0]);
  return model == nullptr ? nullptr : number(env, static_cast<double>(doge_model_room(model)));
}
napi_value abort_model(napi_env env, napi_callback_info info) {
  doge_model* const model = pointer_of<doge_model>(env, Arguments(env, info).values[0]);
  if (model != nullptr) doge_model_abort(model, 1);
  return nullptr;
}

napi_value sequence(napi_env env, napi_callback_info info) {
  doge_model* const model = pointer_of<doge_model>(env, Arguments(env, info).values[0]);
  doge_sequence* made = nullptr;
  doge_error error;
  if (model == nullptr) return nullptr;
  if (doge_sequence_create(model, &made, &error) != 0) return thrown(env, error);
  return external(env, made);
}
napi_value fork(napi_env env, napi_callback_info info) {
  doge_sequence* const past = pointer_of<doge_sequence>(env, Arguments(env, info).values[0]);
  doge_sequence* made = nullptr;
  doge_error error;
  if (past == nullptr) return nullptr;
  if (doge_sequence_fork(past, &made, &error) != 0) return thrown(env, error);
  return external(env, made);
}
napi_value rewind(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_sequence* const its = pointer_of<doge_sequence>(env, arguments.values[0]);
  doge_error error;
  if (its != nullptr && doge_sequence_rewind(its, arguments.integer(1), &error) != 0) return thrown(env, error);
  return nullptr;
}
napi_value close_sequence(napi_env env, napi_callback_info info) {
  Handle* const handle = handle_of(env, Arguments(env, info).values[0]);
  if (handle == nullptr) return nullptr;
  doge_sequence_close(static_cast<doge_sequence*>(handle->pointer));
  handle->pointer = nullptr;
  return nullptr;
}
napi_value length(napi_env env, napi_callback_info info) {
  doge_sequence* const its = pointer_of<doge_sequence>(env, Arguments(env, info).values[0]);
  return its == nullptr ? nullptr : number(env, doge_sequence_length(its));
}

double property(napi_env env, napi_value object, const char* name) {
  napi_value value;
  double result = 0;
  if (napi_get_named_property(env, object, name, &value) == napi_ok) napi_get_value_double(env, value, &result);
  return result;
}

/** A row of a call, with the lists it points to. */
struct Held {
  doge_row row{};
  std::vector<int32_t> tokens, stops;
  std::vector<uint32_t> allowed;
};

/** Reads { tokens, count, alternatives, temperature, topK, topP, minP, repetitionPenalty, seed, stop, allowed? }; false when the
 *  tokens are no list. */
bool read_row(napi_env env, napi_value from, int32_t vocabulary, Held& to) {
  napi_value value;
  napi_get_named_property(env, from, "tokens", &value);
  if (!copied(env, value, to.tokens)) return false;
  to.row.tokens = to.tokens.data();
  to.row.token_count = static_cast<int32_t>(to.tokens.size());
  to.row.count = static_cast<int32_t>(property(env, from, "count"));
  to.row.alternatives = static_cast<int32_t>(property(env, from, "alternatives"));
  to.row.top_k = static_cast<int32_t>(property(env, from, "topK"));
  to.row.seed = static_cast<uint32_t>(property(env, from, "seed"));
  to.row.temperature = property(env, from, "temperature");
  to.row.top_p = property(env, from, "topP");
  to.row.min_p = property(env, from, "minP");
  to.row.repetition_penalty = property(env, from, "repetitionPenalty");
  napi_get_named_property(env, from, "stop", &value);
  copied(env, value, to.stops);
  to.row.stops = to.stops.data();
  to.row.stop_count = static_cast<int32_t>(to.stops.size());
  napi_get_named_property(env, from, "allowed", &value);
  if (copied(env, value, to.allowed)) {
    to.allowed.resize(static_cast<size_t>(vocabulary + 31) / 32, 0);
    to.row.allowed = to.allowed.data();
  }
  return true;
}

enum Verb { FORWARD = 0, SCORE = 1, SAMPLE = 2, INSPECT = 3, INSPECT_INSIDE = 4 };

/** A verb on its way: everything it needs, copied. */
struct Job {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  Verb verb = FORWARD;
  doge_model* model = nullptr;
  int32_t vocabulary = 0;
  std::vector<Held> held;
  std::vector<doge_row> rows;
  int status = 0;
  doge_error error{};
  std::vector<float> numbers;
  struct Lists {
    std::vector<int32_t> ids, top_ids;
    std::vector<float> logprobs, top_logprobs;
  };
  std::vector<Lists> lists;
  std::vector<doge_drawn> drawn;
  struct Tensor {
    int32_t row;
    std::string name;
    int64_t rows, columns;
    std::vector<float> data;
  };
  std::vector<Tensor> tensors;
};

void execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  const int32_t count = static_cast<int32_t>(job.rows.size());
  switch (job.verb) {
    case FORWARD:
      job.numbers.resize(job.rows.size() * static_cast<size_t>(job.vocabulary));
      job.status = doge_forward(job.model, job.rows.data(), count, job.numbers.data(), &job.error);
      return;
    case SCORE: {
      size_t total = 0;
      for (const doge_row& row : job.rows) total += static_cast<size_t>(row.token_count);
      job.numbers.resize(total);
      job.status = doge_score(job.model, job.rows.data(), count, job.numbers.data(), &job.error);
      return;
    }
    case SAMPLE:
      for (size_t index = 0; index < job.rows.size(); index++) {
        const size_t most = static_cast<size_t>(job.rows[index].count);
        const size_t width = static_cast<size_t>(job.rows[index].alternatives < 0 ? 0 : job.rows[index].alternatives);
        Job::Lists& list = job.lists[index];
        list.ids.resize(most);
        list.logprobs.resize(most);
        list.top_ids.resize(most * width);
        list.top_logprobs.resize(most * width);
        job.drawn[index] = {0, list.ids.data(), list.logprobs.data(), list.top_ids.data(), list.top_logprobs.data()};
      }
      job.status = doge_sample(job.model, job.rows.data(), count, job.drawn.data(), &job.error);
      return;
    default:
      job.status = doge_inspect(
          job.model, job.rows.data(), count, job.verb == INSPECT_INSIDE,
          [](void* context, int32_t row, const char* name, int64_t rows, int64_t columns, const float* numbers) {
            static_cast<Job*>(context)->tensors.push_back({row, name, rows, columns, std::vector<float>(numbers, numbers + rows * columns)});
          },
          &job, &job.error);
  }
}

napi_value drawn_of(napi_env env, const Job& job, size_t index) {
  const Job::Lists& list = job.lists[index];
  const size_t count = static_cast<size_t>(job.drawn[index].drawn);
  const int32_t alternatives = job.rows[index].alternatives;
  const size_t width = alternatives < 0 ? 0 : static_cast<size_t>(alternatives);
  napi_value object;
  napi_create_object(env, &object);
  set(env, object, "ids", typed(env, napi_int32_array, list.ids.data(), count));
  set(env, object, "logprobs", typed(env, napi_float32_array, list.logprobs.data(), alternatives < 0 ? 0 : count));
  set(env, object, "topIds", typed(env, napi_int32_array, list.top_ids.data(), count * width));
  set(env, object, "topLogprobs", typed(env, napi_float32_array, list.top_logprobs.data(), count * width));
  return object;
}

napi_value result_of(napi_env env, const Job& job) {
  napi_value array;
  napi_create_array(env, &array);
  size_t from = 0;
  for (size_t index = 0; index < job.rows.size(); index++) {
    napi_value one = nullptr;
    if (job.verb == FORWARD || job.verb == SCORE) {
      const size_t count = job.verb == FORWARD ? static_cast<size_t>(job.vocabulary) : static_cast<size_t>(job.rows[index].token_count);
      one = typed(env, napi_float32_array, job.numbers.data() + from, count);
      from += count;
    } else if (job.verb == SAMPLE) {
      one = drawn_of(env, job, index);
    } else {
      napi_create_object(env, &one);
      for (const Job::Tensor& tensor : job.tensors) {
        if (tensor.row != static_cast<int32_t>(index)) continue;
        napi_value object, shape;
        napi_create_object(env, &object);
        napi_create_array(env, &shape);
        napi_set_element(env, shape, 0, number(env, static_cast<double>(tensor.rows)));
        napi_set_element(env, shape, 1, number(env, static_cast<double>(tensor.columns)));
        set(env, object, "shape", shape);
        set(env, object, "data", typed(env, napi_float32_array, tensor.data.data(), tensor.data.size()));
        set(env, one, tensor.name.c_str(), object);
      }
    }
    napi_set_element(env, array, static_cast<uint32_t>(index), one);
  }
  return array;
}

void complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (job->status == 0) {
    napi_resolve_deferred(env, job->deferred, result_of(env, *job));
  } else {
    napi_value error;
    napi_create_error(env, string(env, job->error.code), string(env, job->error.message), &error);
    napi_reject_deferred(env, job->deferred, error);
  }
  napi_delete_async_work(env, job->work);
}

/** run(model, verb, vocabulary, rows): a promise of an array, one element a row. Rows: { sequence, tokens, count, alternatives,
 *  temperature, topK, topP, minP, repetitionPenalty, seed, stop: Int32Array, allowed?: Uint32Array }. */
napi_value run(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto job = std::make_unique<Job>();
  job->model = pointer_of<doge_model>(env, arguments.values[0]);
  if (job->model == nullptr) return nullptr;
  job->verb = static_cast<Verb>(arguments.integer(1));
  job->vocabulary = arguments.integer(2);
  uint32_t count = 0;
  napi_get_array_length(env, arguments.values[3], &count);
  job->held.resize(count);
  job->lists.resize(count);
  job->drawn.resize(count);
  for (uint32_t index = 0; index < count; index++) {
    napi_value row, value;
    napi_get_element(env, arguments.values[3], index, &row);
    Held& held = job->held[index];
    if (!read_row(env, row, job->vocabulary, held)) {
      napi_throw_error(env, "invalid-argument", "A row's tokens are not an Int32Array.");
      return nullptr;
    }
    napi_get_named_property(env, row, "sequence", &value);
    held.row.sequence = pointer_of<doge_sequence>(env, value);
    if (held.row.sequence == nullptr) return nullptr;
    job->rows.push_back(held.row);
  }
  doge_model_abort(job->model, 0);  // an abort that came too late for the call before is not meant for this one
  napi_value promise;
  napi_create_promise(env, &job->deferred, &promise);
  napi_create_async_work(env, nullptr, string(env, "doge"), execute, complete, job.get(), &job->work);
  napi_queue_async_work(env, job->work);
  job.release();
  return promise;
}

/** A Float32Array's numbers; null where it is none. Good while the call lasts. */
float* floats_of(napi_env env, napi_value value, size_t* length = nullptr) {
  napi_typedarray_type type;
  size_t count = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &count, &data, nullptr, nullptr) != napi_ok) return nullptr;
  if (length != nullptr) *length = count;
  return static_cast<float*>(data);
}

/** The single kernels of doge.h; each writes into its second argument. */
napi_value kernel_rmsnorm(napi_env env, napi_callback_info info) {
  const Arguments a(env, info);
  doge_device* const device = pointer_of<doge_device>(env, a.values[0]);
  size_t width = 1, all = 0;
  float* const out = floats_of(env, a.values[1], &all);
  const float* const weight = floats_of(env, a.values[3], &width);
  doge_error error;
  if (device != nullptr && doge_kernel_rmsnorm(device, out, floats_of(env, a.values[2]), weight, static_cast<int32_t>(all / width),
                                               static_cast<int32_t>(width), static_cast<float>(a.number(4)), &error) != 0)
    return thrown(env, error);
  return nullptr;
}
napi_value kernel_matmul(napi_env env, napi_callback_info info) {
  const Arguments a(env, info);
  doge_device* const device = pointer_of<doge_device>(env, a.values[0]);
  doge_error error;
  if (device != nullptr && doge_kernel_matmul(device, floats_of(env, a.values[1]), floats_of(env, a.values[2]), floats_of(env, a.values[3]),
                                              floats_of(env, a.values[4]), a.integer(5), a.integer(6), a.integer(7),
                                              static_cast<doge_dtype>(a.integer(8)), &error) != 0)
    return thrown(env, error);
  return nullptr;
}
napi_value kernel_rope(napi_env env, napi_callback_info info) {
  const Arguments a(env, info);
  doge_device* const device = pointer_of<doge_device>(env, a.values[0]);
  size_t all = 0;
  float* const x = floats_of(env, a.values[1], &all);
  doge_error error;
  if (device != nullptr && doge_kernel_rope(device, x, static_cast<int32_t>(all) / a.integer(2), a.integer(2), a.integer(3), a.number(4), &error) != 0)
    return thrown(env, error);
  return nullptr;
}
napi_value kernel_swiglu(napi_env env, napi_callback_info info) {
  const Arguments a(env, info);
  doge_device* const device = pointer_of<doge_device>(env, a.values[0]);
  size_t width = 0;
  float* const out = floats_of(env, a.values[1], &width);
  doge_error error;
  if (device != nullptr &&
      doge_kernel_swiglu(device, out, floats_of(env, a.values[2]), floats_of(env, a.values[3]), static_cast<int32_t>(width), &error) != 0)
    return thrown(env, error);
  return nullptr;
}
napi_value kernel_attention(napi_env env, napi_callback_info info) {
  const Arguments a(env, info);
  doge_device* const device = pointer_of<doge_device>(env, a.values[0]);
  size_t dim = 0, count = 0;
  float* const out = floats_of(env, a.values[1], &dim);
  const float* const bias = floats_of(env, a.values[5], &count);
  doge_error error;
  if (device != nullptr && doge_kernel_attention(device, out, floats_of(env, a.values[2]), floats_of(env, a.values[3]), floats_of(env, a.values[4]), bias,
                                                 static_cast<int32_t>(count), static_cast<int32_t>(dim), &error) != 0)
    return thrown(env, error);
  return nullptr;
}
/** kernelDraw(device, logits, position, row as run() has it): the id. */
napi_value kernel_draw(napi_env env, napi_callback_info info) {
  const Arguments a(env, info);
  doge_device* const device = pointer_of<doge_device>(env, a.values[0]);
  if (device == nullptr) return nullptr;
  size_t vocabulary = 0;
  const float* const logits = floats_of(env, a.values[1], &vocabulary);
  Held held;
  read_row(env, a.values[3], static_cast<int32_t>(vocabulary), held);
  int32_t id = -1;
  doge_error error;
  if (doge_kernel_draw(device, &id, logits, static_cast<int32_t>(vocabulary), a.integer(2), &held.row, &error) != 0) return thrown(env, error);
  return number(env, id);
}

#if defined(DOGE_SHIM)
/** fail(device, allocation, operation): doge_shim_fail, for tests. */
napi_value fail(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_device* const device = pointer_of<doge_device>(env, arguments.values[0]);
  if (device != nullptr) doge_shim_fail(device, arguments.integer(1), arguments.integer(2));
  return nullptr;
}
#endif

napi_value init(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {
      {"probe", probe},       {"open", open},         {"closeDevice", close_device},     {"counts", counts}, {"create", create},
      {"write", write},       {"ready", ready},       {"closeModel", close_model},       {"room", room},     {"abort", abort_model},
      {"sequence", sequence}, {"fork", fork},         {"rewind", rewind},                {"closeSequence", close_sequence},
      {"length", length},     {"run", run},           {"kernelRmsnorm", kernel_rmsnorm}, {"kernelMatmul", kernel_matmul},
      {"kernelRope", kernel_rope},                    {"kernelSwiglu", kernel_swiglu},   {"kernelAttention", kernel_attention},
      {"kernelDraw", kernel_draw},
#if defined(DOGE_SHIM)
      {"fail", fail},
#endif
  };
  for (const auto& each : functions) {
    napi_value function;
    napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.callback, nullptr, &function);
    set(env, exports, each.name, function);
  }
  set(env, exports, "abi", number(env, doge_abi()));
  return exports;
}

}  // namespace

NAPI_MODULE_INIT() { return init(env, exports); }
