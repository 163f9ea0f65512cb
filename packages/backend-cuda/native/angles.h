// The angles that rope turns a position's queries and keys by, computed on the host.
#pragma once
#include <cmath>
#include "weights.h"

namespace doge {

/** Cosines and sines (head_dim / 2) of a position, frequencies and angles rounded to f32 as in transformers (docs/model.md). */
inline void angles(const Config& config, int position, float* cosine, float* sine) {
  double base = config.rope_theta;
  if (config.rope_type == DOGE_ROPE_DYNAMIC && position + 1 > config.max_positions) {
    const double stretch = config.rope_factor * (position + 1) / config.max_positions - (config.rope_factor - 1);
    base = static_cast<float>(config.rope_theta * std::pow(stretch, config.head_dim / (config.head_dim - 2.0)));
  }
  for (int index = 0; index < config.head_dim / 2; index++) {
    const float power = static_cast<float>(std::pow(base, static_cast<double>(static_cast<float>(2.0 * index / config.head_dim))));
    const float inverse = static_cast<float>(1.0 / static_cast<double>(power));
    const double divisor = config.rope_type == DOGE_ROPE_LINEAR ? config.rope_factor : 1.0;
    const float frequency = static_cast<float>(static_cast<double>(inverse) / divisor);
    const float angle = static_cast<float>(position * static_cast<double>(frequency));
    cosine[index] = static_cast<float>(std::cos(static_cast<double>(angle)));
    sine[index] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

}  // namespace doge
