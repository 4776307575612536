// Snapshots as plain files: DIRECTORY/<SKU id>/<position>. They stand apart from the log's store,
// so that nothing that befalls a snapshot can keep the log from opening, so that the log's
// write-ahead log holds nothing but synced commits, and so that they can be deleted at any time.
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

  // Streams the sale to a file and renames it into place; no sync. Keeps the latest two.
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
