// How a cluster goes on when its streams have lost what they had stored: with the logs of its
// processors, chosen SKU by SKU, and a new generation of each partition's stream.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/cluster/log_streams.hpp"
#include "core/cluster/agreement.hpp"
#include "core/cluster/partition_set.hpp"
#include "core/log/copy_log.hpp"

namespace fairsale::cli {

struct ClusterShape {
  std::uint32_t partitions = 1;
  std::size_t processors = 0;  // that take each partition
  std::size_t durable_on = 0;
  cluster::PartitionSet takes{};  // those looked at; the others stay as they are

  bool has(SkuId sku) const { return takes.contains(cluster::Partitions{partitions}.of(sku)); }
};

// Of one processor's log of a sale, beside the log that is gone on with.
struct SaleCopy {
  Head head;                // empty when it has none
  std::uint64_t lacks = 0;  // events
  Seq apart;                // from here on it has something else; 0: it has nothing else
};

struct SalePlan {
  SkuId sku;
  std::string name;
  Head head;             // of the log that is chosen
  std::size_t from = 0;  // a copy that has all of it
  std::vector<SaleCopy> copies;
};

struct PartitionPlan {
  cluster::PartitionId id;
  cluster::Position furthest;  // of the copies
  std::uint64_t skus = 0;
  Digest heads;  // of the logs that are chosen

  // The first message of the generation.
  std::vector<std::byte> opening(std::uint16_t generation) const;
};

struct ReseedPlan {
  ClusterShape shape;
  std::vector<SalePlan> sales{};            // by SKU
  std::vector<PartitionPlan> partitions{};  // all that are taken
  std::vector<bool> apart{};                // copies that have parted from a log that is chosen
};

// `logs` are of different processors. `known` is the furthest position of each partition that is
// known beside what the logs say (see PartitionRecords). Fails with Fault::invalid when the logs
// are too few to know what was acknowledged.
Result<ReseedPlan> plan_reseed(std::span<const EventLog* const> logs, const ClusterShape&,
                               std::map<cluster::PartitionId, cluster::Position> known = {});

// Gives each log the blocks that it lacks, all but those that have parted: they stay as they are.
// Returns after it is durable, and has looked whether they now are as planned. `copied` is told of
// events as they are copied.
Result<CopyReport> bring_up(std::span<EventLog* const> logs, const ReseedPlan&,
                            const std::function<void(std::uint64_t events)>& copied);

// The streams, at NATS or in a test. The functions of api/cluster/log_streams.hpp tell the rest.
class LogStreams {
 public:
  virtual ~LogStreams() = default;
  virtual Result<void> ensure(const api::LogStream&) = 0;
  virtual Result<std::optional<api::LogStreamBounds>> bounds(const api::LogStream&) = 0;
  virtual Result<std::optional<std::vector<std::byte>>> message(const api::LogStream&,
                                                                std::uint64_t sequence) = 0;
  virtual Result<void> open(const api::LogStream&, std::span<const std::byte>) = 0;
};

struct NatsAt {
  std::string url;
  std::string credentials;  // "user:password" or a token
  std::string creds_file;
  api::LogStreamSettings streams;
};
Result<std::unique_ptr<LogStreams>> connect_log_streams(const NatsAt&);

struct NextGeneration {
  std::uint16_t number = 0;
  bool there = false;  // and it begins as it should
};

// The generation to go on with: one more than that of the logs, or than the newest that was opened
// with other logs.
Result<NextGeneration> next_generation(LogStreams&, const PartitionPlan&);

// Makes the stream of the generation and opens it.
Result<void> begin_generation(LogStreams&, const PartitionPlan&, const NextGeneration&);

}  // namespace fairsale::cli
