// Bulk copies: whole stretches of memory that a device of compute capability 9.0 and later brings to shared memory by itself, told by one
// thread. They arrive at a barrier in shared memory, which knows how many bytes are still to come; whoever waits there may read them.
//
// They do not pass through the units that loads pass through, so a thread's loads do not wait behind them. On the host shim a copy is made
// when somebody waits for it; until then NaN stands there.
//
// Source: PTX ISA, "mbarrier" and "cp.async.bulk".
#pragma once
#include "tensor.cuh"

namespace doge {

/** In shared memory. Its phases follow each other; a phase ends once one thread has said how many bytes come and all have come. */
using Arrival = unsigned long long;

#if defined(DOGE_SHIM)

/** Bit 0: the parity of the phase under way; bit 1: the bytes are told; the upper half: bytes that are still to come. */
inline void arrival_start(Arrival* at) {
  *at = 0;
  shim::bulk_touch(at);
}
inline void bulk_fence() { shim::bulk_fence(); }
inline void arrival_expect(Arrival* at, unsigned bytes) {
  if ((*at & 2) != 0) shim::broken("a barrier was told twice in one phase what comes.");
  *at = (*at | 2) + (static_cast<Arrival>(bytes) << 32);
}
inline void bulk_copy(void* to, const void* from, unsigned bytes, Arrival* at) { shim::bulk_copy(to, from, bytes, at); }
inline bool arrival_over(Arrival* at, unsigned parity) {
  if ((*at & 1) == parity && (*at & 2) != 0) {
    *at -= static_cast<Arrival>(shim::bulk_arrive(at)) << 32;
    if (*at >> 32 == 0) *at = (*at & 1) ^ 1;
  }
  return (*at & 1) != parity;
}
inline void arrival_wait(Arrival* at, unsigned parity) {
  for (int tries = 0; !arrival_over(at, parity); tries++) {
    if (tries > 1000000) shim::broken("a barrier's bytes never came.");
    shim::yield(shim::block(), false);
  }
  shim::bulk_touch(at);
}

#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

/** By one thread, then bulk_fence(); the others may use it after a barrier of theirs. */
__device__ __forceinline__ void arrival_start(Arrival* at) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(at)) : "memory");
}
/** What this thread has read and written in shared memory so far comes before the bulk copies that are asked for after a barrier: they go
 *  another way than its loads (another proxy), and a barrier alone orders nothing between the two. */
__device__ __forceinline__ void bulk_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void arrival_expect(Arrival* at, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(at)), "r"(bytes) : "memory");
}
/** All multiples of 16. */
__device__ __forceinline__ void bulk_copy(void* to, const void* from, unsigned bytes, Arrival* at) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)), "l"(from), "r"(bytes),
               "r"(shared_address(at))
               : "memory");
}
__device__ __forceinline__ bool arrival_over(Arrival* at, unsigned parity) {
  unsigned over;
  asm volatile(
      "{\n.reg .pred over;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
      "selp.u32 %0, 1, 0, over;\n}"
      : "=r"(over)
      : "r"(shared_address(at)), "r"(parity)
      : "memory");
  return over != 0;
}
__device__ __forceinline__ void arrival_wait(Arrival* at, unsigned parity) {
  for (int tries = 0; !arrival_over(at, parity); tries++)
    if (tries > PATIENCE) asm volatile("trap;");
}

#else

// Never reached: see Ring.
__device__ __forceinline__ void arrival_start(Arrival*) {}
__device__ __forceinline__ void bulk_fence() {}
__device__ __forceinline__ void arrival_expect(Arrival*, unsigned) {}
__device__ __forceinline__ void bulk_copy(void*, const void*, unsigned, Arrival*) {}
__device__ __forceinline__ void arrival_wait(Arrival*, unsigned) {}

#endif

}  // namespace doge
