// Every form of the matmul for many rows, on random matrices, beside the plain kernel: how far it is from that and how long it takes.
#pragma once
#include "rates.h"

namespace doge {

constexpr int FORM_THREADS = 256;
constexpr int FORM_BLOCKS = 64;

/** Numbers from -0.5 to 0.5 that follow from `seed`. */
__global__ void random_kernel(float* x, size_t count, unsigned seed) {
  await_earlier();
  for (size_t at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += static_cast<size_t>(gridDim.x) * blockDim.x)
    x[at] = static_cast<float>(pcg3d(static_cast<unsigned>(at), static_cast<unsigned>(at >> 32), seed) >> 8) / 16777216.0f - 0.5f;
}
/** The same as bf16, each of them one of 8 bits with an exponent of its own. */
__global__ void random_weights_kernel(unsigned short* weight, size_t count, unsigned seed) {
  await_earlier();
  for (size_t at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += static_cast<size_t>(gridDim.x) * blockDim.x) {
    const unsigned hash = pcg3d(static_cast<unsigned>(at), static_cast<unsigned>(at >> 32), seed);
    const float its = static_cast<float>(static_cast<int>(hash & 255) - 128) / static_cast<float>(256 << (hash >> 8 & 3));
    weight[at] = static_cast<unsigned short>(__float_as_uint(its) >> 16);
  }
}
__global__ void halve_rows_kernel(unsigned short* to, const float* from, size_t count) {
  await_earlier();
  for (size_t at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += static_cast<size_t>(gridDim.x) * blockDim.x) to[at] = half_of(from[at]);
}
/** Of each block: the greatest difference and the sum of the squares of what is expected. `halves`: found, times `scale`, if not null. */
__global__ void compare_kernel(double* result, const float* found, const unsigned short* halves, float scale, int found_stride, const float* expected,
                               int expected_stride, int rows, int columns) {
  await_earlier();
  __shared__ double shared[FORM_THREADS / WARP];
  double most = 0.0, squares = 0.0;
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(columns);
  for (size_t at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += static_cast<size_t>(gridDim.x) * blockDim.x) {
    const size_t row = at / static_cast<size_t>(columns), column = at % static_cast<size_t>(columns);
    const size_t from = row * static_cast<size_t>(found_stride) + column;
    const double its = static_cast<double>(halves == nullptr ? found[from] : half_value(halves[from]) * scale);
    const double wanted = static_cast<double>(expected[row * static_cast<size_t>(expected_stride) + column]);
    const double gap = its > wanted ? its - wanted : wanted - its;
    if (!(gap <= most)) most = gap == gap ? gap : INFINITY;
    squares += wanted * wanted;
  }
  most = block_max(most, shared);
  squares = block_sum(squares, shared);
  if (threadIdx.x != 0) return;
  result[2 * blockIdx.x] = most;
  result[2 * blockIdx.x + 1] = squares;
}

/** One form over random matrices of a shape: the greatest difference from the plain kernel on the same weights, as a share of the root
 *  mean square of its results, and seconds of a launch, over `together` of them (0: not timed). `form`: a number of Form, or -1 for
 *  mma.sync; gated: `outer` outputs of swiglu. */
inline void measure_form(Context& context, int rows, int inner, int outer, int form, bool gated, int together, double* apart, double* seconds) {
  Bench bench(context);
  Device& device = bench.device;
  if (form >= FORMS || form < -1 || (gated && form < 0)) throw Fault{"invalid-argument", "There is no form " + std::to_string(form) + "."};
  if (!(form < 0 ? device.tensor_cores() : device.warpgroups())) throw Fault{"unsupported", "This device has no such products."};
  const size_t stride = static_cast<size_t>(padded(inner));
  const int half_outer = padded(outer);
  const int weights = gated ? 2 * half_outer : outer;
  const size_t x_count = static_cast<size_t>(rows) * stride, weight_count = static_cast<size_t>(weights) * stride;
  float* const x = bench.empty<float>(x_count);
  unsigned short* const weight = bench.empty<unsigned short>(weight_count);
  unsigned short* const x_half = bench.empty<unsigned short>(x_count);
  unsigned short* const weight_half = bench.empty<unsigned short>(weight_count);
  float* const scales = bench.empty<float>(static_cast<size_t>(weights + 1));
  const size_t out_count = static_cast<size_t>(rows) * static_cast<size_t>(half_outer);
  float* const expected = bench.empty<float>(out_count);
  float* const found = bench.empty<float>(out_count);
  unsigned short* const found_half = bench.empty<unsigned short>(out_count);
  double* const gaps = bench.empty<double>(2 * FORM_BLOCKS);
  const dim3 blocks(static_cast<unsigned>(device.processors()));
  device.launch(random_kernel, blocks, FORM_THREADS, x, x_count, 1u);
  device.launch(random_weights_kernel, blocks, FORM_THREADS, weight, weight_count, 2u);
  device.launch(halve_rows_kernel, blocks, FORM_THREADS, x_half, x, x_count);
  const Matrix matrix{weight, nullptr, nullptr, static_cast<int>(stride), weights, static_cast<int>(stride), Type::BF16};
  const HalfMatrix half{weight_half, scales, nullptr, weights, static_cast<int>(stride), gated ? half_outer : 0};
  device.launch(halve_kernel, dim3(static_cast<unsigned>(weights)), HALVE_THREADS, weight_half, scales, matrix, half.gated);
  if (gated)
    matmul_rows<true>(device, expected, half_outer, x, static_cast<int>(stride), matrix, rows, nullptr, outer);
  else
    matmul_rows(device, expected, half_outer, x, static_cast<int>(stride), matrix, rows);
  const auto once = [&] {
    if (form < 0)
      matmul_tiles_of<Type::BF16>(device, found, half_outer, x, static_cast<int>(stride), matrix, rows, nullptr);
    else if (gated)
      matmul_warpgroup_as<true>(device, static_cast<Form>(form), {nullptr, found_half, half_outer, nullptr, 1.0f}, x_half, static_cast<int>(stride), half, rows,
                                nullptr);
    else
      matmul_warpgroup_as<false>(device, static_cast<Form>(form), {found, nullptr, half_outer, nullptr, 1.0f}, x_half, static_cast<int>(stride), half, rows,
                                 nullptr);
  };
  device.fill(found, 0xff, out_count * 4);
  device.fill(found_half, 0xff, out_count * 2);
  once();
  device.launch(compare_kernel, dim3(FORM_BLOCKS), FORM_THREADS, gaps, found, gated ? found_half : nullptr, 1.0f / SWIGLU_SCALE, half_outer, expected, half_outer,
                rows, outer);
  std::vector<double> all(2 * FORM_BLOCKS);
  device.download(all.data(), gaps, all.size() * sizeof(double));
  double squares = 0.0;
  *apart = 0.0;
  for (int block = 0; block < FORM_BLOCKS; block++) {
    *apart = std::max(*apart, all[static_cast<size_t>(2 * block)]);
    squares += all[static_cast<size_t>(2 * block + 1)];
  }
  *apart /= std::sqrt(squares / (static_cast<double>(rows) * outer));
  *seconds = together > 0 ? seconds_of(device, together, once) : 0.0;
}

}  // namespace doge
