// matmul for many rows, on tensor cores: a block computes a tile of outputs from tiles of both operands in shared memory, the next
// pair arriving while the last is multiplied.
//
// Weights are exact as bf16: bf16 ones as they are, q8 ones as their codes, whose products are scaled block by block in f32. Rows
// of x are taken as high + low in two products, 16 bits of each number. Rounded to bf16 alone they would be half the work, and move
// logits by the tenth of a standard deviation that tells another choice of the window from rounding (conformance, roundedRepeat).
// Each number's sum has one order, whatever the tile.
#pragma once
#include "matmul_many.cuh"
#include "tensor.cuh"

namespace doge {

constexpr int TILES_THREADS = 128;
/** Outputs of a block: two warps of 32. */
constexpr int TILES_COLUMNS = 64;
/** Inner indices of a stage, which is what padding is a multiple of and a q8 scale is for. */
constexpr int TILES_INNER = 32;
static_assert(TILES_INNER == BLOCK && TILES_INNER == PADDING, "a stage is a block of q8 and never longer than the padding");

/** Where 8 numbers of a row stand in shared memory: rows of 64 bytes, in which the four places change with the row, so that the
 *  eight rows of a matrix lie in different banks. */
__device__ __forceinline__ int tile_at(int row, int eight) { return (row * 4 + (eight ^ ((row >> 1) & 3))) * 8; }

/** A block of 64 outputs and 32 * TALL rows: two warps beside each other, two above each other, TALL * 16 rows each. */
template <Type type, int TALL>
struct alignas(16) MatmulTile {
  static constexpr int ROWS = 32 * TALL;
  /** Stretches of 8 numbers of x that a thread brings. */
  static constexpr int MINE = ROWS * (TILES_INNER / 8) / TILES_THREADS;
  unsigned short high[2][ROWS * TILES_INNER];
  unsigned short low[2][ROWS * TILES_INNER];
  unsigned short weights[2][TILES_COLUMNS * TILES_INNER];
  float scales[2][type == Type::Q8 ? TILES_COLUMNS : 4];
  int wanted[TILES_THREADS / WARP];
};

/** out[r, o] = sum_i x[r, i] weight[o, i] + bias[o], as matmul_kernel. Grid (ceil(outer / 64), ceil(rows / (32 TALL))). */
template <Type type, int TALL>
__global__ void __launch_bounds__(TILES_THREADS)
    matmul_tiles_kernel(float* out, int out_stride, const float* x, int x_stride, Matrix weight, int rows, const int* positions) {
  await_earlier();
#if DOGE_TENSOR
  using Tile = MatmulTile<type, TALL>;
  __shared__ Tile tile;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % WARP;
  const int warp = thread / WARP;
  const int first = static_cast<int>(blockIdx.y) * Tile::ROWS;
  const int column = static_cast<int>(blockIdx.x) * TILES_COLUMNS;
  if (positions != nullptr) {
    const int own = thread < Tile::ROWS && first + thread < rows ? positions[first + thread] : -1;
    if (block_max(own, tile.wanted) < 0) return;
  }

  // What a thread brings to a stage: some of x, and of the weights two stretches of 8 or 16 codes.
  float4 mine[Tile::MINE][2] = {};
  uint4 codes{};
  float scale = 0.0f;
  const auto load = [&](int stage, int inner) {
#pragma unroll
    for (int each = 0; each < Tile::MINE; each++) {
      const int place = each * TILES_THREADS + thread;
      const int row = first + place / 4;
      mine[each][0] = mine[each][1] = float4{0.0f, 0.0f, 0.0f, 0.0f};
      if (row >= rows) continue;
      const float4* const from =
          reinterpret_cast<const float4*>(x + static_cast<size_t>(row) * static_cast<size_t>(x_stride) + inner + place % 4 * 8);
      mine[each][0] = from[0];
      mine[each][1] = from[1];
    }
    if constexpr (type == Type::Q8) {
      const int row = column + thread / 2;
      codes = uint4{0, 0, 0, 0};
      if (row < weight.outer)
        codes = *reinterpret_cast<const uint4*>(static_cast<const signed char*>(weight.data) +
                                                static_cast<size_t>(row) * static_cast<size_t>(weight.stride) + inner + thread % 2 * 16);
      const int its = column + thread;
      scale = 0.0f;
      if (thread < TILES_COLUMNS && its < weight.outer)
        scale = weight.scales[static_cast<size_t>(its) * static_cast<size_t>(weight.stride / BLOCK) + static_cast<size_t>(inner / BLOCK)];
    } else {
#pragma unroll
      for (int each = 0; each < 2; each++) {
        const int place = each * TILES_THREADS + thread;
        const int row = column + place / 4;
        const bool there = row < weight.outer;
        copy_async(&tile.weights[stage][tile_at(place / 4, place % 4)],
                   static_cast<const unsigned short*>(weight.data) +
                       static_cast<size_t>(there ? row : column) * static_cast<size_t>(weight.stride) + inner + place % 4 * 8,
                   there);
      }
      copy_commit();
    }
  };
  const auto store = [&](int stage) {
#pragma unroll
    for (int each = 0; each < Tile::MINE; each++) {
      const int place = each * TILES_THREADS + thread;
      const int at = tile_at(place / 4, place % 4);
      uint4 high{}, low{};
      split_pair(high.x, low.x, mine[each][0].x, mine[each][0].y);
      split_pair(high.y, low.y, mine[each][0].z, mine[each][0].w);
      split_pair(high.z, low.z, mine[each][1].x, mine[each][1].y);
      split_pair(high.w, low.w, mine[each][1].z, mine[each][1].w);
      *reinterpret_cast<uint4*>(&tile.high[stage][at]) = high;
      *reinterpret_cast<uint4*>(&tile.low[stage][at]) = low;
    }
    if constexpr (type == Type::Q8) {
      const unsigned words[4] = {codes.x, codes.y, codes.z, codes.w};
      const auto code = [&words](int index) {
        return static_cast<float>(static_cast<signed char>((words[index / 4] >> (8 * (index % 4))) & 0xff));
      };
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int from = half * 8;
        const uint4 eight{bf16_pair(code(from), code(from + 1)), bf16_pair(code(from + 2), code(from + 3)),
                          bf16_pair(code(from + 4), code(from + 5)), bf16_pair(code(from + 6), code(from + 7))};
        *reinterpret_cast<uint4*>(&tile.weights[stage][tile_at(thread / 2, thread % 2 * 2 + half)]) = eight;
      }
      if (thread < TILES_COLUMNS) tile.scales[stage][thread] = scale;
    } else {
      copy_wait<0>();
    }
  };

  const int above = warp / 2 * TALL * 16;
  const int beside = warp % 2 * 32;
  float sums[TALL][4][4] = {};
  const auto multiply = [&](int stage) {
    float block[TALL][4][4] = {};
    float(&to)[TALL][4][4] = type == Type::Q8 ? block : sums;
#pragma unroll
    for (int step = 0; step < 2; step++) {
      unsigned b[4][2];
#pragma unroll
      for (int pair = 0; pair < 2; pair++) {
        unsigned r[4];
        load_matrices<false>(r, &tile.weights[stage][tile_at(beside + pair * 16 + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2)]);
        b[2 * pair][0] = r[0];
        b[2 * pair][1] = r[1];
        b[2 * pair + 1][0] = r[2];
        b[2 * pair + 1][1] = r[3];
      }
#pragma unroll
      for (int tall = 0; tall < TALL; tall++) {
        const int at = tile_at(above + tall * 16 + lane % 16, 2 * step + lane / 16);
        unsigned a[4];
        load_matrices<false>(a, &tile.high[stage][at]);
#pragma unroll
        for (int wide = 0; wide < 4; wide++) mma(to[tall][wide], a, b[wide]);
        load_matrices<false>(a, &tile.low[stage][at]);
#pragma unroll
        for (int wide = 0; wide < 4; wide++) mma(to[tall][wide], a, b[wide]);
      }
    }
    if constexpr (type == Type::Q8) {
#pragma unroll
      for (int wide = 0; wide < 4; wide++) {
        const float* const scales = &tile.scales[stage][beside + wide * 8 + lane % 4 * 2];
#pragma unroll
        for (int tall = 0; tall < TALL; tall++)
#pragma unroll
          for (int part = 0; part < 4; part++)
            sums[tall][wide][part] = __fmaf_rn(block[tall][wide][part], scales[part % 2], sums[tall][wide][part]);
      }
    }
  };

  load(0, 0);
  store(0);
  __syncthreads();
  int stage = 0;
  for (int inner = 0; inner < weight.stride; inner += TILES_INNER) {
    const int next = inner + TILES_INNER;
    if (next < weight.stride) load(stage ^ 1, next);
    multiply(stage);
    if (next < weight.stride) store(stage ^ 1);
    __syncthreads();
    stage ^= 1;
  }

#pragma unroll
  for (int wide = 0; wide < 4; wide++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int its = column + beside + wide * 8 + lane % 4 * 2 + half;
      if (its >= weight.outer) continue;
      const float bias = weight.bias == nullptr ? 0.0f : weight.bias[its];
#pragma unroll
      for (int tall = 0; tall < TALL; tall++)
#pragma unroll
        for (int down = 0; down < 2; down++) {
          const int row = first + above + tall * 16 + lane / 4 + down * 8;
          if (row < rows)
            out[static_cast<size_t>(row) * static_cast<size_t>(out_stride) + static_cast<size_t>(its)] = sums[tall][wide][2 * down + half] + bias;
        }
    }
#endif
}

/** Fewest rows for which weights go through tensor cores: the kernel for few rows would read them twice. */
constexpr int TILES_LEAST = 9;

/** Whether matmul takes a matrix this way. */
inline bool by_tiles(const Device& device, const Matrix& weight, int rows) {
  return device.tensor_cores() && weight.type != Type::F32 && rows >= TILES_LEAST;
}

template <Type type>
inline void matmul_tiles_of(Device& device, float* out, int out_stride, const float* x, int x_stride, const Matrix& weight, int rows,
                            const int* positions) {
  const auto blocks = [](int count, int of) { return static_cast<unsigned>((count + of - 1) / of); };
  const unsigned columns = blocks(weight.outer, TILES_COLUMNS);
  // High tiles read less from memory; low ones where high ones would leave processors without work.
  if (columns * blocks(rows, 128) >= static_cast<unsigned>(device.processors()))
    device.launch(matmul_tiles_kernel<type, 4>, dim3(columns, blocks(rows, 128)), TILES_THREADS, out, out_stride, x, x_stride, weight, rows,
                  positions);
  else
    device.launch(matmul_tiles_kernel<type, 1>, dim3(columns, blocks(rows, 32)), TILES_THREADS, out, out_stride, x, x_stride, weight, rows,
                  positions);
}

/** The launch for a matrix of any format and any number of rows. x_stride is at least the matrix's stride. */
inline void matmul(Device& device, float* out, int out_stride, const float* x, int x_stride, const Matrix& weight, int rows,
                   const int* positions = nullptr) {
  if (!by_tiles(device, weight, rows))
    matmul_rows(device, out, out_stride, x, x_stride, weight, rows, positions);
  else if (weight.type == Type::BF16)
    matmul_tiles_of<Type::BF16>(device, out, out_stride, x, x_stride, weight, rows, positions);
  else
    matmul_tiles_of<Type::Q8>(device, out, out_stride, x, x_stride, weight, rows, positions);
}

}  // namespace doge
