// A call of the contract, from its rows to settled sequences: what must be evaluated is planned into groups of tokens, sent to
// the device in one piece, and run group by group. What the verbs read of it stands in verbs.h.
#pragma once
#include "arguments.h"
#include "group_plan.h"

namespace doge {

/** Of so many rows the past is more than the weights, at some 500 tokens each. */
constexpr size_t STEPS_APART = 8;

class Call {
 public:
  /** Checks the rows: nothing has changed when it throws. */
  Call(Model& model, const doge_row* rows, int count, bool draws) : model(model), config(model.config) {
    check_rows(model, rows, count, draws);
    int64_t needed = 0;
    for (int index = 0; index < count; index++) {
      const doge_row& row = rows[index];
      Sequence* const sequence = reinterpret_cast<Sequence*>(row.sequence);
      const int left = config.context - sequence->length() - row.token_count;
      if (left < 0) {
        throw Fault{"context-overflow", "row " + std::to_string(index) + ": " + std::to_string(sequence->length()) + " tokens and " +
                                            std::to_string(row.token_count) + " more are too many: the context holds " +
                                            std::to_string(config.context) + "."};
      }
      if (sequence->length() + row.token_count == 0)
        throw Fault{"empty-prompt", "row " + std::to_string(index) + ": neither the sequence nor the row has a token to go on from."};
      const int most = draws ? std::min(row.count, left) : 0;
      needed += row.token_count + most;
      tasks.push_back({sequence, sequence->length(), sequence->timeline.held, most, &row});
    }
    if (needed > model.room()) no_room(needed, model.room());
  }

  Model& model;
  const Config& config;
  std::vector<Task> tasks;
  std::vector<Token> tokens;
  std::vector<GroupPlan> groups;
  std::vector<RowState> states;

  /** Append the rows' tokens and do `work`: it happens whole, or every sequence is as it was. */
  template <class Work>
  void whole(bool scores, bool logits, Work work) {
    bool prepared = false;
    try {
      for (Task& task : tasks) begin(task, scores, logits);
      prepare();
      prepared = true;
      model.control->failed = NOBODY;
      work();
      model.device.finish();
      check_stop();
    } catch (...) {
      for (const Task& task : tasks) {
        if (prepared) task.sequence->cache.wrote(task.sequence->length() + task.count);
        task.sequence->restore(task.before, task.held);
      }
      throw;
    }
    for (const Task& task : tasks) {
      Sequence& sequence = *task.sequence;
      sequence.cache.wrote(sequence.timeline.evaluated());
      sequence.cache.keep(sequence.length());
      sequence.share->set(sequence.length());
    }
  }

  /** Plan all that is pending and send it to the device. `wants(task, position)`: whether the logits after a token are needed. */
  template <class Wants>
  void plan(Wants wants) {
    plan_rows();
    int longest = 0;
    size_t most = 0;
    for (GroupPlan& group : groups) {
      longest = std::max(longest, group.count);
      std::vector<int> next, rows, last(static_cast<size_t>(group.count), -1);
      for (int index = 0; index < group.count; index++) {
        const size_t at = static_cast<size_t>(group.from + index);
        // Tokens that are routed together need each other to the end.
        if (group.span > 0) last[static_cast<size_t>(index)] = tokens[at].position;
        if (!wants(tasks[static_cast<size_t>(tokens[at].task)], tokens[at].position)) continue;
        last[static_cast<size_t>(index)] = tokens[at].position;
        group.wanted.push_back(index);
        next.push_back(at + 1 < tokens.size() ? tokens[at + 1].id : 0);
        rows.push_back(tokens[at].task);
      }
      plan_runs(group, last);
      group.last = put(last);
      most = std::max(most, group.wanted.size());
      group.wanted_tokens = put(group.wanted);
      group.wanted_next = put(next);
      group.wanted_rows = put(rows);
    }
    std::vector<int> list(tokens.size());
    const auto all = [&](int Token::*field) {
      for (size_t index = 0; index < tokens.size(); index++) list[index] = tokens[index].*field;
      return put(list);
    };
    ids_ = all(&Token::id);
    positions_ = all(&Token::position);
    rows_ = all(&Token::task);
    int drawing = 0;
    for (const Task& task : tasks) drawing += task.count > 0 ? 1 : 0;
    blob_[0] = drawing;  // see Model::progress
    plan_states();
    Buffers& buffers = model.buffers;
    buffers.reserve_tokens(config, model.heads, std::max(longest, std::min(TILE, static_cast<int>(tasks.size()))), model.in_halves());
    buffers.reserve_half(model.heads, past_, shared_);
    const size_t logits_rows = std::max(most, static_cast<size_t>(drawing));
    buffers.reserve_logits(config, static_cast<int>(std::min(logits_rows, static_cast<size_t>(HEAD_ROWS))), drawing > 0, model.in_halves());
    buffers.words.reserve(blob_.size());
    buffers.states.reserve(states.size());
    buffers.pages.reserve(pages_.size());
    model.device.upload(buffers.pages, pages_.data(), pages_.size() * sizeof(int));
    model.device.upload(buffers.words, blob_.data(), blob_.size() * sizeof(int));
    model.device.upload(buffers.states, states.data(), states.size() * sizeof(RowState));
  }

  /** Every group through the layers, then `after(group)`; `inside(group, layer)` after each layer's attention. */
  template <class After, class Inside>
  void each_group(After after, Inside inside) {
    for (const GroupPlan& plan : groups) {
      const size_t from = static_cast<size_t>(plan.from);
      const Group group{words(ids_ + from),
                        words(positions_ + from),
                        words(rows_ + from),
                        reinterpret_cast<const Run*>(words(plan.runs)),
                        reinterpret_cast<const QueryTile*>(words(plan.tiles)),
                        reinterpret_cast<const QueryUnit*>(words(plan.units)),
                        reinterpret_cast<const PastSlots*>(words(plan.past)),
                        plan.parts.data(),
                        static_cast<int>(plan.parts.size()),
                        plan.count,
                        plan.span,
                        plan.wanted.empty() ? nullptr : words(plan.last)};
      model.layers(group, model.buffers.states, model.buffers.pages, [&](int layer) { inside(plan, layer); });
      after(plan);
      // The host stays one group ahead at most: an abort is noticed in time.
      model.device.finish();
      check_stop();
    }
    for (const Task& task : tasks) task.sequence->timeline.evaluated_to(task.sequence->length());
  }
  template <class After>
  void each_group(After after) {
    each_group(after, [](const GroupPlan&, int) {});
  }

  /** Whether all that there is to evaluate is the last id of its only row, as of a text that goes on: decoding begins with that. */
  bool goes_on() const { return tasks.size() == 1 && tokens.size() == 1 && tasks[0].count > 0; }

  /** The logits that are wanted of a group, up to HEAD_ROWS at a time: `use(first, rows)`. */
  template <class Use>
  void each_logits(const GroupPlan& plan, Use use) {
    for (size_t first = 0; first < plan.wanted.size(); first += HEAD_ROWS) {
      const int rows = static_cast<int>(std::min(plan.wanted.size() - first, static_cast<size_t>(HEAD_ROWS)));
      model.head(words(plan.wanted_tokens + first), 0, rows);
      use(first, rows);
    }
  }

  int* words(size_t at) const { return model.buffers.words + at; }
  const Token& token_of(const GroupPlan& plan, size_t index) const { return tokens[static_cast<size_t>(plan.from) + index]; }

  /** Throws "aborted" and "numerical" when the device or the host has said so. */
  void check_stop() const {
    const int failed = model.control->failed;
    if (failed != NOBODY) {
      throw Fault{"numerical", "row " + std::to_string(failed) + ": its logits have a NaN or nothing finite, or +Infinity where log-probabilities are asked for: nothing follows from them."};
    }
    if (model.control->abort != 0) throw Fault{"aborted", "The call was aborted; nothing was changed."};
  }

 private:
  [[noreturn]] void no_room(int64_t needed, int64_t left) const {
    throw Fault{"no-room", "The call needs room for " + std::to_string(needed) + " more tokens and " + std::to_string(left) + " of " +
                               std::to_string(config.room) + " are left: close or rewind sequences, or load the model with a larger `room`."};
  }

  /** Append a row's tokens, and see to it that the logits it asks about are computed. */
  static void begin(Task& task, bool scores, bool logits) {
    Sequence& sequence = *task.sequence;
    // The first of the tokens is scored by the logits before it.
    if (scores && task.row->token_count > 0) sequence.reopen();
    sequence.timeline.append(task.row->tokens, task.row->token_count);
    if (sequence.timeline.held) task.count = 0;
    if ((logits || task.count > 0) && sequence.timeline.evaluated() == sequence.length()) sequence.reopen();
  }

  /** Pages for what each row will hold at most. Errors: "no-room", before any is taken. */
  void prepare() {
    int needed = 0;
    for (const Task& task : tasks) needed += task.sequence->cache.cost(task.sequence->timeline.evaluated(), task.sequence->length() + task.count);
    if (needed > model.pages->free()) no_room(static_cast<int64_t>(needed) * PAGE, static_cast<int64_t>(model.pages->free()) * PAGE);
    for (const Task& task : tasks) task.sequence->cache.prepare(task.sequence->timeline.evaluated(), task.sequence->length() + task.count);
  }

  size_t put(const std::vector<int>& numbers) {
    while (blob_.size() % 4 != 0) blob_.push_back(0);  // runs are pairs, units begin at multiples of 16 bytes
    const size_t at = blob_.size();
    blob_.insert(blob_.end(), numbers.begin(), numbers.end());
    return at;
  }

  /** The same for structs of whole words. */
  template <class T>
  size_t put(const std::vector<T>& structs) {
    const int* const words = reinterpret_cast<const int*>(structs.data());
    return put(std::vector<int>(words, words + structs.size() * sizeof(T) / sizeof(int)));
  }

  /** Rows that go on by a few tokens do not share groups with prompts where they are many: a group's attention is by tiles or by rows, and
   *  by tiles each row's whole past would be brought into their form, more than reading the weights twice. */
  void plan_rows() {
    const auto is_prompt = [&](const Task& task) {
      const std::vector<Span> spans = task.sequence->timeline.pending();
      return std::any_of(spans.begin(), spans.end(), [](const Span& span) { return span.to - span.from >= QUERIES_LEAST; });
    };
    std::vector<int> steps, prompts;
    for (size_t index = 0; index < tasks.size(); index++) (is_prompt(tasks[index]) ? prompts : steps).push_back(static_cast<int>(index));
    if (prompts.empty() || steps.size() < STEPS_APART || !model.attends_by_tiles()) {
      for (size_t index = 0; index < tasks.size(); index++) plan_row(static_cast<int>(index));
      return;
    }
    for (const int index : steps) plan_row(index);
    const size_t apart = groups.size();
    for (const int index : prompts) plan_row(index, apart);
  }

  /** `apart`: none of the first so many groups takes its tokens. */
  void plan_row(int index, size_t apart = 0) {
    const Timeline& timeline = tasks[static_cast<size_t>(index)].sequence->timeline;
    const int most = model.by_tiles() ? PROMPT : TILE;
    for (const Span& span : timeline.pending()) {
      const bool together = config.routes_spans() && span.to - span.from > 1;
      for (int position = span.from; position < span.to; position++) {
        tokens.push_back({timeline.ids()[static_cast<size_t>(position)], position, index});
        GroupPlan* const last = groups.size() <= apart ? nullptr : &groups.back();
        const bool fits = last != nullptr &&
                          (together ? position > span.from : last->span == 0 && last->count < most);
        if (fits)
          last->count++;
        else
          groups.push_back({static_cast<int>(tokens.size()) - 1, 1, 0, 0, 0, 0, 0, {}, {}, 0, 0, 0, 0});
        if (together) groups.back().span = span.to - span.from;
      }
    }
  }

  /** Runs are tokens of one row that follow each other; where the window evicts, at most as many as its journal holds, for what is
   *  evicted must stay readable while its run attends. A part has one run of each row at most. `last`: as Group has it. */
  void plan_runs(GroupPlan& group, const std::vector<int>& last) {
    const int window = model.pages->shape.window;
    std::vector<int> runs, tiles;
    HalfPlan half;
    for (int first = 0; first < group.count;) {
      const Token& token = token_of(group, static_cast<size_t>(first));
      int end = first + 1;
      while (end < group.count && token_of(group, static_cast<size_t>(end)).task == token.task) end++;
      const int longest = window > 0 && token.position + end - first > window ? JOURNAL : end - first;
      for (bool again = false; first < end; again = true) {
        const int count = std::min(longest, end - first);
        if (again || group.parts.empty()) group.parts.push_back({first, 0, static_cast<int>(runs.size() / 2), 0, 0, 0});
        group.parts.back().count += count;
        group.parts.back().run_count++;
        runs.push_back(first);
        runs.push_back(count);
        first += count;
      }
    }
    for (Part& part : group.parts) {
      part.tiles = static_cast<int>(tiles.size() / 3);
      int most = 0;
      for (int run = part.runs; run < part.runs + part.run_count; run++) most = std::max(most, runs[static_cast<size_t>(2 * run + 1)]);
      if (most < QUERIES_LEAST || !model.attends_by_tiles()) continue;
      for (int run = part.runs; run < part.runs + part.run_count; run++)
        for (int done = 0; done < runs[static_cast<size_t>(2 * run + 1)]; done += QUERIES) {
          tiles.push_back(runs[static_cast<size_t>(2 * run)] + done);
          tiles.push_back(std::min(QUERIES, runs[static_cast<size_t>(2 * run + 1)] - done));
          tiles.push_back(runs[static_cast<size_t>(2 * run)]);
          part.tile_count++;
        }
      if (model.in_halves()) plan_half(group, part, tiles, last, half);
      // Whole tiles, so that sums keep their order.
      part.last_tiles = static_cast<int>(tiles.size() / 3);
      const size_t own_tiles = tiles.size();
      for (size_t at = 3 * static_cast<size_t>(part.tiles); at < own_tiles; at += 3) {
        if (!any_of(last, tiles[at], tiles[at + 1])) continue;
        for (size_t word = at; word < at + 3; word++) tiles.push_back(tiles[word]);
        part.last_tile_count++;
      }
    }
    group.runs = put(runs);
    group.tiles = put(tiles);
    group.units = put(half.units);
    group.past = put(half.past);
  }

  /** Whether any of `count` tokens from `first` on goes on in the last layer. */
  static bool any_of(const std::vector<int>& last, int first, int count) {
    return std::any_of(last.begin() + first, last.begin() + first + count, [](int position) { return position >= 0; });
  }

  /** The attention of a group's parts in half precision. */
  struct HalfPlan {
    std::vector<QueryUnit> units;
    std::vector<PastSlots> past;
  };
  /** How a part's tiles are spread over the device, and what they see of earlier calls. */
  void plan_half(const GroupPlan& group, Part& part, const std::vector<int>& tiles, const std::vector<int>& last, HalfPlan& half) {
    static_assert(QUERIES == UNIT_QUERIES, "the tiles of both attentions are the same");
    part.units = static_cast<int>(half.units.size());
    part.past = static_cast<int>(half.past.size());
    std::vector<QueryUnit> own;
    int start = -1, slots = 0, its_past = 0;
    for (size_t at = 3 * static_cast<size_t>(part.tiles); at < tiles.size(); at += 3) {
      const auto token = [&](size_t which) -> const Token& { return token_of(group, static_cast<size_t>(tiles[at + which])); };
      if (tiles[at + 2] != start) {
        start = tiles[at + 2];
        its_past = slots;
        for (int slot = 0; slot < token(2).position; slot += PAST_SLOTS)
          half.past.push_back({token(2).task, slot, std::min(PAST_SLOTS, token(2).position - slot), its_past + slot});
        slots += token(2).position;
      }
      own.push_back({tiles[at], tiles[at + 1], start, token(0).position, 0, 1, 0, its_past});
    }
    const int together = heads_together(model.heads);
    own = units_of(own, places_for(model.device.processors(), together), model.heads.heads / together);
    half.units.insert(half.units.end(), own.begin(), own.end());
    part.unit_count = static_cast<int>(own.size());
    part.last_units = static_cast<int>(half.units.size());
    for (const QueryUnit& unit : own)
      if (any_of(last, unit.first, unit.count)) half.units.push_back(unit);
    part.last_unit_count = static_cast<int>(half.units.size()) - part.last_units;
    part.past_count = static_cast<int>(half.past.size()) - part.past;
    past_ = std::max(past_, slots);
    shared_ = std::max(shared_, shared_of(own));
  }

  void plan_states() {
    int out = 0;
    int top_out = 0;
    const size_t bits = static_cast<size_t>((config.vocabulary + 31) / 32);
    for (const Task& task : tasks) {
      const doge_row& row = *task.row;
      RowState state{};
      state.left = task.count;
      state.position = task.sequence->length();
      state.reach = task.sequence->cache.reach();
      state.first_page = static_cast<int>(pages_.size());
      pages_.insert(pages_.end(), task.sequence->cache.held().begin(), task.sequence->cache.held().end());
      state.allowed = state.seen = -1;
      if (task.count > 0) {
        state.last = task.sequence->timeline.ids().back();
        state.alternatives = row.alternatives;
        state.top_k = row.top_k;
        state.seed = row.seed;
        state.temperature = row.temperature;
        state.top_p = row.top_p;
        state.min_p = row.min_p;
        state.penalty = row.repetition_penalty;
        state.out = out;
        state.top_out = top_out;
        state.stop_count = row.stop_count;
        state.stops = static_cast<int>(put(std::vector<int>(row.stops, row.stops + row.stop_count)));
        if (row.allowed != nullptr) {
          const int* const from = reinterpret_cast<const int*>(row.allowed);
          state.allowed = static_cast<int>(put(std::vector<int>(from, from + bits)));
        }
        if (row.repetition_penalty != 1.0) {
          std::vector<int> seen(bits, 0);
          for (const int32_t id : task.sequence->timeline.ids()) seen[static_cast<size_t>(id >> 5)] |= static_cast<int>(1u << (id & 31));
          state.seen = static_cast<int>(put(seen));
        }
        out += task.count;
        top_out += task.count * std::max(0, row.alternatives);
      }
      states.push_back(state);
    }
  }

  /** The call's words: its Progress, then what put() was given. */
  std::vector<int> blob_{0, 0};
  std::vector<int> pages_;
  // Of a launch, at most: slots of earlier calls in half precision, and tiles that several blocks share.
  int past_ = 0, shared_ = 0;
  size_t ids_ = 0, positions_ = 0, rows_ = 0;
};

}  // namespace doge
