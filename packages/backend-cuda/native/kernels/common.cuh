// What all kernels share: the number formats of weights, sums over warps and blocks in one fixed order, rows of a call.
#pragma once
#include "../platform.h"

// The shared memory that a launch asks for beyond the kernel's own (Device::launch_with), at a multiple of 1024 bytes.
#if defined(DOGE_SHIM)
#define DOGE_SHARED(name) unsigned char* const name = shim::dynamic_shared()
#else
#define DOGE_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#endif

namespace doge {

/** The first thing that every thread of a kernel does that is launched beside the one before it (Device::launch_with): until that one has
 *  ended and what it wrote is there. So a kernel has all that was launched before it behind it; what it saves is the launch, not an order.
 *
 *  Source: PTX ISA, "griddepcontrol"; CUDA Programming Guide, "Programmatic Dependent Launch". */
__device__ __forceinline__ void await_earlier() {
#if defined(DOGE_SHIM)
  shim::await_earlier();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/** Once all of a kernel's blocks have said so, or have ended, those of the next one come, to wait wherever there is room. A block says so
 *  when it has little more to do than to write: earlier, the next one's blocks would crowd on the processors that are free first. */
__device__ __forceinline__ void let_next_come() {
#if !defined(DOGE_SHIM) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffffu;
/** Evicted keys stay readable for this many more tokens: a rewind of that depth is a filter. */
constexpr int JOURNAL = 64;
/** Slots of a page. */
constexpr int PAGE = 16;
/** A position that no token reaches: of a free slot, and `evicted` of a key that is kept. */
constexpr int NOBODY = 0x7fffffff;
/** Questions after which what a block waits for will not come: some seconds. A hang would be worse than the error that follows. */
constexpr int PATIENCE = 1 << 24;
/** Columns that share a q8 scale. */
constexpr int BLOCK = 32;
/** Numbers a row of a matrix or of an activation is padded to. */
constexpr int PADDING = 32;

enum class Type : int { F32 = 0, BF16 = 1, Q8 = 2 };

/** A linear layer on the device: data (outer, stride), scales (outer, stride / 32) of q8, bias (outer) or null. */
struct Matrix {
  const void* data;
  const float* scales;
  const float* bias;
  int inner;
  int outer;
  int stride;
  Type type;
};

/** How one row of a call draws and what it has drawn. Host and device read the same struct. */
struct RowState {
  int left;      // draws to come; -1: nothing was allowed
  int position;  // tokens of the sequence: where the next one goes
  int last;      // the id last drawn
  int drawn;
  int stopped;   // the last id is a stop id
  int reach;     // slots that earlier tokens may stand in
  int first_page;  // of the sequence's page numbers in the call's list
  int alternatives;  // -1: no log-probabilities
  int top_k;
  unsigned seed;
  int stop_count;
  int stops;     // offset into the call's words
  int allowed;   // offset into the call's words; -1: all
  int seen;      // offset into the call's words; -1: no penalty
  int out;       // offset of the row's draws in ids and logprobs
  int top_out;   // the same in the lists of the most likely
  double temperature, top_p, min_p, penalty;
};

/** Set by the device or the host while a call runs; lies in memory that both see, microseconds from the device: who asks there does so
 *  early, once, and nobody counts there. */
struct Control {
  volatile int abort;   // from the host: stop at the next step
  volatile int failed;  // from the device: the row whose logits are no numbers; NOBODY: none
  volatile int active;  // from the device: 0 once no row draws on
};
/** What the steps of a call know of each other; in the device's own memory. */
struct Progress {
  int drawing;  // rows that draw on
  int aborted;  // the host has asked for the end
};

__device__ __forceinline__ float widen(unsigned short bits) { return __int_as_float(static_cast<int>(bits) << 16); }

/** `T` from lane to lane, added in the order of a butterfly: the same for whatever the other rows of a call are. */
#if defined(DOGE_SHIM)
template <class T>
inline T warp_sum(T value) {
  return shim::reduced(value, [](T a, T b) { return a + b; });
}
template <class T>
inline T warp_max(T value) {
  return shim::reduced(value, [](T a, T b) { return a > b ? a : b; });
}
template <class T, int N>
inline void warp_sums(T (&values)[N]) {
  struct Pack {
    T of[N];
  } pack;
  for (int index = 0; index < N; index++) pack.of[index] = values[index];
  pack = shim::reduced(pack, [](const Pack& a, const Pack& b) {
    Pack sum;
    for (int index = 0; index < N; index++) sum.of[index] = a.of[index] + b.of[index];
    return sum;
  });
  for (int index = 0; index < N; index++) values[index] = pack.of[index];
}
#else
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int mask = WARP / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(ALL, value, mask);
  return value;
}
template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int mask = WARP / 2; mask > 0; mask /= 2) {
    const T other = __shfl_xor_sync(ALL, value, mask);
    value = other > value ? other : value;
  }
  return value;
}
template <class T, int N>
__device__ __forceinline__ void warp_sums(T (&values)[N]) {
#pragma unroll
  for (int index = 0; index < N; index++) values[index] = warp_sum(values[index]);
}
#endif

/** Sum over the block; every thread gets it. `shared` holds one number per warp. */
template <class T>
__device__ __forceinline__ T block_sum(T value, T* shared) {
  const int warps = static_cast<int>(blockDim.x) / WARP;
  value = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
  __syncthreads();
  T sum = shared[0];
  for (int warp = 1; warp < warps; warp++) sum += shared[warp];
  return sum;
}
/** N sums at once; `shared` holds N numbers per warp. */
template <class T, int N>
__device__ __forceinline__ void block_sums(T (&values)[N], T* shared) {
  const int warps = static_cast<int>(blockDim.x) / WARP;
  warp_sums(values);
  __syncthreads();
  if (threadIdx.x % WARP == 0)
    for (int index = 0; index < N; index++) shared[threadIdx.x / WARP * N + index] = values[index];
  __syncthreads();
  for (int index = 0; index < N; index++) {
    values[index] = shared[index];
    for (int warp = 1; warp < warps; warp++) values[index] += shared[warp * N + index];
  }
}
template <class T>
__device__ __forceinline__ T block_max(T value, T* shared) {
  const int warps = static_cast<int>(blockDim.x) / WARP;
  value = warp_max(value);
  __syncthreads();
  if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
  __syncthreads();
  T best = shared[0];
  for (int warp = 1; warp < warps; warp++) best = shared[warp] > best ? shared[warp] : best;
  return best;
}

/** Bits that order as the numbers do; -0 and 0 are one number. */
__device__ __forceinline__ unsigned ordered(float value) {
  const unsigned bits = __float_as_uint(value == 0.0f ? 0.0f : value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

}  // namespace doge
