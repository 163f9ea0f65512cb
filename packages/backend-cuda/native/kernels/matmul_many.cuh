// matmul for many rows in the order of matmul_kernel, bit for bit: for the values of layer 0, and where a window drops keys.
//
// A block computes 32 rows of 64 outputs, a thread 4 of 4, from stages of both operands in shared memory. What lane l of matmul_kernel's
// warp sums, chunks l, l + 32, ..., a thread sums lane by lane, and adds the lanes as the butterfly does: in the order of their reversed
// bits each sum's partner is the one before it, or waits on a stack of five.
#pragma once
#include "matmul.cuh"

namespace doge {

// Compiled for bf16 on compute capability 9.0, and for tests: matmul_kernel does the same, and the binary has its bound.
#if defined(DOGE_SHIM) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900)
#define DOGE_MANY 1
#else
#define DOGE_MANY 0
#endif

constexpr int MANY_THREADS = 128;
constexpr int MANY_ROWS = 32;
constexpr int MANY_COLUMNS = 64;
/** Inner indices of a stage. */
constexpr int MANY_INNER = 32;
/** Rows and outputs of a thread. */
constexpr int MANY_SIDE = 4;
/** Steps of the butterfly over a warp. */
constexpr int BUTTERFLY = 5;

/** Both operands of a stage, turned: a thread reads 4 rows and 4 outputs of an inner index. Skewed so that writes meet in no bank. */
struct alignas(16) ManyStage {
  float x[MANY_INNER][MANY_ROWS + 4];
  float weight[MANY_INNER][MANY_COLUMNS + 4];
};

/** Where in the order of the sums a step is: of the lane at place `lane` in the order of reversed bits, its chunk `turn`. */
struct ManyStep {
  int lane, turn;
  /** The step that is `steps` further, of lanes with `turns` chunks each. */
  __device__ __forceinline__ ManyStep after(int steps, int turns) const {
    ManyStep to{lane, turn + steps};
    while (to.turn >= turns) {
      to.turn -= turns;
      to.lane++;
    }
    return to;
  }
  __device__ __forceinline__ int chunk() const { return static_cast<int>(__brev(static_cast<unsigned>(lane)) >> (32 - BUTTERFLY)) + turn * WARP; }
};

/** As matmul_kernel. Grid (ceil(outer / 64), ceil(rows / 32)). */
template <Type type>
__global__ void __launch_bounds__(MANY_THREADS)
    matmul_many_kernel(float* out, int out_stride, const float* x, int x_stride, Matrix weight, int rows, const int* positions) {
  await_earlier();
#if DOGE_MANY
  constexpr int CHUNK = Format<type>::CHUNK;
  constexpr int STEPS = MANY_INNER / CHUNK;
  /** Stretches of 4 numbers of x, and chunks of weights, that a thread brings to a stage. */
  constexpr int MINE = MANY_ROWS * MANY_INNER / 4 / MANY_THREADS;
  constexpr int CHUNKS = MANY_COLUMNS * STEPS / MANY_THREADS;
  __shared__ ManyStage stages[2];
  __shared__ int wanted[MANY_THREADS / WARP];
  const int thread = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.y) * MANY_ROWS;
  const int column = static_cast<int>(blockIdx.x) * MANY_COLUMNS;
  if (positions != nullptr) {
    const int own = thread < MANY_ROWS && first + thread < rows ? positions[first + thread] : -1;
    if (block_max(own, wanted) < 0) return;
  }
  const int chunks = weight.stride / CHUNK;
  const int turns = (chunks + WARP - 1) / WARP;
  const int count = WARP * turns / STEPS;

  float4 mine[MINE];
  typename Format<type>::Raw raw[CHUNKS];
  const auto load = [&](const ManyStep& from) {
#pragma unroll
    for (int each = 0; each < MINE; each++) {
      const int place = thread + each * MANY_THREADS;
      const int row = first + place / 2 % MANY_ROWS;
      const int inner = (place % 2 + place / (2 * MANY_ROWS) * 2) * 4;
      const int chunk = from.after(inner / CHUNK, turns).chunk();
      mine[each] = float4{0.0f, 0.0f, 0.0f, 0.0f};
      if (row < rows && chunk < chunks)
        mine[each] = *reinterpret_cast<const float4*>(x + static_cast<size_t>(row) * static_cast<size_t>(x_stride) + chunk * CHUNK + inner % CHUNK);
    }
#pragma unroll
    for (int each = 0; each < CHUNKS; each++) {
      const int place = thread + each * MANY_THREADS;
      const int its = column + place % MANY_COLUMNS;
      const int chunk = from.after(place / MANY_COLUMNS, turns).chunk();
      raw[each] = typename Format<type>::Raw{};
      if (its < weight.outer && chunk < chunks) raw[each] = Format<type>::fetch(weight, static_cast<size_t>(its), chunk * CHUNK);
    }
  };
  const auto store = [&](ManyStage& stage) {
#pragma unroll
    for (int each = 0; each < MINE; each++) {
      const int place = thread + each * MANY_THREADS;
      const int row = place / 2 % MANY_ROWS;
      const int inner = (place % 2 + place / (2 * MANY_ROWS) * 2) * 4;
      stage.x[inner][row] = mine[each].x;
      stage.x[inner + 1][row] = mine[each].y;
      stage.x[inner + 2][row] = mine[each].z;
      stage.x[inner + 3][row] = mine[each].w;
    }
#pragma unroll
    for (int each = 0; each < CHUNKS; each++) {
      const int place = thread + each * MANY_THREADS;
      float numbers[CHUNK];
      Format<type>::expand(numbers, raw[each]);
#pragma unroll
      for (int step = 0; step < CHUNK; step++) stage.weight[place / MANY_COLUMNS * CHUNK + step][place % MANY_COLUMNS] = numbers[step];
    }
  };

  const int down = thread / (MANY_COLUMNS / MANY_SIDE) * MANY_SIDE, across = thread % (MANY_COLUMNS / MANY_SIDE) * MANY_SIDE;
  float sums[MANY_SIDE][MANY_SIDE] = {};
  float waiting[BUTTERFLY][MANY_SIDE][MANY_SIDE] = {};
  ManyStep next{0, 0}, now{0, 0};
  load(next);
  store(stages[0]);
  __syncthreads();
#pragma unroll 1
  for (int index = 0; index < count; index++) {
    next = next.after(STEPS, turns);
    if (index + 1 < count) load(next);
    const ManyStage& stage = stages[index % 2];
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
#pragma unroll
      for (int inner = step * CHUNK; inner < (step + 1) * CHUNK; inner++) {
        const float4 four = *reinterpret_cast<const float4*>(&stage.x[inner][down]);
        const float4 weights = *reinterpret_cast<const float4*>(&stage.weight[inner][across]);
        const float rows_of[MANY_SIDE] = {four.x, four.y, four.z, four.w};
        const float outputs_of[MANY_SIDE] = {weights.x, weights.y, weights.z, weights.w};
#pragma unroll
        for (int row = 0; row < MANY_SIDE; row++)
#pragma unroll
          for (int each = 0; each < MANY_SIDE; each++) sums[row][each] = __fmaf_rn(rows_of[row], outputs_of[each], sums[row][each]);
      }
      if (++now.turn < turns) continue;
      // The lane is whole: it meets those that wait for it. The last one meets all.
#pragma unroll
      for (int level = 0; level < BUTTERFLY; level++) {
        const bool meets = (now.lane >> level & 1) != 0;
#pragma unroll
        for (int row = 0; row < MANY_SIDE; row++)
#pragma unroll
          for (int each = 0; each < MANY_SIDE; each++) {
            if (meets)
              sums[row][each] = waiting[level][row][each] + sums[row][each];
            else
              waiting[level][row][each] = sums[row][each];
          }
        if (!meets) break;
      }
      now.turn = 0;
      if (++now.lane == WARP) break;
#pragma unroll
      for (int row = 0; row < MANY_SIDE; row++)
#pragma unroll
        for (int each = 0; each < MANY_SIDE; each++) sums[row][each] = 0.0f;
    }
    if (index + 1 < count) store(stages[(index + 1) % 2]);
    __syncthreads();
  }

#pragma unroll
  for (int row = 0; row < MANY_SIDE; row++)
#pragma unroll
    for (int each = 0; each < MANY_SIDE; each++) {
      const int its = column + across + each;
      if (its < weight.outer && first + down + row < rows)
        out[static_cast<size_t>(first + down + row) * static_cast<size_t>(out_stride) + static_cast<size_t>(its)] =
            sums[row][each] + (weight.bias == nullptr ? 0.0f : weight.bias[its]);
    }
#endif
}

/** Fewest rows for which a block's 32 are worth it. */
constexpr int MANY_LEAST = 16;
inline bool takes_many([[maybe_unused]] const Device& device, int rows) {
#if defined(DOGE_SHIM)
  return rows >= MANY_LEAST;
#else
  return rows >= MANY_LEAST && device.warpgroups();
#endif
}

template <Type type, bool GATED>
inline void matmul_of(Device& device, float* out, int out_stride, const float* x, int x_stride, const Matrix& weight, int rows,
                      const int* positions, int width) {
  const int per_block = MATMUL_THREADS / WARP * (GATED ? MATMUL_COLUMNS / 2 : MATMUL_COLUMNS);
  const unsigned columns = static_cast<unsigned>(((GATED ? width : weight.outer) + per_block - 1) / per_block);
  const auto grid = [&](int tile) { return dim3(columns, static_cast<unsigned>((rows + tile - 1) / tile)); };
  if constexpr (type == Type::BF16 && !GATED) {
    if (takes_many(device, rows)) {
      const dim3 blocks(static_cast<unsigned>((weight.outer + MANY_COLUMNS - 1) / MANY_COLUMNS), static_cast<unsigned>((rows + MANY_ROWS - 1) / MANY_ROWS));
      return device.launch(matmul_many_kernel<type>, blocks, MANY_THREADS, out, out_stride, x, x_stride, weight, rows, positions);
    }
  }
  if (rows == 1)
    device.launch(matmul_kernel<type, 1, GATED>, grid(1), MATMUL_THREADS, out, out_stride, x, x_stride, weight, rows, positions, width);
  else if (rows <= 4)
    device.launch(matmul_kernel<type, 4, GATED>, grid(4), MATMUL_THREADS, out, out_stride, x, x_stride, weight, rows, positions, width);
  else
    device.launch(matmul_kernel<type, 8, GATED>, grid(8), MATMUL_THREADS, out, out_stride, x, x_stride, weight, rows, positions, width);
}

/** The launch for a matrix of any format, in the one order of sums. x_stride is at least the matrix's stride. GATED: with swiglu
 *  over `width` numbers. */
template <bool GATED = false>
inline void matmul_rows(Device& device, float* out, int out_stride, const float* x, int x_stride, const Matrix& weight, int rows,
                        const int* positions = nullptr, int width = 0) {
  if (rows == 0) return;
  if (weight.type == Type::F32)
    matmul_of<Type::F32, GATED>(device, out, out_stride, x, x_stride, weight, rows, positions, width);
  else if (weight.type == Type::BF16)
    matmul_of<Type::BF16, GATED>(device, out, out_stride, x, x_stride, weight, rows, positions, width);
  else
    matmul_of<Type::Q8, GATED>(device, out, out_stride, x, x_stride, weight, rows, positions, width);
}

}  // namespace doge
