// A block: the events of one SKU that were committed together, chained to the block before it.
// docs/log-format.md is the grammar. Encoding is cereal over a fixed buffer, little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "core/domain/event.hpp"
#include "core/log/digest.hpp"
#include "core/log/event_codec.hpp"
#include "core/log/result.hpp"

namespace fairsale {

// Bounds of the format. A reader refuses more before it decodes or allocates anything.
inline constexpr std::uint32_t kMaxBlockEvents = 4096;
inline constexpr std::size_t kMaxEventBytes = 512;
inline constexpr std::size_t kMaxBlockBytes = 1 << 20;

// 1 in a log whose writer orders it. Where a stream orders it, the position in the stream of the
// message that the block was made of, which only grows within a log.
using Epoch = Strong<struct EpochTag, std::uint64_t>;

// Where a SKU's log ends. `digest` is the SHA-256 that the next block chains to; all zero when the
// log is empty.
struct Head {
  Seq seq;
  Timestamp time;
  Digest digest;

  friend bool operator==(const Head&, const Head&) = default;
};

// A head in short: enough to tell two logs apart that nobody forged.
struct Mark {
  Seq seq;
  std::uint64_t digest = 0;  // its first 8 bytes, big-endian

  static Mark of(const Head&);
  friend bool operator==(const Mark&, const Mark&) = default;
};

struct BlockHeader {
  SkuId sku;
  Seq first;
  std::uint32_t count = 0;
  Timestamp time;  // of every event in the block
  Epoch epoch;
  Digest previous;
};

// Builds one block at a time in a buffer that is reused: no allocation once warm.
// Not thread-safe.
class BlockBuilder {
 public:
  BlockBuilder();

  // Starts a block that follows `head`. `time` is within 0..kMaxTimestampMs and not before the
  // head's; anything else aborts.
  void begin(SkuId sku, const Head& head, Timestamp time, Epoch epoch);

  // Appends an event, which must be well_formed() (anything else aborts). Returns false, and
  // changes nothing, when the block is full.
  bool add(const Event&);

  std::uint32_t count() const { return header_.count; }

  // Seals the block of at least one event: writes header, chain digest and CRC. The bytes stay
  // valid until begin().
  // `head` becomes the head after this block.
  std::span<const std::byte> finish(Head& head);

 private:
  BlockHeader header_;
  std::vector<std::byte> buffer_;
  std::size_t used_ = 0;
  EventEncoder encoder_;
  Sha256 sha_;
};

// A block that has been checked whole: lengths, CRC, its own digest. A view: the bytes must
// outlive it.
class BlockView {
 public:
  // Checks everything that the bytes alone can show. Does not know what came before.
  static Result<BlockView> parse(std::span<const std::byte>);

  // The whole block, as sealed.
  std::span<const std::byte> bytes() const { return bytes_; }
  const BlockHeader& header() const { return header_; }
  const Digest& digest() const { return digest_; }
  std::span<const std::byte> payload() const { return payload_; }
  Seq last() const { return Seq{header_.first.value + header_.count - 1}; }

  // Checks that this block continues a log whose head is `head`: SKU aside, gap-free position,
  // non-decreasing time and chain.
  Result<void> follows(const Head& head) const;

  // Decodes the events in order: `visit(Seq, const Event&)`. Fails, naming the position, at the
  // first event that is malformed, unknown, or of an unsupported rules version; the events before
  // it have been visited by then. The Event is reused between calls.
  template <class Visitor>
  Result<void> for_each(Visitor&& visit) const {
    return for_each(visit, [](const Event&) {});
  }

  // The same, and tells of each event some events before it is visited: `coming(const Event&)`,
  // for who wants to fetch what it will need.
  template <class Visitor, class Coming>
  Result<void> for_each(Visitor&& visit, Coming&& coming) const {
    struct Both final : EventVisitor {
      Both(Visitor& v, Coming& c) : visitor(v), before(c) {}
      void visit(Seq seq, const Event& e) override { visitor(seq, e); }
      void coming(const Event& e) override { before(e); }
      Visitor& visitor;
      Coming& before;
    } both(visit, coming);
    return visit_events(both);
  }

 private:
  struct EventVisitor {
    virtual void visit(Seq, const Event&) = 0;
    virtual void coming(const Event&) = 0;

   protected:
    ~EventVisitor() = default;
  };
  Result<void> visit_events(EventVisitor&) const;

  BlockHeader header_;
  Digest digest_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> payload_;
};

}  // namespace fairsale
