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
#include <memory>
#include <optional>
#include <vector>

#include "core/log/event_log.hpp"

namespace fairsale {

// One snapshot as it lies in its file, for who wants to judge it instead of using it: what its
// header says, then the bytes of the state. Only the header has been checked.
class StoredSnapshot final : public ByteSource {
 public:
  ~StoredSnapshot();
  StoredSnapshot(StoredSnapshot&&) noexcept;
  StoredSnapshot& operator=(StoredSnapshot&&) noexcept;

  const Head& head() const;            // the position it says it was taken at
  const Digest& state() const;         // what the digest of its bytes should be
  std::uint64_t size() const;          // how many bytes of state it should have
  std::uint64_t stored_bytes() const;  // how many there are in the file

  std::span<const std::byte> next() override;

 private:
  friend class SnapshotFiles;
  struct Impl;
  explicit StoredSnapshot(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

struct SnapshotName {
  SkuId sku;
  Seq seq;
};

// Thread-safe, for different SKUs.
class SnapshotFiles {
 public:
  // The directory need not exist. Removes what a crash left half written when `writable`.
  SnapshotFiles(std::filesystem::path directory, bool writable);

  // Streams the sale to a file and renames it into place; no sync. Removes what need not be kept.
  Result<void> put(SkuId sku, const Head& at, const Sale& sale);

  // Removes those behind a position.
  Result<void> remove_behind(SkuId sku, Seq);

  // The newest at or before `at_most` that checks out, and whose head `in_log` knows; others are
  // passed over.
  std::optional<Snapshot> newest(SkuId sku, Seq at_most,
                                 const std::function<bool(const Head&)>& in_log) const;

  // All that are there, sound or not, by SKU and position.
  std::vector<SnapshotName> all() const;

  // Opens one of them. Fails with not_found when it is gone, which a writer may do at any time,
  // and with damaged when its header is not one of a snapshot of this SKU at this position.
  Result<StoredSnapshot> open(const SnapshotName&) const;

 private:
  std::filesystem::path directory_;
  std::atomic<std::uint64_t> fresh_{0};  // names files that are being written
};

}  // namespace fairsale
