// The device (platform.h) by CUDA's runtime, or under DOGE_SHIM by the host. The runtime is linked statically; the driver is
// only ever opened by name.
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include "doge.h"
#include "platform.h"

namespace doge {

#if defined(DOGE_SHIM)

Context::Context(int device) : index(device), name("host shim, no GPU") {
  // Device 1 is as one without tensor cores. Few processors, so that small matrices too keep all of them busy.
  if (index != 0 && index != 1) throw Fault{"unavailable", "Device " + std::to_string(index) + " was asked for; the host shim has devices 0 and 1."};
  capability = index == 0 ? 90 : 75;
  processors = 8;
}
void Context::require() const {
  if (lost) throw Fault{"device-lost", "The device was lost: close the backend and open another."};
}

Device::Device(Context& context) : context_(context) { require(); }
Device::~Device() = default;
/** Every copy: where a test may lose the device. */
void Device::operation() {
  require();
  if (context_.fail_operation >= 0 && context_.fail_operation-- == 0) {
    context_.lost = true;
    throw Fault{"device-lost", "The device was lost (an illegal memory access was encountered): close the backend and open another."};
  }
}
void* Device::allocate(size_t bytes) {
  require();
  context_.allocations++;
  if (context_.fail_allocation >= 0 && context_.fail_allocation-- == 0) throw_out_of_memory(bytes, 0);
  char* const block = static_cast<char*>(std::aligned_alloc(256, (bytes + 256) / 256 * 256));
  if (block == nullptr) throw_out_of_memory(bytes, 0);
  std::memset(block, 0xff, bytes);  // what is read before it is written is not 0
  sizes_[block] = bytes;
  context_.allocated += bytes;
  return block;
}
void Device::release(void* pointer) noexcept {
  const auto found = sizes_.find(pointer);
  if (found == sizes_.end()) return;
  context_.allocated -= found->second;
  sizes_.erase(found);
  std::free(pointer);
}
void* Device::allocate_mapped(size_t bytes) { return allocate(bytes); }
void Device::release_mapped(void* pointer) noexcept { release(pointer); }
void Device::upload(void* to, const void* from, size_t bytes) {
  operation();
  std::memcpy(to, from, bytes);
}
void Device::download(void* to, const void* from, size_t bytes) {
  operation();
  std::memcpy(to, from, bytes);
}
void Device::copy(void* to, const void* from, size_t bytes) {
  operation();
  std::memcpy(to, from, bytes);
}
void Device::fill(void* to, int value, size_t bytes) {
  operation();
  std::memset(to, value, bytes);
}
void Device::finish() { require(); }

Graph::~Graph() = default;
bool Device::begin(Graph& graph) {
  require();
  if (!graph.launches_.empty()) return false;
  capturing_ = &graph;
  return true;
}
void Device::end(Graph&) { capturing_ = nullptr; }
void Device::cancel(Graph& graph) noexcept {
  capturing_ = nullptr;
  graph.launches_.clear();
}
void Device::submit(Graph& graph) {
  operation();
  for (const auto& launch : graph.launches_) launch();
}

#else

Context::Context(int device) : index(device) {
  doge_probe_result found;
  doge_probe(device, nullptr, &found);
  if (!found.available) throw Fault{"unavailable", found.why};
  name = found.name;
  capability = found.capability;
  if (cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index) != cudaSuccess) {
    cudaGetLastError();
    processors = 1;
  }
}
void Context::require() const {
  if (lost) {
    throw Fault{"device-lost",
                "The device was lost: close the backend and open another, in another process where the driver asks for it."};
  }
  cudaSetDevice(index);  // a call may come on any thread
}

Device::Device(Context& context) : context_(context) {
  require();
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
  throw Fault{"device-lost", std::string(what) + " (" + cudaGetErrorName(status) + ": " + cudaGetErrorString(status) +
                                 "): close the backend and open another, in another process where the driver asks for it."};
}
void Device::operation() { require(); }
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
  context_.allocated += bytes;
  return pointer;
}
void Device::release(void* pointer) noexcept {
  const auto found = sizes_.find(pointer);
  if (found == sizes_.end()) return;
  context_.allocated -= found->second;
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
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "Numbers could not be sent");
}
void Device::download(void* to, const void* from, size_t bytes) {
  require();
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "Numbers could not be read back");
  finish();
}
void Device::copy(void* to, const void* from, size_t bytes) {
  require();
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "A page could not be copied");
}
void Device::fill(void* to, int value, size_t bytes) {
  require();
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
  return true;
}
void Device::end(Graph& graph) {
  cudaGraph_t captured = nullptr;
  check(cudaStreamEndCapture(stream_, &captured), "A graph could not be captured");
  const cudaError_t status = cudaGraphInstantiate(&graph.executable_, captured, 0);
  cudaGraphDestroy(captured);
  check(status, "A graph could not be made ready");
}
void Device::cancel(Graph&) noexcept {
  cudaGraph_t captured = nullptr;
  cudaStreamEndCapture(stream_, &captured);
  if (captured != nullptr) cudaGraphDestroy(captured);
  cudaGetLastError();
}
void Device::submit(Graph& graph) { check(cudaGraphLaunch(graph.executable_, stream_), "A graph could not be launched"); }

#endif

}  // namespace doge
