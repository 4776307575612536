// What nodes of a cluster tell each other beside batches: rendered answers, requests that an edge
// cannot answer by itself, how sales look, and that they are alive. docs/cluster.md is the grammar.
// Readers check all lengths and refuse what they do not know.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/query.hpp"
#include "core/cluster/follower.hpp"
#include "core/cluster/message.hpp"
#include "projections/availability.hpp"

namespace fairsale::api {

using Bytes = std::vector<std::byte>;

// An answer as a client gets it.
struct Rendered {
  int status = 0;
  std::string_view content_type;  // a literal, or empty
  std::string_view headers;
  std::string_view body;
};

void append_rendered(Bytes& out, const Rendered&);
// Takes the next one off the front. Nothing when the bytes are no answer.
std::optional<Rendered> take_rendered(std::span<const std::byte>& bytes);

// Answers to a batch are much alike, and most of what crosses the network, so they are packed:
// their length, and an LZ4 block. Both clear `out` first. unpack() is false when the bytes are no
// such thing, or would take more than a message may have.
void pack(Bytes& out, std::span<const std::byte>);
bool unpack(Bytes& out, std::span<const std::byte>);

// `origin`, `ticket` and `asked` of the query are the sender's own business and are not sent.
void append_query(Bytes& out, const Query&);
std::optional<Query> parse_query(std::span<const std::byte>);

// How a sale looks to a processor that is in that generation of its partition's stream.
struct Shown {
  std::uint16_t generation = 0;
  Availability look;
};
void append_shown(Bytes& out, std::uint16_t generation, const Availability&);
std::optional<Shown> parse_shown(std::span<const std::byte>);
// That there is no sale of a SKU, said when something was wanted of it: what was shown of it in an
// earlier generation was taken back.
struct NoSale {
  std::uint16_t generation = 0;
  SkuId sku;
};
void append_no_sale(Bytes& out, const NoSale&);
std::optional<NoSale> parse_no_sale(std::span<const std::byte>);
// After how all sales of these partitions look, when somebody has asked for that.
void append_all_shown(Bytes& out, const std::vector<cluster::PartitionId>&);
std::optional<std::vector<cluster::PartitionId>> parse_all_shown(std::span<const std::byte>);

// A request for the messages of a partition's stream from `from` on, and one of them, from a
// processor that has them still.
struct Lacks {
  cluster::PartitionId partition;
  cluster::Position from;
  cluster::NodeId node;  // who asks
};
void append_lacks(Bytes& out, const Lacks&);
std::optional<Lacks> parse_lacks(std::span<const std::byte>);
void append_has(Bytes& out, const cluster::Delivered&);
// A view of the bytes.
std::optional<cluster::Delivered> parse_has(std::span<const std::byte>);

// Sent by every node a few times a second.
struct Heartbeat {
  struct OfPartition {
    cluster::PartitionId id;
    cluster::Position position;                     // durable there
    bool stopped = false;                           // nothing more is taken
    bool waits = false;                             // it will be, later
    std::map<std::uint16_t, std::uint64_t> cuts{};  // where it left generations before
  };
  cluster::NodeId node;
  bool processor = false;
  std::string name;
  std::vector<OfPartition> partitions;
  std::vector<cluster::NodeId> hears{};  // whose heartbeats have arrived there lately

  // What it says of one; null when it has none of it.
  const OfPartition* of(cluster::PartitionId) const;
};
void append_heartbeat(Bytes& out, const Heartbeat&);
std::optional<Heartbeat> parse_heartbeat(std::span<const std::byte>);

}  // namespace fairsale::api
