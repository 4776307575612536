#include "core/log/snapshot_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <future>
#include <string>
#include <vector>

#include "core/log/files.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale {

namespace fs = std::filesystem;

namespace {

constexpr std::uint32_t kMagic = 0x4e535346;  // "FSSN" as bytes
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kHeaderSize = 108;
constexpr std::size_t kKept = 2;                               // of the latest
constexpr std::uint64_t kSparseFrom = std::uint64_t{1} << 20;  // before, folding is fast enough
constexpr std::size_t kBuffer = std::size_t{256} * 1024;
constexpr std::string_view kUnfinished = ".unfinished";

struct Header {
  SkuId sku;
  Head head;
  Digest state;
  std::uint64_t size = 0;
};

std::array<std::byte, kHeaderSize> encode(const Header& h) {
  std::array<std::byte, kHeaderSize> bytes{};
  std::byte* p = bytes.data();
  p = put_le(p, kMagic);
  p = put_le(p, kVersion);
  p = put_le(p, std::uint16_t{0});
  p = put_le(p, h.sku.value);
  p = put_le(p, h.head.seq.value);
  p = put_le(p, h.head.time.value);
  std::memcpy(p, h.head.digest.bytes.data(), 32);
  p += 32;
  std::memcpy(p, h.state.bytes.data(), 32);
  p += 32;
  p = put_le(p, h.size);
  put_le(p, crc32c({bytes.data(), p}));
  return bytes;
}

std::optional<Header> decode(std::span<const std::byte, kHeaderSize> bytes) {
  const std::byte* p = bytes.data();
  if (get_le<std::uint32_t>(p) != kMagic || get_le<std::uint16_t>(p + 4) != kVersion ||
      get_le<std::uint16_t>(p + 6) != 0 ||
      crc32c(bytes.first(kHeaderSize - 4)) != get_le<std::uint32_t>(p + kHeaderSize - 4)) {
    return std::nullopt;
  }
  Header h;
  h.sku = SkuId{get_le<std::uint64_t>(p + 8)};
  h.head.seq = Seq{get_le<std::uint64_t>(p + 16)};
  h.head.time = Timestamp{get_le<std::int64_t>(p + 24)};
  std::memcpy(h.head.digest.bytes.data(), p + 32, 32);
  std::memcpy(h.state.bytes.data(), p + 64, 32);
  h.size = get_le<std::uint64_t>(p + 96);
  return h;
}

// Writes behind the place of the header, which is known last.
class FileSink : public ByteSink {
 public:
  FileSink(const File& file, const fs::path& name) : file_(file), name_(name) {
    buffer_.reserve(kBuffer);
  }

  void write(std::span<const std::byte> bytes) override {
    sha_.update(bytes);
    size_ += bytes.size();
    if (buffer_.size() + bytes.size() > kBuffer) flush();
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }

  Result<void> finish(Digest& digest, std::uint64_t& size) {
    flush();
    digest = sha_.finish();
    size = size_;
    return result_;
  }

 private:
  void flush() {
    if (result_) result_ = write_at(file_, name_, kHeaderSize + written_, buffer_);
    written_ += buffer_.size();
    buffer_.clear();
  }

  const File& file_;
  const fs::path& name_;
  std::vector<std::byte> buffer_;
  std::uint64_t written_ = 0;
  std::uint64_t size_ = 0;
  Sha256 sha_;
  Result<void> result_;
};

// Reads what follows the header, and digests it when given a digest.
class FileSource : public ByteSource {
 public:
  FileSource(const File& file, const fs::path& name, std::uint64_t size, Sha256* sha)
      : file_(file), name_(name), left_(size), sha_(sha) {
    // Most snapshots are small, and there may be very many at a start.
    buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(size, kBuffer)));
  }

  std::span<const std::byte> next() override {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(left_, kBuffer));
    if (want == 0) return {};
    const auto chunk = std::span(buffer_).first(want);
    const auto n = read_at(file_, name_, offset_, chunk);
    if (!n || *n != want) return {};
    if (sha_ != nullptr) sha_->update(chunk);
    offset_ += want;
    left_ -= want;
    return chunk;
  }

  bool exhausted() const { return left_ == 0; }

 private:
  const File& file_;
  const fs::path& name_;
  std::vector<std::byte> buffer_;
  std::uint64_t offset_ = kHeaderSize;
  std::uint64_t left_;
  Sha256* sha_;
};

// Reads the header and checks it against the place where the file lies.
Result<Header> read_header(const File& file, const fs::path& path, SkuId sku, Seq seq) {
  std::array<std::byte, kHeaderSize> bytes;
  const auto n = read_at(file, path, 0, bytes);
  if (!n) return tl::unexpected(n.error());
  if (*n != kHeaderSize) {
    return fail(Fault::damaged, fmt::format("the file is cut short: {} bytes", *n));
  }
  const auto h = decode(bytes);
  if (!h) return fail(Fault::damaged, "its header does not check out");
  if (h->sku != sku || h->head.seq != seq) {
    return fail(Fault::damaged, fmt::format("its header is of SKU {:016x}, position {}",
                                            h->sku.value, h->head.seq.value));
  }
  return *h;
}

Digest digest_of(const File& file, const fs::path& name, std::uint64_t size) {
  Sha256 sha;
  FileSource source(file, name, size, &sha);
  while (!source.next().empty()) {
  }
  return sha.finish();
}

fs::path directory_of(const fs::path& root, SkuId sku) {
  return root / fmt::format("{:016x}", sku.value);
}

// Of fixed width, so that their order is that of the positions.
std::string file_name(std::uint64_t seq) { return fmt::format("{:020}", seq); }

// Positions of the finished snapshots in a SKU's directory, newest first.
std::vector<std::uint64_t> positions_in(const fs::path& directory) {
  std::vector<std::uint64_t> positions;
  std::error_code ec;
  for (auto it = fs::directory_iterator(directory, ec); !ec && it != fs::directory_iterator();
       it.increment(ec)) {
    const std::string name = it->path().filename().string();
    std::uint64_t seq = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), seq);
    if (error == std::errc() && end == name.data() + name.size()) positions.push_back(seq);
  }
  std::sort(positions.rbegin(), positions.rend());
  return positions;
}

// Numbers the intervals between the positions 2^n and 1.5 * 2^n; what is before kSparseFrom is one.
int interval_of(std::uint64_t seq) {
  if (seq < kSparseFrom) return 0;
  const auto bits = static_cast<int>(std::bit_width(seq));
  return 2 * bits + static_cast<int>(seq >> (bits - 2) & 1);
}

// Which of these positions, newest first, are not to be kept when `at` is the newest of the log.
std::vector<std::uint64_t> superfluous(const std::vector<std::uint64_t>& positions,
                                       std::uint64_t at) {
  std::vector<std::uint64_t> out;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const std::uint64_t seq = positions[i];
    // Positions after `at` are of a log that was since replaced by an older one.
    const bool of_this_log = seq <= at;
    if (of_this_log && kept < kKept) {
      ++kept;
      continue;
    }
    const bool first_of_interval =
        i + 1 == positions.size() || interval_of(positions[i + 1]) != interval_of(seq);
    if (of_this_log && seq >= kSparseFrom && first_of_interval) continue;
    out.push_back(seq);
  }
  return out;
}

std::optional<Snapshot> load(const fs::path& path, SkuId sku, Seq seq) {
  auto file = open_file(path, O_RDONLY);
  if (!file) return std::nullopt;
  const auto h = read_header(*file, path, sku, seq);
  if (!h) return std::nullopt;
  // restore() checks what it reads, so it may run before the digest is known, which for a large
  // state another thread finds out meanwhile; its result counts only when the digest is right and
  // the file ends where it should.
  constexpr std::uint64_t kLarge = std::uint64_t{8} << 20;
  const bool large = h->size >= kLarge;
  std::future<Digest> digest;
  if (large) digest = std::async([&] { return digest_of(*file, path, h->size); });
  Sha256 sha;
  FileSource source(*file, path, h->size, large ? nullptr : &sha);
  auto sale = Sale::restore(source);
  if (!sale || !source.exhausted() || sale->seq() != seq) return std::nullopt;
  if ((large ? digest.get() : sha.finish()) != h->state) return std::nullopt;
  return Snapshot{h->head, h->state, std::move(*sale)};
}

}  // namespace

struct StoredSnapshot::Impl {
  Impl(File f, fs::path p, const Header& h)
      : file(std::move(f)), path(std::move(p)), header(h), source(file, path, h.size, nullptr) {}

  const File file;
  const fs::path path;
  const Header header;
  FileSource source;
};

StoredSnapshot::StoredSnapshot(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StoredSnapshot::~StoredSnapshot() = default;
StoredSnapshot::StoredSnapshot(StoredSnapshot&&) noexcept = default;
StoredSnapshot& StoredSnapshot::operator=(StoredSnapshot&&) noexcept = default;

const Head& StoredSnapshot::head() const { return impl_->header.head; }
const Digest& StoredSnapshot::state() const { return impl_->header.state; }
std::uint64_t StoredSnapshot::size() const { return impl_->header.size; }
std::span<const std::byte> StoredSnapshot::next() { return impl_->source.next(); }

std::uint64_t StoredSnapshot::stored_bytes() const {
  std::error_code ec;
  const std::uint64_t all = fs::file_size(impl_->path, ec);
  return ec || all < kHeaderSize ? 0 : all - kHeaderSize;
}

SnapshotFiles::SnapshotFiles(fs::path directory, bool writable) : directory_(std::move(directory)) {
  if (!writable) return;
  std::error_code ec;
  for (auto it = fs::recursive_directory_iterator(directory_, ec);
       !ec && it != fs::recursive_directory_iterator(); it.increment(ec)) {
    std::error_code ignored;
    if (it->path().extension() == kUnfinished) fs::remove(it->path(), ignored);
  }
}

Result<void> SnapshotFiles::put(SkuId sku, const Head& at, const Sale& sale) {
  const fs::path directory = directory_of(directory_, sku);
  std::error_code ec;
  fs::create_directories(directory, ec);
  if (ec) return system_failure("create", directory, ec.value());
  const fs::path fresh = directory / fmt::format("{}{}", fresh_++, kUnfinished);
  const auto written = [&]() -> Result<void> {
    auto file = open_file(fresh, O_WRONLY | O_CREAT | O_TRUNC);
    if (!file) return tl::unexpected(file.error());
    Header h{.sku = sku, .head = at};
    FileSink sink(*file, fresh);
    sale.serialize(sink);
    if (auto ok = sink.finish(h.state, h.size); !ok) return ok;
    if (auto ok = write_at(*file, fresh, 0, encode(h)); !ok) return ok;
    if (::rename(fresh.c_str(), (directory / file_name(at.seq.value)).c_str()) != 0) {
      return system_failure("create", directory, errno);
    }
    return {};
  }();
  if (!written) {
    fs::remove(fresh, ec);
    return written;
  }
  for (const std::uint64_t seq : superfluous(positions_in(directory), at.seq.value)) {
    fs::remove(directory / file_name(seq), ec);
  }
  return {};
}

Result<void> SnapshotFiles::remove_behind(SkuId sku, Seq last) {
  const fs::path directory = directory_of(directory_, sku);
  for (const std::uint64_t seq : positions_in(directory)) {
    if (seq <= last.value) continue;
    const fs::path file = directory / file_name(seq);
    std::error_code ec;
    fs::remove(file, ec);
    if (ec) return system_failure("remove", file, ec.value());
  }
  return {};
}

std::optional<Snapshot> SnapshotFiles::newest(
    SkuId sku, Seq at_most, const std::function<bool(const Head&)>& in_log) const {
  const fs::path directory = directory_of(directory_, sku);
  for (const std::uint64_t seq : positions_in(directory)) {
    if (seq > at_most.value) continue;
    auto s = load(directory / file_name(seq), sku, Seq{seq});
    if (s && in_log(s->head)) return s;
  }
  return std::nullopt;
}

std::vector<SnapshotName> SnapshotFiles::all() const {
  std::vector<SnapshotName> names;
  std::error_code ec;
  for (auto it = fs::directory_iterator(directory_, ec); !ec && it != fs::directory_iterator();
       it.increment(ec)) {
    const std::string name = it->path().filename().string();
    std::uint64_t sku = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), sku, 16);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    for (const std::uint64_t seq : positions_in(it->path())) {
      names.push_back({SkuId{sku}, Seq{seq}});
    }
  }
  std::sort(names.begin(), names.end(), [](const SnapshotName& a, const SnapshotName& b) {
    return std::pair(a.sku, a.seq) < std::pair(b.sku, b.seq);
  });
  return names;
}

Result<StoredSnapshot> SnapshotFiles::open(const SnapshotName& name) const {
  const fs::path path = directory_of(directory_, name.sku) / file_name(name.seq.value);
  auto file = open_file(path, O_RDONLY);
  if (!file) return tl::unexpected(file.error());
  const auto header = read_header(*file, path, name.sku, name.seq);
  if (!header) return tl::unexpected(header.error());
  return StoredSnapshot(std::make_unique<StoredSnapshot::Impl>(std::move(*file), path, *header));
}

}  // namespace fairsale
