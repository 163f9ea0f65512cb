// The model as decode_clusters.cuh takes it: which models it takes, how many clusters of how many blocks there are, and its launch.
//
// DOGE_CLUSTERS=1 turns it on, until a GPU has measured it; a greater number is the most blocks that a cluster may have. DOGE_DEBUG says what
// became of it.
#pragma once
#include "decoding.h"
#include "kernels/decode_clusters.cuh"

namespace doge {

class Clusters {
 public:
  /** `plan`: of decode_kernel, for the same model. */
  Clusters(Device& device, const Config& config, const Decoding& plan) : device_(device), pairs_(device) {
    const char* const wish = std::getenv("DOGE_CLUSTERS");
    const int wished = wish == nullptr ? 0 : std::atoi(wish);
    const int grain = config.dtype == Type::Q8 ? BLOCK : GRAIN;
    if (wished <= 0 || !device.warpgroups() || config.head_dim % grain != 0) return;
    choose(config);
    units_ = ring_units(device.shared_memory() - CLUSTER_OWN, device, config.dtype);
    if (units_ < 1) return;
    shared_ = CLUSTER_OWN + units_ * DECODE_WARPS * UNIT_BYTES;
    // Each cluster has a part of the intermediate size, each block a draw and no more columns of the stream than its threads.
    const int most = std::min(MOST_CLUSTERS, (config.intermediate + grain - 1) / grain);
    const char* why = nullptr;
    for (size_ = MOST_RANKS; size_ > 1; size_ /= 2) {
      if ((wished > 1 && size_ > wished) || config.hidden > DECODE_THREADS * size_) continue;
      count_ = std::min(most, device.together(shared_, kernel_, DECODE_THREADS, size_, why));
      if (count_ >= config.heads && count_ * size_ <= DECODE_THREADS) break;
    }
    if (std::getenv("DOGE_DEBUG") != nullptr) {
      if (size_ > 1)
        std::fprintf(stderr, "doge-cuda: one row decodes by %d clusters of %d blocks.\n", count_, size_);
      else if (why != nullptr)
        std::fprintf(stderr, "doge-cuda: one row does not decode by clusters: asked how many fit, the driver says %s.\n", why);
      else
        std::fprintf(stderr, "doge-cuda: one row does not decode by clusters: the device has no room for %d.\n", config.heads);
    }
    if (size_ <= 1) return;
    const int width = padded(config.hidden);
    pairs_.take(between_, {plan.heads.qkv_stride, 0, 0, count_ * width, 0, 2 * count_ * width, 4 * count_ * size_});
    device.finish();
  }
  Clusters(const Clusters&) = delete;
  Clusters& operator=(const Clusters&) = delete;

  bool ready() const { return between_.epoch != nullptr; }

  /** Launch what decode_kernel would be launched with. False: the driver refuses clusters, now and from now on. A graph has them only when
   *  a launch of its own was taken, for a refusal would end the capture. */
  bool launch(Decoding of) {
    if (refused_ || (device_.capturing() && !taken_)) return false;
    of.between = between_;
    of.slices = size_ - 1;
    of.units = units_;
    taken_ = device_.launch_together(shared_, kernel_, count_ * size_, DECODE_THREADS, of, size_);
    refused_ = !taken_;
    if (refused_ && std::getenv("DOGE_DEBUG") != nullptr) std::fprintf(stderr, "doge-cuda: the driver refuses clusters.\n");
    return taken_;
  }

 private:
  void choose(const Config& config) {
    const int hidden = is_published(config) ? config.hidden : 0;
    kernel_ = hidden == 256    ? decode_clusters_kernel<Type::BF16, 256>
              : hidden == 512  ? decode_clusters_kernel<Type::BF16, 512>
              : hidden == 768  ? decode_clusters_kernel<Type::BF16, 768>
              : hidden == 1024 ? decode_clusters_kernel<Type::BF16, 1024>
              : config.dtype == Type::F32  ? decode_clusters_kernel<Type::F32, 0>
              : config.dtype == Type::BF16 ? decode_clusters_kernel<Type::BF16, 0>
                                           : decode_clusters_kernel<Type::Q8, 0>;
  }

  Device& device_;
  PairArrays pairs_;
  Exchanges between_{};
  void (*kernel_)(Decoding) = nullptr;
  int size_ = 0, count_ = 0, units_ = 0, shared_ = 0;  // blocks of a cluster, and clusters
  bool taken_ = false, refused_ = false;
};

}  // namespace doge
