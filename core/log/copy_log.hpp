// Copies logs from one store to another, block by block: backups, restores and what a repair keeps.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/log/event_log.hpp"

namespace fairsale {

struct CopyReport {
  std::uint64_t skus = 0;  // that had something to copy
  std::uint64_t blocks = 0;
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
};

// Collects blocks and commits them together, so that a hundred thousand short logs do not cost as
// many syncs. Not thread-safe; the log must outlive it.
class BatchedAppend {
 public:
  explicit BatchedAppend(EventLog& log) : log_(log) {}

  // Takes a copy of the block; commits what has gathered when that is much. The first error is
  // final.
  Result<void> add(const BlockView&);
  // Commits the rest. Returns after it is durable.
  Result<void> finish();

  const CopyReport& report() const { return report_; }

 private:
  static constexpr std::size_t kCommitBytes = std::size_t{4} << 20;
  static constexpr std::size_t kCommitBlocks = 4096;

  EventLog& log_;
  std::vector<BlockWrite> writes_;
  std::vector<std::vector<std::byte>> blocks_;
  std::size_t bytes_ = 0;
  SkuId sku_{0};
  CopyReport report_;
};

// Gives `out` the blocks of a SKU that `from` has behind position `after`, where one of its blocks
// ends, up to `source`'s head. Fails with `damaged` when they do not lead there.
Result<void> copy_blocks(const EventLog& from, const SkuHead& source, Seq after, BatchedAppend& out,
                         const std::function<void(std::uint64_t events)>& copied);

// Appends to `to` what `from` has beyond it, up to `heads`, each of which is the end of a block of
// `from`: all that it has, or that of it which is durable. Each block read is checked whole and
// against the one before it. Fails with `invalid`, before anything is written, when `to` has
// something that does not lie before these heads: another history, or a longer one; and with
// `damaged` when a log does not lead to its head. `copied` is told of events as they are copied.
// Returns after everything is durable.
Result<CopyReport> copy_log(const EventLog& from, EventLog& to, std::span<const SkuHead> heads,
                            const std::function<void(std::uint64_t events)>& copied);

}  // namespace fairsale
