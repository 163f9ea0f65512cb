// doge_runner time, profile and rates: a size as it is measured, under a profiler, and the ceilings of the device.
#pragma once
#include <chrono>
#include <utility>
#include "calls.h"
#include "sizes.h"

namespace runner {

inline double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/** FNV-1a of the ids: the hash of the result that a speed is stated beside. */
inline uint32_t hash_of(const std::vector<int32_t>& found) {
  uint32_t hash = 2166136261u;
  for (const int32_t id : found) hash = (hash ^ static_cast<uint32_t>(id)) * 16777619u;
  return hash;
}

/** Mean KL divergence of the logits behind several texts from those of f32, and the share of texts with the same likeliest token. */
inline std::pair<double, double> nearness(doge_device* device, doge_config config, doge_model* model, const Size& size) {
  config.dtype = DOGE_F32;
  doge_model* const exact = loaded(device, config, 11);
  constexpr int TEXTS = 32;
  double divergence = 0;
  int agreed = 0;
  for (int text = 0; text < TEXTS; text++) {
    std::vector<float> both[2];
    size_t best[2];
    double normalizer[2];
    for (int which = 0; which < 2; which++) {
      doge_model* const its = which == 0 ? exact : model;
      doge_sequence* const sequence = fresh(its);
      both[which] = logits(its, sequence, ids(size.before / 2 + text, size.vocabulary, text), size.vocabulary);
      doge_sequence_close(sequence);
      const auto top = std::max_element(both[which].begin(), both[which].end());
      best[which] = static_cast<size_t>(top - both[which].begin());
      double sum = 0;
      for (const float each : both[which]) sum += std::exp(static_cast<double>(each) - static_cast<double>(*top));
      normalizer[which] = static_cast<double>(*top) + std::log(sum);
    }
    agreed += best[0] == best[1] ? 1 : 0;
    for (size_t id = 0; id < both[0].size(); id++) {
      const double log_p = static_cast<double>(both[0][id]) - normalizer[0];
      divergence += std::exp(log_p) * (log_p - (static_cast<double>(both[1][id]) - normalizer[1]));
    }
  }
  doge_model_close(exact);
  return {divergence / TEXTS, static_cast<double>(agreed) / TEXTS};
}

inline int profile(doge_device* device, const std::string& size, const std::string& dtype) {
  const Size* const shape = size_named(size);
  if (shape == nullptr) return 1;
  doge_model* const model = loaded(device, config_of(*shape, dtype), 11);
  doge_sequence* const one = fresh(model);
  logits(model, one, ids(shape->prompt, shape->vocabulary), shape->vocabulary);
  drawn(model, one, {}, 2, 0);
  doge_sequence_close(one);
  std::vector<std::vector<int32_t>> prompts, lists(static_cast<size_t>(shape->rows), std::vector<int32_t>(2));
  std::vector<doge_row> rows;
  std::vector<doge_drawn> out;
  for (int row = 0; row < shape->rows; row++) prompts.push_back(ids(1, shape->vocabulary, row));
  for (int row = 0; row < shape->rows; row++) {
    rows.push_back(row_of(fresh(model), prompts[static_cast<size_t>(row)], 2));
    out.push_back({0, lists[static_cast<size_t>(row)].data(), nullptr, nullptr, nullptr});
  }
  require(doge_sample(model, rows.data(), shape->rows, out.data(), &error), "doge_sample");
  doge_model_close(model);
  return 0;
}

inline int timing(doge_device* device, const std::string& size, const std::string& dtype, int times) {
  if (const Size* const known = size_named(size)) {
    const Size& shape = *known;
    const int vocabulary = shape.vocabulary;
    const doge_config config = config_of(shape, dtype);
    doge_model* const model = loaded(device, config, 11);
    const auto median = [times](const auto& once) {
      std::vector<double> found;
      once();  // the first run allocates and captures
      for (int time = 0; time < times; time++) {
        const double start = milliseconds();
        once();
        found.push_back(milliseconds() - start);
      }
      std::sort(found.begin(), found.end());
      return std::pair<double, double>(found[found.size() / 2], found.back() - found.front());
    };
    const auto tell = [&](const char* what, double tokens, std::pair<double, double> time, uint32_t hash) {
      std::printf("{\"size\":\"%s\",\"dtype\":\"%s\",\"what\":\"%s\",\"ms\":%.4f,\"spreadMs\":%.4f,\"tokensPerSecond\":%.0f,\"runs\":%d,\"hash\":\"%08x\"}\n",
                  size.c_str(), dtype.c_str(), what, time.first, time.second, 1000 * tokens / time.first, times, hash);
      std::fflush(stdout);
    };
    const std::vector<int32_t> prompt = ids(shape.before, vocabulary);
    std::vector<int32_t> found;
    doge_sequence* const one = fresh(model);
    logits(model, one, prompt, vocabulary);
    const auto range = [](int before, int draws) { return ", context " + std::to_string(before) + " to " + std::to_string(before + draws); };
    // Greedy, and as texts are drawn where nothing else is asked for.
    for (const bool filtered : {false, true}) {
      const auto decode = median([&] {
        require(doge_sequence_rewind(one, shape.before, &error), "doge_sequence_rewind");
        found = filtered ? drawn(model, one, {}, shape.draws, 0.8, 50, 0.9) : drawn(model, one, {}, shape.draws, 0);
      });
      tell(((filtered ? "sampled, 1 row, topK 50, topP 0.9" : "decode, 1 row") + range(shape.before, shape.draws)).c_str(), shape.draws, decode, hash_of(found));
    }
    doge_sequence_close(one);

    const std::vector<int32_t> text = ids(shape.prompt, vocabulary);
    std::vector<float> last;
    const auto prefill = median([&] {
      doge_sequence* const sequence = fresh(model);
      last = logits(model, sequence, text, vocabulary);
      doge_sequence_close(sequence);
    });
    const int best = static_cast<int>(std::max_element(last.begin(), last.end()) - last.begin());
    tell(("prefill, 1 prompt of " + std::to_string(shape.prompt)).c_str(), shape.prompt, prefill, static_cast<uint32_t>(best));

    const int rows = shape.rows;
    for (const int before : {shape.before, shape.rows_before}) {
      std::vector<doge_sequence*> sequences;
      std::vector<doge_row> all;
      std::vector<std::vector<int32_t>> lists(static_cast<size_t>(rows), std::vector<int32_t>(static_cast<size_t>(shape.row_draws))), prompts;
      std::vector<doge_drawn> out;
      for (int row = 0; row < rows; row++) prompts.push_back(ids(before, vocabulary, row));
      for (int row = 0; row < rows; row++) {
        sequences.push_back(fresh(model));
        all.push_back(row_of(sequences.back(), prompts[static_cast<size_t>(row)], 0));
        out.push_back({0, lists[static_cast<size_t>(row)].data(), nullptr, nullptr, nullptr});
      }
      require(doge_sample(model, all.data(), rows, out.data(), &error), "doge_sample");
      for (doge_row& row : all) {
        row.token_count = 0;
        row.count = shape.row_draws;
      }
      const auto batch = median([&] {
        for (doge_sequence* sequence : sequences) require(doge_sequence_rewind(sequence, before, &error), "doge_sequence_rewind");
        require(doge_sample(model, all.data(), rows, out.data(), &error), "doge_sample");
      });
      tell(("decode, " + std::to_string(rows) + " rows" + range(before, shape.row_draws)).c_str(), static_cast<double>(shape.row_draws) * rows, batch,
           hash_of(lists[0]));
      for (doge_sequence* sequence : sequences) doge_sequence_close(sequence);
    }
    const auto [divergence, agreement] = nearness(device, config, model, shape);
    std::printf("{\"size\":\"%s\",\"dtype\":\"%s\",\"what\":\"nearness to f32\",\"kl\":%.3g,\"agreement\":%.4f}\n", size.c_str(), dtype.c_str(), divergence,
                agreement);
    doge_model_close(model);
    return 0;
  }
  return 1;
}

inline int rates(doge_device* device, int64_t bytes) {
  double read, multiply, tiles;
  // Little memory is a look whether it runs.
  require(doge_device_rates(device, bytes, bytes < (1 << 20) ? 1 : 64, &read, &multiply, &tiles, &error), "doge_device_rates");
  std::printf("{\"bytes\":%lld,\"bytesPerSecond\":%.4g,\"macsPerSecond\":%.4g,\"tensorMacsPerSecond\":%.4g}\n", static_cast<long long>(bytes), read, multiply,
              tiles);
  return 0;
}

}  // namespace runner
