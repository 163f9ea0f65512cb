// The sizes that are timed: the published shapes and a tiny one.
#pragma once
#include "models.h"

namespace runner {

/** What is timed: a model's shape, and how much of it. */
struct Size {
  const char* name;
  int vocabulary;
  double hidden, inner, layers, heads, dim;
  int prompt, before, draws, rows, rows_before, row_draws;  // rows are timed behind `before` tokens and behind `rows_before`
};
inline constexpr Size SIZES[] = {{"20M", 32768, 256, 512, 8, 2, 128, 2048, 128, 256, 256, 512, 32},
                                 {"60M", 32768, 512, 1024, 16, 4, 128, 2048, 128, 256, 256, 512, 32},
                                 {"160M", 32768, 768, 1536, 24, 6, 128, 2048, 128, 256, 256, 512, 32},
                                 {"320M", 32768, 1024, 2048, 32, 8, 128, 2048, 128, 256, 256, 512, 32},
                                 {"tiny", 512, 64, 96, 2, 2, 32, 80, 8, 16, 18, 24, 3}};

inline const Size* size_named(const std::string& name) {
  for (const Size& size : SIZES)
    if (name == size.name) return &size;
  std::fprintf(stderr, "There is no size %s: use 20M, 60M, 160M, 320M or tiny.\n", name.c_str());
  return nullptr;
}

/** Whether it is the name of a dtype; else says which there are: what was timed must be what is written beside it. */
inline bool dtype_named(const std::string& name) {
  if (name == "f32" || name == "bf16" || name == "q8") return true;
  std::fprintf(stderr, "There is no dtype %s: use f32, bf16 or q8.\n", name.c_str());
  return false;
}

inline doge_config config_of(const Size& shape, const std::string& dtype) {
  const double context = std::max(shape.prompt, shape.before + shape.draws) + 256;
  doge_config config = config_of(shape.vocabulary, shape.hidden, shape.inner, shape.layers, shape.heads, shape.dim, context,
                                 std::max<double>(context, shape.rows * (shape.rows_before + shape.row_draws + 32)));
  config.dtype = dtype == "q8" ? DOGE_Q8 : dtype == "bf16" ? DOGE_BF16 : DOGE_F32;
  return config;
}

}  // namespace runner
