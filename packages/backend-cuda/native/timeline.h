// What a sequence is apart from its keys: its ids, where its calls began, how much of it is evaluated (contract S2); and how many
// tokens the sequences of a model hold together. The same bookkeeping as core's timeline.ts, for callers that have no TypeScript.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

namespace doge {

/** Ids evaluated together: under "reference" routing a mixture of experts routes over exactly these. */
struct Span {
  int from, to;
};

class Timeline {
 public:
  explicit Timeline(bool reference_routing) : reference_(reference_routing) {}

  int length() const { return static_cast<int>(ids_.size()); }
  int evaluated() const { return evaluated_; }
  const std::vector<int32_t>& ids() const { return ids_; }
  /** The last id is a stop id: rows without tokens draw nothing. */
  bool held = false;

  /** Add the ids of one call. Nothing is evaluated yet. */
  void append(const int32_t* tokens, int count) {
    if (count == 0) return;
    if (reference_) starts_.push_back(length());
    ids_.insert(ids_.end(), tokens, tokens + count);
    held = false;
  }

  std::vector<Span> pending() const {
    if (evaluated_ == length()) return {};
    if (!reference_) return {{evaluated_, length()}};
    std::vector<Span> spans;
    for (size_t index = 0; index < starts_.size(); index++) {
      const int to = index + 1 < starts_.size() ? starts_[index + 1] : length();
      if (starts_[index] >= evaluated_) spans.push_back({starts_[index], to});
    }
    return spans;
  }

  void evaluated_to(int count) { evaluated_ = count; }

  /** Forget all but the first `length` ids; returns how many keys stay valid. A rewind into a call of "reference" routing drops
   *  the whole call: the ids left were routed together with the others. */
  int rewind(int to) {
    if (to >= length()) return evaluated_;
    const bool clean = !reference_ || to == 0 || std::find(starts_.begin(), starts_.end(), to) != starts_.end();
    ids_.resize(static_cast<size_t>(to));
    held = false;
    while (!starts_.empty() && starts_.back() >= to) starts_.pop_back();
    if (evaluated_ > to) evaluated_ = clean ? to : starts_.back();
    return evaluated_;
  }

  /** Make the last id pending again. Returns how many keys stay valid. */
  int reopen() {
    if (evaluated_ == length() && length() > 0) evaluated_ = reference_ ? starts_.back() : length() - 1;
    return evaluated_;
  }

 private:
  bool reference_;
  std::vector<int32_t> ids_;
  std::vector<int> starts_;
  int evaluated_ = 0;
};

/** A run of tokens that all below it in the tree of forks have in common; it ends where the farthest of them leaves it. */
struct Stretch {
  Stretch* before;
  int from, to;
  std::set<Stretch*> after;
};

/** One sequence's part in the tokens of a model: a leaf of the tree. Pasts that forks share count once. */
class Share {
 public:
  explicit Share(int64_t* used) : used_(used), leaf_(grow(nullptr, 0)) {}
  ~Share() {
    drop(leaf_);
  }
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;

  /** The sequence now has `length` tokens. */
  void set(int length) {
    if (length >= leaf_->from) {
      *used_ += length - leaf_->to;
      leaf_->to = length;
      return;
    }
    Stretch* const old = leaf_;
    Stretch* before = old->before;
    while (before != nullptr && before->from >= length) before = before->before;
    leaf_ = grow(before, length);
    drop(old);
  }

  std::unique_ptr<Share> fork() {
    if (leaf_->to > leaf_->from) leaf_ = grow(leaf_, leaf_->to);
    return std::unique_ptr<Share>(new Share(used_, grow(leaf_->before, leaf_->from)));
  }

 private:
  Share(int64_t* used, Stretch* leaf) : used_(used), leaf_(leaf) {}

  static Stretch* grow(Stretch* before, int from) {
    Stretch* const stretch = new Stretch{before, from, from, {}};
    if (before != nullptr) before->after.insert(stretch);
    return stretch;
  }

  /** Take a stretch out of the tree, and what only it has kept there. */
  void drop(Stretch* stretch) {
    Stretch* const before = stretch->before;
    *used_ -= stretch->to - stretch->from;
    delete stretch;
    if (before == nullptr) return;
    before->after.erase(stretch);
    if (before->after.empty()) return drop(before);
    int end = 0;
    for (const Stretch* each : before->after) end = std::max(end, each->from);
    *used_ -= before->to - end;
    before->to = end;
    if (before->after.size() > 1) return;
    // A stretch with one other behind it is one with it: chains stay short however often a sequence is forked.
    Stretch* const only = *before->after.begin();
    only->from = before->from;
    only->before = before->before;
    if (before->before != nullptr) {
      before->before->after.erase(before);
      before->before->after.insert(only);
    }
    delete before;
  }

  int64_t* used_;
  Stretch* leaf_;
};

}  // namespace doge
