// A cluster as its nodes tell of it, each for itself and some for others.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"

namespace fairsale::cli {

struct PartitionSeen {
  std::uint32_t partition = 0;
  std::uint64_t generation = 0;
  std::uint64_t message = 0;
  std::string stopped;  // why; empty: it is not
  std::string waits;    // likewise
};

struct NodeSeen {
  std::string url;  // empty: it was not asked, others have heard of it
  std::string id;
  std::string name;
  std::string role;
  std::string not_ready;  // why; empty: it is, or it was not asked
  std::vector<PartitionSeen> partitions;
};

// An answer of GET /v1/cluster: the node, and the others that it has heard of.
struct ClusterAnswer {
  NodeSeen node;
  std::vector<NodeSeen> others;
};
Result<ClusterAnswer> parse_cluster(std::string_view json);

// An answer of GET /v1/sales/{sku}/audit-head.
struct HeadSeen {
  std::string node;
  std::uint64_t position = 0;
  std::string head;
  std::string state;
};
Result<HeadSeen> parse_audit_head(std::string_view json);

struct SaleHeads {
  std::string sku;
  std::vector<HeadSeen> heads;
  std::vector<std::string> failures;  // of who could not tell

  // No two differ at the same position.
  bool agree() const;
};

class ClusterStatus {
 public:
  // What a node answered, and what is to be said of one that did not.
  void add(const std::string& url, ClusterAnswer);
  void add_failure(const std::string& url, std::string why);
  void add_heads(SaleHeads heads) { heads_.push_back(std::move(heads)); }

  // Those that were asked, in that order, then those that were only heard of.
  const std::vector<NodeSeen>& nodes() const { return nodes_; }

  // All that were asked are ready, no partition is stopped or waits anywhere, and heads agree.
  bool well() const;
  // Messages behind the furthest of the partition; nothing when by a generation.
  std::optional<std::uint64_t> lag(const PartitionSeen&) const;

  std::string text() const;
  std::string json() const;

 private:
  NodeSeen* find(std::string_view id);
  void saw(const NodeSeen&);

  std::vector<NodeSeen> nodes_;
  std::map<std::uint32_t, std::pair<std::uint64_t, std::uint64_t>> furthest_;
  std::vector<SaleHeads> heads_;
};

}  // namespace fairsale::cli
