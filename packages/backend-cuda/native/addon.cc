// The binding of doge.h for Node: Node-API only, so one file serves every Node from 18 on. Here devices, models and sequences; the
// verbs stand in addon_run.cc. Arguments are checked by the TypeScript above it and by doge.h.
#include <utility>
#include "addon.h"

namespace {

using namespace addon;

template <class T>
void close(Handle* handle, std::set<T*>& opened, void (*close)(T*)) {
  T* const pointer = static_cast<T*>(std::exchange(handle->pointer, nullptr));
  opened.erase(pointer);
  close(pointer);
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
  opened(env).devices.insert(device);
  return external(env, device);
}
napi_value close_device(napi_env env, napi_callback_info info) {
  Handle* const handle = handle_of(env, Arguments(env, info).values[0]);
  if (handle != nullptr) close(handle, opened(env).devices, doge_close);
  return nullptr;
}
/** counts(device): doge_counts in its order */
napi_value counts(napi_env env, napi_callback_info info) {
  doge_device* const device = pointer_of<doge_device>(env, Arguments(env, info).values[0]);
  if (device == nullptr) return nullptr;
  doge_counts found;
  doge_device_counts(device, &found);
  const double numbers[] = {static_cast<double>(found.launches),  static_cast<double>(found.submissions), static_cast<double>(found.bytes_in),
                            static_cast<double>(found.bytes_out), static_cast<double>(found.allocations), static_cast<double>(found.bytes_held)};
  return typed(env, napi_float64_array, numbers, sizeof numbers / sizeof *numbers);
}
/** rates(device, bytes, effort): the three of doge_device_rates */
napi_value rates(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_device* const device = pointer_of<doge_device>(env, arguments.values[0]);
  if (device == nullptr) return nullptr;
  double found[3];
  doge_error error;
  if (doge_device_rates(device, static_cast<int64_t>(arguments.number(1)), arguments.integer(2), &found[0], &found[1], &found[2], &error) != 0)
    return thrown(env, error);
  return typed(env, napi_float64_array, found, 3);
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
  opened(env).models.insert(model);
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
  if (handle != nullptr) close(handle, opened(env).models, doge_model_close);
  return nullptr;
}
napi_value bytes(napi_env env, napi_callback_info info) {
  doge_model* const model = pointer_of<doge_model>(env, Arguments(env, info).values[0]);
  return model == nullptr ? nullptr : number(env, static_cast<double>(doge_model_bytes(model)));
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

#if defined(DOGE_SHIM)
/** fail(allocation, operation): doge_shim_fail; made(): doge_shim_made; alone(launches, graphs), beside(), unclustered(what), clustered():
 *  doge_shim_alone and so on. For tests. */
napi_value fail(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_shim_fail(arguments.integer(0), arguments.integer(1));
  return nullptr;
}
napi_value made(napi_env env, napi_callback_info) { return number(env, doge_shim_made()); }
napi_value alone(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_shim_alone(arguments.integer(0), arguments.integer(1));
  return nullptr;
}
napi_value beside(napi_env env, napi_callback_info) { return number(env, static_cast<double>(doge_shim_beside())); }
napi_value unclustered(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  doge_shim_unclustered(arguments.integer(0));
  return nullptr;
}
napi_value clustered(napi_env env, napi_callback_info) { return number(env, static_cast<double>(doge_shim_clustered())); }
#endif

napi_value init(napi_env env, napi_value exports) {
  std::vector<Function> functions{
      {"probe", probe},       {"open", open},   {"closeDevice", close_device}, {"counts", counts}, {"create", create},
      {"write", write},       {"ready", ready}, {"closeModel", close_model},   {"room", room},     {"abort", abort_model},
      {"sequence", sequence}, {"fork", fork},   {"rewind", rewind},            {"closeSequence", close_sequence},
      {"length", length},     {"run", run},     {"rates", rates},              {"bytes", bytes},
#if defined(DOGE_SHIM)
      {"fail", fail},         {"made", made},     {"alone", alone},            {"beside", beside},
      {"unclustered", unclustered}, {"clustered", clustered},
#endif
  };
  functions.insert(functions.end(), kernels().begin(), kernels().end());
  for (const Function& each : functions) {
    napi_value function;
    napi_create_function(env, each.name, NAPI_AUTO_LENGTH, each.callback, nullptr, &function);
    set(env, exports, each.name, function);
  }
  set(env, exports, "abi", number(env, doge_abi()));
  napi_set_instance_data(env, new Opened, [](napi_env, void* data, void*) { delete static_cast<Opened*>(data); }, nullptr);
  return exports;
}

}  // namespace

NAPI_MODULE_INIT() { return init(env, exports); }
