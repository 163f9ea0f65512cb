// Clusters of blocks on the host: blocks of a launch whose blocks all run at once, which write to each other's shared memory and meet at a
// barrier of theirs.
//
// What a thread writes to a peer is there when all threads of its block have arrived at the barrier behind it, no earlier; until then NaN
// stands there. A block that writes to one that has ended, that ends with such writes under way, or that meets its cluster while another
// has ended stops the run.
#pragma once
#include <sched.h>
#include <atomic>
#include <memory>
#include "shim_block.h"

namespace shim {

struct Remote {
  unsigned char* to;
  int peer;
  float value;
};
/** What the blocks of a cluster share. */
struct Cluster {
  explicit Cluster(int blocks) : size(blocks), memories(static_cast<size_t>(blocks)), ended(static_cast<size_t>(blocks)) {}
  const int size;
  /** The shared memory of each block, and whether it has ended. */
  std::vector<std::atomic<unsigned char*>> memories;
  std::vector<std::atomic<bool>> ended;
  std::atomic<int> begun{0}, arrived{0};
  std::atomic<unsigned> generation{0};
};
/** This OS thread's block in its cluster. */
struct Member {
  Cluster* cluster = nullptr;
  int rank = 0;
  int arrived = 0;  // threads
  std::vector<Remote> remotes;
  /** The barrier that each thread has arrived at and not waited for; 0: none. */
  unsigned awaited[MOST_THREADS] = {};
};
inline Member& member() {
  static thread_local Member instance;
  return instance;
}
inline Member& clustered() {
  if (member().cluster == nullptr) broken("a kernel without clusters uses one.");
  return member();
}

/** `*at` of a peer's shared memory. */
inline void send(const void* at, int peer, float value) {
  Member& own = clustered();
  const size_t place = static_cast<size_t>(static_cast<const unsigned char*>(at) - dynamic_shared());
  if (place + sizeof value > MOST_SHARED) broken("what a block writes to a peer is not in the shared memory that its launch asked for.");
  if (peer < 0 || peer >= own.cluster->size) broken("a block writes to a peer that its cluster does not have.");
  if (own.cluster->ended[static_cast<size_t>(peer)]) broken("a block writes to a peer that has ended.");
  unsigned char* const to = own.cluster->memories[static_cast<size_t>(peer)] + place;
  std::memset(to, 0xff, sizeof value);
  own.remotes.push_back({to, peer, value});
}
inline void cluster_arrive() {
  Member& own = clustered();
  unsigned& awaited = own.awaited[block().current];
  if (awaited != 0) broken("a thread arrived twice at a cluster's barrier and did not wait.");
  awaited = own.cluster->generation + 1;
  block().steps++;
  if (++own.arrived < block().threads) return;
  own.arrived = 0;
  for (const Remote& each : own.remotes) {
    if (own.cluster->ended[static_cast<size_t>(each.peer)]) broken("a block ended while a peer writes to it.");
    std::memcpy(each.to, &each.value, sizeof each.value);
  }
  own.remotes.clear();
  if (++own.cluster->arrived < own.cluster->size) return;
  own.cluster->arrived = 0;
  own.cluster->generation++;
  publish(block());
}
inline void cluster_wait() {
  Member& own = clustered();
  const unsigned awaited = std::exchange(own.awaited[block().current], 0);
  if (awaited == 0) broken("a thread waits at a cluster's barrier that it has not arrived at.");
  while (own.cluster->generation < awaited) {
    for (const std::atomic<bool>& each : own.cluster->ended)
      if (each) broken("a block waits for a cluster of which a block has ended.");
    ask_again(block());
  }
}

/** launch_together with clusters of `size` blocks. */
template <class Kernel>
void launch_clusters(int blocks, int size, int threads, size_t shared, Kernel kernel) {
  if (size < 1 || blocks % size != 0) broken("a grid is whole clusters.");
  std::vector<std::unique_ptr<Cluster>> clusters;
  for (int first = 0; first < blocks; first += size) clusters.push_back(std::make_unique<Cluster>(size));
  std::vector<std::thread> all;
  for (int index = 0; index < blocks; index++)
    all.emplace_back([=, &clusters] {
      Member& own = member();
      own.cluster = clusters[static_cast<size_t>(index / size)].get();
      own.rank = index % size;
      own.cluster->memories[static_cast<size_t>(own.rank)] = dynamic_shared();
      for (own.cluster->begun++; own.cluster->begun < size;) sched_yield();
      launch(dim3(static_cast<unsigned>(blocks)), threads, kernel, shared, index);
      own.cluster->ended[static_cast<size_t>(own.rank)] = true;
      bell().ring();
      if (!own.remotes.empty()) broken("a block ended with writes to its peers under way.");
    });
  for (std::thread& each : all) each.join();
}

}  // namespace shim
