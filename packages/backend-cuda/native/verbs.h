// The four verbs of the contract, each as what it reads of a call.
#pragma once
#include "call.h"

namespace doge {

/** Decoding steps that are submitted together: on a GPU one launch of a captured graph. */
constexpr int STEPS = 8;
/** The same where one launch makes them all: short enough for an abort, and for a device that draws a screen too. */
constexpr int STEPS_AT_ONCE = 64;

/** logits (rows, vocabulary): those after each row's last token. */
inline void forward(Model& model, const doge_row* rows, int count, float* logits) {
  Call call(model, rows, count, false);
  const size_t vocabulary = static_cast<size_t>(model.config.vocabulary);
  call.whole(false, true, [&] {
    call.plan([](const Task& task, int position) { return position + 1 == task.sequence->length(); });
    call.each_group([&](const GroupPlan& group) {
      call.each_logits(group, [&](size_t first, int found) {
        const auto task_of = [&](int row) { return call.token_of(group, static_cast<size_t>(group.wanted[first + static_cast<size_t>(row)])).task; };
        // Rows that stand together come back together: each copy waits for the device.
        for (int row = 0, end = 0; row < found; row = end) {
          for (end = row + 1; end < found && task_of(end) == task_of(row) + end - row;) end++;
          model.device.download(logits + static_cast<size_t>(task_of(row)) * vocabulary, model.buffers.logits + static_cast<size_t>(row) * vocabulary,
                                static_cast<size_t>(end - row) * vocabulary * 4);
        }
      });
    });
  });
}

/** ln p of every token of the rows, one row behind the other. */
inline void score(Model& model, const doge_row* rows, int count, float* scores) {
  Call call(model, rows, count, false);
  call.whole(true, false, [&] {
    // The logits before each of a row's own tokens.
    call.plan([](const Task& task, int position) { return position + 1 >= task.before && position + 1 < task.sequence->length(); });
    std::vector<size_t> offsets;
    size_t total = 0;
    for (const Task& task : call.tasks) {
      offsets.push_back(total);
      if (task.before == 0 && task.row->token_count > 0) scores[total] = 0.0f;  // it follows nothing
      total += static_cast<size_t>(task.row->token_count);
    }
    model.buffers.logprobs_out.reserve(HEAD_ROWS);
    call.each_group([&](const GroupPlan& group) {
      call.each_logits(group, [&](size_t first, int found) {
        model.device.launch(score_kernel, dim3(static_cast<unsigned>(found)), DRAW_THREADS, model.buffers.logprobs_out.get(), model.buffers.logits.get(),
                            call.words(group.wanted_next + first), call.words(group.wanted_rows + first), model.config.vocabulary, model.control);
        float numbers[HEAD_ROWS];
        model.device.download(numbers, model.buffers.logprobs_out, static_cast<size_t>(found) * 4);
        for (int row = 0; row < found; row++) {
          const Token& token = call.token_of(group, static_cast<size_t>(group.wanted[first + static_cast<size_t>(row)]));
          const size_t task = static_cast<size_t>(token.task);
          // The last token before the call stands in front of the first of the row's own.
          scores[offsets[task] + static_cast<size_t>(token.position + 1 - call.tasks[task].before)] = numbers[row];
        }
      });
    });
  });
}

inline DrawPlan draw_plan(const Model& model) {
  const Buffers& buffers = model.buffers;
  return {buffers.states,       reinterpret_cast<unsigned*>(buffers.words.get()), buffers.ids_out, buffers.logprobs_out, buffers.top_ids_out,
          buffers.top_logprobs_out, buffers.scores, buffers.draw_weights, model.control, model.progress(), buffers.logits, model.config.vocabulary};
}

/** One more token of every row that draws on: rows in tiles through the layers, then a draw each. Whatever differs from call to
 *  call stands in arrays, so that a captured step can be launched again. */
inline void decoding_step(Model& model, int rows) {
  Buffers& buffers = model.buffers;
  for (int first = 0; first < rows; first += TILE) {
    const int count = std::min(TILE, rows - first);
    model.device.launch(step_kernel, dim3(static_cast<unsigned>((count + 127) / 128)), 128, buffers.step_ids.get(), buffers.step_positions.get(),
                        buffers.step_rows.get(), buffers.states.get(), first, count, model.progress());
    const Part part{0, count, 0, count, 0, 0};
    const Group group{buffers.step_ids, buffers.step_positions, buffers.step_rows, buffers.step_runs, nullptr, nullptr, nullptr, &part, 1, count, 0, buffers.step_positions};
    model.layers(group, buffers.states, buffers.pages, [](int) {});
    for (int from = 0; from < count; from += HEAD_ROWS) {
      const int found = std::min(HEAD_ROWS, count - from);
      model.head(nullptr, from, found);
      model.device.launch(draw_kernel, dim3(static_cast<unsigned>(found)), DRAW_THREADS, draw_plan(model), buffers.step_rows + from,
                          buffers.step_positions + from);
    }
  }
}

/** Up to `steps` steps of a call's only row by the model's decoder; with `logits` one. False: the model has none, or the driver refuses it. */
inline bool decodes_at_once(Model& model, int steps, float* logits = nullptr) {
  return model.decoder != nullptr &&
         model.decoder->launch(draw_plan(model), model.pages->shape, model.buffers.pages, steps, logits);
}

/** The same as decoding_step for a call's only row where the model has a decoder: one launch up to the logits, and one for the draw. */
inline void decoding_step_of_one(Model& model) {
  Buffers& buffers = model.buffers;
  if (!decodes_at_once(model, 1, buffers.logits)) return decoding_step(model, 1);
  // Row 0, at a position that is one.
  model.device.launch(draw_kernel, dim3(1), DRAW_THREADS, draw_plan(model), buffers.zero.get(), buffers.zero.get());
}

/** All steps of a call, or those after its first draw, submitted in chunks; the device says when no row draws on. */
inline void decode(Model& model, const Call& call, int steps) {
  Buffers& buffers = model.buffers;
  std::vector<Run> runs;
  for (int index = 0; index < TILE; index++) runs.push_back({index, 1});
  buffers.step_ids.reserve(TILE);
  buffers.step_positions.reserve(TILE);
  buffers.step_rows.reserve(TILE);
  buffers.step_runs.reserve(TILE);
  model.device.upload(buffers.step_runs, runs.data(), runs.size() * sizeof(Run));
  buffers.zero.reserve(1);
  buffers.reserve_logits(model.config, std::min(HEAD_ROWS, static_cast<int>(call.tasks.size())), true, model.in_halves());
  const bool alone = call.tasks.size() == 1;
  while (alone && draws_at_once(call.states[0]) && steps > 0 && model.control->active > 0) {
    const int together = std::min(steps, STEPS_AT_ONCE);
    if (!decodes_at_once(model, together)) break;
    steps -= together;
    model.device.finish();
    call.check_stop();
  }
  while (steps > 0 && model.control->active > 0) {
    const int together = steps >= STEPS ? STEPS : 1;
    const int rows = static_cast<int>(call.tasks.size());
    model.device.repeat(model.graph(rows, together), [&] {
      for (int step = 0; step < together; step++) alone ? decoding_step_of_one(model) : decoding_step(model, rows);
    });
    steps -= together;
    model.device.finish();
    call.check_stop();
  }
}

/** Append, then draw up to `count` ids of each row. */
inline void sample(Model& model, const doge_row* rows, int count, doge_drawn* drawn) {
  Call call(model, rows, count, true);
  Buffers& buffers = model.buffers;
  call.whole(false, false, [&] {
    int most = 0;
    size_t total = 0;
    size_t lists = 0;  // numbers of all lists of the most likely
    bool told = false;
    int drawing = 0;
    for (const Task& task : call.tasks) {
      most = std::max(most, task.count);
      drawing += task.count > 0 ? 1 : 0;
      total += static_cast<size_t>(task.count);
      lists += static_cast<size_t>(task.count) * static_cast<size_t>(std::max(0, task.row->alternatives));
      told = told || (task.count > 0 && task.row->alternatives >= 0);
    }
    buffers.ids_out.reserve(total);
    buffers.logprobs_out.reserve(total);
    buffers.top_ids_out.reserve(lists);
    buffers.top_logprobs_out.reserve(lists);
    call.plan([](const Task& task, int position) { return task.count > 0 && position + 1 == task.sequence->length(); });
    model.control->active = drawing;
    const bool goes_on = call.goes_on() && model.decoder != nullptr;
    if (!goes_on) {
      call.each_group([&](const GroupPlan& group) {
        call.each_logits(group, [&](size_t first, int found) {
          model.device.launch(draw_kernel, dim3(static_cast<unsigned>(found)), DRAW_THREADS, draw_plan(model), call.words(group.wanted_rows + first),
                              call.words(group.wanted_rows + first));
        });
      });
    }
    const int steps = goes_on ? most : most - 1;
    if (steps > 0) decode(model, call, steps);

    // One copy of each list: many small ones would each wait for the device.
    std::vector<int> ids(total), top_ids;
    std::vector<float> logprobs, top_logprobs;
    if (drawing > 0) {
      model.device.download(call.states.data(), buffers.states, call.states.size() * sizeof(RowState));
      model.device.download(ids.data(), buffers.ids_out, total * 4);
      if (told) {
        logprobs.resize(total);
        model.device.download(logprobs.data(), buffers.logprobs_out, total * 4);
      }
      if (lists > 0) {
        top_ids.resize(lists);
        top_logprobs.resize(lists);
        model.device.download(top_ids.data(), buffers.top_ids_out, lists * 4);
        model.device.download(top_logprobs.data(), buffers.top_logprobs_out, lists * 4);
      }
    }
    for (size_t index = 0; index < call.tasks.size(); index++) {
      const RowState& state = call.states[index];
      const size_t found = static_cast<size_t>(state.drawn);
      drawn[index].drawn = state.drawn;
      if (found == 0) continue;
      std::memcpy(drawn[index].ids, &ids[static_cast<size_t>(state.out)], found * 4);
      if (state.alternatives < 0) continue;
      std::memcpy(drawn[index].logprobs, &logprobs[static_cast<size_t>(state.out)], found * 4);
      if (state.alternatives == 0) continue;
      const size_t numbers = found * static_cast<size_t>(state.alternatives) * 4;
      std::memcpy(drawn[index].top_ids, &top_ids[static_cast<size_t>(state.top_out)], numbers);
      std::memcpy(drawn[index].top_logprobs, &top_logprobs[static_cast<size_t>(state.top_out)], numbers);
    }
    call.check_stop();
    for (size_t index = 0; index < call.tasks.size(); index++) {
      const RowState& state = call.states[index];
      Timeline& timeline = call.tasks[index].sequence->timeline;
      const int start = timeline.length();
      // Each id drawn is a call of its own (S2).
      for (int each = 0; each < state.drawn; each++) timeline.append(&drawn[index].ids[each], 1);
      if (state.drawn > 0) timeline.held = state.stopped != 0;
      // A row that may draw nothing has seen the logits after its last id; all others stop before that.
      timeline.evaluated_to(start + (state.left < 0 ? state.drawn : std::max(0, state.drawn - 1)));
    }
  });
}

/** Append and look inside. Names: "hidden", "logits"; with `inside` "layers.N.bias" and "layers.N.value". */
inline void inspect(Model& model, const doge_row* rows, int count, bool inside, doge_tensor receive, void* context) {
  Call call(model, rows, count, false);
  const size_t vocabulary = static_cast<size_t>(model.config.vocabulary);
  const size_t hidden = static_cast<size_t>(model.config.hidden);
  const size_t values = static_cast<size_t>(model.config.keys());
  const size_t biases = static_cast<size_t>(model.config.bias_heads);
  const size_t layers = inside ? static_cast<size_t>(model.config.layers) : 0;
  struct Seen {
    std::vector<float> hidden, logits;
    std::vector<std::vector<float>> value, bias;
  };
  std::vector<Seen> seen(static_cast<size_t>(count));
  call.whole(false, false, [&] {
    call.plan([](const Task& task, int position) { return position >= task.before; });
    for (size_t index = 0; index < seen.size(); index++) {
      const size_t own = static_cast<size_t>(rows[index].token_count);
      seen[index].hidden.resize(own * hidden);
      seen[index].logits.resize(own * vocabulary);
      seen[index].value.assign(layers, std::vector<float>(own * values));
      seen[index].bias.assign(layers, std::vector<float>(own * biases));
    }
    const auto after = [&](const GroupPlan& group) {
      call.each_logits(group, [&](size_t first, int found) {
        for (int row = 0; row < found; row++) {
          const Token& token = call.token_of(group, static_cast<size_t>(group.wanted[first + static_cast<size_t>(row)]));
          Seen& to = seen[static_cast<size_t>(token.task)];
          const size_t place = static_cast<size_t>(token.position - call.tasks[static_cast<size_t>(token.task)].before);
          model.device.download(&to.hidden[place * hidden], model.buffers.head_normed + row * padded(model.config.hidden), hidden * 4);
          model.device.download(&to.logits[place * vocabulary], model.buffers.logits + static_cast<size_t>(row) * vocabulary, vocabulary * 4);
        }
      });
    };
    const auto look = [&](const GroupPlan& group, int layer) {
      if (!inside) return;
      const size_t qkv_stride = static_cast<size_t>(model.heads.qkv_stride);
      const size_t delta_stride = static_cast<size_t>(model.heads.delta_stride);
      std::vector<float> qkv(static_cast<size_t>(group.count) * qkv_stride), delta(static_cast<size_t>(group.count) * delta_stride);
      model.device.download(qkv.data(), model.buffers.qkv, qkv.size() * 4);
      model.device.download(delta.data(), model.buffers.delta, delta.size() * 4);
      for (size_t index = 0; index < static_cast<size_t>(group.count); index++) {
        const Token& token = call.token_of(group, index);
        const Task& task = call.tasks[static_cast<size_t>(token.task)];
        if (token.position < task.before) continue;
        const size_t place = static_cast<size_t>(token.position - task.before);
        Seen& to = seen[static_cast<size_t>(token.task)];
        std::memcpy(&to.value[static_cast<size_t>(layer)][place * values], &qkv[index * qkv_stride + static_cast<size_t>(model.heads.value_at)], values * 4);
        for (size_t head = 0; head < biases; head++)
          to.bias[static_cast<size_t>(layer)][head * static_cast<size_t>(task.row->token_count) + place] = delta[index * delta_stride + head];
      }
    };
    call.each_group(after, look);
  });
  for (size_t index = 0; index < seen.size(); index++) {
    const int64_t own = rows[index].token_count;
    const int row = static_cast<int>(index);
    receive(context, row, "hidden", own, model.config.hidden, seen[index].hidden.data());
    receive(context, row, "logits", own, model.config.vocabulary, seen[index].logits.data());
    for (size_t layer = 0; layer < layers; layer++) {
      const std::string name = "layers." + std::to_string(layer);
      receive(context, row, (name + ".bias").c_str(), model.config.bias_heads, own, seen[index].bias[layer].data());
      receive(context, row, (name + ".value").c_str(), own, model.config.keys(), seen[index].value[layer].data());
    }
  }
}

}  // namespace doge
