// CUDA's execution model as plain C++, for tests on machines without a GPU: every thread of a block is a fiber, barriers and
// shuffles switch between them, blocks run one after the other, or where they wait for each other, each on a thread of its own.
//
// The kernels are compiled unchanged. What this cannot show: races between blocks, memory ordering, occupancy, speed.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>
#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static thread_local
#define __launch_bounds__(...)

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace shim {

constexpr int WARP = 32;
constexpr int MOST_THREADS = 256;
constexpr size_t STACK = 64 * 1024;

// One switch of stacks: callee-saved registers are pushed, the stack pointer is exchanged.
#if defined(__x86_64__)
extern "C" void doge_shim_switch(void** from, void* to);
__asm__(
    ".text\n.p2align 4\n.local doge_shim_switch\n.type doge_shim_switch,@function\ndoge_shim_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");
constexpr int SAVED = 6;
#elif defined(__aarch64__)
extern "C" void doge_shim_switch(void** from, void* to);
__asm__(
    ".text\n.p2align 4\n.local doge_shim_switch\n.type doge_shim_switch,%function\ndoge_shim_switch:\n"
    "  sub sp, sp, #160\n  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
    "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n  stp d8, d9, [sp, #96]\n"
    "  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n"
    "  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n  add sp, sp, #160\n  ret\n");
#endif

struct Index {
  unsigned x, y, z;
};

struct Copy {
  void* to;
  const void* from;  // null: zeros
  int group;
  size_t bytes;
};

/** A product of a warpgroup: made when it is waited for. */
struct Product {
  const float* to;
  int group;
  std::function<void()> make;
};

/** The shared memory that a launch asks for: as much as a block of compute capability 9.0 may have. */
constexpr size_t MOST_SHARED = 227 * 1024;
inline unsigned char* dynamic_shared() {
  alignas(1024) static thread_local unsigned char memory[MOST_SHARED];
  return memory;
}

/** Bytes that the device brings by itself, for a barrier in shared memory. */
struct Bulk {
  void* to;
  const void* from;
  size_t bytes;
  const void* barrier;
};

/** A line of the cache of a block's processor. */
struct Line {
  float numbers[32];
};

/** The block that this OS thread is running. */
struct Block {
  void (*entry)(void*) = nullptr;
  void* context = nullptr;
  int threads = 0;
  int current = 0;
  int running = 0;
  int barrier_waiting = 0;
  unsigned barrier_generation = 0;
  bool done[MOST_THREADS];
  /** Whether it runs beside the launch before it, and which threads have awaited that one. */
  bool beside = false;
  bool awaited[MOST_THREADS];
  void* pointers[MOST_THREADS];
  int warp_waiting[MOST_THREADS / WARP];
  unsigned warp_generation[MOST_THREADS / WARP];
  unsigned turn[MOST_THREADS];
  /** What the lanes of a warp hand to each other, in two buffers used in turn. */
  alignas(16) unsigned char mail[MOST_THREADS / WARP][2][WARP][128];
  std::vector<Copy> copies[MOST_THREADS];
  int committed[MOST_THREADS] = {};
  /** Products of a warpgroup that are under way, and groups of them asked for so far. */
  std::vector<Product> products[MOST_THREADS];
  int products_asked[MOST_THREADS] = {};
  /** Places of 16 bytes of shared memory that a copy wrote and its thread has not shown to products since; those of each thread. */
  bool hidden[MOST_SHARED / 16];
  std::vector<size_t> copied[MOST_THREADS];
  std::vector<Bulk> bulks;
  /** Barriers of bulk copies behind which each thread may have read, or which it has started, and not fenced since. */
  std::vector<const void*> touched[MOST_THREADS];
  /** Lines of global memory as they were when they were first read since a fence; what each thread has written and not fenced since. */
  std::unordered_map<uintptr_t, Line> lines;
  std::vector<std::pair<float*, float>> written[MOST_THREADS];
  void* home = nullptr;
  char* stacks = nullptr;
#if !defined(__x86_64__) && !defined(__aarch64__)
  ucontext_t contexts[MOST_THREADS], home_context;
#endif
  ~Block() { std::free(stacks); }
};

inline thread_local Block* running = nullptr;
inline thread_local Index thread_index{0, 0, 0};
inline thread_local Index block_index{0, 0, 0};
inline thread_local Index block_dim{0, 0, 0};
inline thread_local Index grid_dim{0, 0, 0};

inline Block& block() { return *running; }
inline Block& own_block() {
  static thread_local Block instance;
  return instance;
}

[[noreturn]] inline void broken(const char* why) {
  std::fprintf(stderr, "shim: %s\n", why);
  std::abort();
}

inline void enter(Block& b, int thread, void** from) {
  b.current = thread;
  thread_index.x = static_cast<unsigned>(thread);
#if defined(__x86_64__) || defined(__aarch64__)
  doge_shim_switch(from, b.pointers[thread]);
#else
  ucontext_t* leaving = from == &b.home ? &b.home_context : &b.contexts[from - b.pointers];
  swapcontext(leaving, &b.contexts[thread]);
#endif
}

/** Go on with another thread: the next of the warp, or of the block. */
inline void yield(Block& b, bool within_warp) {
  const int self = b.current;
  const int first = within_warp ? self / WARP * WARP : 0;
  const int count = within_warp ? std::min(WARP, b.threads - first) : b.threads;
  int next = self;
  for (int step = 1; step < count; step++) {
    const int candidate = first + (self - first + step) % count;
    if (b.done[candidate]) continue;
    next = candidate;
    break;
  }
  if (next == self) broken("a thread waits for others that have returned: a barrier inside a branch.");
  enter(b, next, &b.pointers[self]);
}

inline void body() {
  Block& b = block();
  b.entry(b.context);
  const int self = b.current;
  if (b.beside && !b.awaited[self]) broken("a thread of a kernel that is launched beside the one before it has not awaited that one.");
  if (!b.copies[self].empty()) broken("a thread returned with copies under way.");
  if (!b.products[self].empty()) broken("a thread returned with products of its warpgroup under way.");
  for (const auto& [to, value] : b.written[self]) *to = value;
  b.written[self].clear();
  b.done[self] = true;
  if (b.running == 1 && !b.bulks.empty()) broken("a block ended with bulk copies under way.");
  if (--b.running > 0) {
    if (b.barrier_waiting > 0) broken("a thread returned while others wait at __syncthreads.");
    for (int step = 1; step < b.threads; step++) {
      const int candidate = (self + step) % b.threads;
      if (!b.done[candidate]) enter(b, candidate, &b.pointers[self]);
    }
  }
#if defined(__x86_64__) || defined(__aarch64__)
  doge_shim_switch(&b.pointers[self], b.home);
#else
  swapcontext(&b.contexts[self], &b.home_context);
#endif
  broken("a thread went on after its end.");
}

inline void prepare(Block& b, int thread) {
  char* const top = b.stacks + (static_cast<size_t>(thread) + 1) * STACK;
#if defined(__x86_64__)
  void** frame = reinterpret_cast<void**>(top) - 2 - SAVED;
  for (int slot = 0; slot < SAVED; slot++) frame[slot] = nullptr;
  frame[SAVED] = reinterpret_cast<void*>(&body);
  frame[SAVED + 1] = nullptr;
  b.pointers[thread] = frame;
#elif defined(__aarch64__)
  void** frame = reinterpret_cast<void**>(top) - 20;
  for (int slot = 0; slot < 20; slot++) frame[slot] = nullptr;
  frame[11] = reinterpret_cast<void*>(&body);
  b.pointers[thread] = frame;
#else
  getcontext(&b.contexts[thread]);
  b.contexts[thread].uc_stack.ss_sp = top - STACK;
  b.contexts[thread].uc_stack.ss_size = STACK;
  b.contexts[thread].uc_link = nullptr;
  makecontext(&b.contexts[thread], reinterpret_cast<void (*)()>(&body), 0);
#endif
}

/** Run blocks one after the other: all of a grid, or block `only` of a grid of one dimension. `beside`: every thread must say that it
 *  awaits the launch before it, and until then may neither meet others nor copy. */
template <class Kernel>
void launch(dim3 grid, int threads, Kernel kernel, size_t shared = 0, int only = -1, bool beside = false) {
  if (shared > MOST_SHARED) broken("a block has at most 227 KB of shared memory.");
  if (threads % WARP != 0 || threads > MOST_THREADS || threads < 1) broken("a block must be 32 to 256 threads, in whole warps.");
  running = &own_block();
  Block& b = *running;
  if (b.stacks == nullptr) b.stacks = static_cast<char*>(std::malloc(MOST_THREADS * STACK));
  if (b.stacks == nullptr) broken("no memory for the stacks.");
  b.entry = [](void* context) { (*static_cast<Kernel*>(context))(); };
  b.context = &kernel;
  b.threads = threads;
  b.beside = beside;
  block_dim = {static_cast<unsigned>(threads), 1, 1};
  grid_dim = {grid.x, grid.y, grid.z};
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        if (only >= 0 && x != static_cast<unsigned>(only)) continue;
        block_index = {x, y, z};
        b.running = threads;
        b.barrier_waiting = 0;
        std::memset(dynamic_shared(), 0xff, shared);  // NaN, until it is written
        std::memset(b.hidden, 0, sizeof b.hidden);
        b.lines.clear();
        for (int warp = 0; warp < threads / WARP; warp++) b.warp_waiting[warp] = 0;
        for (int thread = 0; thread < threads; thread++) {
          b.done[thread] = b.awaited[thread] = false;
          b.turn[thread] = 0;
          b.copied[thread].clear();
          b.touched[thread].clear();
          prepare(b, thread);
        }
        enter(b, 0, &b.home);
      }
}

/** All blocks at once, each on an OS thread of its own: they may wait for each other. */
template <class Kernel>
void launch_together(int blocks, int threads, size_t shared, Kernel kernel) {
  std::vector<std::thread> all;
  for (int index = 0; index < blocks; index++)
    all.emplace_back([=] { launch(dim3(static_cast<unsigned>(blocks)), threads, kernel, shared, index); });
  for (std::thread& each : all) each.join();
}

inline void await_earlier() { block().awaited[block().current] = true; }
/** Before what a kernel may only do once the launch before it has ended. */
inline void in_turn(const Block& b) {
  if (b.beside && !b.awaited[b.current]) broken("a kernel that is launched beside the one before it did something before it awaited that one.");
}

/** All lanes of a warp have arrived; `last` runs once, in the lane that comes last. */
template <class Last>
inline void warp_barrier(Block& b, Last last) {
  in_turn(b);
  const int warp = b.current / WARP;
  const unsigned generation = b.warp_generation[warp];
  if (++b.warp_waiting[warp] == WARP) {
    b.warp_waiting[warp] = 0;
    last();
    b.warp_generation[warp]++;
    return;
  }
  for (int tries = 0; b.warp_generation[warp] == generation; tries++) {
    if (tries > 1000000) broken("a warp waits for lanes that are elsewhere: a shuffle inside a branch.");
    // Lanes may wait for numbers that other warps have yet to publish.
    yield(b, tries < 4 * WARP);
  }
}

/** Every lane gives a value; `pick(values, lane)` of all of them comes back to each. */
template <class T, class Pick>
inline auto exchange(T value, Pick pick) {
  static_assert(sizeof(T) <= 128, "a mail slot has 128 bytes");
  Block& b = block();
  const int self = b.current;
  unsigned char(&buffer)[WARP][128] = b.mail[self / WARP][b.turn[self]++ & 1];
  std::memcpy(buffer[self % WARP], &value, sizeof(T));
  warp_barrier(b, [] {});
  return pick(buffer, self % WARP);
}

/** Every lane gives a value; `work` runs once over the 32 and changes them, and each lane takes its own back. */
template <class T, class Work>
inline T together(T value, Work work) {
  static_assert(sizeof(T) <= 128, "a mail slot has 128 bytes");
  Block& b = block();
  const int self = b.current;
  unsigned char(&buffer)[WARP][128] = b.mail[self / WARP][b.turn[self]++ & 1];
  std::memcpy(buffer[self % WARP], &value, sizeof(T));
  warp_barrier(b, [&] {
    T all[WARP];
    for (int lane = 0; lane < WARP; lane++) std::memcpy(&all[lane], buffer[lane], sizeof(T));
    work(all);
    for (int lane = 0; lane < WARP; lane++) std::memcpy(buffer[lane], &all[lane], sizeof(T));
  });
  std::memcpy(&value, buffer[self % WARP], sizeof(T));
  return value;
}

/** Which place of 16 bytes of the block's shared memory an address is in; beyond all of them: none. */
inline size_t place_of(const void* at) {
  return (reinterpret_cast<uintptr_t>(at) - reinterpret_cast<uintptr_t>(dynamic_shared())) / 16;
}
/** A copy of 16 or 4 bytes that is under way: made when it is waited for, as late as a device may. Until then NaN stands there. */
inline void copy_async(void* to, const void* from, bool valid, size_t bytes = 16) {
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0 || reinterpret_cast<uintptr_t>(from) % bytes != 0)
    broken("cp.async: an address is not a multiple of the bytes copied.");
  Block& b = block();
  in_turn(b);
  std::memset(to, 0xff, bytes);
  if (const size_t place = place_of(to); place < MOST_SHARED / 16) b.hidden[place] = true;
  b.copies[b.current].push_back({to, valid ? from : nullptr, b.committed[b.current], bytes});
}
inline void copy_commit() { block().committed[block().current]++; }
inline void copy_wait(int pending) {
  Block& b = block();
  std::vector<Copy>& copies = b.copies[b.current];
  size_t done = 0;
  for (; done < copies.size() && copies[done].group < b.committed[b.current] - pending; done++) {
    if (copies[done].from == nullptr)
      std::memset(copies[done].to, 0, copies[done].bytes);
    else
      std::memcpy(copies[done].to, copies[done].from, copies[done].bytes);
    if (const size_t place = place_of(copies[done].to); place < MOST_SHARED / 16) b.copied[b.current].push_back(place);
  }
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(done));
}

/** The thread reads what came for a barrier, or starts it: copies for it may follow once the thread has fenced. */
inline void bulk_touch(const void* barrier) { block().touched[block().current].push_back(barrier); }
inline void bulk_fence() { block().touched[block().current].clear(); }
/** A bulk copy that is under way: made when its barrier is waited for. */
inline void bulk_copy(void* to, const void* from, size_t bytes, const void* barrier) {
  for (const std::vector<const void*>& touched : block().touched)
    for (const void* each : touched)
      if (each == barrier) broken("a bulk copy goes where a thread has read, or for a barrier it has started, that has not fenced since.");
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0 || bytes == 0)
    broken("cp.async.bulk: addresses and bytes are multiples of 16.");
  in_turn(block());
  std::memset(to, 0xff, bytes);
  block().bulks.push_back({to, from, bytes, barrier});
}
/** The bytes that have come for a barrier. */
inline size_t bulk_arrive(const void* barrier) {
  std::vector<Bulk>& bulks = block().bulks;
  size_t bytes = 0, kept = 0;
  for (const Bulk& bulk : bulks) {
    if (bulk.barrier != barrier) {
      bulks[kept++] = bulk;
      continue;
    }
    std::memcpy(bulk.to, bulk.from, bulk.bytes);
    bytes += bulk.bytes;
  }
  bulks.resize(kept);
  return bytes;
}

/** Number `*from` through the processor's cache, and a number that gets beyond the thread's at its next fence. */
inline float read_early(const float* from) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(from), start = at / sizeof(Line) * sizeof(Line);
  const auto [found, fresh] = block().lines.try_emplace(start);
  if (fresh) std::memcpy(&found->second, reinterpret_cast<const void*>(start), sizeof(Line));
  return found->second.numbers[(at - start) / sizeof(float)];
}
inline void write_late(float* to, float value) { block().written[block().current].push_back({to, value}); }
inline void write_now(Block& b) {
  for (const auto& [to, value] : b.written[b.current]) *to = value;
  b.written[b.current].clear();
}

/** Every lane gives a value; all get the one that `reduce` makes of the 32, computed once. */
template <class T, class Reduce>
inline T reduced(T value, Reduce reduce) {
  static_assert(sizeof(T) <= 128, "a mail slot has 128 bytes");
  Block& b = block();
  const int self = b.current;
  unsigned char(&buffer)[WARP][128] = b.mail[self / WARP][b.turn[self]++ & 1];
  std::memcpy(buffer[self % WARP], &value, sizeof(T));
  warp_barrier(b, [&] {
    T all[WARP];
    for (int lane = 0; lane < WARP; lane++) std::memcpy(&all[lane], buffer[lane], sizeof(T));
    // The order of a butterfly of shuffles with 16, 8, 4, 2, 1.
    for (int half = WARP / 2; half > 0; half /= 2)
      for (int lane = 0; lane < half; lane++) all[lane] = reduce(all[lane], all[lane + half]);
    std::memcpy(buffer[0], &all[0], sizeof(T));
  });
  T result;
  std::memcpy(&result, buffer[0], sizeof(T));
  return result;
}

}  // namespace shim

#define threadIdx (shim::thread_index)
#define blockIdx (shim::block_index)
#define blockDim (shim::block_dim)
#define gridDim (shim::grid_dim)

inline void __syncthreads() {
  shim::Block& b = shim::block();
  shim::in_turn(b);
  const unsigned generation = b.barrier_generation;
  if (b.running != b.threads) shim::broken("a thread waits at __syncthreads for others that have returned.");
  if (++b.barrier_waiting == b.threads) {
    b.barrier_waiting = 0;
    b.barrier_generation++;
    return;
  }
  for (int tries = 0; b.barrier_generation == generation; tries++) {
    if (tries > 1000000) shim::broken("__syncthreads inside a branch.");
    shim::yield(b, false);
  }
}

inline void __threadfence() {
  shim::write_now(shim::block());
  shim::block().lines.clear();
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __syncwarp() { shim::warp_barrier(shim::block(), [] {}); }

template <class T>
inline T __shfl_xor_sync(unsigned, T value, int mask) {
  return shim::exchange(value, [mask](unsigned char(&buffer)[shim::WARP][128], int lane) {
    T result;
    std::memcpy(&result, buffer[lane ^ mask], sizeof(T));
    return result;
  });
}
template <class T>
inline T __shfl_sync(unsigned, T value, int source) {
  return shim::exchange(value, [source](unsigned char(&buffer)[shim::WARP][128], int) {
    T result;
    std::memcpy(&result, buffer[source & 31], sizeof(T));
    return result;
  });
}

inline unsigned __ballot_sync(unsigned, bool value) {
  return shim::exchange(value ? 1u : 0u, [](unsigned char(&buffer)[shim::WARP][128], int) {
    unsigned result = 0;
    for (int lane = 0; lane < shim::WARP; lane++) {
      unsigned bit;
      std::memcpy(&bit, buffer[lane], sizeof bit);
      result |= bit << lane;
    }
    return result;
  });
}

template <class T>
inline T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}
inline unsigned atomicOr(unsigned* address, unsigned value) { return __atomic_fetch_or(address, value, __ATOMIC_RELAXED); }
inline int atomicMin(int* address, int value) {
  const int before = *address;
  *address = std::min(before, value);
  return before;
}
using std::max;
using std::min;
/** Two roundings: a fused one is a slow library call on machines without the instruction, and a difference of one rounding is
 *  within every tolerance. */
inline float __fmaf_rn(float a, float b, float c) { return a * b + c; }
inline float __int_as_float(int value) {
  float result;
  std::memcpy(&result, &value, 4);
  return result;
}
inline long long __double_as_longlong(double value) {
  long long result;
  std::memcpy(&result, &value, 8);
  return result;
}
inline unsigned __float_as_uint(float value) {
  unsigned result;
  std::memcpy(&result, &value, 4);
  return result;
}
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
inline unsigned __brev(unsigned value) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; bit++) reversed |= (value >> bit & 1u) << (31 - bit);
  return reversed;
}
