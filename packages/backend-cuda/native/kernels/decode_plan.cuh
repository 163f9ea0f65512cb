// decode_plan: what decode_kernel (decode.cuh) takes: bounds, sizes, the table of layers, the arrays of its exchanges, its shared memory.
#pragma once
#include "bulk.cuh"
#include "draw.cuh"
#include "exchange.cuh"
#include "rope.cuh"

namespace doge {

constexpr int DECODE_THREADS = 256;
constexpr int DECODE_WARPS = DECODE_THREADS / WARP;
/** Of models that are decoded so: layers; numbers of a row, and of the stream; heads that share keys, and their numbers; tokens. */
constexpr int DECODE_LAYERS = 48, DECODE_WIDTH = 2048, DECODE_GROUP = 2, DECODE_DIM = 128, DECODE_CONTEXT = 16384;
/** Pairs of columns of a row that a thread has; width 0: of any that the kernel takes. */
template <int WIDTH>
constexpr int PAIRS_OF = ((WIDTH == 0 ? DECODE_WIDTH : WIDTH) + 2 * DECODE_THREADS - 1) / (2 * DECODE_THREADS);
/** Slots that a slice attends to at a time. */
constexpr int CHUNK_PAGES = 4, CHUNK_SLOTS = CHUNK_PAGES * PAGE;
constexpr int DECODE_SLICES = 6;
/** Keys of a page stand across this many lanes' shares of a head's numbers; and those are so long. */
constexpr int DIM_GROUPS = DECODE_THREADS / PAGE, DIM_SHARE = DECODE_DIM / DIM_GROUPS;

/** The ring of a warp (ring.cuh): units of four slots, 16 bytes for each lane; at most so many, and as many where lanes copy for themselves. */
constexpr int UNIT_SLOTS = 4, SLOT_BYTES = 16 * WARP, UNIT_BYTES = UNIT_SLOTS * SLOT_BYTES;
constexpr int MOST_UNITS = 12, LANE_UNITS = 8, FEW_LANE_UNITS = 3;
/** The matrices of a step in their order: those of each layer, then the head. */
enum Matrices : int { QKV, OUTPUT, GATE_UP, DOWN, HEAD, MATRICES };

/** Sizes that the kernel's loops go by. Those of the published models, which follow from the hidden size, are known when it is compiled:
 *  all that is not theirs is then not there. HIDDEN 0: any. */
struct Sizes {
  int hidden, intermediate;
};
template <int HIDDEN>
__device__ __forceinline__ Sizes known(const Sizes& any) {
  if constexpr (HIDDEN == 0) return any;
  return {HIDDEN, 2 * HIDDEN};
}
template <int HIDDEN>
__device__ __forceinline__ Heads known(const Heads& any) {
  if constexpr (HIDDEN == 0) return any;
  return {HIDDEN / DECODE_DIM, HIDDEN / DECODE_DIM / 2, any.bias_heads, DECODE_DIM, HIDDEN, HIDDEN + HIDDEN / 2, 2 * HIDDEN, any.delta_stride};
}
template <int HIDDEN>
__device__ __forceinline__ Matrix known(const Matrix& any, int inner, int outer) {
  Matrix its = any;
  if constexpr (HIDDEN > 0) {
    its.stride = its.inner = inner;
    its.outer = outer;
    its.bias = nullptr;
  }
  return its;
}

/** Forms with known sizes are compiled for compute capability 9.0 (9.0a: nothing else runs there, and PTX for 9.0 is for newer devices), where
 *  they were measured: elsewhere they would be megabytes for a guess. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DOGE_KNOWN_SIZES 1
#else
#define DOGE_KNOWN_SIZES 0
#endif

struct DecodeLayer {
  Matrix matrices[HEAD];
  RopeWeights rope;
  const float *input_norm, *input_gate, *post_norm, *post_gate;
};

/** What blocks hand to each other: pairs (number, epoch). */
struct Exchanges {
  Pair* qkv;     // (qkv_stride)
  Pair* parts;   // (kv_heads, slices, group, head_dim + 2): sums of weighted values, the greatest score, the sum of weights
  Pair* scores;  // (heads, 2): of the token's own key, and nothing
  Pair* mixed;   // (hidden): the attention's output
  Pair* gated;   // (intermediate)
  Pair* update;  // (hidden): the feed-forward's output
  Pair* draws;   // (blocks, 4): the best score in 64 ordered bits, its id, and DRAW_ bits
  unsigned* epoch;
};
constexpr unsigned DRAW_FINITE = 1, DRAW_ABORTED = 2;

struct Decoding {
  const DecodeLayer* layers;
  int layer_count;
  Matrix embedding, head;
  const float* norm;
  Sizes sizes;
  float epsilon;
  Heads heads;
  PageShape page;
  Exchanges between;
  int slices;
  DrawPlan draw;
  const int* call_pages;
  float* logits;  // not null: one step, which ends with them and draws nothing
  int steps;
  int units;  // of a warp's ring
  bool bulk;  // whether the device brings them by itself; code for a device knows
};

/** What of a matrix of MATRICES a block's warps multiply with, the same in every layer. */
struct Dealt {
  int count;    // outputs that are dealt to warps
  int columns;  // numbers of a row, padded
  int second;   // rows from an output's first row to its second, where it is gated
  int rows;     // that there are, from the matrix's first on
};

struct DecodeShared {
  alignas(16) float x[2][DECODE_WIDTH];
  DecodeLayer layers[DECODE_LAYERS];
  alignas(16) float squares[2][DECODE_THREADS];  // of each thread's numbers of the stream
  float cosine[DECODE_DIM / 2], sine[DECODE_DIM / 2];
  int pages[DECODE_CONTEXT / PAGE];
  float query[DECODE_GROUP][DECODE_DIM], value[DECODE_DIM];
  float dots[DECODE_WARPS][DECODE_GROUP][CHUNK_SLOTS];
  alignas(16) float weights[DECODE_GROUP][CHUNK_SLOTS];
  float fade[DECODE_GROUP];
  float half[DECODE_GROUP][DECODE_DIM];
  unsigned long long best[2][DECODE_WARPS];
  int ids[2][DECODE_WARPS];
  unsigned told[2][DECODE_WARPS];
  Matrix head;
  Dealt dealt[MATRICES];
  Arrival arrivals[DECODE_WARPS][MOST_UNITS];
};

}  // namespace doge
