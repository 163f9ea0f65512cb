// The instructions of warpgroup.cuh as a device has them.
#pragma once
#include "warpgroup.cuh"

namespace doge {

// The names of a product's registers in an instruction's text, and what they are.
#define DOGE_NAMES_16 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define DOGE_NAMES_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" ", " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DOGE_NAMES_64 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" ", " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" ", " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" ", " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define DOGE_EIGHT(at) \
  "+f"(d[at]), "+f"(d[at + 1]), "+f"(d[at + 2]), "+f"(d[at + 3]), "+f"(d[at + 4]), "+f"(d[at + 5]), "+f"(d[at + 6]), "+f"(d[at + 7])
#define DOGE_SUMS_16 DOGE_EIGHT(0), DOGE_EIGHT(8)
#define DOGE_SUMS_32 DOGE_EIGHT(0), DOGE_EIGHT(8), DOGE_EIGHT(16), DOGE_EIGHT(24)
#define DOGE_SUMS_64 DOGE_EIGHT(0), DOGE_EIGHT(8), DOGE_EIGHT(16), DOGE_EIGHT(24), \
  DOGE_EIGHT(32), DOGE_EIGHT(40), DOGE_EIGHT(48), DOGE_EIGHT(56)

__device__ __forceinline__ uint64_t descriptor(const void* at, int apart = 16) {
  return DESCRIPTOR | static_cast<uint64_t>(apart >> 4) << 16 | static_cast<uint64_t>((shared_address(at) & 0x3ffff) >> 4);
}

template <int N>
__device__ __forceinline__ void multiply(float (&d)[N / 2], uint64_t a, uint64_t b);
template <int N, bool TURNED>
__device__ __forceinline__ void multiply_held(float (&d)[N / 2], const unsigned (&a)[4], uint64_t b, bool add);

// Each for one number of columns.
#define DOGE_MULTIPLY(columns, registers, first, second)                                                                                    \
  template <>                                                                                                                               \
  __device__ __forceinline__ void multiply<columns>(float (&d)[registers], uint64_t a, uint64_t b) {                                        \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\nwgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.f16.f16 {"                   \
                 DOGE_NAMES_##registers "}, %" #first ", %" #second ", p, 1, 1, 0, 0;\n}"                                                   \
                 : DOGE_SUMS_##registers                                                                                                    \
                 : "l"(a), "l"(b));                                                                                                         \
  }
DOGE_MULTIPLY(32, 16, 16, 17)
DOGE_MULTIPLY(64, 32, 32, 33)
DOGE_MULTIPLY(128, 64, 64, 65)
#undef DOGE_MULTIPLY

#define DOGE_MULTIPLY_HELD(columns, turned, registers, first, second, third, fourth, right, adds)                                           \
  template <>                                                                                                                               \
  __device__ __forceinline__ void multiply_held<columns, turned>(float (&d)[registers], const unsigned (&a)[4], uint64_t b, bool add) {     \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #adds ", 0;\nwgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.f16.f16 {"          \
                 DOGE_NAMES_##registers "}, {%" #first ", %" #second ", %" #third ", %" #fourth "}, %" #right ", p, 1, 1, " #turned ";\n}"  \
                 : DOGE_SUMS_##registers                                                                                                    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add ? 1 : 0));                                                   \
  }
DOGE_MULTIPLY_HELD(64, 0, 32, 32, 33, 34, 35, 36, 37)
DOGE_MULTIPLY_HELD(64, 1, 32, 32, 33, 34, 35, 36, 37)
DOGE_MULTIPLY_HELD(128, 1, 64, 64, 65, 66, 67, 68, 69)
#undef DOGE_MULTIPLY_HELD

__device__ __forceinline__ void multiply_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/** To the compiler, registers are there as soon as a product was asked for, and may be written after it was: nothing passes this. */
template <int N>
__device__ __forceinline__ void settle(float (&d)[N]) {
#pragma unroll
  for (int index = 0; index < N; index++) asm volatile("" : "+f"(d[index])::"memory");
}
template <int N>
__device__ __forceinline__ void settle(unsigned (&a)[N]) {
#pragma unroll
  for (int index = 0; index < N; index++) asm volatile("" : "+r"(a[index])::"memory");
}
template <int PENDING = 0, int N>
__device__ __forceinline__ void multiply_wait(float (&d)[N]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
  settle(d);
}
__device__ __forceinline__ void show_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace doge
