// exchange: numbers from every block to every block inside one launch. A number travels beside the epoch it belongs to, in one store of
// 8 bytes, and whoever needs it asks until the epoch is right: no barrier, no counter, nothing to reset.
//
// An epoch's numbers may be overwritten once every block has shown, by publishing something later, that it has read them.
//
// Source: the low-latency protocol of NCCL (a flag beside every 4 bytes of data).
#pragma once
#include "common.cuh"

namespace doge {

/** A number's bits and its epoch. */
using Pair = uint2;

/** threadIdx.x, read anew: what follows from it is then computed where it is used, not kept in registers through all of a long kernel. */
#if defined(DOGE_SHIM)
inline int own_thread() { return static_cast<int>(threadIdx.x); }
#else
__device__ __forceinline__ int own_thread() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}
#endif
/** A number that the compiler knows to be one for the whole warp, so that branches on it do not part its lanes: all of them ask. */
__device__ __forceinline__ int own_warp() { return __shfl_sync(ALL, static_cast<int>(threadIdx.x) / WARP, 0); }

#if defined(DOGE_SHIM)
inline void publish(Pair* to, unsigned bits, unsigned epoch) {
  __atomic_store_n(reinterpret_cast<uint64_t*>(to), static_cast<uint64_t>(epoch) << 32 | bits, __ATOMIC_RELAXED);
  shim::publish(shim::block());
}
inline uint4 two_pairs(const Pair* from, bool wanted) {
  if (!wanted) return {};
  const uint64_t first = __atomic_load_n(reinterpret_cast<const uint64_t*>(from), __ATOMIC_RELAXED);
  const uint64_t second = __atomic_load_n(reinterpret_cast<const uint64_t*>(from) + 1, __ATOMIC_RELAXED);
  return {static_cast<unsigned>(first), static_cast<unsigned>(first >> 32), static_cast<unsigned>(second), static_cast<unsigned>(second >> 32)};
}
inline void ask_again(int) { shim::ask_again(shim::block()); }
#else
// One number of 8 bytes: PTX takes the elements of a vector as accesses of their own, in any order ("Vector Data-types" of its memory model).
__device__ __forceinline__ void publish(Pair* to, unsigned bits, unsigned epoch) {
  asm volatile("{\n.reg .b64 pair;\nmov.b64 pair, {%1, %2};\nst.relaxed.gpu.global.b64 [%0], pair;\n}" ::"l"(to), "r"(bits), "r"(epoch) : "memory");
}
/** Zeros where they are not `wanted`: what is written sometimes keeps its registers for ever. */
__device__ __forceinline__ uint4 two_pairs(const Pair* from, bool wanted) {
  uint4 four = {0, 0, 0, 0};
  asm volatile(
      "{\n.reg .pred wanted;\n.reg .b64 first, second;\n"
      "setp.ne.u32 wanted, %5, 0;\n"
      "mov.b64 first, {%0, %1};\nmov.b64 second, {%2, %3};\n"
      "@wanted ld.relaxed.gpu.global.v2.b64 {first, second}, [%4];\n"
      "mov.b64 {%0, %1}, first;\nmov.b64 {%2, %3}, second;\n}"
      : "+r"(four.x), "+r"(four.y), "+r"(four.z), "+r"(four.w)
      : "l"(from), "r"(static_cast<unsigned>(wanted))
      : "memory");
  return four;
}
__device__ __forceinline__ void ask_again(int asked) {
  if (asked > PATIENCE) asm volatile("trap;");
}
#endif

__device__ __forceinline__ void publish(Pair* to, float value, unsigned epoch) { publish(to, __float_as_uint(value), epoch); }

/** The two numbers at each of the addresses whose bit of `waiting` is set, once they are of this epoch; all that have not come are asked for
 *  at once. Addresses are even places of an array. Of those in `single` only the first number is waited for. */
template <int N>
__device__ __forceinline__ void await(uint2 (&to)[N], const Pair* const (&from)[N], unsigned epoch, unsigned waiting, unsigned single = 0) {
#pragma unroll
  for (int each = 0; each < N; each++) to[each] = uint2{0, 0};  // what is written sometimes keeps its registers for ever
  for (int asked = 0; waiting != 0; asked++) {
    uint4 found[N];
#pragma unroll
    for (int each = 0; each < N; each++) found[each] = two_pairs(from[each], (waiting >> each & 1) != 0);
#pragma unroll
    for (int each = 0; each < N; each++) {
      const unsigned bit = 1u << each;
      const bool come = (waiting & bit) != 0 && found[each].y == epoch && (found[each].w == epoch || (single & bit) != 0);
      to[each].x = come ? found[each].x : to[each].x;
      to[each].y = come ? found[each].z : to[each].y;
      waiting &= come ? ~bit : ~0u;
    }
    if (waiting != 0) ask_again(asked);
  }
}

__device__ __forceinline__ float number(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }

// Numbers that stay, in global memory: one block writes them, others read them in later steps of the same launch. The writer's thread fences
// (__threadfence) before its block publishes what others wait for; readers fence after they have seen that, for in the cache of their
// processor may stand what was there before. On the shim a number is written when its thread fences, and read as it was when the block first
// read something of its line since a fence.
#if defined(DOGE_SHIM)
template <class T>
inline void keep_number(T* to, T value) {
  shim::write_late(to, value);
}
template <class T>
inline T kept_number(const T* from) {
  return shim::read_early(from);
}
#else
template <class T>
__device__ __forceinline__ void keep_number(T* to, T value) {
  *to = value;
}
template <class T>
__device__ __forceinline__ T kept_number(const T* from) {
  return *from;
}
#endif

}  // namespace doge
