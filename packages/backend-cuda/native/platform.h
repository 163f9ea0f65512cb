// The device, as the rest of the core sees it: memory, copies, launches, graphs. CUDA's runtime, or under DOGE_SHIM the host.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#if defined(DOGE_SHIM)
#include "shim.h"
#else
#include <cuda_runtime.h>
#endif

namespace doge {

/** A fault with a code of the contract and a whole sentence. Never crosses the C interface. */
struct Fault {
  std::string code;
  std::string message;
  int row = -1;
};

/** Bytes of device memory: needed and available are part of the sentence of "out-of-memory". */
[[noreturn]] inline void throw_out_of_memory(size_t needed, size_t available) {
  char text[200];
  std::snprintf(text, sizeof text,
                "The device has no room for %.1f MiB more: %.1f MiB are available. Use a smaller dtype, context or room, or close "
                "other models.",
                static_cast<double>(needed) / 1048576.0, static_cast<double>(available) / 1048576.0);
  throw Fault{"out-of-memory", text};
}

/** One opened device. Its models share it; "device-lost" is noted here, once and for all of them. */
class Device {
 public:
  explicit Device(int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /** Throws "device-lost" once the device is gone. Every call begins with it. */
  void require() const;
  void* allocate(size_t bytes);
  void release(void* pointer) noexcept;
  /** Memory that host and device both see. */
  void* allocate_mapped(size_t bytes);
  void release_mapped(void* pointer) noexcept;
  void upload(void* to, const void* from, size_t bytes);
  void download(void* to, const void* from, size_t bytes);
  void copy(void* to, const void* from, size_t bytes);
  void fill(void* to, int value, size_t bytes);
  /** Wait for all work; throws what went wrong in it. */
  void finish();
  const std::string& name() const { return name_; }
  size_t allocated() const { return allocated_; }
  size_t allocations() const { return allocations_; }

  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 grid, int threads, Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    launches_++;
#if defined(DOGE_SHIM)
    shim::launch(grid, threads, [=] { kernel(static_cast<Parameters>(arguments)...); });
#else
    kernel<<<grid, static_cast<unsigned>(threads), 0, stream_>>>(static_cast<Parameters>(arguments)...);
    check(cudaGetLastError(), "A kernel could not be launched");
#endif
  }
  size_t launches() const { return launches_; }

#if defined(DOGE_SHIM)
  /** Fault injection, for tests: the n-th allocation from now on fails, or the n-th upload, download or copy loses the device. */
  void fail_after(int allocations, int operations) {
    fail_allocation_ = allocations;
    fail_operation_ = operations;
  }
#else
  cudaStream_t stream() const { return stream_; }
  void check(cudaError_t status, const char* what);
#endif

 private:
  void operation();
  int index_;
  std::string name_;
  bool lost_ = false;
  size_t allocated_ = 0;
  size_t allocations_ = 0;
  size_t launches_ = 0;
#if defined(DOGE_SHIM)
  int fail_allocation_ = -1;
  int fail_operation_ = -1;
#else
  cudaStream_t stream_ = nullptr;
#endif
};

}  // namespace doge
