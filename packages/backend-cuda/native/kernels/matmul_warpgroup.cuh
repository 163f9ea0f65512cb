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

constexpr int WARPGROUP = 128;

/** Rows of a block, its outputs, and how many pairs of operands there is room for. Two groups of four warps take 64 rows each or, where
 *  there are no more rows, every other part of the inner dimension: one group alone waits for each of its instructions. */
template <int ROWS, int COLUMNS, int STAGES>
struct WarpgroupTile {
  static constexpr int THREADS = 2 * WARPGROUP;
  static constexpr int SPLIT = 2 * 64 / ROWS;
  static constexpr int PART = (ROWS + COLUMNS) * ROW_BYTES;
  static constexpr int STAGE = SPLIT * PART;
  static constexpr int SHARED = STAGES * STAGE;
  /** Outputs that a thread has a part in at the end. */
  static constexpr int MINE = COLUMNS / SPLIT;
  /** Groups of products that are under way while the next is asked for: one needs a stage that is neither theirs nor being filled. */
  static constexpr int PENDING = STAGES > 3 ? 1 : 0;
  /** Stages that are on their way. */
  static constexpr int AHEAD = STAGES - 1 - PENDING;
  /** Blocks that a processor has room for. */
  static constexpr int BESIDE = SHARED > 113 * 1024 ? 1 : 2;
};

/** sum_i x[r, i] weight[o, i], as HalfResult says. Grid (ceil(outer / COLUMNS), ceil(rows / ROWS)); x (rows, x_stride) halves.
 *  GATED: the weights are interleaved, and silu of the gate's outputs times the others comes out, half as many. */
template <int ROWS, int COLUMNS, int STAGES, bool GATED>
__global__ void __launch_bounds__(2 * WARPGROUP, WarpgroupTile<ROWS, COLUMNS, STAGES>::BESIDE)
    matmul_warpgroup_kernel(HalfResult to, const unsigned short* x, int x_stride, HalfMatrix weight, int rows, const int* positions) {
  await_earlier();
#if DOGE_WARPGROUP
  using Tile = WarpgroupTile<ROWS, COLUMNS, STAGES>;
  constexpr int SPLIT = Tile::SPLIT, MINE = Tile::MINE;
  constexpr int APART = Tile::THREADS / SPLIT / 8;  // rows between two that a thread brings
  DOGE_SHARED(shared);
  __shared__ int wanted[Tile::THREADS / WARP];
  // Of the block's outputs, brought while the first operands are on their way: at the end nobody waits for them.
  __shared__ float scales[COLUMNS], biases[COLUMNS], gates[COLUMNS];
  const int thread = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.y) * ROWS;
  const int column = static_cast<int>(blockIdx.x) * COLUMNS;
  // A thread brings the same place of every APART-th row of both.
  // By a shuffle the compiler knows that a warp has one number.
  const int group = __shfl_sync(ALL, thread / WARPGROUP, 0);
  const int part = SPLIT == 1 ? 0 : group;  // of the inner dimension
  const int own_row = thread % (Tile::THREADS / SPLIT) / 8, place = thread % 8;
  const unsigned short* const from_x = x + static_cast<size_t>(first + own_row) * static_cast<size_t>(x_stride) + place * 8;
  const unsigned short* const from_weight = weight.data + static_cast<size_t>(column + own_row) * static_cast<size_t>(weight.stride) + place * 8;
  const int at = operand_at(own_row, place);
  const int count = (weight.stride + SPLIT * DEEP - 1) / (SPLIT * DEEP);
  const bool whole = first + ROWS <= rows && column + COLUMNS <= weight.outer;
  const auto load = [&](int index) {
    if (index < count) {
      unsigned char* const to = shared + index % STAGES * Tile::STAGE + part * Tile::PART + at;
      const int inner = (index * SPLIT + part) * DEEP;
      // In few instructions: there are as few warps for each scheduler as blocks let there be.
      if (whole && inner + DEEP <= weight.stride) {
#pragma unroll
        for (int row = 0; row < ROWS; row += APART) copy_async(to + row * ROW_BYTES, from_x + inner + static_cast<ptrdiff_t>(row) * x_stride, true);
#pragma unroll
        for (int row = 0; row < COLUMNS; row += APART)
          copy_async(to + (ROWS + row) * ROW_BYTES, from_weight + inner + static_cast<ptrdiff_t>(row) * weight.stride, true);
      } else {
        const bool there = inner + place * 8 < weight.stride;
#pragma unroll 1
        for (int row = 0; row < ROWS; row += APART) {
          const bool valid = there && first + own_row + row < rows;
          copy_async(to + row * ROW_BYTES, valid ? from_x + inner + static_cast<ptrdiff_t>(row) * x_stride : x, valid);
        }
#pragma unroll 1
        for (int row = 0; row < COLUMNS; row += APART) {
          const bool valid = there && column + own_row + row < weight.outer;
          copy_async(to + (ROWS + row) * ROW_BYTES, valid ? from_weight + inner + static_cast<ptrdiff_t>(row) * weight.stride : weight.data, valid);
        }
      }
    }
    copy_commit();
  };

  float sums[COLUMNS / 2] = {};
#pragma unroll 1
  for (int index = 0; index < Tile::AHEAD; index++) load(index);
  if (positions != nullptr) {
    const int own = thread < ROWS && first + thread < rows ? positions[first + thread] : -1;
    if (block_max(own, wanted) < 0) {
      copy_wait<0>();
      return;
    }
  }
  static_assert(Tile::THREADS >= COLUMNS, "a thread brings one output's numbers");
  if (thread < COLUMNS) {
    const int its = column + thread;
    const bool there = its < weight.outer;
    const int plain = GATED ? column / 2 + thread / 16 * 8 + thread % 8 + thread / 8 % 2 * weight.gated : its;
    scales[thread] = there ? weight.scales[its] * to.scale : 0.0f;
    biases[thread] = there && weight.bias != nullptr ? weight.bias[plain] : 0.0f;
    gates[thread] = there && to.gate != nullptr ? to.gate[its] : 0.0f;
  }
  const int lane = thread % WARP;
  const int row = first + (SPLIT == 1 ? thread : thread % WARPGROUP) / WARP * 16 + lane / 4;
  const int mine = part * MINE;
  // A whole tile's outputs are taken in pairs, unasked.
  const bool plain = whole && to.out_stride % 2 == 0;
  constexpr int CHUNK = MINE < 64 ? MINE / 8 : 8;
  float* const at_row[2] = {to.out + static_cast<size_t>(row) * static_cast<size_t>(to.out_stride) + column + mine + lane % 4 * 2,
                            to.out + static_cast<size_t>(row + 8) * static_cast<size_t>(to.out_stride) + column + mine + lane % 4 * 2};
  const auto there = [&](int own, int down) { return column + mine + own < weight.outer && row + 8 * down < rows; };
  // What is updated, some outputs of it: on its way before anyone waits for the last products, or for any where there is room.
  float before[CHUNK][2][2] = {};
  const auto fetch = [&](int chunk) {
    if (to.gate == nullptr) return;
#pragma unroll
    for (int wide = 0; wide < CHUNK; wide++)
#pragma unroll
      for (int down = 0; down < 2; down++) {
        const float* const from = at_row[down] + (chunk + wide) * 8;
        if (plain) {
          const uint2 two = *reinterpret_cast<const uint2*>(from);
          before[wide][down][0] = __int_as_float(static_cast<int>(two.x));
          before[wide][down][1] = __int_as_float(static_cast<int>(two.y));
          continue;
        }
#pragma unroll
        for (int half = 0; half < 2; half++)
          if (there((chunk + wide) * 8 + lane % 4 * 2 + half, down)) before[wide][down][half] = from[half];
      }
  };
  if constexpr (!GATED && CHUNK * 8 == MINE) fetch(0);
  const unsigned char* const operands = shared + part * Tile::PART;
  const uint64_t left = descriptor(operands + (SPLIT == 1 ? group : 0) * 64 * ROW_BYTES), right = descriptor(operands + ROWS * ROW_BYTES);
#pragma unroll 1
  for (int index = 0; index < count; index++) {
    copy_wait<Tile::AHEAD - 1>();
    multiply_wait<Tile::PENDING>(sums);  // what is loaded next goes where older products read
    show_products();
    __syncthreads();
    const int stage = index % STAGES * Tile::STAGE;
    multiply_begin();
#pragma unroll
    for (int step = 0; step < DEEP / STEP; step++) multiply<COLUMNS>(sums, further(left, stage + step * STEP * 2), further(right, stage + step * STEP * 2));
    multiply_commit();
    load(index + Tile::AHEAD);
  }
  if constexpr (!GATED && CHUNK * 8 < MINE) fetch(0);
  multiply_wait(sums);
  copy_wait<0>();
  let_next_come();

  // Of two groups that have summed parts, each finishes half of the outputs.
  float own[MINE / 2];
  if constexpr (SPLIT == 1) {
#pragma unroll
    for (int each = 0; each < MINE / 2; each++) own[each] = sums[each];
  } else {
    __syncthreads();
    float* const given = reinterpret_cast<float*>(shared) + thread % WARPGROUP;
#pragma unroll
    for (int each = 0; each < MINE / 2; each++) given[(2 * each + part) * WARPGROUP] = part == 0 ? sums[each + MINE / 2] : sums[each];
    __syncthreads();
#pragma unroll
    for (int each = 0; each < MINE / 2; each++) own[each] = (part == 0 ? sums[each] : sums[each + MINE / 2]) + given[(2 * each + 1 - part) * WARPGROUP];
  }

  const auto finish = [&](auto sure) {
    constexpr bool SURE = decltype(sure)::value;
    if constexpr (GATED) {
#pragma unroll
      for (int wide = 0; wide < MINE / 8; wide += 2)
#pragma unroll
        for (int down = 0; down < 2; down++) {
          if (!SURE && !there(wide * 8 + lane % 4 * 2, down)) continue;
          const int its = mine + wide * 8 + lane % 4 * 2;
          float result[2];
#pragma unroll
          for (int half = 0; half < 2; half++) {
            const float gate = own[4 * wide + 2 * down + half] * scales[its + half] + biases[its + half];
            const float up = own[4 * wide + 4 + 2 * down + half] * scales[its + 8 + half] + biases[its + 8 + half];
            result[half] = silu(gate) * up * SWIGLU_SCALE;
          }
          *reinterpret_cast<unsigned*>(to.halves + static_cast<size_t>(row + 8 * down) * static_cast<size_t>(to.out_stride) + (column + mine) / 2 + wide * 4 +
                                       lane % 4 * 2) = half_pair(result[0], result[1]);
        }
    } else {
#pragma unroll
      for (int chunk = 0; chunk < MINE / 8; chunk += CHUNK) {
        if (chunk > 0) fetch(chunk);
#pragma unroll
        for (int wide = chunk; wide < chunk + CHUNK; wide++)
#pragma unroll
          for (int down = 0; down < 2; down++) {
            const int within = wide * 8 + lane % 4 * 2, its = mine + within;
            float result[2];
#pragma unroll
            for (int half = 0; half < 2; half++) {
              result[half] = __fmaf_rn(gates[its + half], before[wide - chunk][down][half],
                                       own[4 * wide + 2 * down + half] * scales[its + half] + biases[its + half]);
              if (!SURE && there(within + half, down)) at_row[down][wide * 8 + half] = result[half];
            }
            if (SURE) *reinterpret_cast<uint2*>(at_row[down] + wide * 8) = uint2{__float_as_uint(result[0]), __float_as_uint(result[1])};
          }
      }
    }
  };
  if (plain)
    finish(std::true_type{});
  else
    finish(std::false_type{});
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
  const auto launch = [&](auto kernel, int shared) { device.launch_with(shared, kernel, grid, 2 * WARPGROUP, to, x, x_stride, weight, rows, positions); };
  if (form == Form::LARGE)
    launch(matmul_warpgroup_kernel<128, 128, 3, GATED>, WarpgroupTile<128, 128, 3>::SHARED);
  else if (form == Form::TALL)
    launch(matmul_warpgroup_kernel<128, 64, 4, GATED>, WarpgroupTile<128, 64, 4>::SHARED);
  else if (form == Form::MIDDLE)
    launch(matmul_warpgroup_kernel<64, 64, 3, GATED>, WarpgroupTile<64, 64, 3>::SHARED);
  else
    launch(matmul_warpgroup_kernel<64, 32, 4, GATED>, WarpgroupTile<64, 32, 4>::SHARED);
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
