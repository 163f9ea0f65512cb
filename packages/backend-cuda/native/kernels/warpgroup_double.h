// The host's double of the instructions of warpgroup.cuh, as unforgiving as a device may be: a product is made when it is waited for,
// from the bytes and registers that stand there then, and what it will be is NaN until that. An operand that changes meanwhile, or that
// its copier has not shown, ends the run.
#pragma once
#include <array>
#include "warpgroup.cuh"

namespace doge {

/** Of the operand at `at`, a multiple of 1024 bytes; `apart`: bytes between its blocks. Addresses count from the block's shared memory. */
inline uint64_t descriptor(const void* at, int apart = 16) {
  const auto offset = static_cast<const unsigned char*>(at) - shim::dynamic_shared();
  if (offset < 0 || static_cast<size_t>(offset) >= shim::MOST_SHARED || offset % 1024 != 0) shim::broken("wgmma: an operand is not at a multiple of 1024 bytes of shared memory.");
  if (apart % 16 != 0 || apart < 0 || apart >= 1 << 18) shim::broken("wgmma: blocks of an operand are not a multiple of 16 bytes apart.");
  return DESCRIPTOR | static_cast<uint64_t>(apart >> 4) << 16 | static_cast<uint64_t>(offset >> 4);
}

/** Where a number of an operand stands in shared memory; `outer`: its row, or its column where it is turned. */
inline size_t operand_address(uint64_t its, int outer, int inner, bool turned) {
  if (its >> 62 != 1) shim::broken("wgmma: only the swizzle of 128 bytes is known here.");
  const auto field = [its](int bit) { return static_cast<size_t>((its >> bit) & 0x3fff) << 4; };
  const size_t rows = turned ? static_cast<size_t>(outer / 64) * field(16) + static_cast<size_t>(inner / 8) * field(32) + static_cast<size_t>(inner % 8 * ROW_BYTES)
                             : static_cast<size_t>(outer / 8) * field(32) + static_cast<size_t>(outer % 8 * ROW_BYTES);
  size_t address = field(0) + rows + static_cast<size_t>(2 * (turned ? outer % 64 : inner));
  address ^= (address >> 3) & 0x70;
  if (address + 2 > shim::MOST_SHARED) shim::broken("wgmma: an operand reaches beyond shared memory.");
  return address;
}
inline unsigned short bits_at(const unsigned char* shared, size_t address) {
  unsigned short bits;
  std::memcpy(&bits, shared + address, 2);
  return bits;
}
/** The block's shared memory, looked for once and not for each number: a thread_local of a library is a call away, and compilers make that
 *  call in every turn of a loop unless they cannot know what they hold. */
inline const unsigned char* shared_memory() {
  const unsigned char* its = shim::dynamic_shared();
  __asm__("" : "+r"(its));
  return its;
}
/** Calls `take(inner, address)` for the numbers of a row of an operand, or of its column where it is turned. */
template <class Take>
inline void operand_row(uint64_t its, int outer, bool turned, Take take) {
  // Eight numbers of a row stand side by side.
  const int together = turned ? 1 : 8;
  for (int inner = 0; inner < STEP; inner += together) {
    const size_t address = operand_address(its, outer, inner, turned);
    for (int each = 0; each < together; each++) take(inner + each, address + 2 * static_cast<size_t>(each));
  }
}
/** A number that follows from all of an operand's, each of which must have been shown to products by the thread that copied it. */
inline unsigned operand_hash(uint64_t its, int outer, bool turned) {
  const shim::Block& block = shim::block();
  const unsigned char* const shared = shared_memory();
  unsigned hash = 2166136261u;
  for (int each = 0; each < outer; each++)
    operand_row(its, each, turned, [&](int, size_t address) {
      if (block.hidden[address / 16]) shim::broken("wgmma: an operand was copied by a thread that has not shown it to products since.");
      hash = (hash ^ bits_at(shared, address)) * 16777619u;
    });
  return hash;
}

/** d (64, N) = left (64, 16) . b, plus what d was if `add`, when it is waited for. left(shared, row, to): what stands there then; now(): a
 *  number that follows from what will be read. */
template <int N, class Left, class Now>
inline void product_of(float* to, bool add, uint64_t b, bool turned, Left left, Now now) {
  shim::Block& block = shim::block();
  const int thread = block.current;
  std::vector<shim::Product>& products = block.products[thread];
  std::vector<float> before;
  if (std::none_of(products.begin(), products.end(), [to](const shim::Product& its) { return its.to == to; })) {
    before.assign(to, to + N / 2);
    std::fill(to, to + N / 2, NAN);
  }
  // One lane of a warp looks for all.
  const bool looks = thread % WARP == 0;
  const unsigned found = looks ? now() : 0;
  const auto make = [=] {
    if (looks && now() != found) shim::broken("wgmma: an operand changed while its product was under way.");
    if (!before.empty()) std::copy(before.begin(), before.end(), to);
    const unsigned char* const shared = shared_memory();
    const int row = thread % 128 / WARP * 16 + thread % WARP / 4;
    double its[2][STEP];
    for (int down = 0; down < 2; down++) left(shared, row + 8 * down, its[down]);
    for (int column = 0; column < N / 4; column++) {
      double right[STEP];
      operand_row(b, column / 2 * 8 + thread % 4 * 2 + column % 2, turned,
                  [&](int inner, size_t address) { right[inner] = static_cast<double>(half_value(bits_at(shared, address))); });
      for (int down = 0; down < 2; down++) {
        float& result = to[column / 2 * 4 + 2 * down + column % 2];
        double sum = add ? static_cast<double>(result) : 0.0;
        for (int inner = 0; inner < STEP; inner++) sum += its[down][inner] * right[inner];
        result = static_cast<float>(sum);
      }
    }
  };
  products.push_back({to, block.products_asked[thread], make});
}

/** d (64, N) += a (64, 16) . b (N, 16), both by descriptors. */
template <int N>
inline void multiply(float (&d)[N / 2], uint64_t a, uint64_t b) {
  product_of<N>(
      d, true, b, false,
      [a](const unsigned char* shared, int row, double (&to)[STEP]) {
        operand_row(a, row, false, [&](int inner, size_t address) { to[inner] = static_cast<double>(half_value(bits_at(shared, address))); });
      },
      [a, b] { return operand_hash(a, 64, false) ^ operand_hash(b, N, false) * 31u; });
}
/** d (64, N) = a (64, 16) . b, plus what d was if `add`: a in registers, which stay as they are until the product is waited for; b (N, 16),
 *  or where it is TURNED (16, N), by its descriptor. */
template <int N, bool TURNED>
inline void multiply_held(float (&d)[N / 2], const unsigned (&a)[4], uint64_t b, bool add) {
  // A row's halves are in its four lanes.
  using Lanes = std::array<const unsigned*, 4>;
  const Lanes lanes = shim::exchange(&a[0], [](unsigned char(&buffer)[WARP][128], int lane) {
    Lanes its;
    for (int t = 0; t < 4; t++) std::memcpy(&its[static_cast<size_t>(t)], buffer[lane / 4 * 4 + t], sizeof its[0]);
    return its;
  });
  product_of<N>(
      d, add, b, TURNED,
      [lanes](const unsigned char*, int row, double (&to)[STEP]) {
        for (int inner = 0; inner < STEP; inner++) {
          const unsigned pair = lanes[static_cast<size_t>(inner % 8 / 2)][inner / 8 * 2 + row / 8 % 2];
          to[inner] = static_cast<double>(half_value(inner % 2 == 0 ? pair & 0xffffu : pair >> 16));
        }
      },
      [b, lanes] { return operand_hash(b, N, TURNED) ^ (lanes[0][0] + 3 * lanes[1][1] + 5 * lanes[2][2] + 7 * lanes[3][3]); });
}

/** Before the first product: what registers and shared memory hold is there. */
inline void multiply_begin() {}
/** What was asked for so far and not yet committed is one group. */
inline void multiply_commit() { shim::block().products_asked[shim::block().current]++; }
/** Until at most PENDING groups are under way; d is the sum of one that is not. */
template <int PENDING = 0, int N>
inline void multiply_wait(float (&)[N]) {
  shim::Block& block = shim::block();
  std::vector<shim::Product>& products = block.products[block.current];
  auto done = products.begin();
  for (; done != products.end() && done->group < block.products_asked[block.current] - PENDING; ++done) done->make();
  products.erase(products.begin(), done);
  // Lanes wait together: none goes on while another's product still reads its registers.
  shim::warp_barrier(block, [] {});
}
/** What the program wrote to registers before is there before what it asks for next. */
template <class T, int N>
inline void settle(T (&)[N]) {}
/** What this thread wrote to shared memory can be read by the products of all, after the next barrier. */
inline void show_products() {
  shim::Block& block = shim::block();
  for (const size_t place : block.copied[block.current]) block.hidden[place] = false;
  block.copied[block.current].clear();
}

}  // namespace doge
