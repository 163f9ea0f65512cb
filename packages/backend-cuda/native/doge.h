/* doge.h: the contract of docs/contract.md as a C interface. The Node binding, the C test runner and Python's ctypes stand on it.
 *
 * Every function that can fail returns 0, or -1 with `error` filled; nothing throws across this line. A model's calls come one at
 * a time; models may be used from several threads. A call happens whole or, when it fails, every sequence is as it was.
 * Arrays are the caller's: what is passed in is read before the call returns. A null, a number out of range or a sequence of another
 * model is "invalid-argument" (core's checked() has the same ranges); to close null does nothing. Lengths of arrays cannot be seen.
 */
#ifndef DOGE_H
#define DOGE_H
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define DOGE_API __declspec(dllexport)
#else
#define DOGE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define DOGE_ABI 2

typedef struct doge_device doge_device;
typedef struct doge_model doge_model;
typedef struct doge_sequence doge_sequence;

/** What went wrong: a code of the contract ("out-of-memory", "device-lost", ...) and a whole sentence. */
typedef struct {
  char code[32];
  char message[480];
} doge_error;

/** Whether the device can be used; when not, `code` is "unavailable", `reason` a stable word and `why` a whole sentence. */
typedef struct {
  int available;
  char reason[32]; /* no-driver, driver-too-old, no-device, no-image, wrong-device */
  char why[480];
  char name[256];
  int driver;       /* CUDA version of the driver, 12040 for 12.4; 0: none */
  int runtime;      /* CUDA version of this build */
  int devices;
  int capability;   /* 90 for 9.0 */
} doge_probe_result;

typedef enum { DOGE_F32 = 0, DOGE_BF16 = 1, DOGE_Q8 = 2 } doge_dtype;
typedef enum { DOGE_ROPE_DEFAULT = 0, DOGE_ROPE_LINEAR = 1, DOGE_ROPE_DYNAMIC = 2 } doge_rope;

/** A model's hyperparameters; names as in core's Config. All numbers are doubles so that every language can write them. */
typedef struct {
  double vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, head_dim;
  double norm_epsilon, max_positions;
  double rope_type, rope_theta, rope_factor;
  double qk_norm, bias_heads, window; /* window 0: nothing is ever dropped */
  double attention_bias, mlp_bias, tied;
  double experts, experts_per_token, experts_side, experts_normalize, experts_sorted; /* experts 0: dense */
  double dtype, reference_routing, context, room;
} doge_config;

/** One row of a call. Rows of doge_forward, doge_score and doge_inspect use the first three fields only. */
typedef struct {
  doge_sequence* sequence;
  const int32_t* tokens;
  int32_t token_count;
  int32_t count;        /* ids to draw at most; the caller keeps it within the context */
  int32_t alternatives; /* -1: no log-probabilities; k: those of the k most likely too */
  int32_t top_k;
  uint32_t seed;
  double temperature, top_p, min_p, repetition_penalty;
  const int32_t* stops;
  int32_t stop_count;
  const uint32_t* allowed; /* ceil(vocab / 32) words, or NULL: all */
} doge_row;

/** Where doge_sample writes what a row drew: room for `count` ids and ln p, `count * alternatives` of the lists. Only what was
 *  asked for is written. */
typedef struct {
  int32_t drawn;
  int32_t* ids;
  float* logprobs;
  int32_t* top_ids;
  float* top_logprobs;
} doge_drawn;

/** Called by doge_inspect for every tensor of every row: (rows, columns) numbers, good until it returns. */
typedef void (*doge_tensor)(void* context, int32_t row, const char* name, int64_t rows, int64_t columns, const float* data);

DOGE_API int doge_abi(void);
/** Never fails and loads nothing but the driver. `driver`: file of libcuda, NULL: the system's. */
DOGE_API void doge_probe(int device, const char* driver, doge_probe_result* result);
DOGE_API int doge_open(int device, doge_device** result, doge_error* error);
/** Models must be closed before. */
DOGE_API void doge_close(doge_device* device);

/** Room for weights, tables and keys. The weights follow by doge_model_write. */
DOGE_API int doge_model_create(doge_device* device, const doge_config* config, doge_model** result, doge_error* error);
/** The next `count` values of a tensor by its canonical name: f32, in order, in pieces cut anywhere. Rounded to the dtype here. */
DOGE_API int doge_model_write(doge_model* model, const char* name, const float* values, int64_t count, doge_error* error);
/** Fails unless every value of every tensor has come. */
DOGE_API int doge_model_ready(doge_model* model, doge_error* error);
/** Closes its sequences too. No call may be running. */
DOGE_API void doge_model_close(doge_model* model);
/** What the weights take as held. */
DOGE_API int64_t doge_model_bytes(const doge_model* model);
/** Tokens that still fit. */
DOGE_API int64_t doge_model_room(const doge_model* model);
/** From any thread. 1: the call that is running, or else the next one, fails with "aborted" soon. 0: takes that back. */
DOGE_API void doge_model_abort(doge_model* model, int on);
/** What driving a device took since it was opened, and the bytes of its memory that are held: for tests and reports. */
typedef struct {
  int64_t launches;    /* kernels that ran, those of graphs included */
  int64_t submissions; /* launches and graphs that the host handed over */
  int64_t bytes_in, bytes_out;
  int64_t allocations;
  int64_t bytes_held;
} doge_counts;
DOGE_API void doge_device_counts(const doge_device* device, doge_counts* counts);
/** The most it reads and multiplies in a second, by loops that do nothing else: bytes per second over `bytes` of memory, f32
 *  multiply-adds, and bf16 ones on tensor cores (0: none). `effort` scales the work: 64 on a GPU, 1 to see that it runs. */
DOGE_API int doge_device_rates(doge_device* device, int64_t bytes, int32_t effort, double* read, double* multiply, double* multiply_tiles,
                               doge_error* error);

/** One form of the matmul for many rows over random matrices: its greatest difference from the plain kernel, as a share of the root mean
 *  square of the results, and seconds of a launch over `together` of them (0: not timed). form: -1 mma.sync, 0 to 3 tiles of warpgroups;
 *  gated: `outer` outputs of swiglu. Fails with "unsupported" where the device has no such instructions. */
DOGE_API int doge_device_form(doge_device* device, int32_t rows, int32_t inner, int32_t outer, int32_t form, int32_t gated, int32_t together, double* apart,
                              double* seconds, doge_error* error);

/** How far one kind of product by warpgroups (0 to 5) is from what it is, on small whole numbers: 0 where it is right. */
DOGE_API int doge_device_products(doge_device* device, int32_t kind, double* apart, doge_error* error);
/** The attention of a prompt in half precision over random numbers: `tokens`, the first `before` of them of an earlier call. apart and
 *  seconds as doge_device_form has them. */
DOGE_API int doge_device_attention(doge_device* device, int32_t tokens, int32_t before, int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t together,
                                   double* apart, double* seconds, doge_error* error);

DOGE_API int doge_sequence_create(doge_model* model, doge_sequence** result, doge_error* error);
DOGE_API int doge_sequence_fork(doge_sequence* sequence, doge_sequence** result, doge_error* error);
DOGE_API int doge_sequence_rewind(doge_sequence* sequence, int32_t length, doge_error* error);
DOGE_API void doge_sequence_close(doge_sequence* sequence);
DOGE_API int32_t doge_sequence_length(const doge_sequence* sequence);

/** logits (rows, vocabulary) */
DOGE_API int doge_forward(doge_model* model, const doge_row* rows, int32_t count, float* logits, doge_error* error);
/** scores: token_count numbers of each row, one row behind the other. */
DOGE_API int doge_score(doge_model* model, const doge_row* rows, int32_t count, float* scores, doge_error* error);
DOGE_API int doge_sample(doge_model* model, const doge_row* rows, int32_t count, doge_drawn* drawn, doge_error* error);
/** Tensors: "hidden", "logits"; with `layers`, "layers.N.bias" (bias_heads, tokens) and "layers.N.value" too. */
DOGE_API int doge_inspect(doge_model* model, const doge_row* rows, int32_t count, int layers, doge_tensor receive, void* context,
                          doge_error* error);

/* Single kernels over arrays of the host, for tests: their definitions stand in packages/conformance. Matrices are row by row. */
DOGE_API int doge_kernel_rmsnorm(doge_device* device, float* out, const float* x, const float* weight, int32_t rows, int32_t width,
                                 float epsilon, doge_error* error);
/** out (rows, outer) = x (rows, inner) . weight (outer, inner) + bias (outer) or NULL; the weights are rounded to `dtype`. */
DOGE_API int doge_kernel_matmul(doge_device* device, float* out, const float* x, const float* weight, const float* bias, int32_t rows,
                                int32_t inner, int32_t outer, doge_dtype dtype, doge_error* error);
/** x (heads, head_dim) turned to `position`, in place. */
DOGE_API int doge_kernel_rope(doge_device* device, float* x, int32_t heads, int32_t head_dim, int32_t position, double theta, doge_error* error);
DOGE_API int doge_kernel_swiglu(doge_device* device, float* out, const float* gate, const float* up, int32_t width, doge_error* error);
/** One query head over keys and values (count, head_dim) with a bias (count). */
DOGE_API int doge_kernel_attention(doge_device* device, float* out, const float* query, const float* keys, const float* values, const float* bias,
                                   int32_t count, int32_t head_dim, doge_error* error);
/** The same for a text: each of `count` tokens over itself and those before it, as a model of `dtype` does it. out, queries
 *  (count, head_dim). */
DOGE_API int doge_kernel_attention_text(doge_device* device, float* out, const float* queries, const float* keys, const float* values, const float* bias,
                                        int32_t count, int32_t head_dim, doge_dtype dtype, doge_error* error);
/** d (16, 8) = a (16, 16) . b (8, 16) by one instruction of the tensor cores, and the registers of each of the 32 lanes: a[4], b[2],
 *  and b[2] as loaded turned. */
DOGE_API int doge_kernel_fragments(doge_device* device, float* d, uint32_t* registers, const float* a, const float* b, doge_error* error);
/** The id drawn for `position` behind `tokens`, as `row` says; -1: nothing is allowed. */
DOGE_API int doge_kernel_draw(doge_device* device, int32_t* id, const float* logits, int32_t vocabulary, int32_t position, const doge_row* row,
                              doge_error* error);

#if defined(DOGE_SHIM)
/** Tests: the n-th memory from now on (0: the next) is refused; the n-th piece of work ends the device's context. -1: never. */
DOGE_API void doge_shim_fail(int allocation, int operation);
/** Blocks of memory, streams and graphs that the process has. */
DOGE_API int doge_shim_made(void);
/** Whether no launch may be beside the one before it, and no graph have such; and how many launches have been. */
DOGE_API void doge_shim_alone(int launches, int graphs);
DOGE_API int64_t doge_shim_beside(void);
/** What is refused of clusters, as Runtime::unclustered of shim_runtime.h says; and how many launches have had them. */
DOGE_API void doge_shim_unclustered(int what);
DOGE_API int64_t doge_shim_clustered(void);
#endif

#ifdef __cplusplus
}
#endif
#endif
