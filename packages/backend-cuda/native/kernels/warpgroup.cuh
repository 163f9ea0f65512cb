// Products by warpgroups: the instructions of compute capability 9.0 by which four warps multiply two matrices, each a small function.
// The right one stands in shared memory, the left one there or in registers. On the host shim each is computed from the same bytes,
// found by the same descriptors, so that a wrong address, a wrong swizzle or a missing wait is a wrong result there too.
//
// An operand is blocks of rows of 64 halves, 128 bytes each; the eight places of 16 bytes in a row are exchanged by the row (place ^
// row % 8, the swizzle of 128 bytes), and eight rows are an atom of 1024 bytes. A row is 64 of the inner dimension, or, where the right
// operand is `turned`, 64 columns of one inner number (PTX ISA, "Strides"; CUTLASS, make_gmma_desc):
//
//   plain    (row r, inner k)     atom r / 8, one stride from the next; row r % 8 of it; k within the row
//   turned   (inner k, column n)  block n / 64; atom k / 8 of it, one stride from the next; row k % 8 of that; n % 64 within the row
//
// What a lane holds of the product (64 rows, N columns), with warp = its warp of the four, g = lane / 4 and t = lane % 4, and of a left
// operand (64 rows, 16 inner) in registers, two halves in each (PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16"):
//
//   d[4 j], d[4 j + 1]  (16 warp + g, 8 j + 2t..)      d[4 j + 2], d[4 j + 3]  (16 warp + g + 8, 8 j + 2t..)
//   a[0] (16 warp + g, 2t..)   a[1] (16 warp + g + 8, 2t..)   a[2] (16 warp + g, 2t + 8..)   a[3] (16 warp + g + 8, 2t + 8..)
//
// so that columns 16 j to 16 j + 15 of one product, packed in pairs, are a left operand of the next.
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

/** An operand's descriptor but for its address and the bytes from one of its blocks to the next, which are read where it is turned:
 *  1024 bytes from one atom of eight rows to the next, swizzle of 128 bytes. */
constexpr uint64_t DESCRIPTOR = uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32;
/** The descriptor of what stands so many bytes further on. */
__device__ __forceinline__ uint64_t further(uint64_t its, int bytes) { return its + static_cast<uint64_t>(bytes >> 4); }

}  // namespace doge

#if defined(DOGE_SHIM)
#include "warpgroup_double.h"
#elif DOGE_WARPGROUP
#include "warpgroup_code.cuh"
#endif
