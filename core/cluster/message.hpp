// What the nodes of a cluster send each other about purchases. docs/cluster.md is the grammar.
//
// A batch holds events of one SKU, as they arrived at one node, the origin. It is published to the
// stream of the SKU's partition and becomes one block of the SKU's log on every processor. Each
// processor then sends the origin its answers to the batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/log/block.hpp"

namespace fairsale::cluster {

// A process, for as long as it lives: drawn at random when it starts, so that nobody takes an
// answer for one of an earlier process.
using NodeId = Strong<struct NodeIdTag, std::uint64_t>;

// A node's name of a batch that it sent: 1 for its first, one more for each.
using BatchNumber = Strong<struct BatchNumberTag, std::uint64_t>;

// SKUs are spread over partitions, each ordered by a stream of its own.
using PartitionId = Strong<struct PartitionIdTag, std::uint32_t>;

// The position of a message: the generation of its partition's stream in the upper 16 bits, its
// sequence number there in the lower 48. Positions only grow, also when a stream is made anew.
struct Position {
  std::uint16_t generation = 0;
  std::uint64_t sequence = 0;  // from 1; below 2^48

  static Position of(Epoch e) {
    return {static_cast<std::uint16_t>(e.value >> 48), e.value & ((std::uint64_t{1} << 48) - 1)};
  }
  Epoch epoch() const { return Epoch{std::uint64_t{generation} << 48 | sequence}; }
  friend auto operator<=>(const Position&, const Position&) = default;
};

struct Partitions {
  std::uint32_t count = 1;
  PartitionId of(SkuId sku) const {
    return PartitionId{static_cast<std::uint32_t>(sku.value % count)};
  }
};

// Bounds of a message; a reader refuses more before it allocates anything. A batch within them fits
// into one block.
inline constexpr std::uint32_t kMaxBatchEvents = kMaxBlockEvents;
inline constexpr std::size_t kMaxBatchBytes = std::size_t{256} * 1024;
inline constexpr std::size_t kMaxAnswersBytes = std::size_t{512} * 1024;

// Builds one batch at a time in a buffer that is reused. Not thread-safe.
class BatchBuilder {
 public:
  BatchBuilder();

  void begin(SkuId sku, NodeId origin);
  // The event must be well_formed(). Returns false, and changes nothing, when the batch is full.
  bool add(const Event&);
  std::uint32_t count() const { return count_; }

  // Seals the batch of at least one event. `knows` is the latest that the origin has heard of the
  // SKU's log; all zero when nothing. The bytes stay valid until begin().
  std::span<const std::byte> finish(BatchNumber number, const Mark& knows);

 private:
  std::vector<std::byte> buffer_;
  std::size_t used_ = 0;
  std::uint32_t count_ = 0;
  SkuId sku_;
  NodeId origin_;
  EventEncoder encoder_;
};

struct Batch {
  SkuId sku;
  NodeId origin;
  BatchNumber number;
  Mark knows;
  std::vector<Event> events;
};

// Checks everything that the bytes can show and decodes them into `out`, whose memory is reused.
// Fault::unsupported: written by a newer version, and whole. Any other fault: no fairsale wrote
// this, or it was damaged.
Result<void> parse_batch(std::span<const std::byte>, Batch& out);

// The first message of a partition's stream from its second generation on: what every processor
// must have of the partition before it takes what follows.
struct Opening {
  PartitionId partition;
  std::uint16_t generation = 0;
  std::uint64_t skus = 0;
  Digest heads;  // see HeadsDigest
};

void append_opening(std::vector<std::byte>& out, const Opening&);
// Faults as parse_batch().
Result<Opening> parse_opening(std::span<const std::byte>);
bool is_opening(std::span<const std::byte>);

// A processor, by its name: the same for as long as it has its data directory.
using ProcessorId = Strong<struct ProcessorIdTag, std::uint64_t>;
ProcessorId processor_id(std::string_view name);

// In the stream that is to follow another, of the generation before: the processor takes nothing
// more of that one before it knows the cut, and has all of it up to `has` durable.
struct Promise {
  PartitionId partition;
  std::uint16_t generation = 0;  // of the stream that it stands in
  ProcessorId processor;
  std::uint64_t has = 0;  // a sequence number of the stream before: of its last block
};

void append_promise(std::vector<std::byte>& out, const Promise&);
// Faults as parse_batch().
Result<Promise> parse_promise(std::span<const std::byte>);

// A message that says nothing and is passed over: who reads it knows that the stream stores.
inline constexpr std::string_view kNothing = "FSCN";

// In the same stream: the promises before it make the cut, which is the highest position among
// them. The stream before is taken up to there, and then this one.
struct Cut {
  PartitionId partition;
  std::uint16_t generation = 0;
};

void append_cut(std::vector<std::byte>& out, const Cut&);
Result<Cut> parse_cut(std::span<const std::byte>);

// The digest of the heads of a partition, given in the order of their SKUs.
class HeadsDigest {
 public:
  void add(SkuId, const Head&);
  std::uint64_t skus() const { return skus_; }
  Digest finish() { return sha_.finish(); }

 private:
  Sha256 sha_;
  std::uint64_t skus_ = 0;
};

// Where a batch ended up, by one processor. `content` is for the origin to understand.
struct AnswersHead {
  ProcessorId processor;
  BatchNumber number;
  SkuId sku;
  Epoch position;  // of the batch
  Mark mark;       // the SKU's log once the batch was in it
};

struct Answers {
  AnswersHead head;
  std::span<const std::byte> content;
};

// Appends the message to `out`. The content takes at most kMaxAnswersBytes.
void append_answers(std::vector<std::byte>& out, const AnswersHead&,
                    std::span<const std::byte> content);
// A view of the bytes. Faults as parse_batch().
Result<Answers> parse_answers(std::span<const std::byte>);

}  // namespace fairsale::cluster
