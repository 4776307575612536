// Snapshots as plain files: DIRECTORY/<SKU id>/<position>. They stand apart from the log's store,
// so that nothing that befalls a snapshot can keep the log from opening, so that the log's
// write-ahead log holds nothing but synced commits, and so that they can be deleted at any time.
//
// What is kept of each SKU: the latest two, for a start; and for looks into the past, the first at
// or after each of the positions 2^n and 1.5 * 2^n from 2^20 on (1,048,576; 1,572,864; 2,097,152;
// ...). So a long log has two snapshots for each time that it has doubled, and all of them together
// take at most 5.5 times the space of the newest, since a snapshot's size grows with its position.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "core/log/event_log.hpp"

namespace fairsale {

// Thread-safe, for different SKUs.
class SnapshotFiles {
 public:
  // The directory need not exist. Removes what a crash left half written when `writable`.
  SnapshotFiles(std::filesystem::path directory, bool writable);

  // Streams the sale to a file and renames it into place; no sync. Removes what need not be kept.
  Result<void> put(SkuId sku, const Head& at, const Sale& sale);

  // The newest at or before `at_most` that checks out, and whose head `in_log` knows; others are
  // passed over.
  std::optional<Snapshot> newest(SkuId sku, Seq at_most,
                                 const std::function<bool(const Head&)>& in_log) const;

 private:
  std::filesystem::path directory_;
  std::atomic<std::uint64_t> fresh_{0};  // names files that are being written
};

}  // namespace fairsale
