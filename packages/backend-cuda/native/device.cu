// The device (platform.h) by CUDA's runtime, or under DOGE_SHIM by the host. The runtime is linked statically; the driver is
// only ever opened by name.
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include "doge.h"
#include "platform.h"

namespace doge {

#if defined(DOGE_SHIM)

Device::Device(int index) : index_(index), name_("host shim, no GPU") {
  if (index != 0) throw Fault{"unavailable", "Device " + std::to_string(index) + " was asked for; the host shim has device 0 only."};
}
Device::~Device() = default;
void Device::require() const {
  if (lost_) throw Fault{"device-lost", "The device was lost: close the backend and open another."};
}
/** Every copy: where a test may lose the device. */
void Device::operation() {
  require();
  if (fail_operation_ >= 0 && fail_operation_-- == 0) {
    lost_ = true;
    throw Fault{"device-lost", "The device was lost (an illegal memory access was encountered): close the backend and open another."};
  }
}
void* Device::allocate(size_t bytes) {
  require();
  allocations_++;
  if (fail_allocation_ >= 0 && fail_allocation_-- == 0) throw_out_of_memory(bytes, 0);
  if (bytes == 0) bytes = 1;
  // The size in front, and poison behind: what is read before it is written is not 0.
  char* const block = static_cast<char*>(std::aligned_alloc(256, (bytes + 511) / 256 * 256));
  if (block == nullptr) throw_out_of_memory(bytes, 0);
  std::memcpy(block, &bytes, sizeof bytes);
  std::memset(block + 256, 0xff, bytes);
  allocated_ += bytes;
  return block + 256;
}
void Device::release(void* pointer) noexcept {
  if (pointer == nullptr) return;
  char* const block = static_cast<char*>(pointer) - 256;
  size_t bytes;
  std::memcpy(&bytes, block, sizeof bytes);
  allocated_ -= bytes;
  std::free(block);
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

Device::Device(int index) : index_(index) {
  cudaDeviceProp properties;
  check(cudaSetDevice(index), "The device could not be set");
  check(cudaGetDeviceProperties(&properties, index), "The device could not be described");
  name_ = properties.name;
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "A stream could not be made");
}
Device::~Device() {
  if (stream_ == nullptr) return;
  cudaSetDevice(index_);
  cudaStreamDestroy(stream_);
}
void Device::require() const {
  if (lost_) throw Fault{"device-lost", "The device was lost: close the backend and open another, in another process where the driver asks for it."};
  cudaSetDevice(index_);  // a call may come on any thread
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
  lost_ = true;
  throw Fault{"device-lost", std::string(what) + " (" + cudaGetErrorName(status) + ": " + cudaGetErrorString(status) +
                                 "): close the backend and open another, in another process where the driver asks for it."};
}
void Device::operation() { require(); }
void* Device::allocate(size_t bytes) {
  require();
  allocations_++;
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes == 0 ? 1 : bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) cudaGetLastError();
    throw_out_of_memory(bytes, free);
  }
  check(status, "Memory could not be taken");
  allocated_ += bytes;
  sizes_[pointer] = bytes;
  return pointer;
}
void Device::release(void* pointer) noexcept {
  if (pointer == nullptr) return;
  const auto found = sizes_.find(pointer);
  if (found != sizes_.end()) {
    allocated_ -= found->second;
    sizes_.erase(found);
  }
  cudaSetDevice(index_);
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
