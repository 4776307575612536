// The scan of RocksDB's write-ahead log files, which decides what is a torn end and what is damage.
// Files are either the input's bytes, or records with right checksums as the input orders them.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/log/digest.hpp"
#include "core/log/little_endian.hpp"
#include "core/log/wal_scan.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kBlock = 32 * 1024;
constexpr std::size_t kHeader = 7;
constexpr std::size_t kMaxFiles = 3;
constexpr std::size_t kMaxBytes = 80 * 1024;

// Writes files as RocksDB would, and as it never would.
class Files {
 public:
  void next_file() {
    if (contents_.size() < kMaxFiles) contents_.emplace_back();
  }
  void raw(std::string_view s) { contents_.back() += s; }

  void record(std::uint8_t type, std::string_view payload) {
    std::string& out = contents_.back();
    const std::size_t left = kBlock - out.size() % kBlock;
    if (left < kHeader) out.append(left, '\0');
    std::string typed(1, static_cast<char>(type));
    typed += payload;
    const std::uint32_t crc = crc32c(bytes_of(typed));
    std::byte head[6];
    put_le(put_le(head, ((crc >> 15) | (crc << 17)) + 0xa282ead8U),
           static_cast<std::uint16_t>(payload.size()));
    out += text_of(head);
    out += typed;
  }

  // A commit of one block that starts at the next sequence number, in as many records as it needs.
  void commit(std::size_t size) {
    std::string batch(12, '\0');
    auto* const p = reinterpret_cast<std::byte*>(batch.data());
    put_le(p, sequence_);
    put_le(p + 8, std::uint32_t{2});
    sequence_ += 2;
    batch += std::string("\1\x10", 2) + std::string(7, '\0') + '\1' + std::string(7, '\0') + '\1';
    batch.append(size, 'x');
    std::string_view rest = batch;
    bool first = true;
    do {
      const std::size_t left = kBlock - contents_.back().size() % kBlock;
      const std::size_t room = (left < kHeader ? kBlock : left) - kHeader;
      const std::string_view part = rest.substr(0, room);
      rest.remove_prefix(part.size());
      record(first ? (rest.empty() ? 1 : 2) : (rest.empty() ? 4 : 3), part);
      first = false;
    } while (!rest.empty());
  }

  void skip_sequence() { ++sequence_; }
  std::size_t bytes() const {
    std::size_t n = 0;
    for (const std::string& c : contents_) n += c.size();
    return n;
  }
  const std::vector<std::string>& contents() const { return contents_; }

 private:
  std::vector<std::string> contents_{std::string()};
  std::uint64_t sequence_ = 1;
};

Files files_from(std::string_view input) {
  Files files;
  Choices in(input);
  if (in.byte() == 0) {
    const std::size_t first = std::size_t{in.byte()} * 16;
    files.raw(in.take(first));
    files.next_file();
    files.raw(in.rest());
    return files;
  }
  while (!in.rest().empty() && files.bytes() < kMaxBytes) {
    const std::uint8_t what = in.byte();
    switch (what % 8) {
      case 0: files.raw(std::string(in.byte(), '\0')); break;
      case 1: files.raw(in.take(in.byte())); break;
      case 2: files.next_file(); break;
      case 3: files.skip_sequence(); break;
      case 4: files.record(static_cast<std::uint8_t>(what >> 3 & 7), in.take(in.byte())); break;
      case 5: files.commit(std::size_t{in.byte()} * 256); break;
      default: files.commit(in.byte()); break;
    }
  }
  return files;
}

std::string file_name(std::size_t i) { return "/00000" + std::to_string(i + 1) + ".log"; }

std::string content_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

bool same(const std::optional<WalCommit>& a, const std::optional<WalCommit>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return a->first_sequence == b->first_sequence && a->last_sequence == b->last_sequence &&
         a->sku == b->sku && a->first == b->first;
}

}  // namespace

void judge(std::string_view input) {
  static const Directory directory;
  const Files files = files_from(input);
  for (std::size_t i = 0; i < kMaxFiles; ++i) {
    const std::string path = directory.path() + file_name(i);
    if (i < files.contents().size()) {
      write_file(path, files.contents()[i]);
    } else {
      fs::remove(path);
    }
  }
  const auto scan = scan_wals(directory.path(), 0);
  expect(scan.has_value(), "files that can be read can be scanned");
  expect(scan->first.has_value() == scan->last.has_value(), "a first commit is a last one too");
  for (const WalScan::Part& part : scan->parts) {
    expect(part.end <= fs::file_size(part.file), "commits end within their file");
  }

  if (!scan->damage) {
    expect(scan->parts.size() == files.contents().size(), "all files were looked at");
    // A crash leaves zeros behind that were laid out before.
    std::ofstream(scan->parts.back().file, std::ios::app) << std::string(1000, '\0');
    const auto longer = scan_wals(directory.path(), 0);
    expect(longer && !longer->damage && same(longer->last, scan->last),
           "zeros at the end are not part of a file");
    return;
  }
  const WalDamage& d = *scan->damage;
  const std::string before = content_of(d.file);
  expect(d.offset <= d.size && d.size <= before.size(), "damage lies within its file");
  expect(!d.what.empty(), "damage has a name");
  expect(!(d.at_the_end && d.later), "nothing was written after the end");
  if (!d.at_the_end) return;
  const fs::path kept = directory.path() + "/torn.bin";
  fs::remove(kept);
  expect(cut_torn_tail(d, kept).has_value(), "a torn end can be cut off");
  expect(content_of(kept) == before.substr(d.offset, d.size - d.offset), "and is kept");
  const auto again = scan_wals(directory.path(), 0);
  expect(again && !again->damage, "what is left is whole");
  expect(same(again->first, scan->first) && same(again->last, scan->last), "and all that was");
}

std::vector<std::string> seeds() {
  const std::string whole("\1\6\x20\6\x40\5\xff\6\1\2\6\x20", 12);
  return {whole,
          whole + std::string("\1\5abcde", 7),
          whole + std::string("\0\x40\6\x20", 4),
          whole + std::string("\3\6\x20", 3),
          std::string("\1\6\x20\x14\4abcd\x24\4abcd", 14),
          std::string("\1\2\2\6\x10", 5),
          std::string("\0\4", 2) + std::string(100, '\0')};
}

}  // namespace fairsale::fuzz
