// The C test runner: checks and times the core through doge.h alone, with random weights of the published shapes made on the spot.
//
//   doge_runner check [small]            properties that need no golden: one line each; small: with fewer texts, for anywhere
//   doge_runner time SIZE DTYPE [N]      SIZE 20M, 60M, 160M or 320M; DTYPE f32, bf16 or q8: one JSON line for each measurement, and
//                                        one for how near the logits are to those of f32. SIZE tiny: the same in a moment, anywhere
//   doge_runner profile SIZE DTYPE       one prompt, then a step of one row and one of many, each launched once: to run under a profiler
//   doge_runner tiles [small]            every form of the matmul for many rows beside the plain kernel, one line each; small: a few odd
//                                        shapes and no times, for anywhere
//   doge_runner rates [BYTES]            the most that the device reads, over so many bytes, and multiplies: one JSON line
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>
#include "doge.h"

namespace {

thread_local doge_error error;

void require(int status, const char* what) {
  if (status == 0) return;
  std::fprintf(stderr, "%s: [%s] %s\n", what, error.code, error.message);
  std::exit(1);
}

/** Numbers around 0 from one seed: splitmix64. */
struct Random {
  uint64_t state;
  double next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) / 9007199254740992.0 - 0.5;
  }
};

doge_config config_of(double vocabulary, double hidden, double inner, double layers, double heads, double dim, double context, double room) {
  doge_config config{};
  config.vocab_size = vocabulary;
  config.hidden_size = hidden;
  config.intermediate_size = inner;
  config.layers = layers;
  config.heads = heads;
  config.kv_heads = heads / 2;
  config.head_dim = dim;
  config.norm_epsilon = 1e-6;
  config.max_positions = context;
  config.rope_theta = 10000;
  config.rope_factor = 1;
  config.bias_heads = heads;
  config.tied = 1;
  config.context = context;
  config.room = room;
  return config;
}

void write(doge_model* model, Random& random, const std::string& name, int64_t count, double scale, double offset = 0) {
  constexpr int64_t PIECE = 1 << 20;
  std::vector<float> values;
  for (int64_t at = 0; at < count; at += PIECE) {
    values.resize(static_cast<size_t>(std::min(PIECE, count - at)));
    for (float& value : values) value = static_cast<float>(offset + scale * random.next());
    require(doge_model_write(model, name.c_str(), values.data(), static_cast<int64_t>(values.size()), &error), name.c_str());
  }
}

doge_model* loaded(doge_device* device, const doge_config& c, uint64_t seed) {
  doge_model* model = nullptr;
  require(doge_model_create(device, &c, &model, &error), "doge_model_create");
  Random random{seed};
  const auto n = [](double value) { return static_cast<int64_t>(value); };
  const int64_t hidden = n(c.hidden_size), queries = n(c.heads * c.head_dim), keys = n(c.kv_heads * c.head_dim);
  const double scale = 2.0 / std::sqrt(c.hidden_size);
  write(model, random, "model.embed_tokens.weight", n(c.vocab_size) * hidden, 0.1);
  for (int layer = 0; layer < static_cast<int>(c.layers); layer++) {
    const std::string at = "model.layers." + std::to_string(layer);
    const std::string attention = at + ".self_attn.";
    write(model, random, at + ".input_layernorm.weight", hidden, 0.2, 1);
    write(model, random, attention + "q_proj.weight", queries * hidden, scale);
    write(model, random, attention + "k_proj.weight", keys * hidden, scale);
    write(model, random, attention + "v_proj.weight", keys * hidden, scale);
    write(model, random, attention + "A", n(c.bias_heads), 0.6);
    write(model, random, attention + "dt_proj.weight", n(c.bias_heads) * keys, scale);
    write(model, random, attention + "o_proj.weight", hidden * queries, scale);
    write(model, random, at + ".input_residual", hidden, 0.5, 1);
    write(model, random, at + ".post_attention_layernorm.weight", hidden, 0.2, 1);
    write(model, random, at + ".mlp.gate_proj.weight", n(c.intermediate_size) * hidden, scale);
    write(model, random, at + ".mlp.up_proj.weight", n(c.intermediate_size) * hidden, scale);
    write(model, random, at + ".mlp.down_proj.weight", hidden * n(c.intermediate_size), scale);
    write(model, random, at + ".post_attention_residual", hidden, 0.5, 1);
  }
  write(model, random, "model.norm.weight", hidden, 0.2, 1);
  require(doge_model_ready(model, &error), "doge_model_ready");
  return model;
}

doge_row row_of(doge_sequence* sequence, const std::vector<int32_t>& tokens, int count = 0, double temperature = 0) {
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

std::vector<int32_t> ids(int count, int vocabulary, int from = 0) {
  std::vector<int32_t> result;
  for (int index = 0; index < count; index++) result.push_back((from + index * 7919 + 13) % vocabulary);
  return result;
}

doge_sequence* fresh(doge_model* model) {
  doge_sequence* sequence = nullptr;
  require(doge_sequence_create(model, &sequence, &error), "doge_sequence_create");
  return sequence;
}

std::vector<float> logits(doge_model* model, doge_sequence* sequence, const std::vector<int32_t>& tokens, int vocabulary) {
  std::vector<float> result(static_cast<size_t>(vocabulary), NAN);
  const doge_row row = row_of(sequence, tokens);
  require(doge_forward(model, &row, 1, result.data(), &error), "doge_forward");
  return result;
}

std::vector<int32_t> drawn(doge_model* model, doge_sequence* sequence, const std::vector<int32_t>& tokens, int count, double temperature) {
  std::vector<int32_t> found(static_cast<size_t>(count));
  const doge_row row = row_of(sequence, tokens, count, temperature);
  doge_drawn result{0, found.data(), nullptr, nullptr, nullptr};
  require(doge_sample(model, &row, 1, &result, &error), "doge_sample");
  found.resize(static_cast<size_t>(result.drawn));
  return found;
}

double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t index = 0; index < a.size(); index++) {
    const double gap = std::fabs(static_cast<double>(a[index]) - static_cast<double>(b[index]));
    if (!(gap <= most)) most = gap == gap ? gap : INFINITY;
  }
  return most;
}

/** Ids that two rows draw beside each other. */
std::vector<std::vector<int32_t>> drawn_together(doge_model* model, const std::vector<std::vector<int32_t>>& prompts, int count, double temperature) {
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

/** Whether two models draw at once what each draws alone, so many times: their launches take all of a device, each on a stream of its own. */
bool draws_beside_another(doge_device* device, int draws, int times) {
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

int checks(doge_device* device, bool small) {
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

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/** FNV-1a of the ids: the hash of the result that a speed is stated beside. */
uint32_t hash_of(const std::vector<int32_t>& found) {
  uint32_t hash = 2166136261u;
  for (const int32_t id : found) hash = (hash ^ static_cast<uint32_t>(id)) * 16777619u;
  return hash;
}

/** What is timed: a model's shape, and how much of it. */
struct Size {
  const char* name;
  int vocabulary;
  double hidden, inner, layers, heads, dim;
  int prompt, before, draws, rows, row_draws;
};
const Size SIZES[] = {{"20M", 32768, 256, 512, 8, 2, 128, 2048, 128, 256, 256, 32},
                      {"60M", 32768, 512, 1024, 16, 4, 128, 2048, 128, 256, 256, 32},
                      {"160M", 32768, 768, 1536, 24, 6, 128, 2048, 128, 256, 256, 32},
                      {"320M", 32768, 1024, 2048, 32, 8, 128, 2048, 128, 256, 256, 32},
                      {"tiny", 512, 64, 96, 2, 2, 32, 80, 8, 16, 18, 3}};

/** Mean KL divergence of the logits behind several texts from those of f32, and the share of texts with the same likeliest token. */
std::pair<double, double> nearness(doge_device* device, doge_config config, doge_model* model, const Size& size) {
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

const Size* size_named(const std::string& name) {
  for (const Size& size : SIZES)
    if (name == size.name) return &size;
  std::fprintf(stderr, "There is no size %s: use 20M, 60M, 160M, 320M or tiny.\n", name.c_str());
  return nullptr;
}

doge_config config_of(const Size& shape, const std::string& dtype) {
  const double context = std::max(shape.prompt, shape.before + shape.draws) + 256;
  doge_config config = config_of(shape.vocabulary, shape.hidden, shape.inner, shape.layers, shape.heads, shape.dim, context,
                                 std::max<double>(context, shape.rows * (shape.before + shape.row_draws + 32)));
  config.dtype = dtype == "q8" ? DOGE_Q8 : dtype == "bf16" ? DOGE_BF16 : DOGE_F32;
  return config;
}

int profile(doge_device* device, const std::string& size, const std::string& dtype) {
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

int timing(doge_device* device, const std::string& size, const std::string& dtype, int times) {
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
    const auto decode = median([&] {
      require(doge_sequence_rewind(one, shape.before, &error), "doge_sequence_rewind");
      found = drawn(model, one, {}, shape.draws, 0);
    });
    const auto range = [&](int draws) { return ", context " + std::to_string(shape.before) + " to " + std::to_string(shape.before + draws); };
    tell(("decode, 1 row" + range(shape.draws)).c_str(), shape.draws, decode, hash_of(found));
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
    std::vector<doge_sequence*> sequences;
    std::vector<doge_row> all;
    std::vector<std::vector<int32_t>> lists(static_cast<size_t>(rows), std::vector<int32_t>(static_cast<size_t>(shape.row_draws))), prompts;
    std::vector<doge_drawn> out;
    for (int row = 0; row < rows; row++) prompts.push_back(ids(shape.before, vocabulary, row));
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
      for (doge_sequence* sequence : sequences) require(doge_sequence_rewind(sequence, shape.before, &error), "doge_sequence_rewind");
      require(doge_sample(model, all.data(), rows, out.data(), &error), "doge_sample");
    });
    tell(("decode, " + std::to_string(rows) + " rows" + range(shape.row_draws)).c_str(), static_cast<double>(shape.row_draws) * rows, batch,
         hash_of(lists[0]));
    for (doge_sequence* sequence : sequences) doge_sequence_close(sequence);
    const auto [divergence, agreement] = nearness(device, config, model, shape);
    std::printf("{\"size\":\"%s\",\"dtype\":\"%s\",\"what\":\"nearness to f32\",\"kl\":%.3g,\"agreement\":%.4f}\n", size.c_str(), dtype.c_str(), divergence,
                agreement);
    doge_model_close(model);
    return 0;
  }
  return 1;
}

int rates(doge_device* device, int64_t bytes) {
  double read, multiply, tiles;
  // Little memory is a look whether it runs.
  require(doge_device_rates(device, bytes, bytes < (1 << 20) ? 1 : 64, &read, &multiply, &tiles, &error), "doge_device_rates");
  std::printf("{\"bytes\":%lld,\"bytesPerSecond\":%.4g,\"macsPerSecond\":%.4g,\"tensorMacsPerSecond\":%.4g}\n", static_cast<long long>(bytes), read, multiply,
              tiles);
  return 0;
}

/** One line for each form and shape. 11 bits of x move the furthest of millions of sums by 4e-3 of their usual size at most, and of the
 *  products of two such sums by 2e-2; 16 bits a tenth of that. */
int tiles(doge_device* device, bool small) {
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
int attention(doge_device* device, bool small) {
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

}  // namespace

int main(int count, char** arguments) {
  const std::string command = count > 1 ? arguments[1] : "check";
  doge_device* device = nullptr;
  require(doge_open(0, &device, &error), "doge_open");
  int status = 1;
  if (command == "check")
    status = checks(device, count > 2 && std::string(arguments[2]) == "small");
  else if (command == "time" && count > 3)
    status = timing(device, arguments[2], arguments[3], count > 4 ? std::max(1, std::atoi(arguments[4])) : 5);
  else if (command == "profile" && count > 3)
    status = profile(device, arguments[2], arguments[3]);
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
