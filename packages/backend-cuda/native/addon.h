// What the parts of the binding share: arguments, handles and results as Node-API has them, and a row of a call.
#pragma once
#define NAPI_VERSION 8
#include <node_api.h>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>
#include "doge.h"

namespace addon {

/** A device, model or sequence in the hands of JavaScript; null once closed. */
struct Handle {
  void* pointer;
};

/** What an environment has open. A Worker that is ended closes nothing by name: what is still open then is closed with its environment,
 *  models, which own their sequences, before their devices. Node has waited for its calls before. */
struct Opened {
  std::set<doge_model*> models;
  std::set<doge_device*> devices;
  Opened() = default;
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() {
    for (doge_model* const each : models) doge_model_close(each);
    for (doge_device* const each : devices) doge_close(each);
  }
};
inline Opened& opened(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Opened*>(data);
}

inline napi_value thrown(napi_env env, const doge_error& error) {
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

inline Handle* handle_of(napi_env env, napi_value value) {
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
inline napi_value external(napi_env env, void* pointer) {
  napi_value result;
  napi_create_external(
      env, new Handle{pointer}, [](napi_env, void* data, void*) { delete static_cast<Handle*>(data); }, nullptr, &result);
  return result;
}

inline napi_value number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}
inline void set(napi_env env, napi_value object, const char* name, napi_value value) { napi_set_named_property(env, object, name, value); }
inline napi_value string(napi_env env, const char* text) {
  napi_value result;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &result);
  return result;
}
template <class T>
inline napi_value typed(napi_env env, napi_typedarray_type type, const T* from, size_t count) {
  void* data = nullptr;
  napi_value buffer, result;
  // The environment of a Worker that was ended during a call makes no arrays any more.
  if (napi_create_arraybuffer(env, count * sizeof(T), &data, &buffer) != napi_ok) return nullptr;
  if (count > 0) std::memcpy(data, from, count * sizeof(T));
  napi_create_typedarray(env, type, count, buffer, 0, &result);
  return result;
}
template <class T>
inline bool copied(napi_env env, napi_value value, std::vector<T>& to) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok) return false;
  const T* const from = static_cast<const T*>(data);
  to.assign(from, from + length);
  return true;
}

inline double property(napi_env env, napi_value object, const char* name) {
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
inline bool read_row(napi_env env, napi_value from, int32_t vocabulary, Held& to) {
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

/** run(model, verb, vocabulary, rows) of addon_run.cc. */
napi_value run(napi_env env, napi_callback_info info);

struct Function {
  const char* name;
  napi_callback callback;
};
/** The single kernels, of addon_kernels.cc. */
const std::vector<Function>& kernels();

}  // namespace addon
