// What runs a kernel on the host: every thread of a block is a fiber of one OS thread; what waits switches to another of them. Blocks run one
// after the other, or where they wait for each other, each on an OS thread of its own.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>
#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace shim {

constexpr int WARP = 32;
constexpr int MOST_THREADS = 256;
/** Bytes of a thread's stack. Not a power of two: what all threads use of theirs would lie in the same few lines of the cache. */
constexpr size_t STACK = 64 * 1024 + 320;
/** Blocks of a grid in y or in z. */
constexpr unsigned MOST_GRID = 65535;

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
  unsigned char bytes[128];
};
/** What a thread has written that has not got beyond it. */
struct Late {
  void* to;
  size_t count;
  unsigned char bytes[4];
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
  /** Publications and waits that threads have begun: while it stands still, none of them has got on. */
  uint64_t steps = 0;
  /** How often the turn went from the last threads to the first. */
  uint64_t rounds = 0;
  /** Of questions to other blocks: the thread that asked first, what stood where then, and whether something was published that the bell
   *  has not been rung for. */
  int asker = -1;
  uint64_t steps_then = 0, rounds_then = 0, rung_then = 0;
  bool published = false;
  /** Lines of global memory as they were when they were first read since a fence; what each thread has written and not fenced since. */
  std::unordered_map<uintptr_t, Line> lines;
  std::vector<Late> written[MOST_THREADS];
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
  if (!within_warp && next < self) b.rounds++;
  enter(b, next, &b.pointers[self]);
}

/** Rung when a block has made what blocks of other OS threads may wait for. */
struct Bell {
  std::atomic<uint64_t> rung{0};
  std::mutex lock;
  std::condition_variable heard;
  void ring() {
    { const std::lock_guard<std::mutex> guard(lock); rung++; }
    heard.notify_all();
  }
  void sleep(uint64_t then) {
    std::unique_lock<std::mutex> guard(lock);
    if (!heard.wait_for(guard, std::chrono::minutes(2), [&] { return rung != then; })) broken("what a block waits for never came from another.");
  }
};
inline Bell& bell() {
  static Bell instance;
  return instance;
}
inline void publish(Block& b) {
  b.steps++;
  b.published = true;
}
/** Between two questions of a thread to other blocks. When all threads have been asked and none has got on, the block sleeps: blocks that
 *  turn in circles would take the processors from those that they wait for. */
inline void ask_again(Block& b) {
  if (b.steps != b.steps_then || b.asker < 0) {
    b.asker = b.current;
    b.steps_then = b.steps;
    b.rounds_then = b.rounds;
    b.rung_then = bell().rung;
  } else if (b.current == b.asker && b.rounds > b.rounds_then) {
    if (std::exchange(b.published, false)) bell().ring();
    bell().sleep(b.rung_then);
    b.rounds_then = b.rounds;
    b.rung_then = bell().rung;
  }
  yield(b, false);
}

/** What the current thread has written gets beyond it. */
inline void write_now(Block& b) {
  for (const Late& late : b.written[b.current]) std::memcpy(late.to, late.bytes, late.count);
  b.written[b.current].clear();
}

inline void body() {
  Block& b = block();
  b.entry(b.context);
  const int self = b.current;
  if (b.beside && !b.awaited[self]) broken("a thread of a kernel that is launched beside the one before it has not awaited that one.");
  if (!b.copies[self].empty()) broken("a thread returned with copies under way.");
  if (!b.products[self].empty()) broken("a thread returned with products of its warpgroup under way.");
  write_now(b);
  b.done[self] = true;
  b.steps++;
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
  if (grid.y > MOST_GRID || grid.z > MOST_GRID) broken("a grid has at most 65,535 blocks in y and in z.");
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
        b.asker = -1;
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
    all.emplace_back([=] {
      launch(dim3(static_cast<unsigned>(blocks)), threads, kernel, shared, index);
      bell().ring();
    });
  for (std::thread& each : all) each.join();
}

inline void await_earlier() { block().awaited[block().current] = true; }
/** Before what a kernel may only do once the launch before it has ended. */
inline void in_turn(const Block& b) {
  if (b.beside && !b.awaited[b.current]) broken("a kernel that is launched beside the one before it did something before it awaited that one.");
}

}  // namespace shim
