// The ACKED file: the newest commit that was acknowledged, kept apart from RocksDB's own files so
// that after a crash a write that nobody was promised can be told from a promise that was lost.
//
// Two slots of one disk sector each are written in turn, so one is whole at any time. A record is
// written without a sync after each commit: it survives the end of the process at once, and a
// power cut once sync() or the kernel has written it out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/files.hpp"

namespace fairsale {

struct AckedHead {
  SkuId sku;
  Seq seq;
  Digest digest;
};

struct Acked {
  std::uint64_t sequence = 0;    // RocksDB's, of the commit's last entry; 0 before the first commit
  std::uint32_t skus = 0;        // in that commit
  std::vector<AckedHead> heads;  // of the first of them, as many as fit a sector
};

inline constexpr std::size_t kMaxAckedHeads = 10;

// Not thread-safe.
class AckedFile {
 public:
  // Opens the file, and creates it durably when it does not exist. `newest` becomes the newest
  // whole record; nothing when there was no file or none of its records is whole.
  static Result<AckedFile> open(const std::filesystem::path&, std::optional<Acked>& newest);

  // The newest whole record, as above, and changes nothing.
  static Result<std::optional<Acked>> read(const std::filesystem::path&);

  // Writes a record over the older of the two. One system call.
  Result<void> record(const Acked&);

  // Makes the last record durable, if it is not yet.
  Result<void> sync();

 private:
  AckedFile(std::filesystem::path path, File file, unsigned next)
      : path_(std::move(path)), file_(std::move(file)), next_slot_(next) {}

  std::filesystem::path path_;
  File file_;
  unsigned next_slot_;
  bool dirty_ = false;
};

}  // namespace fairsale
