// A cluster: blocks that are on the device beside each other, write to each other's shared memory and meet at a barrier of their own, from
// compute capability 9.0 on.
//
// What a thread sends is there for its peers when they have waited at the barrier at which it arrived next: arriving releases at the
// cluster's scope, waiting acquires. On the shim it is NaN until then.
//
// Source: PTX ISA, "mapa", "st" and "barrier.cluster".
#pragma once
#include "tensor.cuh"

namespace doge {

#if defined(DOGE_SHIM)

inline int cluster_rank() { return shim::clustered().rank; }
inline int cluster_size() { return shim::clustered().cluster->size; }
inline void cluster_arrive() { shim::cluster_arrive(); }
inline void cluster_wait() { shim::cluster_wait(); }
inline void send(float* at, int peer, float value) { shim::send(at, peer, value); }
inline void send_two(float* at, int peer, float first, float second) {
  if (reinterpret_cast<uintptr_t>(at) % 8 != 0) shim::broken("two numbers that are sent as one stand at a multiple of 8 bytes.");
  shim::send(at, peer, first);
  shim::send(at + 1, peer, second);
}

#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

/** This block among those of its cluster, and how many they are. */
__device__ __forceinline__ int cluster_rank() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ int cluster_size() {
  int size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
/** By every thread of every block, and each then waits before it arrives again. */
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }
/** Where `at`, of this block's shared memory, is in a peer's. */
__device__ __forceinline__ unsigned peer_address(const void* at, int peer) {
  unsigned address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(at)), "r"(peer));
  return address;
}
__device__ __forceinline__ void send(float* at, int peer, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(peer_address(at, peer)), "f"(value) : "memory");
}
/** To a multiple of 8 bytes. */
__device__ __forceinline__ void send_two(float* at, int peer, float first, float second) {
  asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(peer_address(at, peer)), "f"(first), "f"(second) : "memory");
}

#else

// Never reached: see Clusters.
__device__ __forceinline__ int cluster_rank() { return 0; }
__device__ __forceinline__ int cluster_size() { return 1; }
__device__ __forceinline__ void cluster_arrive() {}
__device__ __forceinline__ void cluster_wait() {}
__device__ __forceinline__ void send(float*, int, float) {}
__device__ __forceinline__ void send_two(float*, int, float, float) {}

#endif

}  // namespace doge
