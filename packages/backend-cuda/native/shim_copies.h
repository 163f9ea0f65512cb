// Copies to shared memory that are made as late as a device may make them, and the cache of a block's processor: what a thread finds too
// early is NaN, or old.
#pragma once
#include "shim_block.h"

namespace shim {

/** Which place of 16 bytes of the block's shared memory an address is in; beyond all of them: none. */
inline size_t place_of(const void* at) {
  return (reinterpret_cast<uintptr_t>(at) - reinterpret_cast<uintptr_t>(dynamic_shared())) / 16;
}
/** A copy of 16 or 4 bytes that is under way: made when it is waited for, as late as a device may. Until then NaN stands there. */
inline void copy_async(void* to, const void* from, bool valid, size_t bytes = 16) {
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0 || reinterpret_cast<uintptr_t>(from) % bytes != 0)
    broken("cp.async: an address is not a multiple of the bytes copied.");
  Block& b = block();
  in_turn(b);
  std::memset(to, 0xff, bytes);
  if (const size_t place = place_of(to); place < MOST_SHARED / 16) b.hidden[place] = true;
  b.copies[b.current].push_back({to, valid ? from : nullptr, b.committed[b.current], bytes});
}
inline void copy_commit() { block().committed[block().current]++; }
inline void copy_wait(int pending) {
  Block& b = block();
  std::vector<Copy>& copies = b.copies[b.current];
  size_t done = 0;
  for (; done < copies.size() && copies[done].group < b.committed[b.current] - pending; done++) {
    if (copies[done].from == nullptr)
      std::memset(copies[done].to, 0, copies[done].bytes);
    else
      std::memcpy(copies[done].to, copies[done].from, copies[done].bytes);
    if (const size_t place = place_of(copies[done].to); place < MOST_SHARED / 16) b.copied[b.current].push_back(place);
  }
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(done));
}

/** The thread reads what came for a barrier, or starts it: copies for it may follow once the thread has fenced. */
inline void bulk_touch(const void* barrier) {
  block().steps++;
  block().touched[block().current].push_back(barrier);
}
inline void bulk_fence() { block().touched[block().current].clear(); }
/** A bulk copy that is under way: made when its barrier is waited for. */
inline void bulk_copy(void* to, const void* from, size_t bytes, const void* barrier) {
  for (const std::vector<const void*>& touched : block().touched)
    for (const void* each : touched)
      if (each == barrier) broken("a bulk copy goes where a thread has read, or for a barrier it has started, that has not fenced since.");
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0 || bytes == 0)
    broken("cp.async.bulk: addresses and bytes are multiples of 16.");
  in_turn(block());
  block().steps++;
  std::memset(to, 0xff, bytes);
  block().bulks.push_back({to, from, bytes, barrier});
}
/** The bytes that have come for a barrier. */
inline size_t bulk_arrive(const void* barrier) {
  std::vector<Bulk>& bulks = block().bulks;
  size_t bytes = 0, kept = 0;
  for (const Bulk& bulk : bulks) {
    if (bulk.barrier != barrier) {
      bulks[kept++] = bulk;
      continue;
    }
    std::memcpy(bulk.to, bulk.from, bulk.bytes);
    bytes += bulk.bytes;
  }
  bulks.resize(kept);
  return bytes;
}

/** What stands at `from` through the processor's cache, and what gets beyond the thread's at its next fence. */
template <class T>
inline T read_early(const T* from) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(from), start = at / sizeof(Line) * sizeof(Line);
  const auto [found, fresh] = block().lines.try_emplace(start);
  if (fresh) std::memcpy(&found->second, reinterpret_cast<const void*>(start), sizeof(Line));
  T its;
  std::memcpy(&its, found->second.bytes + (at - start), sizeof its);
  return its;
}
template <class T>
inline void write_late(T* to, T value) {
  static_assert(sizeof value <= sizeof(Late::bytes), "it is kept as bytes");
  Late late{to, sizeof value, {}};
  std::memcpy(late.bytes, &value, sizeof value);
  block().written[block().current].push_back(late);
}

}  // namespace shim
