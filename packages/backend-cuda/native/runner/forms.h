// doge_runner tiles and attention: every form of the kernels for prompts beside the plain ones, one line each.
#pragma once
#include <cstring>
#include "models.h"

namespace runner {

/** One line for each form and shape. 11 bits of x move the furthest of millions of sums by 4e-3 of their usual size at most, and of the
 *  products of two such sums by 2e-2; 16 bits a tenth of that. */
inline int tiles(doge_device* device, bool small) {
  struct Shape {
    int rows, inner, outer;
    bool gated;
  };
  std::vector<Shape> shapes;
  const std::vector<int> odd_rows = small ? std::vector<int>{9, 70} : std::vector<int>{9, 17, 255, 2048};
  for (const int rows : odd_rows) {
    shapes.push_back({rows, 96, 130, false});
    shapes.push_back({rows, 96, 130, true});
    shapes.push_back({rows, small ? 600 : 2048, 130, false});
  }
  if (!small) {
    for (const int rows : {2048, 256})
      for (const int hidden : {256, 512, 768, 1024}) {
        shapes.push_back({rows, hidden, 2 * hidden, false});      // projections
        shapes.push_back({rows, hidden, hidden, false});          // output
        shapes.push_back({rows, hidden, 2 * hidden, true});       // gate and up
        shapes.push_back({rows, 2 * hidden, hidden, false});      // down
      }
    for (const int hidden : {256, 1024}) shapes.push_back({256, hidden, 32768, false});  // logits
  }
  int failed = 0;
  for (const Shape& shape : shapes)
    for (int form = shape.gated ? 0 : -1; form < 4; form++) {
      double apart = INFINITY, seconds = 0;
      const int status = doge_device_form(device, shape.rows, shape.inner, shape.outer, form, shape.gated ? 1 : 0, small ? 0 : 20, &apart, &seconds, &error);
      if (status != 0 && std::strcmp(error.code, "unsupported") == 0) {
        std::printf("skip form %d: %s\n", form, error.message);
        continue;
      }
      require(status, "doge_device_form");
      const bool good = apart < (form < 0 ? 4e-4 : shape.gated ? 2e-2 : 4e-3);
      failed += good ? 0 : 1;
      const double work = 2.0 * shape.rows * shape.inner * shape.outer * (shape.gated ? 2 : 1);
      std::printf("%s form %2d %5d x %4d x %5d%s apart %.2e, %8.2f us, %6.1f TFLOP/s\n", good ? "ok  " : "FAIL", form, shape.rows, shape.inner, shape.outer,
                  shape.gated ? " gated" : "      ", apart, 1e6 * seconds, seconds > 0 ? work / seconds / 1e12 : 0.0);
      std::fflush(stdout);
    }
  std::printf("%d failed\n", failed);
  return failed == 0 ? 0 : 1;
}

/** Every product by warpgroups, then the attention of prompts of several shapes: one line each. Queries, keys and
 *  values are halves already; weights and results are rounded to 11 bits, of results a few times their usual size. */
inline int attention(doge_device* device, bool small) {
  int failed = 0;
  for (int kind = 0; kind < 6; kind++) {
    double apart = INFINITY;
    require(doge_device_products(device, kind, &apart, &error), "doge_device_products");
    failed += apart == 0.0 ? 0 : 1;
    std::printf("%s product %d apart %.1f\n", apart == 0.0 ? "ok  " : "FAIL", kind, apart);
  }
  struct Shape {
    int tokens, before, heads, kv_heads, dim;
  };
  std::vector<Shape> shapes{{64, 0, 2, 1, 128},  {1, 0, 2, 1, 64},      {70, 0, 4, 2, 96},   {200, 73, 2, 1, 128}, {130, 64, 3, 1, 128},
                            {330, 200, 2, 2, 64}, {129, 128, 4, 1, 32}, {850, 30, 2, 1, 40}, {600, 0, 1, 1, 128}, {1000, 930, 4, 2, 128}};
  if (!small)
    for (const int heads : {2, 4, 6, 8})
      for (const int before : {0, 1024}) shapes.push_back({2048 + before, before, heads, heads / 2, 128});
  for (const Shape& shape : shapes) {
    double apart = INFINITY, seconds = 0;
    require(doge_device_attention(device, shape.tokens, shape.before, shape.heads, shape.kv_heads, shape.dim, small ? 0 : 20, &apart, &seconds, &error),
            "doge_device_attention");
    const bool good = apart < 6e-3;
    failed += good ? 0 : 1;
    const double own = shape.tokens - shape.before, pairs = own * shape.before + own * (own + 1) / 2;
    std::printf("%s attention %5d tokens, %5d before, %d heads of %3d, apart %.2e, %8.2f us, %6.1f TFLOP/s\n", good ? "ok  " : "FAIL", shape.tokens, shape.before,
                shape.heads, shape.dim, apart, 1e6 * seconds, seconds > 0 ? 4.0 * pairs * shape.heads * shape.dim / seconds / 1e12 : 0.0);
    std::fflush(stdout);
  }
  std::printf("%d failed\n", failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace runner
