// The most that a device reads and multiplies in a second, by loops that do nothing else (kernels/rates.cuh): the ceilings that a
// speed is stated beside.
#pragma once
#include <algorithm>
#include <chrono>
#include "kernels/rates.cuh"
#include "single.h"

namespace doge {

/** Seconds of one launch: the least of several graphs of `together` launches, by the slope against a graph of one. */
template <class Body>
double seconds_of(Device& device, int together, Body body) {
  const auto fastest = [&](int launches) {
    Graph graph;
    double least = INFINITY;
    for (int turn = 0; turn < 6; turn++) {
      const auto start = std::chrono::steady_clock::now();
      device.repeat(graph, [&] {
        for (int launch = 0; launch < launches; launch++) body();
      });
      device.finish();
      least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return least;
  };
  return std::max(1e-9, (fastest(together + 1) - fastest(1)) / together);
}

/** Over `bytes` of memory, so that caches help the loop as far as they help a model of that size; `effort` scales the work. */
inline void measure_rates(Context& context, size_t bytes, int effort, double* read, double* multiply, double* multiply_tiles) {
  Bench bench(context);
  Device& device = bench.device;
  const unsigned blocks = static_cast<unsigned>(device.processors() * 8);
  const size_t count = std::max<size_t>(1, bytes / 16);
  const std::vector<uint32_t> content(4 * count, 7);
  const uint4* const from = reinterpret_cast<const uint4*>(bench.array(content));
  unsigned* const out = bench.array(std::vector<unsigned>{0});
  float* const sum = bench.array(std::vector<float>{0.0f});
  *read = static_cast<double>(16 * count) / seconds_of(device, 2 * effort, [&] { device.launch(read_kernel, dim3(blocks), RATE_THREADS, out, from, count); });
  const int turns = 16 * effort;
  const double sums = static_cast<double>(blocks) * turns * RATE_SUMS;
  *multiply = sums * RATE_THREADS / seconds_of(device, effort, [&] { device.launch(multiply_kernel, dim3(blocks), RATE_THREADS, sum, 0.5f, turns); });
  *multiply_tiles = 0.0;
  if (!device.tensor_cores()) return;
  *multiply_tiles = sums * (RATE_THREADS / WARP) * (16 * 8 * 16) /
                    seconds_of(device, effort, [&] { device.launch(multiply_tiles_kernel, dim3(blocks), RATE_THREADS, sum, 0x3c003c00u, turns); });
}

}  // namespace doge
