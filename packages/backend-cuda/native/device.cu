// The device (platform.h) by CUDA's runtime, or under DOGE_SHIM by its double. The runtime is linked statically; the driver is only
// ever opened by name.
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include "doge.h"
#include "platform.h"

namespace doge {

namespace {

/** The runtime has one context for a device and a process, which every Context shares: how many there are, and whether it died. */
struct Shared {
  std::mutex lock;
  std::map<int, int> open;
  std::map<int, bool> dead;
};
Shared& shared() {
  static Shared all;
  return all;
}

[[noreturn]] void lose(const char* what, cudaError_t status) {
  throw Fault{"device-lost", std::string(what) + " (" + cudaGetErrorName(status) + ": " + cudaGetErrorString(status) +
                                 "): close every backend on this device and open another, in another process where the driver asks for it."};
}

}  // namespace

Context::Context(int device) : index(device) {
#if defined(DOGE_SHIM)
  if (index < 0 || index >= shim::DEVICES)
    throw Fault{"unavailable", "Device " + std::to_string(index) + " was asked for; the host shim has devices 0 and 1."};
  name = "host shim, no GPU";
  capability = shim::CAPABILITIES[index];
#else
  doge_probe_result found;
  doge_probe(device, nullptr, &found);
  if (!found.available) throw Fault{"unavailable", found.why};
  name = found.name;
  capability = found.capability;
#endif
  // The first real call makes the context, or says that the one of this process is dead.
  cudaSetDevice(index);
  cudaError_t status = cudaFree(nullptr);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, index);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw_out_of_memory(0, 0);
  }
  if (status != cudaSuccess) lose("The device cannot be opened", status);
  const std::lock_guard<std::mutex> guard(shared().lock);
  shared().open[index]++;
}
/** Whoever leaves a dead device last clears it, so that it may be opened again. */
Context::~Context() {
  const std::lock_guard<std::mutex> guard(shared().lock);
  if (lost) shared().dead[index] = true;
  if (--shared().open[index] > 0 || !shared().dead[index]) return;
  cudaSetDevice(index);
  cudaDeviceReset();
  cudaGetLastError();
  shared().dead[index] = false;
}
void Context::require() const {
  if (lost) {
    throw Fault{"device-lost",
                "The device was lost: close every backend on it and open another, in another process where the driver asks for it."};
  }
  cudaSetDevice(index);  // a call may come on any thread
}

Device::Device(Context& context) : context_(context) {
  require();
  const char* const wish = std::getenv("DOGE_DEPENDENT");
  beside_ = dependent_launches() && (wish == nullptr || std::strcmp(wish, "0") != 0);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "A stream could not be made");
}
Device::~Device() {
  if (stream_ == nullptr) return;
  cudaSetDevice(context_.index);
  cudaStreamDestroy(stream_);
}
/** Out of memory leaves the context good; every other error of the runtime is taken as the end of it. */
void Device::check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  if (status == cudaErrorMemoryAllocation) {
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) cudaGetLastError();
    throw_out_of_memory(0, free);
  }
  context_.lost = true;
  lose(what, status);
}
void* Device::allocate(size_t bytes) {
  require();
  context_.allocations++;
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes == 0 ? 1 : bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) cudaGetLastError();
    throw_out_of_memory(bytes, free);
  }
  check(status, "Memory could not be taken");
  sizes_[pointer] = bytes;
  context_.allocated += static_cast<int64_t>(bytes);
  return pointer;
}
void Device::release(void* pointer) noexcept {
  const auto found = sizes_.find(pointer);
  if (found == sizes_.end()) return;
  context_.allocated -= static_cast<int64_t>(found->second);
  sizes_.erase(found);
  cudaSetDevice(context_.index);
  cudaFree(pointer);
  cudaGetLastError();
}
void* Device::allocate_mapped(size_t bytes) {
  require();
  void* pointer = nullptr;
  check(cudaHostAlloc(&pointer, bytes, cudaHostAllocMapped | cudaHostAllocPortable), "Memory of the host could not be mapped");
  std::memset(pointer, 0, bytes);
  return pointer;
}
void Device::release_mapped(void* pointer) noexcept {
  if (pointer == nullptr) return;
  cudaFreeHost(pointer);
  cudaGetLastError();
}
void Device::upload(void* to, const void* from, size_t bytes) {
  require();
  context_.bytes_in += static_cast<int64_t>(bytes);
  follows_ = false;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "Numbers could not be sent");
}
void Device::download(void* to, const void* from, size_t bytes) {
  require();
  context_.bytes_out += static_cast<int64_t>(bytes);
  follows_ = false;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "Numbers could not be read back");
  finish();
}
void Device::copy(void* to, const void* from, size_t bytes) {
  require();
  follows_ = false;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "A page could not be copied");
}
void Device::fill(void* to, int value, size_t bytes) {
  require();
  follows_ = false;
  check(cudaMemsetAsync(to, value, bytes, stream_), "Memory could not be filled");
}
void Device::finish() { check(cudaStreamSynchronize(stream_), "The work of a call failed"); }

Graph::~Graph() {
  if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
}
bool Device::begin(Graph& graph) {
  require();
  if (graph.executable_ != nullptr) return false;
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "A graph could not be begun");
  graph.launches_ = 0;
  capturing_ = &graph;
  follows_ = false;
  return true;
}
void Device::end(Graph& graph) {
  capturing_ = nullptr;
  follows_ = false;
  cudaGraph_t captured = nullptr;
  cudaError_t status = cudaStreamEndCapture(stream_, &captured);
  if (status == cudaSuccess) status = cudaGraphInstantiate(&graph.executable_, captured, 0);
  if (captured != nullptr) cudaGraphDestroy(captured);
  if (status == cudaSuccess) return;
  graph.executable_ = nullptr;
  if (!stays_alone(status)) check(status, "A graph could not be made ready");
}
void Device::cancel(Graph&) noexcept {
  capturing_ = nullptr;
  follows_ = false;
  cudaGraph_t captured = nullptr;
  cudaStreamEndCapture(stream_, &captured);
  if (captured != nullptr) cudaGraphDestroy(captured);
  cudaGetLastError();
}
void Device::submit(Graph& graph) {
  follows_ = false;
  check(cudaGraphLaunch(graph.executable_, stream_), "A graph could not be launched");
  context_.launches += graph.launches_;
  context_.submissions++;
}

}  // namespace doge
