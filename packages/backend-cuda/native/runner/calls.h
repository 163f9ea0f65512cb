// A call each: rows and sequences, ids to give and ids drawn, logits and how far apart they are.
#pragma once
#include "models.h"

namespace runner {

inline doge_row row_of(doge_sequence* sequence, const std::vector<int32_t>& tokens, int count = 0, double temperature = 0) {
  doge_row row{};
  row.sequence = sequence;
  row.tokens = tokens.data();
  row.token_count = static_cast<int32_t>(tokens.size());
  row.count = count;
  row.alternatives = -1;
  row.temperature = temperature;
  row.top_p = 1;
  row.repetition_penalty = 1;
  row.seed = 7;
  return row;
}

inline std::vector<int32_t> ids(int count, int vocabulary, int from = 0) {
  std::vector<int32_t> result;
  for (int index = 0; index < count; index++) result.push_back((from + index * 7919 + 13) % vocabulary);
  return result;
}

inline doge_sequence* fresh(doge_model* model) {
  doge_sequence* sequence = nullptr;
  require(doge_sequence_create(model, &sequence, &error), "doge_sequence_create");
  return sequence;
}

inline std::vector<float> logits(doge_model* model, doge_sequence* sequence, const std::vector<int32_t>& tokens, int vocabulary) {
  std::vector<float> result(static_cast<size_t>(vocabulary), NAN);
  const doge_row row = row_of(sequence, tokens);
  require(doge_forward(model, &row, 1, result.data(), &error), "doge_forward");
  return result;
}

inline std::vector<int32_t> drawn(doge_model* model, doge_sequence* sequence, const std::vector<int32_t>& tokens, int count, double temperature,
                                  int32_t top_k = 0, double top_p = 1) {
  std::vector<int32_t> found(static_cast<size_t>(count));
  doge_row row = row_of(sequence, tokens, count, temperature);
  row.top_k = top_k;
  row.top_p = top_p;
  doge_drawn result{0, found.data(), nullptr, nullptr, nullptr};
  require(doge_sample(model, &row, 1, &result, &error), "doge_sample");
  found.resize(static_cast<size_t>(result.drawn));
  return found;
}

inline double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t index = 0; index < a.size(); index++) {
    const double gap = std::fabs(static_cast<double>(a[index]) - static_cast<double>(b[index]));
    if (!(gap <= most)) most = gap == gap ? gap : INFINITY;
  }
  return most;
}

/** Ids that two rows draw beside each other. */
inline std::vector<std::vector<int32_t>> drawn_together(doge_model* model, const std::vector<std::vector<int32_t>>& prompts, int count, double temperature) {
  std::vector<std::vector<int32_t>> found(prompts.size(), std::vector<int32_t>(static_cast<size_t>(count)));
  std::vector<doge_row> rows;
  std::vector<doge_drawn> out;
  for (size_t row = 0; row < prompts.size(); row++) {
    rows.push_back(row_of(fresh(model), prompts[row], count, temperature));
    out.push_back({0, found[row].data(), nullptr, nullptr, nullptr});
  }
  require(doge_sample(model, rows.data(), static_cast<int32_t>(rows.size()), out.data(), &error), "doge_sample");
  return found;
}

}  // namespace runner
