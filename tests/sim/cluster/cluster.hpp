// One simulated life of a cluster: origins, streams, processors and what lies between them, all on
// one thread and all following from one seed.
//
// Real: batches, the follower, the sequencer, the fold, the gate before answers, the agreement on
// which log to go on with. Modelled: the streams (which store in some order, repeat what they
// deliver, and after a power failure may have lost the end of what they had acknowledged), the
// network (which delays, reorders, repeats and loses), processes (which die, also within a commit,
// and which are stopped for a while and go on), clocks that differ.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace fairsale::sim {

// What lives came to, counted.
struct ClusterCounts {
  std::uint64_t lives = 0;
  std::uint64_t batches = 0;        // stored by a stream
  std::uint64_t accepted = 0;       // events whose answers were let through
  std::uint64_t lost_replies = 0;   // batches that an origin gave up
  std::uint64_t lost = 0;           // messages on the network, or not delivered by a stream
  std::uint64_t repeated = 0;       // messages
  std::uint64_t overtaken = 0;      // messages by one that was sent later
  std::uint64_t two_owners = 0;     // times that one took what another had left behind a cut
  std::uint64_t deaths = 0;         // of processors and origins
  std::uint64_t turnovers = 0;      // of a processor, to a partition's next stream
  std::uint64_t taken_back = 0;     // blocks beyond a cut
  std::uint64_t stream_losses = 0;  // of what a stream had acknowledged
  std::uint64_t stopped = 0;        // partitions of a processor that stopped
  std::uint64_t forks = 0;          // times that logs had parted when a stream was made anew
  std::uint64_t reseeds = 0;
  std::uint64_t disagreements = 0;  // batches on which processors differed

  ClusterCounts& operator+=(const ClusterCounts& other) {
    for (auto count : kAll) this->*count += other.*count;
    return *this;
  }

 private:
  static const std::array<std::uint64_t ClusterCounts::*, 16> kAll;
};

struct ClusterReport {
  std::uint64_t hash = 0;  // of all that happened
  ClusterCounts counts;
  std::optional<std::string> failure;
};

// `text`: where to write what happens; null: nowhere.
ClusterReport simulate_cluster(std::uint64_t seed, std::FILE* text);

inline constexpr std::array<std::uint64_t ClusterCounts::*, 16> ClusterCounts::kAll{
    &ClusterCounts::lives,        &ClusterCounts::batches,    &ClusterCounts::accepted,
    &ClusterCounts::lost_replies, &ClusterCounts::lost,       &ClusterCounts::repeated,
    &ClusterCounts::overtaken,    &ClusterCounts::two_owners, &ClusterCounts::deaths,
    &ClusterCounts::turnovers,    &ClusterCounts::taken_back, &ClusterCounts::stream_losses,
    &ClusterCounts::stopped,      &ClusterCounts::forks,      &ClusterCounts::reseeds,
    &ClusterCounts::disagreements};

}  // namespace fairsale::sim
