// The event log: for each SKU one ordered, chained sequence of blocks, durable before it is
// acknowledged. The interface is what the engine needs; RocksLog is the embedded store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/log/block.hpp"
#include "core/log/result.hpp"

namespace fairsale {

// One block to commit: the bytes as sealed by BlockBuilder.
struct BlockWrite {
  SkuId sku;
  Seq first;
  Head after;  // the SKU's head once this block is durable
  std::span<const std::byte> bytes;
};

struct SkuHead {
  SkuId sku;
  Head head;
};

struct LastBlock {
  SkuId sku;
  Seq first;  // the position of the block's first event
};

// A processor's state at a position, so that recovery need not fold the log from its start. May
// always be deleted.
struct Snapshot {
  Head head;     // the position it was taken at
  Digest state;  // state_digest of the sale
  Sale sale;
};

class EventLog {
 public:
  virtual ~EventLog() = default;

  // Commits all blocks together or none. Returns after fdatasync. Blocks of one SKU must be given
  // in order and continue its log: others, and commits of more than 32 MiB, are refused with
  // Fault::invalid before anything is written. After any other error the log is dead: every later
  // append fails, since what reached the disk is no longer known (an fsync error must never be
  // retried). The blocks of the failed commit may or may not be found after a restart.
  // Thread-safe: concurrent appends (of different SKUs) may share one sync.
  virtual Result<void> append(std::span<const BlockWrite> blocks) = 0;

  // Calls `visit` with each block that holds or follows position `from`, in order, each checked
  // whole and against the block before it. `visit` returns false to stop. Fails, naming SKU and
  // position, at the first damaged or missing block. Thread-safe.
  virtual Result<void> read(SkuId sku, Seq from,
                            const std::function<bool(const BlockView&)>& visit) const = 0;

  // The heads of all SKUs as recorded with their last blocks, ordered by id.
  virtual Result<std::vector<SkuHead>> heads() const = 0;

  // The same as far as they are known to be durable: what lies behind such a head, up to that of
  // heads(), is provisional. It was found whole, but is not on record as acknowledged, and a power
  // failure may still take it back. A SKU of which nothing is known to be durable has an empty
  // head. Differs from heads() only in a log that was opened for reading only.
  virtual Result<std::vector<SkuHead>> durable_heads() const { return heads(); }

  // The last block of each SKU that has any, by id, as stored: by the blocks' keys alone, whatever
  // heads() says. Where the two differ, one of them was changed behind the log's back.
  virtual Result<std::vector<LastBlock>> last_blocks() const = 0;

  // Keeps `sale` as the SKU's newest snapshot. The latest two stay, and of those before, as many
  // as a store may keep so that their number and size stay in proportion (snapshot_files.hpp).
  // Not synced: losing one costs time, not data; a failure leaves the log alive. Thread-safe, for
  // different SKUs.
  virtual Result<void> put_snapshot(SkuId sku, const Head& at, const Sale& sale) = 0;

  // The newest snapshot at or before `at_most` whose bytes match its digest and whose head is in
  // the log; any other is skipped, as if it were not there.
  virtual Result<std::optional<Snapshot>> snapshot(SkuId sku, Seq at_most) const = 0;

  // Takes back what SKUs have behind these heads, of which each is where one of its SKU's blocks
  // ends, or empty. Together or not at all; returns after fdatasync. Any other head is refused with
  // Fault::invalid before anything is written; other errors are as of append(). Nobody may read or
  // append meanwhile. Snapshots from behind a head go first, whatever comes of the rest. For what
  // was never acknowledged only.
  virtual Result<void> shorten(std::span<const SkuHead>) {
    return fail(Fault::unsupported, "this log cannot be shortened");
  }

  // Makes the record of what was acknowledged durable as well. Call when nothing has been appended
  // for some milliseconds; see RocksLog on torn tails.
  virtual void settle() = 0;
};

}  // namespace fairsale
