// A model on the device: its weights, tables, pages and buffers, and the forward pass in the order of docs/model.md.
#pragma once
#include <atomic>
#include <cstdlib>
#include <memory>
#include "angles.h"
#include "decoder.h"
#include "halves.h"
#include "kernels/attention_half.cuh"
#include "kernels/attention_rows.cuh"
#include "kernels/attention_tiles.cuh"
#include "kernels/draw.cuh"
#include "kernels/experts.cuh"
#include "kernels/matmul_tiles.cuh"
#include "kernels/rmsnorm.cuh"
#include "kernels/rope.cuh"
#include "sequence.h"

namespace doge {

constexpr int SWIGLU_THREADS = 128;
/** Pages beyond the room asked for: sequences fill their last page in part. */
constexpr int SLACK_PAGES = 32;

/** Tokens of a group that are kept and attended to together: `count` from `first` on, some of the group's runs, and the tiles of
 *  queries they make, or none. */
struct Part {
  int first, count;
  int runs, run_count;
  int tiles, tile_count;
  /** The same in half precision, and the slots of earlier calls that they see. */
  int units = 0, unit_count = 0, past = 0, past_count = 0;
  /** Those of the tiles and units that the last layer needs, as lists of their own. */
  int last_tiles = 0, last_tile_count = 0, last_units = 0, last_unit_count = 0;
};

/** The tokens of a group: where each stands and whose it is; arrays on the device, and parts on the host. */
struct Group {
  const int* ids;
  const int* positions;
  const int* rows;
  const Run* runs;
  const QueryTile* tiles;
  const QueryUnit* units;
  const PastSlots* past;
  const Part* parts;
  int part_count;
  int count;
  /** Tokens routed together, all of this group, or 0. */
  int span;
  /** As `positions` for what follows the keys and values of the last layer: -1 where nobody wants a token's logits; null: nowhere. */
  const int* last;
};

class Model {
 public:
  Model(Context& context, const Config& config) : device(context), config(config), weights(device, config), buffers(device) {
    heads.heads = config.heads;
    heads.kv_heads = config.kv_heads;
    heads.bias_heads = config.bias_heads;
    heads.head_dim = config.head_dim;
    heads.key_at = padded(config.queries());
    heads.value_at = heads.key_at + padded(config.keys());
    heads.qkv_stride = heads.value_at + padded(config.keys());
    heads.delta_stride = padded(config.bias_heads);

    // A window as long as the context never drops anything.
    PageShape shape = page_shape(heads, config.layers, config.window >= config.context ? 0 : config.window, keeps_halves(config.dtype));
    const int64_t count = (config.room + PAGE - 1) / PAGE + SLACK_PAGES;
    try {
      memory_ = static_cast<char*>(device.allocate(static_cast<size_t>(count) * shape.page_bytes));
      shape.base = memory_;
      // Pages are read whole and masked after that: compute-sanitizer's initcheck would take it for a fault. NaN, as it is no number of theirs.
      if (std::getenv("DOGE_FILL") != nullptr) device.fill(memory_, 0xff, static_cast<size_t>(count) * shape.page_bytes);
      control = static_cast<Control*>(device.allocate_mapped(sizeof(Control)));
      control->abort = 0;
      pages = std::make_unique<Pages>(device, shape, heads, static_cast<int>(count), config.layers);
      // Two blocks or more share a token's slices only while all of them are no more than there are processors.
      const size_t most = static_cast<size_t>(device.processors());
      slices_ = static_cast<float*>(device.allocate(most / 2 * MOST_SLICES * static_cast<size_t>(config.head_dim + 2) * 4));
      come_ = static_cast<int*>(device.allocate(most * 4));
      device.fill(come_, 0, most * 4);
      if (takes_halves()) halves_ = std::make_unique<Halves>(device, weights);
      write_angles();
      if (decodes(config, shape.window)) decoder = std::make_unique<Decoder>(device, weights, heads, cosine_, sine_);
      if (decoder != nullptr && !decoder->ready()) decoder.reset();
    } catch (...) {
      release();
      throw;
    }
  }
  ~Model() {
    sequences.clear();
    decoder.reset();
    pages.reset();
    release();
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  Device device;
  const Config config;
  Weights weights;
  Buffers buffers;
  Heads heads{};
  std::unique_ptr<Pages> pages;
  /** Takes the steps of one row; null where the model is none of its kind. */
  std::unique_ptr<Decoder> decoder;
  Control* control = nullptr;
  int64_t used = 0;
  bool ready = false;
  std::map<Sequence*, std::unique_ptr<Sequence>> sequences;
  int64_t room() const { return config.room - used; }
  /** Whether tensor cores take the matrices, and the attention, of many tokens. Not where a window drops keys: which it drops hangs on
   *  biases that may be a bit apart, so prompts and steps there go through the same sums. */
  bool by_tiles() const { return device.tensor_cores() && config.dtype != Type::F32 && pages->shape.window == 0; }
  bool attends_by_tiles() const { return by_tiles() && doge::attends_by_tiles(device, config.dtype, config.head_dim); }

  /** Whether the products of many tokens are in half precision. */
  bool in_halves() const { return halves_ != nullptr; }
  /** After the last of the weights. */
  void prepare() {
    if (halves_ != nullptr) halves_->convert();
  }

  /** Of the call that runs: the first of its words, so that they come with the others. */
  Progress* progress() const { return reinterpret_cast<Progress*>(buffers.words.get()); }

  /** The graph of some decoding steps of that many rows; a new one where arrays have moved since. */
  Graph& graph(int rows, int steps) {
    if (graphs_of_ != buffers.grown || graphs_.size() >= MOST_GRAPHS) graphs_.clear();
    graphs_of_ = buffers.grown;
    return graphs_[{rows, steps}];
  }

  /** All layers over the tokens of a group: `stream` and `update` then hold what the final norm takes. `inside` is called after
   *  each layer's attention, while `qkv` and `delta` hold its values and biases. */
  template <class Inside>
  void layers(const Group& group, const RowState* states, const int* call_pages, Inside inside) {
    const int stride = padded(config.hidden);
    const dim3 tokens(static_cast<unsigned>(group.count));
    const int* wanted = group.positions;
    const bool halves = in_halves() && group.count >= TILES_LEAST;
    device.launch(embed_kernel, tokens, 128, buffers.stream.get(), stride, weights.embedding, group.ids, wanted);
    const float* gate = nullptr;
    for (int number = 0; number < config.layers; number++) {
      const Layer& layer = weights.layers[static_cast<size_t>(number)];
      // Layer 0 takes values from f32 (project).
      norm(halves && number > 0 ? nullptr : buffers.normed.get(), halves ? buffers.normed_half.get() : nullptr, gate, layer.input_norm, group.count, wanted);
      if (halves)
        project_half(halves_->layers[static_cast<size_t>(number)].qkv, layer.qkv, number, group);
      else
        project(layer.qkv, number, group);
      PageShape shape = pages->shape;
      shape.layer_at = shape.layer_bytes * static_cast<size_t>(number);
      const RopeWeights rope{layer.query_norm, layer.key_norm, layer.A, cosine_, sine_, layer.delta, config.epsilon};
      // Attention by tiles reads halves alone, and the one by rows none. Where there are halves nothing is dropped: a group is one part.
      const bool tiled = halves && group.parts[0].tile_count > 0;
      doge::rope(device, buffers.qkv, buffers.delta, tiled ? buffers.qkv_half.get() : nullptr, rope, wanted, group.rows, states, call_pages, shape, heads,
                 group.count);
      // Of the last layer all keep keys and values, and go on where their logits are wanted.
      const bool last = number + 1 == config.layers;
      if (last) wanted = group.last;
      attend(group, last, shape, states, call_pages, halves);
      inside(number);
      if (wanted == nullptr) return;
      if (halves) {
        finish_half(number, layer, group.count, wanted);
        continue;
      }
      multiply(buffers.update, stride, buffers.mixed, padded(config.queries()), layer.output, group.count, wanted);
      norm(buffers.normed, nullptr, layer.input_gate, layer.post_norm, group.count, wanted);
      feed_forward(layer, group, wanted);
      gate = layer.post_gate;
    }
  }

  /** Logits of `rows` tokens, `from` of them being the tokens of the group; null: those from `first` on. */
  void head(const int* from, int first, int rows) {
    const int stride = padded(config.hidden);
    const size_t skip = static_cast<size_t>(first) * static_cast<size_t>(stride);
    const bool halves = in_halves() && rows >= TILES_LEAST;
    rmsnorm(device, buffers.head_normed, halves ? buffers.head_half.get() : nullptr, buffers.stream + skip, weights.layers.back().post_gate, buffers.update + skip,
            weights.norm, rows, config.hidden, stride, config.epsilon, from, nullptr);
    if (halves)
      matmul_half(device, buffers.logits, config.vocabulary, buffers.head_half, stride, halves_->head, rows, nullptr);
    else
      multiply(buffers.logits, config.vocabulary, buffers.head_normed, stride, weights.head, rows);
  }

 private:
  /** Half precision is for dense bf16 models: where a router chooses experts, 11 bits of each number would choose others more often than
   *  the 16 that the other kernels keep. DOGE_HALVES=0 takes those everywhere, to compare. */
  bool takes_halves() const {
    const char* const wish = std::getenv("DOGE_HALVES");
    return (wish == nullptr || std::strcmp(wish, "0") != 0) && by_tiles() && device.warpgroups() && config.dtype == Type::BF16 && config.experts == 0 &&
           attends_in_half(config.head_dim);
  }

  void norm(float* out, unsigned short* halves, const float* gate, const float* weight, int count, const int* positions) {
    rmsnorm(device, out, halves, buffers.stream, gate, buffers.update, weight, count, config.hidden, padded(config.hidden), config.epsilon, nullptr, positions);
  }

  /** Whether tensor cores take a matrix for so many rows. */
  bool tiles(const Matrix& weight, int rows) const { return by_tiles() && doge::by_tiles(device, weight, rows); }
  void multiply(float* out, int out_stride, const float* x, int x_stride, const Matrix& weight, int rows, const int* positions = nullptr) {
    if (tiles(weight, rows))
      matmul(device, out, out_stride, x, x_stride, weight, rows, positions);
    else
      matmul_rows(device, out, out_stride, x, x_stride, weight, rows, positions);
  }

  /** Queries, keys and values. Equal tokens get bit-equal values in layer 0, whatever the call's length (docs/contract.md, S4): the
   *  tensor cores, which sum in an order of their own, leave them out there. */
  void project(const Matrix& qkv, int number, const Group& group) {
    const bool apart = number == 0 && tiles(qkv, group.count);
    multiply(buffers.qkv, heads.qkv_stride, buffers.normed, padded(config.hidden), apart ? outputs(qkv, 0, heads.value_at) : qkv, group.count, group.positions);
    if (apart) project_values(qkv, group);
  }
  void project_values(const Matrix& qkv, const Group& group) {
    matmul_rows(device, buffers.qkv + heads.value_at, heads.qkv_stride, buffers.normed, padded(config.hidden),
                outputs(qkv, heads.value_at, qkv.outer - heads.value_at), group.count, group.positions);
  }
  /** The same in half precision. */
  void project_half(const HalfMatrix& half, const Matrix& qkv, int number, const Group& group) {
    matmul_half(device, buffers.qkv, heads.qkv_stride, buffers.normed_half, padded(config.hidden), number == 0 ? outputs(half, 0, heads.value_at) : half,
                group.count, group.positions);
    if (number == 0) project_values(qkv, group);
  }

  /** What follows a layer's attention, in half precision. The matmuls update the stream themselves but for the last, whose update
   *  head() adds. */
  void finish_half(int number, const Layer& layer, int count, const int* wanted) {
    const HalfLayer& half = halves_->layers[static_cast<size_t>(number)];
    const int stride = padded(config.hidden);
    const int inner = padded(config.intermediate);
    matmul_half(device, buffers.stream, stride, buffers.mixed_half, padded(config.queries()), half.output, count, wanted, 1.0f, layer.input_gate);
    norm(nullptr, buffers.normed_half, nullptr, layer.post_norm, count, wanted);
    matmul_half_gated(device, buffers.gated_half, inner, buffers.normed_half, stride, half.gate_up, count, wanted);
    const bool last = number + 1 == config.layers;
    matmul_half(device, last ? buffers.update : buffers.stream, stride, buffers.gated_half, inner, half.down, count, wanted,
                1.0f / SWIGLU_SCALE, last ? nullptr : layer.post_gate);
  }

  void attend(const Group& group, bool last, const PageShape& shape, const RowState* states, const int* call_pages, bool halves) {
    for (int index = 0; index < group.part_count; index++) {
      const Part& part = group.parts[index];
      const size_t first = static_cast<size_t>(part.first);
      const dim3 grid(static_cast<unsigned>(part.count), static_cast<unsigned>(config.kv_heads));
      const int* const positions = group.positions + first;
      const int* const rows = group.rows + first;
      const float* const qkv = buffers.qkv + first * static_cast<size_t>(heads.qkv_stride);
      const int mixed_stride = padded(config.queries());
      if (shape.window > 0) {
        device.launch(keep_kernel, dim3(static_cast<unsigned>(part.run_count), grid.y), KEEP_THREADS, buffers.slots.get(), buffers.delta.get(),
                      group.runs + part.runs, group.positions, group.rows, states, call_pages, shape, heads);
        device.launch(store_kernel, grid, STORE_THREADS, qkv, buffers.delta + first * static_cast<size_t>(heads.delta_stride),
                      buffers.slots + first * static_cast<size_t>(config.kv_heads), positions, rows, states, call_pages, shape, heads);
      }
      if (last && group.last == nullptr) continue;
      const int* const asking = last ? group.last + first : positions;
      const QueryTile* const tiles = group.tiles + (last ? part.last_tiles : part.tiles);
      const int tile_count = last ? part.last_tile_count : part.tile_count;
      float* const mixed = buffers.mixed + first * static_cast<size_t>(mixed_stride);
      unsigned short* const mixed_half = halves ? buffers.mixed_half + first * static_cast<size_t>(mixed_stride) : nullptr;
      if (part.tile_count > 0 && halves)
        attend_half(group, part, last, shape, states, call_pages);
      else if (part.tile_count > 0)
        attention_tiles(device, tile_count, buffers.mixed, mixed_stride, buffers.qkv, tiles, group.positions, group.rows, states, call_pages, shape, heads);
      else if (shape.window == 0 && attends_by_rows(heads) && attention_blocks(part.count) == 1)
        attention_rows(device, part.count, mixed, mixed_half, mixed_stride, qkv, asking, rows, states, call_pages, shape, heads);
      else
        attention(device, part.count, attention_blocks(part.count), mixed, mixed_stride, qkv, asking, rows, states, call_pages, shape, heads,
                  {slices(part.count), slices_, come_}, mixed_half);
    }
  }

  void attend_half(const Group& group, const Part& part, bool last, const PageShape& shape, const RowState* states, const int* call_pages) {
    const Past past{buffers.past_half, buffers.past_biases};
    device.launch(past_kernel, dim3(static_cast<unsigned>(part.past_count), static_cast<unsigned>(config.kv_heads + 1)), PAST_THREADS, past,
                  group.past + part.past, states, call_pages, shape, heads);
    attention_half(device, last ? part.last_unit_count : part.unit_count, buffers.mixed_half, padded(config.queries()), buffers.qkv_half, buffers.delta, past,
                   group.units + (last ? part.last_units : part.units), heads, {buffers.meeting, buffers.met});
  }

  /** Slots that a token could see: a captured step is launched again. */
  int most_slots() const { return pages->shape.window > 0 ? pages->shape.window + JOURNAL : config.context; }
  /** Blocks that share the attention of each of so many tokens. */
  int attention_blocks(int tokens) const { return slices_of(device.processors(), tokens, config.heads, most_slots()); }
  /** And its slices. Under a window as many for a prompt as for a step, whose sums are then the same to the bit: by a bit another key might
   *  be dropped in the next layer. */
  int slices(int tokens) const { return pages->shape.window > 0 ? most_slices_of(most_slots()) : attention_blocks(tokens); }

  void feed_forward(const Layer& layer, const Group& group, const int* wanted) {
    const int stride = padded(config.hidden);
    const int inner = padded(config.intermediate);
    const unsigned tokens = static_cast<unsigned>(group.count);
    if (!tiles(layer.gate_up, group.count)) {
      matmul_rows<true>(device, buffers.gate_up, 2 * inner, buffers.normed, stride, layer.gate_up, group.count, wanted, config.intermediate);
    } else {
      multiply(buffers.gate_up, 2 * inner, buffers.normed, stride, layer.gate_up, group.count, wanted);
      device.launch(swiglu_kernel, dim3(tokens, static_cast<unsigned>((config.intermediate + SWIGLU_THREADS - 1) / SWIGLU_THREADS)), SWIGLU_THREADS,
                    buffers.gate_up.get(), 2 * inner, config.intermediate, inner);
    }
    multiply(buffers.update, stride, buffers.gate_up, 2 * inner, layer.down, group.count, wanted);
    if (config.experts == 0) return;
    const ExpertShape shape{config.side, config.per_token, config.normalize ? 1 : 0, config.sorted ? 1 : 0, padded(2 * config.side), config.hidden, stride};
    const int step = group.span > 0 ? 1 : 2;
    const int split = group.span > 0 ? group.span : 1;
    multiply(buffers.router, shape.router_stride, buffers.normed, stride, layer.router, group.count, wanted);
    device.launch(choose_kernel, dim3(tokens), CHOOSE_THREADS, buffers.expert_ids.get(), buffers.expert_weights.get(), buffers.router.get(), wanted, step,
                  split, shape);
    const unsigned warps = EXPERT_THREADS / WARP;
    device.launch(experts_down_kernel, dim3(tokens, (static_cast<unsigned>(config.per_token) + warps - 1) / warps), EXPERT_THREADS,
                  buffers.expert_weights.get(), buffers.expert_ids.get(), buffers.normed.get(), wanted, layer.experts_down, shape);
    device.launch(experts_up_kernel, dim3(tokens, static_cast<unsigned>((config.hidden + EXPERT_THREADS - 1) / EXPERT_THREADS)), EXPERT_THREADS,
                  buffers.update.get(), buffers.expert_weights.get(), buffers.expert_ids.get(), wanted, layer.experts_up, shape);
  }

  void write_angles() {
    const size_t half = static_cast<size_t>(config.head_dim / 2);
    const size_t count = static_cast<size_t>(config.context) * half;
    std::vector<float> cosine(count), sine(count);
    for (int position = 0; position < config.context; position++)
      angles(config, position, &cosine[static_cast<size_t>(position) * half], &sine[static_cast<size_t>(position) * half]);
    cosine_ = static_cast<float*>(device.allocate(count * 4));
    sine_ = static_cast<float*>(device.allocate(count * 4));
    device.upload(cosine_, cosine.data(), count * 4);
    device.upload(sine_, sine.data(), count * 4);
  }

  void release() {
    device.release(memory_);
    device.release(cosine_);
    device.release(sine_);
    device.release(slices_);
    device.release(come_);
    device.release_mapped(control);
  }

  std::unique_ptr<Halves> halves_;
  static constexpr size_t MOST_GRAPHS = 32;
  std::map<std::pair<int, int>, Graph> graphs_;
  int graphs_of_ = 0;
  char* memory_ = nullptr;
  float* cosine_ = nullptr;
  float* sine_ = nullptr;
  float* slices_ = nullptr;
  int* come_ = nullptr;
};

}  // namespace doge
