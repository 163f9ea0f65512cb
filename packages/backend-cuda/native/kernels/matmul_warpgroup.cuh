// matmul for many rows in half precision, by warpgroups: a block computes a tile of outputs from tiles of both operands in shared
// memory, the next ones arriving while those before them are multiplied.
#pragma once
#include "matmul.cuh"
#include "warpgroup.cuh"

namespace doge {

/** Where a matmul's numbers go: out (rows, out_stride), or with `gate` into the stream they update, x <- gate * x + out; gated ones
 *  into halves (rows, out_stride), times SWIGLU_SCALE. `scale` takes back what x was multiplied by. */
struct HalfResult {
  float* out;
  unsigned short* halves;
  int out_stride;
  const float* gate;
  float scale;
};

/** Rows of a block, 64 for each of its warpgroups, its outputs, and how many pairs of operands there is room for. */
template <int ROWS, int COLUMNS, int STAGES>
struct WarpgroupTile {
  static constexpr int THREADS = 2 * ROWS;
  static constexpr int STAGE = (ROWS + COLUMNS) * ROW_BYTES;
  static constexpr int SHARED = STAGES * STAGE;
  /** Blocks that a processor has room for. */
  static constexpr int BESIDE = SHARED > 113 * 1024 ? 1 : 2;
};

/** sum_i x[r, i] weight[o, i], as HalfResult says. Grid (ceil(outer / COLUMNS), ceil(rows / ROWS)); x (rows, x_stride) halves.
 *  GATED: the weights are interleaved, and silu of the gate's outputs times the others comes out, half as many. */
template <int ROWS, int COLUMNS, int STAGES, bool GATED>
__global__ void __launch_bounds__(2 * ROWS, WarpgroupTile<ROWS, COLUMNS, STAGES>::BESIDE)
    matmul_warpgroup_kernel(HalfResult to, const unsigned short* x, int x_stride, HalfMatrix weight, int rows, const int* positions) {
#if DOGE_WARPGROUP
  using Tile = WarpgroupTile<ROWS, COLUMNS, STAGES>;
  constexpr int APART = Tile::THREADS / 8;  // rows between two that a thread brings
  DOGE_SHARED(shared);
  __shared__ int wanted[Tile::THREADS / WARP];
  // Of the block's outputs, brought while the first operands are on their way: at the end nobody waits for them.
  __shared__ float scales[COLUMNS], biases[COLUMNS], gates[COLUMNS];
  const int thread = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.y) * ROWS;
  const int column = static_cast<int>(blockIdx.x) * COLUMNS;
  if (positions != nullptr) {
    const int own = thread < ROWS && first + thread < rows ? positions[first + thread] : -1;
    if (block_max(own, wanted) < 0) return;
  }

  // A thread brings the same place of every APART-th row of both.
  const int own_row = thread / 8, place = thread % 8;
  const unsigned short* const from_x = x + static_cast<size_t>(first + own_row) * static_cast<size_t>(x_stride) + place * 8;
  const unsigned short* const from_weight = weight.data + static_cast<size_t>(column + own_row) * static_cast<size_t>(weight.stride) + place * 8;
  const int at = operand_at(own_row, place);
  const int count = (weight.stride + DEEP - 1) / DEEP;
  const auto load = [&](int index) {
    if (index < count) {
      unsigned char* const stage = shared + index % STAGES * Tile::STAGE;
      const int inner = index * DEEP;
      const bool there = inner + place * 8 < weight.stride;
#pragma unroll
      for (int each = 0; each < ROWS / APART; each++) {
        const bool valid = there && first + own_row + each * APART < rows;
        copy_async(stage + at + each * APART * ROW_BYTES, valid ? from_x + static_cast<size_t>(each * APART) * static_cast<size_t>(x_stride) + inner : x, valid);
      }
#pragma unroll
      for (int each = 0; each < COLUMNS / APART; each++) {
        const bool valid = there && column + own_row + each * APART < weight.outer;
        copy_async(stage + at + (ROWS + each * APART) * ROW_BYTES,
                   valid ? from_weight + static_cast<size_t>(each * APART) * static_cast<size_t>(weight.stride) + inner : weight.data, valid);
      }
    }
    copy_commit();
  };

  float sums[COLUMNS / 2] = {};
  const int above = thread / 128 * 64;
#pragma unroll
  for (int index = 0; index < STAGES - 1; index++) load(index);
  for (int each = thread; each < COLUMNS; each += Tile::THREADS) {
    const int its = column + each;
    const bool there = its < weight.outer;
    const int plain = GATED ? column / 2 + each / 16 * 8 + each % 8 + each / 8 % 2 * weight.gated : its;
    scales[each] = there ? weight.scales[its] * to.scale : 0.0f;
    biases[each] = there && weight.bias != nullptr ? weight.bias[plain] : 0.0f;
    gates[each] = there && to.gate != nullptr ? to.gate[its] : 0.0f;
  }
  for (int index = 0; index < count; index++) {
    copy_wait<STAGES - 2>();
    multiply_wait(sums);  // what is loaded next goes where the products before read
    show_products();
    __syncthreads();
    const unsigned char* const stage = shared + index % STAGES * Tile::STAGE;
    const uint64_t a = descriptor(stage + above * ROW_BYTES);
    const uint64_t b = descriptor(stage + ROWS * ROW_BYTES);
    multiply_begin();
#pragma unroll
    for (int step = 0; step < DEEP / STEP; step++) multiply<COLUMNS>(sums, further(a, step * STEP * 2), further(b, step * STEP * 2));
    multiply_commit();
    load(index + STAGES - 1);
  }
  multiply_wait(sums);
  copy_wait<0>();

  const int lane = thread % WARP;
  const int row = first + thread / WARP * 16 + lane / 4;
  if constexpr (GATED) {
#pragma unroll
    for (int wide = 0; wide < COLUMNS / 8; wide += 2) {
      const int its = wide * 8 + lane % 4 * 2;
      if (column + its >= weight.outer) continue;
#pragma unroll
      for (int down = 0; down < 2; down++) {
        if (row + 8 * down >= rows) continue;
        float result[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const float gate = sums[4 * wide + 2 * down + half] * scales[its + half] + biases[its + half];
          const float up = sums[4 * wide + 4 + 2 * down + half] * scales[its + 8 + half] + biases[its + 8 + half];
          result[half] = silu(gate) * up * SWIGLU_SCALE;
        }
        *reinterpret_cast<unsigned*>(to.halves + static_cast<size_t>(row + 8 * down) * static_cast<size_t>(to.out_stride) + column / 2 + wide * 4 +
                                     lane % 4 * 2) = half_pair(result[0], result[1]);
      }
    }
  } else {
    // Outputs are taken in pairs where rows let them be.
    const bool pairs = to.out_stride % 2 == 0;
    constexpr int CHUNK = 4;
#pragma unroll
    for (int chunk = 0; chunk < COLUMNS / 8; chunk += CHUNK) {
      // What is updated is on its way before the first of it is used.
      float before[CHUNK][2][2] = {};
      if (to.gate != nullptr) {
#pragma unroll
        for (int wide = 0; wide < CHUNK; wide++)
#pragma unroll
          for (int down = 0; down < 2; down++) {
            const int its = column + (chunk + wide) * 8 + lane % 4 * 2;
            if (its >= weight.outer || row + 8 * down >= rows) continue;
            const float* const from = to.out + static_cast<size_t>(row + 8 * down) * static_cast<size_t>(to.out_stride) + its;
            before[wide][down][0] = from[0];
            if (its + 1 < weight.outer) before[wide][down][1] = from[1];
          }
      }
#pragma unroll
      for (int wide = 0; wide < CHUNK; wide++)
#pragma unroll
        for (int down = 0; down < 2; down++) {
          const int own = (chunk + wide) * 8 + lane % 4 * 2;
          if (column + own >= weight.outer || row + 8 * down >= rows) continue;
          float result[2];
#pragma unroll
          for (int half = 0; half < 2; half++)
            result[half] = __fmaf_rn(gates[own + half], before[wide][down][half],
                                     sums[4 * (chunk + wide) + 2 * down + half] * scales[own + half] + biases[own + half]);
          float* const at_row = to.out + static_cast<size_t>(row + 8 * down) * static_cast<size_t>(to.out_stride) + column + own;
          if (pairs && column + own + 1 < weight.outer) {
            *reinterpret_cast<uint2*>(at_row) = uint2{__float_as_uint(result[0]), __float_as_uint(result[1])};
          } else {
            at_row[0] = result[0];
            if (column + own + 1 < weight.outer) at_row[1] = result[1];
          }
        }
    }
  }
#endif
}

/** The tiles there are, greatest first. */
enum class Form : int { LARGE = 0, TALL = 1, MIDDLE = 2, SMALL = 3 };
constexpr int FORM_ROWS[] = {128, 128, 64, 64};
constexpr int FORM_COLUMNS[] = {128, 64, 64, 32};
constexpr int FORMS = 4;

/** The greatest tile that leaves few processors without work, or else the least. */
inline Form form_of(int processors, int rows, int outer) {
  for (int form = 0; form < FORMS - 1; form++) {
    const int blocks = ((rows + FORM_ROWS[form] - 1) / FORM_ROWS[form]) * ((outer + FORM_COLUMNS[form] - 1) / FORM_COLUMNS[form]);
    if (20 * blocks >= 19 * processors) return static_cast<Form>(form);
  }
  return Form::SMALL;
}

template <bool GATED>
inline void matmul_warpgroup_as(Device& device, Form form, const HalfResult& to, const unsigned short* x, int x_stride, const HalfMatrix& weight, int rows,
                                const int* positions) {
  const int of = static_cast<int>(form);
  const dim3 grid(static_cast<unsigned>((weight.outer + FORM_COLUMNS[of] - 1) / FORM_COLUMNS[of]), static_cast<unsigned>((rows + FORM_ROWS[of] - 1) / FORM_ROWS[of]));
  const auto launch = [&](auto kernel, int shared) { device.launch_with(shared, kernel, grid, 2 * FORM_ROWS[of], to, x, x_stride, weight, rows, positions); };
  if (form == Form::LARGE)
    launch(matmul_warpgroup_kernel<128, 128, 3, GATED>, WarpgroupTile<128, 128, 3>::SHARED);
  else if (form == Form::TALL)
    launch(matmul_warpgroup_kernel<128, 64, 4, GATED>, WarpgroupTile<128, 64, 4>::SHARED);
  else if (form == Form::MIDDLE)
    launch(matmul_warpgroup_kernel<64, 64, 6, GATED>, WarpgroupTile<64, 64, 6>::SHARED);
  else
    launch(matmul_warpgroup_kernel<64, 32, 6, GATED>, WarpgroupTile<64, 32, 6>::SHARED);
}

/** out[r, o] = sum_i x[r, i] weight[o, i] + bias[o]; x is what it stands for times 1 / scale. */
inline void matmul_half(Device& device, float* out, int out_stride, const unsigned short* x, int x_stride, const HalfMatrix& weight, int rows,
                        const int* positions, float scale = 1.0f, const float* gate = nullptr) {
  matmul_warpgroup_as<false>(device, form_of(device.processors(), rows, weight.outer), {out, nullptr, out_stride, gate, scale}, x, x_stride, weight, rows,
                             positions);
}
/** halves[r, o] = SWIGLU_SCALE silu(gate) up, of an interleaved matrix. */
inline void matmul_half_gated(Device& device, unsigned short* halves, int out_stride, const unsigned short* x, int x_stride, const HalfMatrix& weight, int rows,
                              const int* positions) {
  matmul_warpgroup_as<true>(device, form_of(device.processors(), rows, weight.outer), {nullptr, halves, out_stride, nullptr, 1.0f}, x, x_stride, weight, rows,
                            positions);
}

}  // namespace doge
