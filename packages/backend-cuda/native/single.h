// Single kernels over arrays of the host: what the conformance suite compares with their definitions, on the shim and on a GPU.
#pragma once
#include "verbs.h"

namespace doge {

/** A stream and arrays on the device for the time of one kernel. What is not given is poisoned with NaN, padding is 0. */
class Bench {
 public:
  explicit Bench(Context& context) : device(context) {}
  ~Bench() {
    for (void* pointer : taken_) device.release(pointer);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  Device device;

  /** Rows of `columns` numbers, `stride` apart; from null: NaN. */
  float* put(const float* from, int rows, int columns, int stride) {
    std::vector<float> padding(static_cast<size_t>(rows) * static_cast<size_t>(stride), 0.0f);
    for (int row = 0; row < rows; row++)
      for (int column = 0; column < columns; column++)
        padding[static_cast<size_t>(row) * static_cast<size_t>(stride) + static_cast<size_t>(column)] =
            from == nullptr ? NAN : from[static_cast<size_t>(row) * static_cast<size_t>(columns) + static_cast<size_t>(column)];
    return array(padding);
  }
  void get(float* to, const float* from, int rows, int columns, int stride) {
    for (int row = 0; row < rows; row++)
      device.download(to + static_cast<size_t>(row) * static_cast<size_t>(columns), from + static_cast<size_t>(row) * static_cast<size_t>(stride),
                      static_cast<size_t>(columns) * 4);
  }
  /** So many pages of one layer, without a window. */
  PageShape pages(int count, const Heads& heads, bool halves) {
    PageShape shape = page_shape(heads, 1, 0, halves);
    const int words = static_cast<int>(shape.page_bytes / 4);
    shape.base = reinterpret_cast<char*>(put(nullptr, count, words, words));
    return shape;
  }
  template <class T>
  T* empty(size_t count) {
    T* const to = static_cast<T*>(device.allocate(count * sizeof(T)));
    taken_.push_back(to);
    return to;
  }
  template <class T>
  T* array(const std::vector<T>& numbers) {
    T* const to = empty<T>(numbers.size());
    device.upload(to, numbers.data(), numbers.size() * sizeof(T));
    return to;
  }

 private:
  std::vector<void*> taken_;
};

inline void single_rmsnorm(Context& context, float* out, const float* x, const float* weight, int rows, int width, float epsilon) {
  Bench bench(context);
  const int stride = padded(width);
  float* const to = bench.put(nullptr, rows, width, stride);
  float* const from = bench.put(x, rows, width, stride);
  rmsnorm(bench.device, to, nullptr, from, nullptr, from, bench.put(weight, 1, width, stride), rows, width, stride, epsilon, nullptr, nullptr);
  bench.get(out, to, rows, width, stride);
}

inline void single_matmul(Context& context, float* out, const float* x, const float* weight, const float* bias, int rows, int inner, int outer, Type type) {
  Bench bench(context);
  const int stride = padded(inner);
  const size_t count = static_cast<size_t>(outer) * static_cast<size_t>(stride);
  Matrix matrix{nullptr, nullptr, bias == nullptr ? nullptr : bench.put(bias, 1, outer, outer), inner, outer, stride, type};
  std::vector<uint16_t> halves(count, 0);
  std::vector<int8_t> codes(count, 0);
  std::vector<float> scales(count / BLOCK, 0.0f);
  for (int row = 0; row < outer; row++) {
    const float* const from = weight + static_cast<size_t>(row) * static_cast<size_t>(inner);
    const size_t to = static_cast<size_t>(row) * static_cast<size_t>(stride);
    for (int column = 0; column < inner; column++) halves[to + static_cast<size_t>(column)] = to_bf16(from[column]);
    quantize_q8(from, inner, codes.data() + to, scales.data() + to / BLOCK);
  }
  if (type == Type::F32) matrix.data = bench.put(weight, outer, inner, stride);
  if (type == Type::BF16) matrix.data = bench.array(halves);
  if (type == Type::Q8) {
    matrix.data = bench.array(codes);
    matrix.scales = bench.array(scales);
  }
  float* const to = bench.put(nullptr, rows, outer, outer);
  matmul(bench.device, to, outer, bench.put(x, rows, inner, stride), stride, matrix, rows);
  bench.get(out, to, rows, outer, outer);
}

inline void single_rope(Context& context, float* x, int heads, int head_dim, int position, double theta) {
  Bench bench(context);
  Config config{};
  config.head_dim = head_dim;
  config.rope_theta = theta;
  std::vector<float> cosine(static_cast<size_t>(head_dim / 2)), sine(cosine.size());
  angles(config, position, cosine.data(), sine.data());
  const int width = heads * head_dim;
  const Heads shape{heads, 0, 0, head_dim, padded(width), padded(width), padded(width), 0};
  float* const rows = bench.put(x, 1, width, padded(width));
  PageShape nowhere{};
  nowhere.window = 1;  // nothing is stored
  RopeWeights weights{};
  weights.cosine = bench.array(cosine);
  weights.sine = bench.array(sine);
  rope(bench.device, rows, nullptr, nullptr, weights, bench.array(std::vector<int>{0}), nullptr, nullptr, nullptr, nowhere, shape, 1);
  bench.get(x, rows, 1, width, width);
}

inline void single_swiglu(Context& context, float* out, const float* gate, const float* up, int width) {
  Bench bench(context);
  const int half = padded(width);
  std::vector<float> both(static_cast<size_t>(2 * half), 0.0f);
  std::copy(gate, gate + width, both.begin());
  std::copy(up, up + width, both.begin() + half);
  float* const rows = bench.array(both);
  bench.device.launch(swiglu_kernel, dim3(1, static_cast<unsigned>((width + SWIGLU_THREADS - 1) / SWIGLU_THREADS)), SWIGLU_THREADS, rows, 2 * half, width,
                      half);
  bench.get(out, rows, 1, width, width);
}

/** One head over the tokens of a text: each of the last `queried` of `count` tokens attends to itself and all before it. `dtype`
 *  decides how, as in a model. queries, out (queried, head_dim). */
inline void single_attention(Context& context, float* out, const float* queries, const float* keys, const float* values, const float* bias, int count,
                             int head_dim, int queried, Type dtype) {
  Bench bench(context);
  const int part = padded(head_dim);
  const Heads shape{1, 1, 1, head_dim, part, 2 * part, 3 * part, PADDING};
  const size_t dim = static_cast<size_t>(head_dim);
  const size_t stride = static_cast<size_t>(shape.qkv_stride);
  const size_t first = static_cast<size_t>(count - queried);
  std::vector<float> qkv(static_cast<size_t>(count) * stride, 0.0f);
  std::vector<int> positions, pages, tiles;
  for (size_t token = 0; token < static_cast<size_t>(count); token++) {
    float* const row = &qkv[token * stride];
    if (token >= first) std::copy(queries + (token - first) * dim, queries + (token - first + 1) * dim, row);
    std::copy(keys + token * dim, keys + (token + 1) * dim, row + shape.key_at);
    std::copy(values + token * dim, values + (token + 1) * dim, row + shape.value_at);
    positions.push_back(static_cast<int>(token));
  }
  for (int done = 0; done < queried; done += QUERIES) {
    tiles.push_back(done);
    tiles.push_back(std::min(QUERIES, queried - done));
    tiles.push_back(0);
  }
  // Pages in reverse: a kernel that takes slots for addresses shows.
  for (int page = pages_for(count) - 1; page >= 0; page--) pages.push_back(page);
  const PageShape page = bench.pages(pages_for(count), shape, keeps_halves(dtype));
  float* const rows = bench.array(qkv);
  float* const biases = bench.put(bias, count, 1, PADDING);
  const int* const at = bench.array(positions);
  const int* const row_of = bench.array(std::vector<int>(static_cast<size_t>(count), 0));
  const RowState* const states = bench.array(std::vector<RowState>(1));
  const int* const list = bench.array(pages);
  bench.device.launch(store_kernel, dim3(static_cast<unsigned>(count), 1), STORE_THREADS, rows, biases, nullptr, at, row_of, states, list, page, shape);
  float* const to = bench.put(nullptr, queried, head_dim, part);
  if (attends_by_tiles(bench.device, dtype, head_dim)) {
    attention_tiles(bench.device, static_cast<int>(tiles.size() / 3), to, part, rows + first * stride, reinterpret_cast<const QueryTile*>(bench.array(tiles)),
                    at + first, row_of, states, list, page, shape);
  } else {
    const int slices = slices_of(bench.device.processors(), queried, 1, count);
    const Slices meeting{slices, bench.put(nullptr, queried * slices, head_dim + 2, head_dim + 2), bench.array(std::vector<int>(static_cast<size_t>(queried), 0))};
    attention(bench.device, queried, slices, to, part, rows + first * stride, at + first, row_of, states, list, page, shape, meeting, nullptr);
  }
  bench.get(out, to, queried, head_dim, part);
}

/** What the instructions of tensor.cuh do, laid bare: a (16, 16) and b (8, 16) come to shared memory by asynchronous copies; what a
 *  lane then holds of each (registers: 32 lanes of a[4], b[2], and b[2] again from b turned), and d (16, 8) = a . b. */
__global__ void fragments_kernel(float* d, unsigned* registers, const float* a, const float* b) {
  await_earlier();
#if DOGE_TENSOR
  struct alignas(16) Operands {
    unsigned short a[16 * 16], b[8 * 16], turned[16 * 8];
    unsigned zeros[128];
  };
  __shared__ Operands of;
  const int lane = static_cast<int>(threadIdx.x);
  for (int index = lane; index < 128; index += WARP) reinterpret_cast<unsigned*>(of.a)[index] = bf16_pair(a[2 * index], a[2 * index + 1]);
  for (int index = lane; index < 64; index += WARP) registers[index] = bf16_pair(b[2 * index], b[2 * index + 1]);
  for (int index = lane; index < 64; index += WARP) {
    const int inner = index / 4, column = index % 4 * 2;
    reinterpret_cast<unsigned*>(of.turned)[index] = bf16_pair(b[column * 16 + inner], b[(column + 1) * 16 + inner]);
  }
  __syncthreads();
  if (lane < 16) copy_async(&of.b[lane * 8], registers + lane * 4, true);
  copy_async(&of.zeros[lane * 4], a, false);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  unsigned left[4], right[4], turned[4];
  load_matrices<false>(left, &of.a[lane % 16 * 16 + lane / 16 * 8]);
  load_matrices<false>(right, &of.b[lane % 8 * 16 + lane / 8 % 2 * 8]);
  load_matrices<true>(turned, &of.turned[lane % 16 * 8]);
  float sum[4] = {};
  const unsigned column[2] = {right[0], right[1]};
  mma(sum, left, column);
  __syncthreads();
  for (int part = 0; part < 4; part++) {
    registers[lane * 8 + part] = left[part] | of.zeros[lane * 4 + part];
    d[(lane / 4 + part / 2 * 8) * 8 + lane % 4 * 2 + part % 2] = sum[part];
  }
  for (int part = 0; part < 2; part++) {
    registers[lane * 8 + 4 + part] = right[part];
    registers[lane * 8 + 6 + part] = turned[part];
  }
#endif
}
inline void single_fragments(Context& context, float* d, uint32_t* registers, const float* a, const float* b) {
  Bench bench(context);
  if (!bench.device.tensor_cores()) throw Fault{"unsupported", "This device has no bf16 tensor cores."};
  unsigned* const held = bench.array(std::vector<unsigned>(WARP * 8, 0));
  float* const to = bench.put(nullptr, 16, 8, 8);
  bench.device.launch(fragments_kernel, dim3(1), WARP, to, held, bench.put(a, 16, 16, 16), bench.put(b, 8, 16, 16));
  bench.device.download(registers, held, WARP * 8 * sizeof(unsigned));
  bench.get(d, to, 16, 8, 8);
}

inline int single_draw(Context& context, const float* logits, int vocabulary, int position, const doge_row& row) {
  Bench bench(context);
  const size_t bits = static_cast<size_t>((vocabulary + 31) / 32);
  std::vector<unsigned> words(2 * bits, 0);
  for (int index = 0; index < row.token_count; index++) words[static_cast<size_t>(row.tokens[index] >> 5)] |= 1u << (row.tokens[index] & 31);
  if (row.allowed != nullptr) std::copy(row.allowed, row.allowed + bits, words.begin() + static_cast<std::ptrdiff_t>(bits));
  RowState state{};
  state.left = 1;
  state.position = position;
  state.alternatives = -1;
  state.top_k = row.top_k;
  state.seed = row.seed;
  state.seen = row.repetition_penalty == 1.0 ? -1 : 0;
  state.allowed = row.allowed == nullptr ? -1 : static_cast<int>(bits);
  state.temperature = row.temperature;
  state.top_p = row.top_p;
  state.min_p = row.min_p;
  state.penalty = row.repetition_penalty;
  std::vector<Control> control(1);
  control[0].failed = NOBODY;
  RowState* const states = bench.array(std::vector<RowState>{state});
  Control* const shared = bench.array(control);
  const int* const zero = bench.array(std::vector<int>{0});
  const DrawPlan plan{states,  bench.array(words), bench.array(std::vector<int>{-1}), nullptr, nullptr, nullptr, bench.put(nullptr, 1, vocabulary, vocabulary),
                      bench.array(std::vector<double>(static_cast<size_t>(vocabulary), NAN)), shared, bench.array(std::vector<Progress>{{1, 0}}), bench.put(logits, 1, vocabulary, vocabulary), vocabulary};
  bench.device.launch(draw_kernel, dim3(1), DRAW_THREADS, plan, zero, zero);
  bench.device.download(&state, states, sizeof state);
  return state.drawn == 0 ? -1 : state.last;
}

}  // namespace doge
