// CUDA's execution model as plain C++, for tests on machines without a GPU: its names over the other files of the shim.
//
// The kernels are compiled unchanged. What this cannot show: races between blocks, memory ordering, occupancy, speed.
#pragma once
#include <cmath>
#include "shim_cluster.h"
#include "shim_copies.h"
#include "shim_warp.h"

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static thread_local
#define __launch_bounds__(...)

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};

#define threadIdx (shim::thread_index)
#define blockIdx (shim::block_index)
#define blockDim (shim::block_dim)
#define gridDim (shim::grid_dim)

inline void __syncthreads() {
  shim::Block& b = shim::block();
  shim::in_turn(b);
  b.steps++;
  const unsigned generation = b.barrier_generation;
  if (b.running != b.threads) shim::broken("a thread waits at __syncthreads for others that have returned.");
  if (++b.barrier_waiting == b.threads) {
    b.barrier_waiting = 0;
    b.barrier_generation++;
    return;
  }
  for (int tries = 0; b.barrier_generation == generation; tries++) {
    if (tries > 1000000) shim::broken("__syncthreads inside a branch.");
    shim::yield(b, false);
  }
}

inline void __threadfence() {
  shim::write_now(shim::block());
  shim::block().lines.clear();
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __syncwarp() { shim::warp_barrier(shim::block(), [] {}); }

template <class T>
inline T __shfl_xor_sync(unsigned, T value, int mask) {
  return shim::exchange(value, [mask](unsigned char(&buffer)[shim::WARP][128], int lane) {
    T result;
    std::memcpy(&result, buffer[lane ^ mask], sizeof(T));
    return result;
  });
}
template <class T>
inline T __shfl_sync(unsigned, T value, int source) {
  return shim::exchange(value, [source](unsigned char(&buffer)[shim::WARP][128], int) {
    T result;
    std::memcpy(&result, buffer[source & 31], sizeof(T));
    return result;
  });
}

inline unsigned __ballot_sync(unsigned, bool value) {
  return shim::exchange(value ? 1u : 0u, [](unsigned char(&buffer)[shim::WARP][128], int) {
    unsigned result = 0;
    for (int lane = 0; lane < shim::WARP; lane++) {
      unsigned bit;
      std::memcpy(&bit, buffer[lane], sizeof bit);
      result |= bit << lane;
    }
    return result;
  });
}

template <class T>
inline T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}
inline unsigned atomicOr(unsigned* address, unsigned value) { return __atomic_fetch_or(address, value, __ATOMIC_RELAXED); }
inline int atomicMin(int* address, int value) {
  const int before = *address;
  *address = std::min(before, value);
  return before;
}
using std::max;
using std::min;
/** Two roundings: a fused one is a slow library call on machines without the instruction, and a difference of one rounding is
 *  within every tolerance. */
inline float __fmaf_rn(float a, float b, float c) { return a * b + c; }
inline float __int_as_float(int value) {
  float result;
  std::memcpy(&result, &value, 4);
  return result;
}
inline long long __double_as_longlong(double value) {
  long long result;
  std::memcpy(&result, &value, 8);
  return result;
}
inline unsigned __float_as_uint(float value) {
  unsigned result;
  std::memcpy(&result, &value, 4);
  return result;
}
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
inline unsigned __brev(unsigned value) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; bit++) reversed |= (value >> bit & 1u) << (31 - bit);
  return reversed;
}
