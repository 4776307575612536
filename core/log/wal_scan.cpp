#include "core/log/wal_scan.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include "core/log/files.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kBlock = std::size_t{32} * 1024;
constexpr std::size_t kRecordHeader = 7;
constexpr std::size_t kBatchHeader = 12;

enum Type : std::uint8_t { kZero = 0, kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

struct Record {
  std::uint8_t type;
  std::span<const std::byte> payload;
};

std::uint32_t masked(std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8U; }

// The whole record at the start of `bytes`, which end where its block or the file ends.
std::optional<Record> record_at(std::span<const std::byte> bytes) {
  if (bytes.size() < kRecordHeader) return std::nullopt;
  const auto length = get_le<std::uint16_t>(bytes.data() + 4);
  const auto type = std::to_integer<std::uint8_t>(bytes[6]);
  if (type < kFull || type > kLast || length > bytes.size() - kRecordHeader) return std::nullopt;
  const auto crc = crc32c(bytes.subspan(6, 1u + length));
  if (masked(crc) != get_le<std::uint32_t>(bytes.data())) return std::nullopt;
  return Record{type, bytes.subspan(kRecordHeader, length)};
}

bool starts_a_commit(const Record& r) { return r.type == kFull || r.type == kFirst; }

std::string why_no_record(std::span<const std::byte> bytes, bool last_block) {
  if (bytes.size() < kRecordHeader) return "a record's header is cut short";
  if (std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; })) {
    return "zeros in place of a record";
  }
  const auto length = get_le<std::uint16_t>(bytes.data() + 4);
  if (length > bytes.size() - kRecordHeader && last_block) return "a record is cut short";
  return "a record's checksum does not match";
}

// The first bytes of a commit: enough for the sequence number and the key of its first block.
class Prefix {
 public:
  void start() { size_ = 0; }
  void add(std::span<const std::byte> bytes) {
    const std::size_t n = std::min(bytes.size(), bytes_.size() - size_);
    if (n != 0) std::memcpy(bytes_.data() + size_, bytes.data(), n);
    size_ += n;
  }
  std::optional<WalCommit> commit() const {
    if (size_ < kBatchHeader) return std::nullopt;
    WalCommit c;
    c.first_sequence = get_le<std::uint64_t>(bytes_.data());
    const auto count = get_le<std::uint32_t>(bytes_.data() + 8);
    c.last_sequence = c.first_sequence + count - 1;
    // 1: a value put into the default column family; then the key's length and the key.
    if (size_ == bytes_.size() && bytes_[12] == std::byte{1} && bytes_[13] == std::byte{16}) {
      c.sku = SkuId{get_be64(bytes_.data() + 14)};
      c.first = Seq{get_be64(bytes_.data() + 22)};
    }
    return count == 0 ? std::nullopt : std::optional(c);
  }

 private:
  std::array<std::byte, 30> bytes_{};
  std::size_t size_ = 0;
};

struct WalFile {
  std::uint64_t number;
  fs::path path;
  std::uint64_t size;
  std::uint64_t content;  // where the zeros begin that fill the file's end
};

// A log file is grown ahead of what is appended (zeroed_wal.hpp).
Result<std::uint64_t> end_of_content(const fs::path& path, std::uint64_t size) {
  auto file = open_file(path, O_RDONLY);
  if (!file) return tl::unexpected(file.error());
  std::vector<std::byte> bytes(kBlock);
  while (size > 0) {
    const std::uint64_t from = (size - 1) / kBlock * kBlock;
    const auto n = read_at(*file, path, from, std::span(bytes).first(size - from));
    if (!n) return tl::unexpected(n.error());
    for (std::size_t i = *n; i > 0; --i) {
      if (bytes[i - 1] != std::byte{0}) return from + i;
    }
    size = from;
  }
  return size;
}

Result<std::vector<WalFile>> wal_files(const fs::path& directory, std::uint64_t from,
                                       bool& obsolete) {
  std::vector<WalFile> files;
  std::error_code ec;
  for (auto it = fs::directory_iterator(directory, ec); !ec && it != fs::directory_iterator();
       it.increment(ec)) {
    const fs::path& path = it->path();
    const std::string stem = path.stem().string();
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(stem.data(), stem.data() + stem.size(), number);
    if (path.extension() != ".log" || error != std::errc() || end != stem.data() + stem.size()) {
      continue;
    }
    if (number < from) {
      obsolete = true;
      continue;
    }
    const auto size = it->file_size(ec);
    if (ec) break;
    const auto content = end_of_content(path, size);
    if (!content) return tl::unexpected(content.error());
    files.push_back({number, path, size, *content});
  }
  if (ec) return system_failure("list", directory, ec.value());
  std::sort(files.begin(), files.end(),
            [](const WalFile& a, const WalFile& b) { return a.number < b.number; });
  return files;
}

class Scanner {
 public:
  explicit Scanner(WalScan& result) : scan_(result), block_(kBlock) {}

  Result<void> file(const WalFile& wal) {
    auto file = open_file(wal.path, O_RDONLY);
    if (!file) return tl::unexpected(file.error());
    whole_end_ = 0;
    in_commit_ = false;
    ended_ = false;
    bool searching = false;
    for (std::uint64_t base = 0; base < wal.size; base += kBlock) {
      const auto n = read_at(*file, wal.path, base, block_);
      if (!n) return tl::unexpected(n.error());
      const std::span<const std::byte> bytes(block_.data(), *n);
      std::size_t at = 0;
      if (!searching) {
        at = take_records(wal, base, bytes);
        if (ended_) break;
        searching = scan_.damage.has_value();
        if (searching && scan_.damage->later) return {};
      }
      if (searching && search(bytes.subspan(at))) return {};
    }
    if (!searching && in_commit_) damaged(wal, "the last commit is cut short");
    if (scan_.damage) scan_.damage->at_the_end = true;
    return {};
  }

  // Of the last whole commit in the file scanned last.
  std::uint64_t whole_end() const { return whole_end_; }

 private:
  // Takes the records of one block up to its end or the first that is damaged, and returns where
  // it stopped.
  std::size_t take_records(const WalFile& wal, std::uint64_t base,
                           std::span<const std::byte> bytes) {
    std::size_t at = 0;
    // The rest of a block that is too small for a header is padding.
    while (at < bytes.size() && kBlock - at >= kRecordHeader) {
      const auto record = record_at(bytes.subspan(at));
      if (!record && base + at >= wal.content) {
        ended_ = true;
        return at;
      }
      if (!record) {
        damaged(wal, why_no_record(bytes.subspan(at), bytes.size() < kBlock));
        return at;
      }
      if (starts_a_commit(*record) == in_commit_) {
        damaged(wal, in_commit_ ? "a commit has no end" : "a commit has no start");
        return at;
      }
      if (!in_commit_) prefix_.start();
      prefix_.add(record->payload);
      in_commit_ = record->type == kFirst || record->type == kMiddle;
      const std::size_t next = at + kRecordHeader + record->payload.size();
      if (!in_commit_) {
        if (!whole_commit(wal)) return at;
        whole_end_ = base + next;
      }
      at = next;
    }
    return bytes.size();
  }

  bool whole_commit(const WalFile& wal) {
    const auto commit = prefix_.commit();
    if (!commit) {
      damaged(wal, "a record holds no commit");
      return false;
    }
    if (scan_.last && commit->first_sequence != scan_.last->last_sequence + 1) {
      damaged(wal, fmt::format("commits are missing between sequence numbers {} and {}",
                               scan_.last->last_sequence, commit->first_sequence));
      scan_.damage->later = commit;
      scan_.damage->between_files = whole_end_ == 0;
      return false;
    }
    if (!scan_.first) scan_.first = commit;
    scan_.last = commit;
    return true;
  }

  void damaged(const WalFile& wal, std::string what) {
    scan_.damage = WalDamage{.file = wal.path,
                             .number = wal.number,
                             .offset = whole_end_,
                             .size = std::max(wal.content, whole_end_),
                             .what = std::move(what),
                             .later = {}};
  }

  // Looks for the start of a later commit at every byte, since the damage may hide where records
  // begin. RocksDB starts a commit only when the one before it is durable, so such a start proves
  // that the damaged bytes had been.
  bool search(std::span<const std::byte> bytes) {
    for (std::size_t at = 0; at + kRecordHeader <= bytes.size(); ++at) {
      const auto record = record_at(bytes.subspan(at));
      if (!record || !starts_a_commit(*record)) continue;
      Prefix prefix;
      prefix.start();
      prefix.add(record->payload);
      const auto commit = prefix.commit();
      // A record of an older file that this one's space once held proves nothing.
      if (!commit || (scan_.last && commit->first_sequence <= scan_.last->last_sequence)) continue;
      scan_.damage->later = commit;
      return true;
    }
    return false;
  }

  WalScan& scan_;
  std::vector<std::byte> block_;
  Prefix prefix_;
  std::uint64_t whole_end_ = 0;  // of the last whole commit in this file
  bool in_commit_ = false;
  bool ended_ = false;  // only zeros are left of the file
};

}  // namespace

Result<WalScan> scan_wals(const fs::path& directory, std::uint64_t from) {
  WalScan scan;
  auto files = wal_files(directory, from, scan.obsolete);
  if (!files) return tl::unexpected(files.error());
  Scanner scanner(scan);
  for (std::size_t i = 0; i < files->size(); ++i) {
    if (auto ok = scanner.file((*files)[i]); !ok) return tl::unexpected(ok.error());
    scan.parts.push_back({(*files)[i].path, scanner.whole_end()});
    if (!scan.damage) continue;
    // A later file with anything in it was begun when this one was durable.
    for (std::size_t j = i + 1; j < files->size(); ++j) {
      if ((*files)[j].content != 0) scan.damage->at_the_end = false;
    }
    break;
  }
  return scan;
}

Result<void> cut_torn_tail(const WalDamage& damage, const fs::path& keep_as) {
  auto wal = open_file(damage.file, O_RDWR);
  if (!wal) return tl::unexpected(wal.error());
  std::vector<std::byte> tail(damage.size - damage.offset);
  const auto n = read_at(*wal, damage.file, damage.offset, tail);
  if (!n) return tl::unexpected(n.error());
  if (auto ok = create_durably(keep_as, std::span(tail).first(*n)); !ok) return ok;
  if (::ftruncate(wal->fd(), static_cast<off_t>(damage.offset)) != 0) {
    return system_failure("truncate", damage.file, errno);
  }
  return sync_file(*wal, damage.file);
}

}  // namespace fairsale
