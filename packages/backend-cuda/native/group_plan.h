// What a call is planned into: its rows, the tokens to evaluate, and the groups in which these go through the layers.
#pragma once
#include "model.h"

namespace doge {

/** One row of a call. */
struct Task {
  Sequence* sequence;
  int before;  // ids of the sequence before the call: those from here on are the row's own
  bool held;
  int count;  // draws
  const doge_row* row;
};

/** A token to evaluate. */
struct Token {
  int id, position, task;
};

/** Tokens that go through the layers together; offsets are into the call's words. */
struct GroupPlan {
  int from;   // the first of its tokens
  int count;
  int span;   // tokens routed together, or 0
  size_t runs, tiles, units, past;
  std::vector<Part> parts;
  std::vector<int> wanted;  // tokens whose logits are wanted
  size_t wanted_tokens, wanted_next, wanted_rows;
  size_t last;  // as Group has it, where some are wanted
};

}  // namespace doge
