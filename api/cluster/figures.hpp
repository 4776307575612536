// How a node of a cluster does, for who watches it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/cluster/message.hpp"

namespace fairsale::api {

struct ClusterFigures {
  // A partition as a processor has it.
  struct Partition {
    cluster::PartitionId id;
    cluster::Position position;  // all up to here is durable in its log
    // Behind the furthest processor that it hears of: by generations of the stream, or within one
    // by messages.
    std::uint16_t lag_generations = 0;
    std::uint64_t lag_messages = 0;
    std::string stopped;        // why nothing more is taken; empty: it is
    std::string waits;          // likewise, just now
    bool next_ready = false;    // there is a stream to go over to when its own is silent
    std::uint64_t changes = 0;  // of the stream, since the process started
  };

  // A processor that takes a partition, as it says of itself in its last heartbeat.
  struct Taker {
    cluster::PartitionId partition;
    std::string node;
    cluster::Position position;  // all up to here is durable there
  };

  std::string not_ready;  // why it should get no traffic now; empty: it should
  // That are alive, this one included.
  std::size_t processors = 0;
  std::size_t edges = 0;
  // Of its clients, that wait for what processors answer.
  std::size_t requests_under_way = 0;
  std::vector<Partition> partitions;  // none on an edge
  std::vector<Taker> takers;          // those alive, of each partition, this one included
};

}  // namespace fairsale::api
