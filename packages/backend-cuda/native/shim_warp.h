// What the lanes of a warp hand to each other: each waits until all have come.
#pragma once
#include "shim_block.h"

namespace shim {

/** All lanes of a warp have arrived; `last` runs once, in the lane that comes last. */
template <class Last>
inline void warp_barrier(Block& b, Last last) {
  in_turn(b);
  b.steps++;
  const int warp = b.current / WARP;
  const unsigned generation = b.warp_generation[warp];
  if (++b.warp_waiting[warp] == WARP) {
    b.warp_waiting[warp] = 0;
    last();
    b.warp_generation[warp]++;
    return;
  }
  uint64_t then = 0;
  for (int tries = 0; b.warp_generation[warp] == generation; tries++) {
    if (tries > 1000000) broken("a warp waits for lanes that are elsewhere: a shuffle inside a branch.");
    // Lanes that have not got on may wait for what other warps have yet to do.
    yield(b, std::exchange(then, b.steps) != b.steps);
  }
}

/** Every lane gives a value; `pick(values, lane)` of all of them comes back to each. */
template <class T, class Pick>
inline auto exchange(T value, Pick pick) {
  static_assert(sizeof(T) <= 128, "a mail slot has 128 bytes");
  Block& b = block();
  const int self = b.current;
  unsigned char(&buffer)[WARP][128] = b.mail[self / WARP][b.turn[self]++ & 1];
  std::memcpy(buffer[self % WARP], &value, sizeof(T));
  warp_barrier(b, [] {});
  return pick(buffer, self % WARP);
}

/** Every lane gives a value; `work` runs once over the 32 and changes them, and each lane takes its own back. */
template <class T, class Work>
inline T together(T value, Work work) {
  static_assert(sizeof(T) <= 128, "a mail slot has 128 bytes");
  Block& b = block();
  const int self = b.current;
  unsigned char(&buffer)[WARP][128] = b.mail[self / WARP][b.turn[self]++ & 1];
  std::memcpy(buffer[self % WARP], &value, sizeof(T));
  warp_barrier(b, [&] {
    T all[WARP];
    for (int lane = 0; lane < WARP; lane++) std::memcpy(&all[lane], buffer[lane], sizeof(T));
    work(all);
    for (int lane = 0; lane < WARP; lane++) std::memcpy(buffer[lane], &all[lane], sizeof(T));
  });
  std::memcpy(&value, buffer[self % WARP], sizeof(T));
  return value;
}

/** Every lane gives a value; all get the one that `reduce` makes of the 32, computed once. */
template <class T, class Reduce>
inline T reduced(T value, Reduce reduce) {
  return together(value, [&](T(&all)[WARP]) {
    // The order of a butterfly of shuffles with 16, 8, 4, 2, 1.
    for (int half = WARP / 2; half > 0; half /= 2)
      for (int lane = 0; lane < half; lane++) all[lane] = reduce(all[lane], all[lane + half]);
    for (int lane = 1; lane < WARP; lane++) all[lane] = all[0];
  });
}

}  // namespace shim
