// The streams that order batches, as JetStream keeps them: their names, how they are made and what
// they hold. For nodes and for the tools. Each call waits for one answer of JetStream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/cluster/message.hpp"
#include "projections/delivery/nats_client.hpp"

namespace fairsale::api {

// One generation of a partition's stream: FAIRSALE_LOG_P_G, subject fairsale.log.P.G.
struct LogStream {
  cluster::PartitionId partition;
  std::uint16_t generation = 0;

  std::string name() const;
  std::string subject() const;
};

struct LogStreamSettings {
  std::uint32_t replicas = 3;       // of a stream of an even generation, as below
  std::uint32_t megabytes = 1'024;  // of one; then its oldest messages go. NATS reserves them
};

// Streams of odd generations are bridges: one server has them, so that no election is ever between
// them and their messages. They are there to go over to when the stream before them is silent, and
// are left for the next one, which has all replicas, as soon as that is ready.
constexpr bool is_bridge(std::uint16_t generation) { return generation % 2 == 1; }

// Sequence numbers from first to last; no message when last is less than first.
struct LogStreamBounds {
  std::uint64_t first = 1;
  std::uint64_t last = 0;
};

// Makes the stream if it is not there; one that is there is left as it is.
Result<void> ensure_log_stream(jsCtx*, const LogStream&, const LogStreamSettings&);

// Nothing when the stream is not there.
Result<std::optional<LogStreamBounds>> log_stream_bounds(jsCtx*, const LogStream&);

struct LogStreamMessage {
  Timestamp time;  // when it was stored
  std::vector<std::byte> bytes;
};

// Nothing when the message is not there. `how` may be null.
Result<std::optional<LogStreamMessage>> log_stream_message(jsCtx*, const LogStream&,
                                                           std::uint64_t sequence,
                                                           jsOptions* how = nullptr);

// Stores the first message of a stream. Fails when it has, or had, another.
Result<void> open_log_stream(jsCtx*, const LogStream&, std::span<const std::byte>);

}  // namespace fairsale::api
