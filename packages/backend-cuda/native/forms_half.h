// What half precision is made of, each beside its definition: the products by warpgroups on small whole numbers, exactly, and the
// attention of a prompt beside the plain kernel's, with how long it takes.
#pragma once
#include "forms.h"

namespace doge {

/** The products there are: columns, whether the left operand is in registers, and whether the right one is turned. */
struct ProductKind {
  int columns;
  bool held, turned;
};
constexpr ProductKind PRODUCTS[] = {{32, false, false}, {64, false, false}, {128, false, false}, {64, true, false}, {64, true, true}, {128, true, true}};
constexpr int PRODUCT_KINDS = 6;

/** 32 bits that follow from a place and a seed, on the host. */
inline uint32_t scattered(size_t at, uint32_t seed) {
  uint64_t x = (static_cast<uint64_t>(at) + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 29) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>(x >> 32);
}

/** d (64, N) = 2 a (64, 64) . b (N, 64), where turned (64, N): all of it once, and again on top, which starts by itself where a is held. */
template <int N, bool HELD, bool TURNED>
__global__ void products_kernel(float* d, const unsigned short* a, const unsigned short* b) {
  await_earlier();
#if DOGE_WARPGROUP
  constexpr int BLOCK = 64 * ROW_BYTES;
  DOGE_SHARED(shared);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % WARP;
  const int row = thread / WARP * 16 + lane / 4;
  for (int each = thread; each < 64 * 8; each += 128) copy_async(shared + operand_at(each / 8, each % 8), a + each * 8, true);
  // Turned, a row is 64 of the N columns of one inner number.
  constexpr int PLACES = TURNED ? N / 8 : 8;
  for (int each = thread; each < N * 8; each += 128) {
    const int place = each % PLACES;
    copy_async(shared + BLOCK + place / 8 * BLOCK + operand_at(each / PLACES, place % 8), b + each * 8, true);
  }
  copy_commit();
  copy_wait<0>();
  show_products();
  __syncthreads();
  unsigned left[4][4];
  for (int step = 0; step < 4; step++)
    for (int part = 0; part < 4; part++)
      left[step][part] = *reinterpret_cast<const unsigned*>(a + (row + part % 2 * 8) * 64 + step * STEP + part / 2 * 8 + lane % 4 * 2);
  float sums[N / 2] = {};
  const uint64_t from = descriptor(shared), right = TURNED ? descriptor(shared + BLOCK, BLOCK) : descriptor(shared + BLOCK);
  settle(sums);
#pragma unroll
  for (int step = 0; step < 4; step++) settle(left[step]);
  multiply_begin();
#pragma unroll
  for (int turn = 0; turn < 2; turn++) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
      const uint64_t its = further(right, step * STEP * (TURNED ? ROW_BYTES : 2));
      if constexpr (HELD)
        multiply_held<N, TURNED>(sums, left[step], its, turn + step > 0);
      else
        multiply<N>(sums, further(from, step * STEP * 2), its);
    }
    multiply_commit();
  }
  multiply_wait<1>(sums);
  multiply_wait(sums);
  for (int column = 0; column < N / 4; column++)
    for (int down = 0; down < 2; down++)
      d[(row + 8 * down) * N + column / 2 * 8 + lane % 4 * 2 + column % 2] = sums[column / 2 * 4 + 2 * down + column % 2];
#endif
}

/** The greatest difference of a product from what it is. */
inline double products_apart(Context& context, int kind) {
  Bench bench(context);
  Device& device = bench.device;
  if (kind < 0 || kind >= PRODUCT_KINDS) throw Fault{"invalid-argument", "There is no product " + std::to_string(kind) + "."};
  if (!device.warpgroups()) throw Fault{"unsupported", "This device has no products by warpgroups."};
  const auto [columns, held, turned] = PRODUCTS[kind];
  const size_t count = static_cast<size_t>(columns);
  std::vector<float> a(64 * 64), b(count * 64), found(64 * count);
  const auto fill = [](std::vector<float>& numbers, unsigned seed) {
    for (size_t at = 0; at < numbers.size(); at++) numbers[at] = static_cast<float>(static_cast<int>(scattered(at, seed) % 17u) - 8);
  };
  fill(a, 1);
  fill(b, 2);
  const auto halves = [&](const std::vector<float>& numbers) {
    unsigned short* const to = bench.empty<unsigned short>(numbers.size());
    device.launch(halve_rows_kernel, dim3(1), FORM_THREADS, to, bench.array(numbers), numbers.size());
    return to;
  };
  const unsigned short* const left = halves(a);
  const unsigned short* const right = halves(b);
  float* const to = bench.put(nullptr, 64, columns, columns);
  const auto launch = [&](auto kernel) { device.launch_with(3 * 64 * ROW_BYTES, kernel, dim3(1), 128, to, left, right); };
  if (kind == 0) launch(products_kernel<32, false, false>);
  if (kind == 1) launch(products_kernel<64, false, false>);
  if (kind == 2) launch(products_kernel<128, false, false>);
  if (kind == 3) launch(products_kernel<64, true, false>);
  if (kind == 4) launch(products_kernel<64, true, true>);
  if (kind == 5) launch(products_kernel<128, true, true>);
  bench.get(found.data(), to, 64, columns, columns);
  double most = 0.0;
  for (size_t row = 0; row < 64; row++)
    for (size_t column = 0; column < count; column++) {
      double sum = 0.0;
      for (size_t inner = 0; inner < 64; inner++) sum += 2.0 * static_cast<double>(a[row * 64 + inner]) * static_cast<double>(turned ? b[inner * count + column] : b[column * 64 + inner]);
      const double gap = std::fabs(static_cast<double>(found[row * count + column]) - sum);
      most = gap <= most ? most : gap == gap ? gap : INFINITY;
    }
  return most;
}

/** A prompt's attention: `tokens` of which the first `before` are of an earlier call, random numbers, as a model's layer has it. How far
 *  it is from the plain kernel at most, as a share of the root mean square, and seconds of it over `together` launches (0: not timed). */
inline void measure_attention(Context& context, int tokens, int before, int heads, int kv_heads, int head_dim, int together, double* apart, double* seconds) {
  Bench bench(context);
  Device& device = bench.device;
  if (!device.warpgroups()) throw Fault{"unsupported", "This device has no products by warpgroups."};
  Heads shape{heads, kv_heads, kv_heads, head_dim, padded(heads * head_dim), 0, 0, padded(kv_heads)};
  shape.value_at = shape.key_at + padded(kv_heads * head_dim);
  shape.qkv_stride = shape.value_at + padded(kv_heads * head_dim);
  const size_t stride = static_cast<size_t>(shape.qkv_stride);
  const int own = tokens - before, width = heads * head_dim, mixed_stride = padded(width);
  // Queries large enough that weights differ and what was best changes; f32 numbers that are halves already.
  std::vector<float> qkv(static_cast<size_t>(tokens) * stride), biases(static_cast<size_t>(tokens) * static_cast<size_t>(shape.delta_stride));
  const auto number = [](size_t at, unsigned seed) {
    return static_cast<float>(static_cast<int>(scattered(at, seed) >> 22) - 512) / 1024.0f;
  };
  for (size_t at = 0; at < qkv.size(); at++) qkv[at] = number(at, 5) * (at % stride < static_cast<size_t>(width) ? 8.0f : 1.0f);
  for (size_t at = 0; at < biases.size(); at++) biases[at] = 4.0f * number(at, 6);
  std::vector<int> positions, pages;
  for (int token = 0; token < tokens; token++) positions.push_back(token);
  for (int its = pages_for(tokens) - 1; its >= 0; its--) pages.push_back(its);
  std::vector<PastSlots> slots;
  for (int slot = 0; slot < before; slot += PAST_SLOTS) slots.push_back({0, slot, std::min(PAST_SLOTS, before - slot), slot});
  std::vector<QueryUnit> tiles;
  for (int done = 0; done < own; done += UNIT_QUERIES) tiles.push_back({done, std::min(UNIT_QUERIES, own - done), 0, before + done, 0, 1, 0, 0});
  const int side = heads_together(shape);
  const std::vector<QueryUnit> units = units_of(tiles, places_for(device.processors(), side), heads / side);

  const PageShape page = bench.pages(pages_for(tokens), shape, true);
  const float* const rows = bench.array(qkv);
  const float* const bias = bench.array(biases);
  const int* const at = bench.array(positions);
  const int* const row_of = bench.array(std::vector<int>(static_cast<size_t>(tokens), 0));
  const RowState* const states = bench.array(std::vector<RowState>(1));
  const int* const list = bench.array(pages);
  device.launch(store_kernel, dim3(static_cast<unsigned>(tokens), static_cast<unsigned>(kv_heads)), STORE_THREADS, rows, bias, nullptr, at, row_of, states, list,
                page, shape);
  const size_t skip = static_cast<size_t>(before);
  float* const expected = bench.put(nullptr, own, width, mixed_stride);
  attention(device, own, 1, expected, mixed_stride, rows + skip * stride, at + skip, row_of, states, list, page, shape, {1, nullptr, nullptr}, nullptr);

  const size_t numbers = static_cast<size_t>(own) * stride;
  unsigned short* const halves = bench.empty<unsigned short>(numbers);
  device.launch(halve_rows_kernel, dim3(FORM_BLOCKS), FORM_THREADS, halves, rows + skip * stride, numbers);
  unsigned short* const found = bench.empty<unsigned short>(static_cast<size_t>(own * mixed_stride));
  device.fill(found, 0xff, static_cast<size_t>(own * mixed_stride) * 2);
  const Past past{bench.empty<unsigned short>(static_cast<size_t>(before * past_stride(shape)) + 8), bench.empty<float>(static_cast<size_t>(before * kv_heads) + 1)};
  const size_t pairs = static_cast<size_t>(shared_of(units) * heads);
  const Meeting meeting{bench.empty<float>(pairs * static_cast<size_t>(MOST_SHARES * part_words(HALF_HEAD)) + 1), bench.array(std::vector<int>(pairs + 1, 0))};
  const PastSlots* const its_past = bench.array(slots.empty() ? std::vector<PastSlots>(1) : slots);
  const QueryUnit* const its_units = bench.array(units);
  const auto once = [&] {
    device.launch(past_kernel, dim3(static_cast<unsigned>(slots.size()), static_cast<unsigned>(kv_heads + 1)), PAST_THREADS, past, its_past, states, list, page, shape);
    attention_half(device, static_cast<int>(units.size()), found, mixed_stride, halves, bias + skip * static_cast<size_t>(shape.delta_stride), past, its_units, shape,
                   meeting);
  };
  once();
  once();  // blocks that share a tile leave their meeting place as they found it
  double* const gaps = bench.empty<double>(2 * FORM_BLOCKS);
  device.launch(compare_kernel, dim3(FORM_BLOCKS), FORM_THREADS, gaps, nullptr, found, 1.0f, mixed_stride, expected, mixed_stride, own, width);
  std::vector<double> all(2 * FORM_BLOCKS);
  device.download(all.data(), gaps, all.size() * sizeof(double));
  double squares = 0.0;
  *apart = 0.0;
  for (int block = 0; block < FORM_BLOCKS; block++) {
    *apart = std::max(*apart, all[static_cast<size_t>(2 * block)]);
    squares += all[static_cast<size_t>(2 * block + 1)];
  }
  *apart /= std::sqrt(squares / (static_cast<double>(own) * width));
  *seconds = together > 0 ? seconds_of(device, together, once) : 0.0;
}

}  // namespace doge
