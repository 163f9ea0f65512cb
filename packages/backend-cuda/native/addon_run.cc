// The verbs for Node: what JavaScript hands over is copied, the work done on a worker thread, and the result handed back as a promise.
#include "addon.h"

namespace addon {

namespace {

enum Verb { FORWARD = 0, SCORE = 1, SAMPLE = 2, INSPECT = 3, INSPECT_INSIDE = 4 };

/** A verb on its way: everything it needs, copied. */
struct Job {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  Verb verb = FORWARD;
  doge_model* model = nullptr;
  int32_t vocabulary = 0;
  std::vector<Held> held;
  std::vector<doge_row> rows;
  int status = 0;
  doge_error error{};
  std::vector<float> numbers;
  struct Lists {
    std::vector<int32_t> ids, top_ids;
    std::vector<float> logprobs, top_logprobs;
  };
  std::vector<Lists> lists;
  std::vector<doge_drawn> drawn;
  struct Tensor {
    int32_t row;
    std::string name;
    int64_t rows, columns;
    std::vector<float> data;
  };
  std::vector<Tensor> tensors;
};

void execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  const int32_t count = static_cast<int32_t>(job.rows.size());
  switch (job.verb) {
    case FORWARD:
      job.numbers.resize(job.rows.size() * static_cast<size_t>(job.vocabulary));
      job.status = doge_forward(job.model, job.rows.data(), count, job.numbers.data(), &job.error);
      return;
    case SCORE: {
      size_t total = 0;
      for (const doge_row& row : job.rows) total += static_cast<size_t>(row.token_count);
      job.numbers.resize(total);
      job.status = doge_score(job.model, job.rows.data(), count, job.numbers.data(), &job.error);
      return;
    }
    case SAMPLE:
      for (size_t index = 0; index < job.rows.size(); index++) {
        const size_t most = static_cast<size_t>(job.rows[index].count);
        const size_t width = static_cast<size_t>(job.rows[index].alternatives < 0 ? 0 : job.rows[index].alternatives);
        Job::Lists& list = job.lists[index];
        list.ids.resize(most);
        list.logprobs.resize(most);
        list.top_ids.resize(most * width);
        list.top_logprobs.resize(most * width);
        job.drawn[index] = {0, list.ids.data(), list.logprobs.data(), list.top_ids.data(), list.top_logprobs.data()};
      }
      job.status = doge_sample(job.model, job.rows.data(), count, job.drawn.data(), &job.error);
      return;
    default:
      job.status = doge_inspect(
          job.model, job.rows.data(), count, job.verb == INSPECT_INSIDE,
          [](void* context, int32_t row, const char* name, int64_t rows, int64_t columns, const float* numbers) {
            static_cast<Job*>(context)->tensors.push_back({row, name, rows, columns, std::vector<float>(numbers, numbers + rows * columns)});
          },
          &job, &job.error);
  }
}

/** Lists with nothing in them, which all rows may share: most rows have no probabilities, and each list of its own costs as much as a long one. */
struct Nothing {
  napi_value ids, numbers;
  explicit Nothing(napi_env env)
      : ids(typed<int32_t>(env, napi_int32_array, nullptr, 0)), numbers(typed<float>(env, napi_float32_array, nullptr, 0)) {}
};

napi_value drawn_of(napi_env env, const Job& job, size_t index, const Nothing& nothing) {
  const Job::Lists& list = job.lists[index];
  const size_t count = static_cast<size_t>(job.drawn[index].drawn);
  const int32_t alternatives = job.rows[index].alternatives;
  const size_t width = alternatives < 0 ? 0 : static_cast<size_t>(alternatives);
  napi_value object;
  napi_create_object(env, &object);
  set(env, object, "ids", typed(env, napi_int32_array, list.ids.data(), count));
  set(env, object, "logprobs", alternatives < 0 ? nothing.numbers : typed(env, napi_float32_array, list.logprobs.data(), count));
  set(env, object, "topIds", width == 0 ? nothing.ids : typed(env, napi_int32_array, list.top_ids.data(), count * width));
  set(env, object, "topLogprobs", width == 0 ? nothing.numbers : typed(env, napi_float32_array, list.top_logprobs.data(), count * width));
  return object;
}

napi_value result_of(napi_env env, const Job& job) {
  napi_value array;
  napi_create_array(env, &array);
  const Nothing nothing(env);
  size_t from = 0;
  for (size_t index = 0; index < job.rows.size(); index++) {
    napi_value one = nullptr;
    if (job.verb == FORWARD || job.verb == SCORE) {
      const size_t count = job.verb == FORWARD ? static_cast<size_t>(job.vocabulary) : static_cast<size_t>(job.rows[index].token_count);
      one = typed(env, napi_float32_array, job.numbers.data() + from, count);
      from += count;
    } else if (job.verb == SAMPLE) {
      one = drawn_of(env, job, index, nothing);
    } else {
      napi_create_object(env, &one);
      for (const Job::Tensor& tensor : job.tensors) {
        if (tensor.row != static_cast<int32_t>(index)) continue;
        napi_value object, shape;
        napi_create_object(env, &object);
        napi_create_array(env, &shape);
        napi_set_element(env, shape, 0, number(env, static_cast<double>(tensor.rows)));
        napi_set_element(env, shape, 1, number(env, static_cast<double>(tensor.columns)));
        set(env, object, "shape", shape);
        set(env, object, "data", typed(env, napi_float32_array, tensor.data.data(), tensor.data.size()));
        set(env, one, tensor.name.c_str(), object);
      }
    }
    napi_set_element(env, array, static_cast<uint32_t>(index), one);
  }
  return array;
}

void complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (job->status == 0) {
    napi_resolve_deferred(env, job->deferred, result_of(env, *job));
  } else {
    napi_value error;
    napi_create_error(env, string(env, job->error.code), string(env, job->error.message), &error);
    napi_reject_deferred(env, job->deferred, error);
  }
  napi_delete_async_work(env, job->work);
}

}  // namespace

/** run(model, verb, vocabulary, rows): a promise of an array, one element a row. Rows: { sequence, tokens, count, alternatives,
 *  temperature, topK, topP, minP, repetitionPenalty, seed, stop: Int32Array, allowed?: Uint32Array }. */
napi_value run(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto job = std::make_unique<Job>();
  job->model = pointer_of<doge_model>(env, arguments.values[0]);
  if (job->model == nullptr) return nullptr;
  job->verb = static_cast<Verb>(arguments.integer(1));
  job->vocabulary = arguments.integer(2);
  uint32_t count = 0;
  napi_get_array_length(env, arguments.values[3], &count);
  job->held.resize(count);
  job->lists.resize(count);
  job->drawn.resize(count);
  for (uint32_t index = 0; index < count; index++) {
    napi_value row, value;
    napi_get_element(env, arguments.values[3], index, &row);
    Held& held = job->held[index];
    if (!read_row(env, row, job->vocabulary, held)) {
      napi_throw_error(env, "invalid-argument", "A row's tokens are not an Int32Array.");
      return nullptr;
    }
    napi_get_named_property(env, row, "sequence", &value);
    held.row.sequence = pointer_of<doge_sequence>(env, value);
    if (held.row.sequence == nullptr) return nullptr;
    job->rows.push_back(held.row);
  }
  doge_model_abort(job->model, 0);  // an abort that came too late for the call before is not meant for this one
  napi_value promise;
  napi_create_promise(env, &job->deferred, &promise);
  napi_create_async_work(env, nullptr, string(env, "doge"), execute, complete, job.get(), &job->work);
  napi_queue_async_work(env, job->work);
  job.release();
  return promise;
}

}  // namespace addon
