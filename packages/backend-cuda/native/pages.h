// The pages of keys of one model: which are free, how many sequences share each, and a sequence's cache over them, shared with
// its forks until one of them writes.
#pragma once
#include <algorithm>
#include <climits>
#include <vector>
#include "kernels/attention.cuh"

namespace doge {

inline int pages_for(int slots) { return (slots + PAGE - 1) / PAGE; }

class Pages {
 public:
  Pages(Device& device, PageShape shape, Heads heads, int count, int layers)
      : shape(shape), heads(heads), layers(layers), device_(device), holders_(static_cast<size_t>(count), 0) {
    for (int page = count - 1; page >= 0; page--) free_.push_back(page);
    list_ = static_cast<int*>(device.allocate(static_cast<size_t>(count) * sizeof(int)));
  }
  ~Pages() { device_.release(list_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  const PageShape shape;
  const Heads heads;
  const int layers;

  int free() const { return static_cast<int>(free_.size()); }
  /** A page whose content is not to be relied on. The caller has made sure that there is one. */
  int take() {
    const int page = free_.back();
    free_.pop_back();
    holders_[static_cast<size_t>(page)] = 1;
    return page;
  }
  void share(int page) { holders_[static_cast<size_t>(page)]++; }
  bool is_shared(int page) const { return holders_[static_cast<size_t>(page)] > 1; }
  void release(int page) {
    if (--holders_[static_cast<size_t>(page)] == 0) free_.push_back(page);
  }
  /** A page of one's own with what stands in `page`, which is released. */
  int copy(int page) {
    const int own = take();
    device_.copy(address(own), address(page), shape.page_bytes);
    release(page);
    return own;
  }
  /** Nobody in any slot. Without a window there is nothing to clear: slots are read as far as tokens reach. */
  void clear(const std::vector<int>& pages) {
    if (shape.window == 0 || pages.empty()) return;
    write_list(pages);
    device_.launch(clear_kernel, grid(pages), 64, list_, shape, heads);
  }
  void truncate(const std::vector<int>& pages, int length) {
    if (pages.empty()) return;
    write_list(pages);
    device_.launch(truncate_kernel, grid(pages), 64, list_, length, shape, heads);
  }

 private:
  char* address(int page) const { return shape.base + static_cast<size_t>(page) * shape.page_bytes; }
  void write_list(const std::vector<int>& pages) { device_.upload(list_, pages.data(), pages.size() * sizeof(int)); }
  dim3 grid(const std::vector<int>& pages) const { return dim3(static_cast<unsigned>(pages.size()), static_cast<unsigned>(layers)); }

  Device& device_;
  int* list_ = nullptr;
  std::vector<int> free_;
  std::vector<int> holders_;
};

class Cache {
 public:
  explicit Cache(Pages& pages) : pages_(pages) {}
  Cache(const Cache& other)
      : pages_(other.pages_), held_(other.held_), reach_(other.reach_), stale_(other.stale_) {
    for (const int page : held_) pages_.share(page);
  }
  Cache& operator=(const Cache&) = delete;
  ~Cache() { reset(); }

  const std::vector<int>& held() const { return held_; }
  /** Slots that keys may stand in. */
  int reach() const { return reach_; }

  /** Free pages that prepare(from, to) will take. */
  int cost(int from, int to) const {
    const Writes writes = writes_of(from, to);
    int shared = 0;
    for (int index = 0; index < std::min(writes.count, size()); index++)
      shared += index >= writes.first && pages_.is_shared(held_[static_cast<size_t>(index)]) ? 1 : 0;
    return std::max(0, writes.count - size()) + shared;
  }

  /** Make ready to write the keys of tokens [from, to): room for them, on pages of one's own. */
  void prepare(int from, int to) {
    const Writes writes = writes_of(from, to);
    std::vector<int> fresh;
    for (int index = 0; index < writes.count; index++) {
      if (index >= size()) {
        held_.push_back(pages_.take());
        fresh.push_back(held_.back());
      } else if (index >= writes.first && pages_.is_shared(held_[static_cast<size_t>(index)])) {
        held_[static_cast<size_t>(index)] = pages_.copy(held_[static_cast<size_t>(index)]);
      }
    }
    pages_.clear(fresh);
    if (stale_ != INT_MAX) {
      if (window() > 0) {
        pages_.truncate(held_, stale_);
        // While every key stands in the slot of its position, what lies behind is as good as never used.
        if (!moved()) reach_ = std::min(reach_, stale_);
      }
      stale_ = INT_MAX;
    }
  }

  /** Tokens up to this one may have been written. */
  void wrote(int to) { reach_ = std::max(reach_, to); }

  /** Forget the keys of all but the first `length` tokens, and the pages that `hold` tokens do not need. False, changing nothing,
   *  when the window has evicted too long ago what was kept then. */
  bool truncate(int length, int hold) {
    if (moved() && length < reach_ - JOURNAL) return false;
    if (length < reach_) stale_ = std::min(stale_, length);
    if (window() == 0) reach_ = std::min(reach_, length);
    keep(hold);
    return true;
  }

  /** Forget every key. Forks may hold the pages too, so they are given back, not wiped. */
  void reset() {
    for (const int page : held_) pages_.release(page);
    held_.clear();
    reach_ = 0;
    stale_ = INT_MAX;
  }

  /** Give back the pages that `length` tokens do not need. */
  void keep(int length) {
    const int count = pages_for(slots(moved() ? std::max(length, reach_) : length));
    while (size() > count) {
      pages_.release(held_.back());
      held_.pop_back();
    }
  }

 private:
  struct Writes {
    int count;  // pages that the tokens need
    int first;  // from which one on they are written
  };
  int size() const { return static_cast<int>(held_.size()); }
  int window() const { return pages_.shape.window; }
  /** Whether keys have taken slots of evicted ones, so that a slot is no longer a position. */
  bool moved() const { return window() > 0 && reach_ > window() + JOURNAL; }
  int slots(int length) const { return window() == 0 ? length : std::min(length, window() + JOURNAL); }
  Writes writes_of(int from, int to) const {
    // Beyond the window any key may be evicted, or come back.
    const bool all = window() > 0 && std::max(reach_, to) > window();
    return {pages_for(slots(moved() ? std::max(to, reach_) : to)), all ? 0 : from / PAGE};
  }

  Pages& pages_;
  std::vector<int> held_;
  int reach_ = 0;
  int stale_ = INT_MAX;  // keys of tokens from this one on are to be forgotten before the next write
};

}  // namespace doge
