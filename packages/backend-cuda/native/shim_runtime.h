// The part of CUDA's runtime that the core calls, over the host: same names, same answers. Kernels run on the shim, memory is the
// host's, and a test may ask for what a device does at its worst: memory refused, and an error that ends the context and is the answer
// to every call until the device is reset.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

/** By CUDA's own numbers. */
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidDevice = 101,
  cudaErrorIllegalAddress = 700,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrCooperativeLaunch = 95,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8, cudaFuncAttributeNonPortableClusterSizeAllowed = 14 };
/** Of a kernel; what it has of its own is not known here. */
struct cudaFuncAttributes {
  size_t sharedSizeBytes = 0;
};
enum { cudaStreamNonBlocking = 1, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };

namespace shim {

/** What a graph launches, and whether some of it is beside the launch before it. */
struct Launches : std::vector<std::function<void()>> {
  bool beside = false;
};
struct Stream {
  int device = 0;
  Launches* capturing = nullptr;
  bool launched = false;  // whether its last work was a launch that another may be beside
};

/** Device 1 is as one without tensor cores. Few processors, so that small matrices too keep all of them busy. */
constexpr int DEVICES = 2;
constexpr int CAPABILITIES[DEVICES] = {90, 75};
constexpr int PROCESSORS = 8;
/** Shared memory that a block may have, in bytes. */
constexpr int SHARED_MEMORY[DEVICES] = {227 * 1024, 64 * 1024};
/** What a launch may take of it for which nothing was asked. */
constexpr int SHARED_MEMORY_OF_ALL = 48 * 1024;

/** Of the process, as CUDA's is. */
struct Runtime {
  std::mutex lock;
  std::map<void*, int> blocks[DEVICES];  // addresses, and 1 for those of the host
  std::map<const void*, int> granted[DEVICES];  // shared memory that launches of a kernel may take, where it was asked for
  std::atomic<cudaError_t> sticky[DEVICES] = {};
  std::atomic<int> made{0};  // streams, graphs and blocks of memory that are there
  /** Faults to come: the n-th memory from now on is refused (0: the next), the n-th piece of work ends the context; -1: none. */
  std::atomic<int> refuse{-1}, end{-1};
  /** Whether no launch may be beside the one before it, nor a graph have such; and how many have been. */
  std::atomic<bool> alone{false}, alone_in_graphs{false};
  std::atomic<int64_t> beside{0};
  /** What is refused: 1: launches with clusters, 2: the question how many of them fit too, 3: every launch whose blocks wait for each other.
   *  And how many launches have had clusters. */
  std::atomic<int> unclustered{0};
  std::atomic<int64_t> clustered{0};
};
inline Runtime& runtime() {
  static Runtime all;
  return all;
}
inline thread_local int device = 0;
inline thread_local cudaError_t last = cudaSuccess;
inline thread_local int captures = 0;

inline cudaError_t told(cudaError_t status) {
  if (status != cudaSuccess) last = status;
  return status;
}
inline cudaError_t state() { return told(runtime().sticky[device]); }
/** Work handed to the device: where it may die. */
inline cudaError_t worked() {
  if (runtime().end >= 0 && runtime().end-- == 0) runtime().sticky[device] = cudaErrorIllegalAddress;
  return state();
}
inline cudaError_t take(void** pointer, size_t bytes, int host) {
  *pointer = nullptr;
  if (state() != cudaSuccess) return state();
  if (captures > 0) return told(cudaErrorStreamCaptureUnsupported);
  const bool refused = runtime().refuse >= 0 && runtime().refuse-- == 0;
  void* const block = refused ? nullptr : std::aligned_alloc(256, (bytes + 256) / 256 * 256);
  if (block == nullptr) return told(cudaErrorMemoryAllocation);
  std::memset(block, 0xff, bytes);  // what is read before it is written is not 0
  const std::lock_guard<std::mutex> guard(runtime().lock);
  runtime().blocks[device][block] = host;
  runtime().made++;
  *pointer = block;
  return cudaSuccess;
}
inline cudaError_t give(void* pointer) {
  if (state() != cudaSuccess) return state();
  if (pointer == nullptr) return cudaSuccess;
  if (captures > 0) return told(cudaErrorStreamCaptureUnsupported);
  const std::lock_guard<std::mutex> guard(runtime().lock);
  if (runtime().blocks[device].erase(pointer) == 0) return told(cudaErrorInvalidValue);
  runtime().made--;
  std::free(pointer);
  return cudaSuccess;
}
/** Whether a kernel may be launched with so much shared memory; that it may not is told. */
inline bool launches(const void* kernel, int shared) {
  Runtime& all = runtime();
  const std::lock_guard<std::mutex> guard(all.lock);
  const auto found = all.granted[device].find(kernel);
  if (shared <= (found == all.granted[device].end() ? SHARED_MEMORY_OF_ALL : found->second)) return true;
  told(cudaErrorInvalidValue);
  return false;
}
/** What a launch does: run now, or when the graph being captured is launched. */
template <class Work>
void submit(Stream* stream, Work work) {
  stream->launched = false;
  if (state() != cudaSuccess) return;
  if (stream->capturing != nullptr)
    stream->capturing->push_back(work);
  else
    work();
}

}  // namespace shim

using cudaStream_t = shim::Stream*;
using cudaGraph_t = shim::Launches*;
using cudaGraphExec_t = shim::Launches*;

inline cudaError_t cudaGetLastError() {
  const cudaError_t sticky = shim::runtime().sticky[shim::device];
  const cudaError_t found = sticky != cudaSuccess ? sticky : shim::last;
  shim::last = cudaSuccess;
  return found;
}
inline const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorIllegalAddress    ? "cudaErrorIllegalAddress"
         : status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
         : status == cudaErrorNotSupported     ? "cudaErrorNotSupported"
                                               : "cudaError";
}
inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorIllegalAddress ? "an illegal memory access was encountered" : "an error of the double";
}
inline cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= shim::DEVICES) return shim::told(cudaErrorInvalidDevice);
  shim::device = device;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device < 0 || device >= shim::DEVICES) return shim::told(cudaErrorInvalidDevice);
  const int capability = shim::CAPABILITIES[device];
  *value = attribute == cudaDevAttrMultiProcessorCount            ? shim::PROCESSORS
           : attribute == cudaDevAttrCooperativeLaunch            ? 1
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? shim::SHARED_MEMORY[device]
           : attribute == cudaDevAttrComputeCapabilityMajor       ? capability / 10
                                                                  : capability % 10;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  *blocks = 1;
  return shim::state();
}
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  return shim::state();
}
/** Of the kernel, whoever launches it. */
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (shim::state() != cudaSuccess || attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) return shim::state();
  if (value < 0 || value > shim::SHARED_MEMORY[shim::device]) return shim::told(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> guard(shim::runtime().lock);
  shim::runtime().granted[shim::device][kernel] = value;
  return cudaSuccess;
}
/** Frees all of the device's memory, and ends what its state was. */
inline cudaError_t cudaDeviceReset() {
  shim::Runtime& all = shim::runtime();
  const std::lock_guard<std::mutex> guard(all.lock);
  for (const auto& block : all.blocks[shim::device]) std::free(block.first);
  all.made -= static_cast<int>(all.blocks[shim::device].size());
  all.blocks[shim::device].clear();
  all.granted[shim::device].clear();
  all.sticky[shim::device] = cudaSuccess;
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = 0;
  return shim::state();
}
inline cudaError_t cudaMalloc(void** pointer, size_t bytes) { return shim::take(pointer, bytes, 0); }
inline cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) { return shim::take(pointer, bytes, 1); }
inline cudaError_t cudaFree(void* pointer) { return shim::give(pointer); }
inline cudaError_t cudaFreeHost(void* pointer) { return shim::give(pointer); }
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (shim::state() != cudaSuccess) return shim::state();
  *stream = new shim::Stream{shim::device, nullptr};
  shim::runtime().made++;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  shim::runtime().made--;
  return shim::state();
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stream->capturing != nullptr ? shim::told(cudaErrorStreamCaptureUnsupported) : shim::state();
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  stream->launched = false;
  if (stream->capturing != nullptr) return shim::told(cudaErrorStreamCaptureUnsupported);
  if (shim::worked() != cudaSuccess) return shim::state();
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  stream->launched = false;
  if (stream->capturing != nullptr) return shim::told(cudaErrorStreamCaptureUnsupported);
  if (shim::worked() != cudaSuccess) return shim::state();
  std::memset(to, value, bytes);
  return cudaSuccess;
}
enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative = 2, cudaLaunchAttributeClusterDimension = 4, cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
union cudaLaunchAttributeValue {
  int cooperative, programmaticStreamSerializationAllowed;
  struct {
    unsigned x, y, z;
  } clusterDim;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
/** In CUDA's order; two of its names are taken. */
struct cudaLaunchConfig_t {
  dim3 grid, block;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
namespace shim {
/** What a launch says of an attribute; null: nothing. */
inline const cudaLaunchAttributeValue* said(const cudaLaunchConfig_t* config, cudaLaunchAttributeID id) {
  for (unsigned each = 0; each < config->numAttrs; each++)
    if (config->attrs[each].id == id) return &config->attrs[each].val;
  return nullptr;
}
}  // namespace shim
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, Kernel, const cudaLaunchConfig_t* config) {
  const cudaLaunchAttributeValue* const cluster = shim::said(config, cudaLaunchAttributeClusterDimension);
  // Not of a launch whose blocks wait for each other, though a device may answer that as well.
  if (cluster == nullptr || config->numAttrs != 1 || config->grid.x % cluster->clusterDim.x != 0) return shim::told(cudaErrorInvalidValue);
  if (shim::runtime().unclustered > 1) return shim::told(cudaErrorNotSupported);
  *clusters = shim::PROCESSORS / static_cast<int>(cluster->clusterDim.x);
  return shim::state();
}
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments... arguments) {
  const cudaLaunchAttributeValue* const serial = shim::said(config, cudaLaunchAttributeProgrammaticStreamSerialization);
  const cudaLaunchAttributeValue* const cooperative = shim::said(config, cudaLaunchAttributeCooperative);
  const cudaLaunchAttributeValue* const cluster = shim::said(config, cudaLaunchAttributeClusterDimension);
  const bool beside = serial != nullptr && serial->programmaticStreamSerializationAllowed != 0;
  if (!shim::launches(reinterpret_cast<const void*>(kernel), static_cast<int>(config->dynamicSmemBytes))) return cudaErrorInvalidValue;
  if (config->stream->device != shim::device) shim::broken("a kernel is launched in a stream of a device that is not the current one.");
  if (beside && shim::runtime().alone) return shim::told(cudaErrorNotSupported);
  if (beside) shim::runtime().beside++;
  if (beside && config->stream->capturing != nullptr) config->stream->capturing->beside = true;
  // CUDA would wait for what it is; here nothing depends on how.
  if (beside && !config->stream->launched) shim::broken("a launch is beside what is no launch of a kernel whose blocks do not wait for each other.");
  const dim3 grid = config->grid;
  const int threads = static_cast<int>(config->block.x);
  const size_t shared = config->dynamicSmemBytes;
  if (cooperative != nullptr) {
    if (shim::runtime().unclustered > (cluster == nullptr ? 2 : 0)) return shim::told(cudaErrorNotSupported);
    if (cluster != nullptr) shim::runtime().clustered++;
    const int blocks = static_cast<int>(grid.x), size = cluster == nullptr ? 0 : static_cast<int>(cluster->clusterDim.x);
    const auto run = [=] { kernel(static_cast<Parameters>(arguments)...); };
    shim::submit(config->stream, [=] { size == 0 ? shim::launch_together(blocks, threads, shared, run) : shim::launch_clusters(blocks, size, threads, shared, run); });
    return shim::state();
  }
  shim::submit(config->stream, [=] { shim::launch(grid, threads, [=] { kernel(static_cast<Parameters>(arguments)...); }, shared, -1, beside); });
  config->stream->launched = true;
  return shim::state();
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (shim::state() != cudaSuccess) return shim::state();
  stream->capturing = new shim::Launches;
  stream->launched = false;
  shim::runtime().made++;
  shim::captures++;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = stream->capturing;
  stream->launched = false;
  stream->capturing = nullptr;
  shim::captures--;
  if (shim::state() == cudaSuccess) return cudaSuccess;
  delete *graph;
  *graph = nullptr;
  shim::runtime().made--;
  return shim::state();
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  shim::runtime().made--;
  return shim::state();
}
/** Keeps the launches with the arguments of then, so that an argument which should not have been captured shows. */
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (shim::state() != cudaSuccess) return shim::state();
  if (graph->beside && shim::runtime().alone_in_graphs) return shim::told(cudaErrorNotSupported);
  *executable = new shim::Launches(*graph);
  shim::runtime().made++;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return cudaGraphDestroy(executable); }
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  stream->launched = false;
  if (shim::worked() != cudaSuccess) return shim::state();
  for (const auto& launch : *executable) launch();
  return cudaSuccess;
}
