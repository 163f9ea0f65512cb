// The C test runner: checks and times the core through doge.h alone, with random weights of the published shapes made on the spot.
//
//   doge_runner check [small]            properties that need no golden: one line each; small: with fewer texts, for anywhere
//   doge_runner time SIZE DTYPE [N]      SIZE 20M, 60M, 160M or 320M; DTYPE f32, bf16 or q8: one JSON line for each measurement, and
//                                        one for how near the logits are to those of f32. SIZE tiny: the same in a moment, anywhere
//   doge_runner profile SIZE DTYPE       one prompt, then a step of one row and one of many, each launched once: to run under a profiler
//   doge_runner tiles [small]            every form of the matmul for many rows beside the plain kernel, one line each; small: a few odd
//                                        shapes and no times, for anywhere
//   doge_runner attention [small]        every product by warpgroups and the attention of prompts in half precision, one line each; small:
//                                        without the published shapes and times, for anywhere
//   doge_runner rates [BYTES]            the most that the device reads, over so many bytes, and multiplies: one JSON line
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include "runner/checks.h"
#include "runner/forms.h"
#include "runner/times.h"

using namespace runner;

int main(int count, char** arguments) {
  const std::string command = count > 1 ? arguments[1] : "check";
  doge_device* device = nullptr;
  require(doge_open(0, &device, &error), "doge_open");
  int status = 1;
  if (command == "check")
    status = checks(device, count > 2 && std::string(arguments[2]) == "small");
  else if (command == "time" && count > 3)
    status = !dtype_named(arguments[3]) ? 1 : timing(device, arguments[2], arguments[3], count > 4 ? std::max(1, std::atoi(arguments[4])) : 5);
  else if (command == "profile" && count > 3)
    status = !dtype_named(arguments[3]) ? 1 : profile(device, arguments[2], arguments[3]);
  else if (command == "tiles")
    status = tiles(device, count > 2 && std::string(arguments[2]) == "small");
  else if (command == "attention")
    status = attention(device, count > 2 && std::string(arguments[2]) == "small");
  else if (command == "rates")
    status = rates(device, count > 2 ? std::max(0ll, std::atoll(arguments[2])) : 512ll << 20);
  else
    std::fprintf(stderr, "Use: doge_runner check [small], time SIZE DTYPE [N], profile SIZE DTYPE, tiles [small], attention [small], or rates [BYTES].\n");
  doge_close(device);
  return status;
}
