// Tensor cores: the few instructions that the kernels for many tokens are made of, each a small function. On the host shim each
// is computed exactly from the same registers of the same lanes, so that a wrong fragment is a wrong result there too.
//
// The layout of fragments, with g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point
// type" and "ldmatrix"); every register holds two bf16, the first in its low half:
//
//   a (16 rows, 16 inner)  a[0] (g, 2t..)   a[1] (g + 8, 2t..)   a[2] (g, 2t + 8..)   a[3] (g + 8, 2t + 8..)
//   b (16 inner, 8 columns)  b[0] (2t.., g)   b[1] (2t + 8.., g)
//   d (16 rows, 8 columns)  d[0..1] (g, 2t..)   d[2..3] (g + 8, 2t..)
#pragma once
#include "common.cuh"

// What needs compute capability 8.0: code for older devices is left empty, and never launched (Device::tensor_cores).
#if defined(DOGE_SHIM) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800)
#define DOGE_TENSOR 1
#else
#define DOGE_TENSOR 0
#endif

namespace doge {

#if defined(DOGE_SHIM)

/** f32 -> bf16, to the nearest, ties to even; NaN stays one. */
inline unsigned bf16_bits(float value) {
  const unsigned bits = __float_as_uint(value);
  if (value != value) return 0x7fff;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
inline unsigned bf16_pair(float first, float second) { return bf16_bits(first) | bf16_bits(second) << 16; }
/** What follows from `value` is computed here, not before the loop: it would keep registers. */
inline void here(int&) {}

/** d += a . b of numbers of 16 bits. Products are exact and their sum is rounded once; a device truncates a few bits below the greatest
 *  of them. */
template <class Value>
inline void mma_of(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Value value) {
  struct Fragments {
    unsigned a[4], b[2];
    float d[4];
  } own;
  std::memcpy(own.a, a, sizeof own.a);
  std::memcpy(own.b, b, sizeof own.b);
  std::memcpy(own.d, d, sizeof own.d);
  own = shim::together(own, [&](Fragments (&all)[shim::WARP]) {
    float left[16][16], right[8][16];
    const auto low = [&](unsigned pair) { return value(pair & 0xffffu); };
    const auto high = [&](unsigned pair) { return value(pair >> 16); };
    for (int lane = 0; lane < shim::WARP; lane++) {
      const int g = lane / 4, t = lane % 4;
      for (int part = 0; part < 4; part++) {
        left[g + part % 2 * 8][2 * t + part / 2 * 8] = low(all[lane].a[part]);
        left[g + part % 2 * 8][2 * t + part / 2 * 8 + 1] = high(all[lane].a[part]);
      }
      for (int part = 0; part < 2; part++) {
        right[g][2 * t + part * 8] = low(all[lane].b[part]);
        right[g][2 * t + part * 8 + 1] = high(all[lane].b[part]);
      }
    }
    for (int lane = 0; lane < shim::WARP; lane++)
      for (int part = 0; part < 4; part++) {
        const float(&row)[16] = left[lane / 4 + part / 2 * 8];
        const float(&column)[16] = right[2 * (lane % 4) + part % 2];
        double sum = static_cast<double>(all[lane].d[part]);
        for (int inner = 0; inner < 16; inner++) sum += static_cast<double>(row[inner]) * static_cast<double>(column[inner]);
        all[lane].d[part] = static_cast<float>(sum);
      }
  });
  std::memcpy(d, own.d, sizeof own.d);
}
/** Of bf16. */
inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  mma_of(d, a, b, [](unsigned bits) { return __int_as_float(static_cast<int>(bits << 16)); });
}

/** Four 8 x 8 matrices of bf16 from shared memory. Lane l says where 16 bytes are: row l % 8 of matrix l / 8. r[i] then holds
 *  (g, 2t..) of matrix i; turned: (2t, g) and (2t + 1, g). */
template <bool TURNED>
inline void load_matrices(unsigned (&r)[4], const void* row) {
  struct Rows {
    const unsigned char* row;
    unsigned r[4];
  } own{static_cast<const unsigned char*>(row), {}};
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) shim::broken("ldmatrix: a row is not at a multiple of 16 bytes.");
  own = shim::together(own, [](Rows (&all)[shim::WARP]) {
    for (int lane = 0; lane < shim::WARP; lane++)
      for (int matrix = 0; matrix < 4; matrix++) {
        const int g = lane / 4, t = lane % 4;
        const Rows* const rows = all + 8 * matrix;
        unsigned short pair[2];
        for (int half = 0; half < 2; half++)
          std::memcpy(&pair[half], TURNED ? rows[2 * t + half].row + 2 * g : rows[g].row + 2 * (2 * t + half), 2);
        all[lane].r[matrix] = pair[0] | static_cast<unsigned>(pair[1]) << 16;
      }
  });
  std::memcpy(r, own.r, sizeof own.r);
}

/** 16 bytes from global to shared memory, there at the earliest after copy_wait; zeros unless `valid`. */
inline void copy_async(void* to, const void* from, bool valid) { shim::copy_async(to, from, valid); }
/** The same for 4 bytes. */
inline void copy_async_word(void* to, const void* from, bool valid) { shim::copy_async(to, from, valid, 4); }
/** What was asked for so far and not yet committed is one group. */
inline void copy_commit() { shim::copy_commit(); }
/** Until at most `PENDING` of this thread's groups are under way. */
template <int PENDING>
inline void copy_wait() {
  shim::copy_wait(PENDING);
}

#elif DOGE_TENSOR

__device__ __forceinline__ unsigned bf16_pair(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
__device__ __forceinline__ void here(int& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ unsigned shared_address(const void* at) { return static_cast<unsigned>(__cvta_generic_to_shared(at)); }
template <bool TURNED>
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void* row) {
  if constexpr (TURNED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copy_async_word(void* to, const void* from, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 4 : 0) : "memory");
}
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#endif

#if DOGE_TENSOR

/** Two numbers as bf16: their nearest, and what those leave, so that high + low has 16 bits of each number. */
__device__ __forceinline__ void split_pair(unsigned& high, unsigned& low, float first, float second) {
  high = bf16_pair(first, second);
  const float first_high = __int_as_float(static_cast<int>(high << 16));
  const float second_high = __int_as_float(static_cast<int>(high & 0xffff0000u));
  low = bf16_pair(first - first_high, second - second_high);
}

#endif

}  // namespace doge
