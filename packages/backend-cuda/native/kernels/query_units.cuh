// How the attention of a prompt is spread over a device's processors: tiles of 64 tokens see from one key to thousands, so the keys of
// those that see many are given to several blocks, whose sums the last of them merges.
#pragma once
#include <algorithm>
#include <vector>
#include "common.cuh"

namespace doge {

/** Tokens of a tile: the rows of one product by a warpgroup. */
constexpr int UNIT_QUERIES = 64;
/** Keys at a time. */
constexpr int CHUNK = 64;
/** Most blocks that share a tile, and fewest chunks for which another is worth its share of the merge: a block's sums are as many bytes
 *  as a chunk's keys and values. */
constexpr int MOST_SHARES = 4;
constexpr int LEAST_CHUNKS = 4;

/** Some chunks of what a tile of tokens sees: every `shares`-th from chunk `share` on. The tile is `count` tokens from `first` on, at
 *  positions from `position` on, of the run of this call that begins with token `start`. `meeting`: which of the shared tiles it is,
 *  times MOST_SHARES. `past`: where the first slot of its run's earlier tokens is among those of the call. */
struct alignas(16) QueryUnit {
  int first, count, start, position;
  int share, shares, meeting, past;
};

/** Chunks of keys that so many slots are. */
__host__ __device__ constexpr int chunks_of(int slots) { return (slots + CHUNK - 1) / CHUNK; }

/** The units of some tiles (whose `shares` are not yet said), the longest first, for `places` blocks at once, `columns` blocks a unit. */
inline std::vector<QueryUnit> units_of(const std::vector<QueryUnit>& tiles, int places, int columns) {
  int64_t all = 0;
  for (const QueryUnit& tile : tiles) all += static_cast<int64_t>(columns) * chunks_of(tile.position + tile.count);
  const int64_t fair = std::max<int64_t>(LEAST_CHUNKS, (all + places - 1) / places);
  std::vector<QueryUnit> units;
  int shared = 0;
  for (QueryUnit unit : tiles) {
    const int64_t wanted = (chunks_of(unit.position + unit.count) + fair - 1) / fair;
    unit.shares = static_cast<int>(std::min<int64_t>(MOST_SHARES, wanted));
    unit.meeting = unit.shares > 1 ? MOST_SHARES * shared++ : 0;
    for (unit.share = 0; unit.share < unit.shares; unit.share++) units.push_back(unit);
  }
  const auto chunks = [](const QueryUnit& unit) { return (chunks_of(unit.position + unit.count) - unit.share + unit.shares - 1) / unit.shares; };
  std::stable_sort(units.begin(), units.end(), [&](const QueryUnit& left, const QueryUnit& right) { return chunks(left) > chunks(right); });
  return units;
}
/** Tiles among them that several blocks share. */
inline int shared_of(const std::vector<QueryUnit>& units) {
  int most = 0;
  for (const QueryUnit& unit : units)
    if (unit.shares > 1) most = std::max(most, unit.meeting / MOST_SHARES + 1);
  return most;
}

}  // namespace doge
