// A sequence: its timeline, the pages that hold its keys and values, and its share of the room.
#pragma once
#include <memory>
#include "pages.h"
#include "timeline.h"

namespace doge {

class Model;

class Sequence {
 public:
  Sequence(Model& model, Pages& pages, bool reference_routing, int64_t* used)
      : model(model), timeline(reference_routing), cache(pages), share(new Share(used)) {}
  Sequence(Sequence& past) : model(past.model), timeline(past.timeline), cache(past.cache), share(past.share->fork()) {}

  Model& model;
  Timeline timeline;
  Cache cache;
  std::unique_ptr<Share> share;

  int length() const { return timeline.length(); }
  void rewind(int length) {
    if (length >= timeline.length()) return;
    truncate(timeline.rewind(length));
    share->set(length);
  }
  /** Make the last id pending again, so that what follows it can be computed anew. */
  void reopen() { truncate(timeline.reopen()); }
  /** After a call that failed: the sequence as it was. Keys that the call wrote are not to be relied on. */
  void restore(int length, bool held) {
    timeline.rewind(length);
    timeline.held = held;
    truncate(timeline.evaluated());
    share->set(length);
  }

 private:
  void truncate(int valid) {
    if (cache.truncate(valid, timeline.length())) return;
    cache.reset();
    timeline.evaluated_to(0);
  }
};

}  // namespace doge
