// The device, as the rest of the core sees it: memory, copies, launches, graphs; by CUDA's runtime, or under DOGE_SHIM its double.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>
#if defined(DOGE_SHIM)
#include "shim.h"
#include "shim_runtime.h"
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

/** Launches that are submitted again and again as one: a CUDA graph. */
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

 private:
  friend class Device;
  cudaGraphExec_t executable_ = nullptr;
  int launches_ = 0;
};

/** What the models of one opened device share: whether it is lost, once and for all of them, and counts. */
struct Context {
  /** Throws "unavailable" when there is no such device, "device-lost" when this process has lost it and not closed it everywhere. */
  explicit Context(int index);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const int index;
  std::string name;
  /** Of the device: compute capability (90 for 9.0), multiprocessors, and the shared memory that a block may have, in bytes. */
  int capability = 0, processors = 1, shared_memory = 0;
  /** Whether it makes launches whose blocks wait for each other. */
  int cooperative = 0;
  std::atomic<bool> lost{false};
  std::atomic<int64_t> allocated{0}, allocations{0}, launches{0}, submissions{0}, bytes_in{0}, bytes_out{0};
  /** Throws "device-lost" once the device is gone. Every call begins with it. */
  void require() const;
};

/** A model's own stream of work on a device. Used by one thread at a time; those of several models by several. */
class Device {
 public:
  explicit Device(Context& context);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  void require() const { context_.require(); }
  /** Whether it has bf16 tensor cores and asynchronous copies. */
  bool tensor_cores() const { return context_.capability >= 80; }
  /** Whether it multiplies by warpgroups, which compute capability 9.0 alone does. */
  bool warpgroups() const { return context_.capability == 90; }
  bool capturing() const { return capturing_ != nullptr; }
  /** Whether it brings stretches of memory to shared memory by itself (bulk.cuh). */
  bool bulk_copies() const { return context_.capability >= 90; }
  /** Whether a launch may be beside the one before it. */
  bool dependent_launches() const { return context_.capability >= 90; }
  int processors() const { return context_.processors; }
  int shared_memory() const { return context_.shared_memory; }
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
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 grid, int threads, Arguments... arguments) {
    launch_with(0, kernel, grid, threads, arguments...);
  }
  /** The same for a kernel that takes `shared` bytes of shared memory beyond its own (DOGE_SHARED).
   *
   *  Where the device can, its blocks come before the kernel before it has ended, and wait for that (await_earlier): what lies between two
   *  launches is over by then. DOGE_DEPENDENT=0 goes without, to compare. */
  template <class... Parameters, class... Arguments>
  void launch_with(int shared, void (*kernel)(Parameters...), dim3 grid, int threads, Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    grant(reinterpret_cast<const void*>(kernel), shared);
    if (capturing_ != nullptr) {
      capturing_->launches_++;
    } else {
      context_.launches++;
      context_.submissions++;
    }
    cudaLaunchAttribute beside{};
    beside.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    beside.val.programmaticStreamSerializationAllowed = 1;
    const unsigned attributes = std::exchange(follows_, true) && beside_ ? 1 : 0;
    cudaLaunchConfig_t config{grid, dim3(static_cast<unsigned>(threads)), static_cast<size_t>(shared), stream_, &beside, attributes};
    cudaError_t status = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    if (status != cudaSuccess && stays_alone(status)) {
      config.numAttrs = 0;
      status = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    }
    check(status, "A kernel could not be launched");
    check(cudaGetLastError(), "A kernel could not be launched");
  }
  /** How many blocks of a kernel that take `shared` bytes beyond its own are on the device at once. */
  template <class... Parameters>
  int together(int shared, void (*kernel)(Parameters...), int threads) {
    int each = 0;
    if (context_.cooperative == 0) return 0;
    grant(reinterpret_cast<const void*>(kernel), shared);
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, static_cast<size_t>(shared)), "A kernel's blocks could not be counted");
    return std::min(each, 1) * processors();
  }
  /** The same for clusters of `size` blocks: how many of them. `why`: the driver's error where it says none, else null. */
  template <class... Parameters>
  int together(int shared, void (*kernel)(Parameters...), int threads, int size, const char*& why) {
    int found = 0;
    why = nullptr;
    if (context_.cooperative == 0 || !warpgroups()) return 0;
    grant(reinterpret_cast<const void*>(kernel), shared);
    // Of clusters alone: that blocks wait for each other is no part of how many fit.
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
    const cudaLaunchConfig_t config{dim3(static_cast<unsigned>(size)), dim3(static_cast<unsigned>(threads)), static_cast<size_t>(shared), stream_, &cluster, 1};
    cudaError_t status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (status == cudaSuccess) status = cudaOccupancyMaxActiveClusters(&found, kernel, &config);
    if (status == cudaSuccess) return found;
    cudaGetLastError();  // a size that the device does not have
    why = cudaGetErrorName(status);
    return 0;
  }
  /** A launch whose blocks wait for each other, in clusters of `size` where that is not 0. Whether the driver takes it. */
  template <class Parameter>
  bool launch_together(int shared, void (*kernel)(Parameter), int blocks, int threads, Parameter argument, int size = 0) {
    grant(reinterpret_cast<const void*>(kernel), shared);
    cudaLaunchAttribute attributes[2];
    const cudaLaunchConfig_t config = together_config(attributes, shared, blocks, threads, size);
    const cudaError_t status = cudaLaunchKernelEx(&config, kernel, argument);
    if (status != cudaSuccess && status != cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return false;
    }
    check(status, "A kernel could not be launched");
    check(cudaGetLastError(), "A kernel could not be launched");
    follows_ = false;
    if (capturing_ != nullptr) {
      capturing_->launches_++;
    } else {
      context_.launches++;
      context_.submissions++;
    }
    return true;
  }
  /** Submit what `body` launches: captured when `graph` is new, and from then on as it was then. `body` only launches. It is called again
   *  where the driver takes no graph of launches beside each other. */
  template <class Body>
  void repeat(Graph& graph, Body body) {
    while (begin(graph)) {
      try {
        body();
      } catch (...) {
        cancel(graph);
        throw;
      }
      end(graph);
    }
    submit(graph);
  }

 private:
  /** Whether the graph is new, and now being captured. */
  bool begin(Graph& graph);
  void end(Graph& graph);
  void cancel(Graph& graph) noexcept;
  void submit(Graph& graph);
  /** What such a launch asks for. That a launch has clusters does not take from it that all of its blocks are there at once. */
  cudaLaunchConfig_t together_config(cudaLaunchAttribute (&attributes)[2], int shared, int blocks, int threads, int size) const {
    attributes[0].id = cudaLaunchAttributeCooperative;
    attributes[0].val.cooperative = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim = {static_cast<unsigned>(size), 1, 1};
    return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)), static_cast<size_t>(shared), stream_, attributes, size > 0 ? 2u : 1u};
  }
  Context& context_;
  std::map<void*, size_t> sizes_;
  std::set<const void*> large_;  // kernels that have been granted more shared memory than all have
  Graph* capturing_ = nullptr;
  bool beside_;  // whether launches are beside the one before them
  bool follows_ = false;  // whether there is one: the stream's last work was a kernel whose blocks do not wait for each other
  /** After an error, whether launches were beside each other, which a driver may refuse: from now on they are not. */
  bool stays_alone(cudaError_t status) {
    if (status == cudaErrorMemoryAllocation) return false;
    cudaGetLastError();
    return std::exchange(beside_, false);
  }
  void check(cudaError_t status, const char* what);
  /** More shared memory than all kernels have must be asked for: for a kernel, not for a launch, and all models of a process share it. So all
   *  that there is, whatever this launch takes of it. */
  void grant(const void* kernel, int shared) {
    if (shared == 0 || !large_.insert(kernel).second) return;
    cudaFuncAttributes its;
    check(cudaFuncGetAttributes(&its, kernel), "A kernel's shared memory could not be asked for");
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_memory() - static_cast<int>(its.sharedSizeBytes)),
          "Shared memory could not be taken");
  }
  cudaStream_t stream_ = nullptr;
};

}  // namespace doge
