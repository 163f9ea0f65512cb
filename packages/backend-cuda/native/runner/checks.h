// doge_runner check: properties that need no golden, one line each.
#pragma once
#include <cstring>
#include <thread>
#include "calls.h"

namespace runner {

/** Whether two models draw at once what each draws alone, so many times: their launches take all of a device, each on a stream of its own. */
inline bool draws_beside_another(doge_device* device, int draws, int times) {
  bool same[2] = {true, true};
  std::vector<doge_model*> models;
  std::vector<std::vector<int32_t>> alone;
  const std::vector<int32_t> text = ids(30, 320);
  for (const int seed : {5, 6}) {
    doge_config config = config_of(320, 256, 512, 2, 2, 128, 512, 8192);
    config.dtype = DOGE_BF16;
    models.push_back(loaded(device, config, seed));
    alone.push_back(drawn(models.back(), fresh(models.back()), text, draws, 0.9));
  }
  std::vector<std::thread> threads;
  for (size_t which = 0; which < 2; which++)
    threads.emplace_back([&, which] {
      for (int time = 0; time < times; time++) {
        doge_sequence* const sequence = fresh(models[which]);
        same[which] = same[which] && drawn(models[which], sequence, text, draws, 0.9) == alone[which];
        doge_sequence_close(sequence);
      }
    });
  for (std::thread& each : threads) each.join();
  for (doge_model* const model : models) doge_model_close(model);
  return same[0] && same[1];
}

inline int checks(doge_device* device, bool small) {
  int failed = 0;
  const auto say = [&failed](bool good, const char* what, double number) {
    std::printf("%s %s (%.3g)\n", good ? "ok  " : "FAIL", what, number);
    failed += good ? 0 : 1;
  };
  const int vocabulary = 320;
  const char* const names[] = {"f32", "bf16", "q8"};
  for (int dtype = 0; dtype < 3; dtype++) {
    doge_config config = config_of(vocabulary, 96, 160, 2, 4, 32, 256, 2048);
    config.dtype = dtype;
    doge_model* const model = loaded(device, config, 5);
    std::printf("%s\n", names[dtype]);
    const std::vector<int32_t> text = ids(90, vocabulary);
    const std::vector<float> whole = logits(model, fresh(model), text, vocabulary);
    doge_sequence* const steps = fresh(model);
    std::vector<float> last;
    for (const int32_t id : text) last = logits(model, steps, {id}, vocabulary);
    // bf16 models may take prompts in half precision: 11 bits of each activation, where steps keep all.
    say(apart(whole, last) < (dtype == 1 ? 4e-3 : 1e-4), "one call is the same as a call for each token", apart(whole, last));
    doge_sequence* forked = nullptr;
    require(doge_sequence_fork(steps, &forked, &error), "doge_sequence_fork");
    const std::vector<float> after = logits(model, steps, ids(5, vocabulary, 3), vocabulary);
    say(apart(after, logits(model, forked, ids(5, vocabulary, 3), vocabulary)) == 0, "a fork goes on as its past does", 0);
    require(doge_sequence_rewind(steps, 90, &error), "doge_sequence_rewind");
    say(apart(after, logits(model, steps, ids(5, vocabulary, 3), vocabulary)) == 0, "a rewind takes tokens back", 0);
    const std::vector<int32_t> one = drawn(model, fresh(model), text, 40, 0.8);
    say(one == drawn(model, fresh(model), text, 40, 0.8), "a call draws the same ids again", static_cast<double>(one.size()));
    doge_sequence* const chunks = fresh(model);
    std::vector<int32_t> pieces = drawn(model, chunks, text, 7, 0.8);
    while (pieces.size() < 40) {
      const std::vector<int32_t> more = drawn(model, chunks, {}, std::min<int>(9, 40 - static_cast<int>(pieces.size())), 0.8);
      pieces.insert(pieces.end(), more.begin(), more.end());
    }
    say(one == pieces, "chunks draw what one call draws", static_cast<double>(pieces.size()));
    doge_sequence* const nothing = fresh(model);
    const doge_row empty = row_of(nothing, {});
    say(doge_forward(model, &empty, 1, last.data(), &error) != 0 && std::strcmp(error.code, "empty-prompt") == 0, "an empty prompt is refused", 0);
    doge_model_close(model);
  }
  // The kernel that makes all steps of one row is another than that of rows, and has a form for each published shape.
  for (const int hidden : small ? std::vector<int>{0, 256, 768} : std::vector<int>{0, 256, 512, 768, 1024})
    for (int dtype = small && hidden > 0 ? 1 : 0; dtype < (hidden == 0 ? 3 : 2); dtype++) {
      doge_config config = hidden == 0 ? config_of(vocabulary, 100, 76, 3, 6, 20, 512, 4096) : config_of(vocabulary, hidden, 2 * hidden, 2, hidden / 128, 128, 512, 4096);
      config.dtype = dtype;
      doge_model* const model = loaded(device, config, 5);
      int same = 0, all = 0;
      const int draws = small ? 4 : 24;
      for (const double temperature : {0.0, 0.9})
        for (const int length : small ? std::vector<int>{20} : std::vector<int>{1, 30, 150}) {
          const std::vector<int32_t> text = ids(length, vocabulary, length);
          const std::vector<int32_t> alone = drawn(model, fresh(model), text, draws, temperature);
          const std::vector<int32_t> beside = drawn_together(model, {text, ids(5, vocabulary, 77)}, draws, temperature)[0];
          for (size_t index = 0; index < alone.size(); index++, all++) same += alone[index] == beside[index] ? 1 : 0;
        }
      say(same == all, ("a row of hidden size " + std::to_string(static_cast<int>(config.hidden_size)) + " in " + names[dtype] + " draws alone as beside another").c_str(),
          static_cast<double>(same) / all);
      doge_model_close(model);
    }
  say(draws_beside_another(device, small ? 3 : 20, small ? 1 : 100), "two models draw at once what each draws alone", 0);
  doge_config large = config_of(vocabulary, 96, 160, 2, 4, 32, 256, 2000000000);
  doge_model* none = nullptr;
  say(doge_model_create(device, &large, &none, &error) != 0 && std::strcmp(error.code, "out-of-memory") == 0, "what does not fit is refused before the weights", 0);
  doge_model* const again = loaded(device, config_of(vocabulary, 96, 160, 2, 4, 32, 256, 2048), 5);
  say(logits(again, fresh(again), ids(3, vocabulary), vocabulary)[0] == logits(again, fresh(again), ids(3, vocabulary), vocabulary)[0],
      "and the device works afterwards", 0);
  doge_model_close(again);
  std::printf("%d failed\n", failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace runner
