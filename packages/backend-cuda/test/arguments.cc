// What a caller can get wrong in doge.h, each once: a line with what it was and the code that came back. The last two calls are good ones.
#include <cstdio>
#include <functional>
#include <limits>
#include "../native/runner/calls.h"

using namespace runner;

namespace {

const int VOCABULARY = 33;
const double NOT = std::numeric_limits<double>::quiet_NaN();
const double INFINITE = std::numeric_limits<double>::infinity();

void say(const char* what, const std::function<int(doge_error*)>& call) {
  doge_error found{};
  const int status = call(&found);
  std::printf("%s: %s\n", what, status == 0 ? "taken" : found.code);
}

doge_config changed(const std::function<void(doge_config&)>& change) {
  doge_config config = config_of(VOCABULARY, 16, 24, 1, 2, 8, 64, 256);
  change(config);
  return config;
}

}  // namespace

int main() {
  doge_device* device = nullptr;
  require(doge_open(0, &device, &error), "doge_open");
  const doge_config good = changed([](doge_config&) {});
  doge_model* const model = loaded(device, good, 1);
  doge_model* const other = loaded(device, good, 2);
  doge_sequence* const sequence = fresh(model);
  const std::vector<int32_t> text{1, 2, 3};
  std::vector<float> out(2 * VOCABULARY);

  // Nulls.
  doge_model* none = nullptr;
  doge_sequence* nobody = nullptr;
  doge_row row = row_of(sequence, text, 2);
  say("open without a result", [&](doge_error* e) { return doge_open(0, nullptr, e); });
  say("create on no device", [&](doge_error* e) { return doge_model_create(nullptr, &good, &none, e); });
  say("create without a config", [&](doge_error* e) { return doge_model_create(device, nullptr, &none, e); });
  say("create without a result", [&](doge_error* e) { return doge_model_create(device, &good, nullptr, e); });
  say("write without a name", [&](doge_error* e) { return doge_model_write(model, nullptr, out.data(), 1, e); });
  say("write without values", [&](doge_error* e) { return doge_model_write(model, "model.norm.weight", nullptr, 1, e); });
  say("write a negative count", [&](doge_error* e) { return doge_model_write(model, "model.norm.weight", out.data(), -1, e); });
  say("write the largest count", [&](doge_error* e) { return doge_model_write(model, "model.norm.weight", out.data(), INT64_MAX, e); });
  say("ready without a model", [&](doge_error* e) { return doge_model_ready(nullptr, e); });
  say("a sequence of no model", [&](doge_error* e) { return doge_sequence_create(nullptr, &nobody, e); });
  say("a fork of nothing", [&](doge_error* e) { return doge_sequence_fork(nullptr, &nobody, e); });
  say("a fork without a result", [&](doge_error* e) { return doge_sequence_fork(sequence, nullptr, e); });
  say("a rewind of nothing", [&](doge_error* e) { return doge_sequence_rewind(nullptr, 0, e); });
  say("forward without a model", [&](doge_error* e) { return doge_forward(nullptr, &row, 1, out.data(), e); });
  say("forward without rows", [&](doge_error* e) { return doge_forward(model, nullptr, 1, out.data(), e); });
  say("forward of -1 rows", [&](doge_error* e) { return doge_forward(model, &row, -1, out.data(), e); });
  say("forward without logits", [&](doge_error* e) { return doge_forward(model, &row, 1, nullptr, e); });
  say("score without scores", [&](doge_error* e) { return doge_score(model, &row, 1, nullptr, e); });
  say("inspect without a receiver", [&](doge_error* e) { return doge_inspect(model, &row, 1, 1, nullptr, nullptr, e); });
  say("sample without room", [&](doge_error* e) { return doge_sample(model, &row, 1, nullptr, e); });

  // Rows.
  int32_t ids[64];
  float logprobs[64];
  const auto with = [&](const char* what, const std::function<void(doge_row&)>& change) {
    doge_row changed_row = row_of(sequence, text, 2, 0.8);
    change(changed_row);
    doge_drawn drawn{0, ids, logprobs, nullptr, nullptr};
    say(what, [&](doge_error* e) { return doge_sample(model, &changed_row, 1, &drawn, e); });
  };
  with("no sequence", [](doge_row& r) { r.sequence = nullptr; });
  with("a sequence of another model", [&](doge_row& r) { r.sequence = fresh(other); });
  doge_sequence* const closed = fresh(model);
  doge_sequence_close(closed);
  with("a closed sequence", [&](doge_row& r) { r.sequence = closed; });
  with("no tokens", [](doge_row& r) { r.tokens = nullptr; });
  with("-1 tokens", [](doge_row& r) { r.token_count = -1; });
  with("the least number of tokens", [](doge_row& r) { r.token_count = INT32_MIN; });
  with("-1 draws", [](doge_row& r) { r.count = -1; });
  with("-2 alternatives", [](doge_row& r) { r.alternatives = -2; });
  with("more alternatives than ids", [](doge_row& r) { r.alternatives = VOCABULARY + 1; });
  with("no room for alternatives", [](doge_row& r) { r.alternatives = 2; });
  with("-1 stops", [](doge_row& r) { r.stop_count = -1; });
  with("no stops", [](doge_row& r) { r.stop_count = 2; });
  with("a negative top_k", [](doge_row& r) { r.top_k = -1; });
  with("a temperature that is no number", [](doge_row& r) { r.temperature = NOT; });
  with("a negative temperature", [](doge_row& r) { r.temperature = -1; });
  with("an infinite min_p", [](doge_row& r) { r.min_p = INFINITE; });
  with("a top_p that is no number", [](doge_row& r) { r.top_p = NOT; });
  with("a penalty of 0", [](doge_row& r) { r.repetition_penalty = 0; });
  const doge_row twice[] = {row_of(sequence, text), row_of(sequence, text)};
  say("a sequence twice", [&](doge_error* e) { return doge_forward(model, twice, 2, out.data(), e); });

  // Configs.
  const auto config = [&](const char* what, const std::function<void(doge_config&)>& change) {
    const doge_config its = changed(change);
    say(what, [&](doge_error* e) { return doge_model_create(device, &its, &none, e); });
  };
  config("an epsilon that is no number", [](doge_config& c) { c.norm_epsilon = NOT; });
  config("a theta of 0", [](doge_config& c) { c.rope_theta = 0; });
  config("a vocabulary of a half", [](doge_config& c) { c.vocab_size = 0.5; });
  config("fewer experts than pairs of keys", [](doge_config& c) { c.experts = 10, c.experts_side = 4, c.experts_per_token = 3; });
  config("no expert a token", [](doge_config& c) { c.experts = 16, c.experts_side = 4; });

  // Single kernels.
  std::vector<float> x(4096, 0.5f), y(4096);
  const auto matmul = [&](const char* what, int rows, int inner, int outer, int dtype) {
    say(what, [&](doge_error* e) { return doge_kernel_matmul(device, y.data(), x.data(), x.data(), nullptr, rows, inner, outer, static_cast<doge_dtype>(dtype), e); });
  };
  matmul("a matmul of no dtype", 2, 4, 4, 3);
  matmul("a matmul of -1 rows", -1, 4, 4, 0);
  matmul("a matmul of -4 columns", 1, -4, 4, 2);
  say("a norm of nothing", [&](doge_error* e) { return doge_kernel_rmsnorm(device, y.data(), nullptr, x.data(), 1, 4, 1e-6f, e); });
  say("rope of -1 heads", [&](doge_error* e) { return doge_kernel_rope(device, y.data(), -1, 8, 0, 10000, e); });
  say("rope of odd heads", [&](doge_error* e) { return doge_kernel_rope(device, y.data(), 1, 7, 0, 10000, e); });
  say("swiglu of -1", [&](doge_error* e) { return doge_kernel_swiglu(device, y.data(), x.data(), x.data(), -1, e); });
  say("attention to nothing", [&](doge_error* e) { return doge_kernel_attention(device, y.data(), x.data(), x.data(), x.data(), x.data(), 0, 8, e); });
  say("a text of nothing", [&](doge_error* e) { return doge_kernel_attention_text(device, y.data(), x.data(), x.data(), x.data(), x.data(), 0, 8, DOGE_F32, e); });
  const std::vector<int32_t> outside{100000};
  const doge_row strange = row_of(nullptr, outside);
  say("a draw behind an id outside", [&](doge_error* e) { return doge_kernel_draw(device, ids, x.data(), VOCABULARY, 0, &strange, e); });
  say("a draw without a row", [&](doge_error* e) { return doge_kernel_draw(device, ids, x.data(), VOCABULARY, 0, nullptr, e); });

  doge_sequence_close(nullptr);
  doge_model_close(nullptr);
  doge_close(nullptr);
  doge_probe(0, nullptr, nullptr);
  std::printf("%d tokens, %d of room\n", doge_sequence_length(sequence), static_cast<int>(doge_model_room(model)));
  const std::string long_name(3000, 'x');
  doge_error cut{};
  doge_model_write(model, long_name.c_str(), out.data(), 1, &cut);
  const std::string said = cut.message;
  std::printf("a long name ends with %s\n", said.substr(said.size() - 2).c_str());
  say("a good call", [&](doge_error* e) { return doge_forward(model, &row, 1, out.data(), e); });
  const doge_row empty = row_of(sequence, {});
  say("a score of nothing, into nothing", [&](doge_error* e) { return doge_score(model, &empty, 1, nullptr, e); });
  doge_model_close(model);
  doge_model_close(other);
  doge_close(device);
}
