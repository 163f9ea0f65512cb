// Products by warpgroups: the instructions of compute capability 9.0 by which four warps multiply two matrices that stand in shared
// memory, each a small function. On the host shim each is computed from the same bytes, found by the same descriptors, so that a wrong
// address, a wrong swizzle or a missing wait is a wrong result there too.
//
// An operand is rows of 64 halves, 128 bytes each; the eight places of 16 bytes in a row are exchanged by the row (place ^ row % 8,
// the swizzle of 128 bytes), and eight rows are an atom of 1024 bytes. What a lane holds of the product (64 rows, N columns), with
// warp = its warp of the four, g = lane / 4 and t = lane % 4 (PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16"):
//
//   d[4 j], d[4 j + 1]  (16 warp + g, 8 j + 2t..)      d[4 j + 2], d[4 j + 3]  (16 warp + g + 8, 8 j + 2t..)
#pragma once
#include "half.cuh"

// The instructions belong to 9.0 alone; other code is left empty, and never launched (Device::warpgroups).
#if defined(DOGE_SHIM) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DOGE_WARPGROUP 1
#else
#define DOGE_WARPGROUP 0
#endif

namespace doge {

/** Halves of an operand's row, and of one instruction's. */
constexpr int DEEP = 64;
constexpr int STEP = 16;
constexpr int ROW_BYTES = 2 * DEEP;

/** Where 16 bytes of a row stand in an operand, in bytes. */
__device__ __forceinline__ int operand_at(int row, int place) { return row * ROW_BYTES + ((place ^ (row & 7)) << 4); }

/** An operand's descriptor but for its address: 1024 bytes from one atom of eight rows to the next, swizzle of 128 bytes. */
constexpr uint64_t DESCRIPTOR = uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 16;

#if defined(DOGE_SHIM)

/** Of the operand at `at`, a multiple of 1024 bytes. Addresses count from the block's shared memory. */
inline uint64_t descriptor(const void* at) {
  const auto offset = static_cast<const unsigned char*>(at) - shim::dynamic_shared();
  if (offset < 0 || static_cast<size_t>(offset) >= shim::MOST_SHARED || offset % 1024 != 0) shim::broken("wgmma: an operand is not at a multiple of 1024 bytes of shared memory.");
  return DESCRIPTOR | static_cast<uint64_t>(offset >> 4);
}
inline float operand_value(uint64_t its, int row, int inner) {
  if (its >> 62 != 1) shim::broken("wgmma: only the swizzle of 128 bytes is known here.");
  const size_t atom = static_cast<size_t>((its >> 32) & 0x3fff) << 4;
  size_t address = (static_cast<size_t>(its & 0x3fff) << 4) + static_cast<size_t>(row / 8) * atom + static_cast<size_t>(row % 8 * ROW_BYTES + 2 * inner);
  address ^= (address >> 3) & 0x70;
  unsigned short bits;
  std::memcpy(&bits, shim::dynamic_shared() + address, 2);
  return half_value(bits);
}

/** d (64, N) += a (64, 16) . b (N, 16), both by descriptors; made at the earliest when it is waited for. */
template <int N>
inline void multiply(float (&d)[N / 2], uint64_t a, uint64_t b) {
  float* const to = d;
  const int thread = static_cast<int>(threadIdx.x);
  shim::block().products[shim::block().current].push_back([to, a, b, thread] {
    const int row = thread % 128 / 32 * 16 + thread % 32 / 4;
    float left[2][STEP];
    for (int down = 0; down < 2; down++)
      for (int inner = 0; inner < STEP; inner++) left[down][inner] = operand_value(a, row + 8 * down, inner);
    for (int column = 0; column < N / 4; column++) {
      float right[STEP];
      for (int inner = 0; inner < STEP; inner++) right[inner] = operand_value(b, column / 2 * 8 + thread % 4 * 2 + column % 2, inner);
      for (int down = 0; down < 2; down++) {
        double sum = static_cast<double>(to[column / 2 * 4 + 2 * down + column % 2]);
        for (int inner = 0; inner < STEP; inner++) sum += static_cast<double>(left[down][inner]) * static_cast<double>(right[inner]);
        to[column / 2 * 4 + 2 * down + column % 2] = static_cast<float>(sum);
      }
    }
  });
}
/** Before the first product: what registers and shared memory hold is there. */
inline void multiply_begin() {}
/** What was asked for so far is one group. */
inline void multiply_commit() {}
/** Until all groups are done, of which d is the sum. */
template <int N>
inline void multiply_wait(float (&)[N]) {
  std::vector<std::function<void()>>& products = shim::block().products[shim::block().current];
  for (const auto& product : products) product();
  products.clear();
}
/** What this thread wrote to shared memory can be read by the products of all, after the next barrier. */
inline void show_products() {}

#elif DOGE_WARPGROUP

__device__ __forceinline__ uint64_t descriptor(const void* at) { return DESCRIPTOR | static_cast<uint64_t>((shared_address(at) & 0x3ffff) >> 4); }
template <int N>
__device__ __forceinline__ void multiply(float (&d)[N / 2], uint64_t a, uint64_t b);
template <>
__device__ __forceinline__ void multiply<32>(float (&d)[16], uint64_t a, uint64_t b) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\nwgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
                 "}, %16, %17, p, 1, 1, 0, 0;\n}"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
                 : "l"(a), "l"(b));
}
template <>
__device__ __forceinline__ void multiply<64>(float (&d)[32], uint64_t a, uint64_t b) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, %32, %33, p, 1, 1, 0, 0;\n}"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                   "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
                   "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
                 : "l"(a), "l"(b));
}
template <>
__device__ __forceinline__ void multiply<128>(float (&d)[64], uint64_t a, uint64_t b) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                 "}, %64, %65, p, 1, 1, 0, 0;\n}"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                   "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
                   "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
                   "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
                   "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
                   "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
                   "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
                 : "l"(a), "l"(b));
}
__device__ __forceinline__ void multiply_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void multiply_wait(float (&d)[N]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  // Nobody reads them before: the compiler takes them for there as soon as the product was asked for.
#pragma unroll
  for (int index = 0; index < N; index++) asm volatile("" : "+f"(d[index])::"memory");
}
__device__ __forceinline__ void show_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

#endif

}  // namespace doge
