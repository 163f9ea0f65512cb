// The single kernels of doge.h for Node: for tests.
#include "addon.h"

namespace addon {

namespace {

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
napi_value kernel_attention_text(napi_env env, napi_callback_info info) {
  const Arguments a(env, info);
  doge_device* const device = pointer_of<doge_device>(env, a.values[0]);
  size_t all = 0, count = 1;
  float* const out = floats_of(env, a.values[1], &all);
  const float* const bias = floats_of(env, a.values[5], &count);
  doge_error error;
  if (device != nullptr &&
      doge_kernel_attention_text(device, out, floats_of(env, a.values[2]), floats_of(env, a.values[3]), floats_of(env, a.values[4]), bias,
                                 static_cast<int32_t>(count), static_cast<int32_t>(all / count), static_cast<doge_dtype>(a.integer(6)), &error) != 0)
    return thrown(env, error);
  return nullptr;
}
/** kernelFragments(device, d, registers, a, b) */
napi_value kernel_fragments(napi_env env, napi_callback_info info) {
  const Arguments a(env, info);
  doge_device* const device = pointer_of<doge_device>(env, a.values[0]);
  doge_error error;
  if (device != nullptr && doge_kernel_fragments(device, floats_of(env, a.values[1]), reinterpret_cast<uint32_t*>(floats_of(env, a.values[2])),
                                                 floats_of(env, a.values[3]), floats_of(env, a.values[4]), &error) != 0)
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

}  // namespace

const std::vector<Function>& kernels() {
  static const std::vector<Function> all{
      {"kernelRmsnorm", kernel_rmsnorm},
      {"kernelMatmul", kernel_matmul},
      {"kernelRope", kernel_rope},
      {"kernelSwiglu", kernel_swiglu},
      {"kernelAttention", kernel_attention},
      {"kernelAttentionText", kernel_attention_text},
      {"kernelFragments", kernel_fragments},
      {"kernelDraw", kernel_draw},
  };
  return all;
}

}  // namespace addon
