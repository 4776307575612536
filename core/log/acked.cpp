#include "core/log/acked.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/log/little_endian.hpp"

namespace fairsale {

namespace {

constexpr std::uint32_t kMagic = 0x4b415346;  // "FSAK" as bytes
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kSlotSize = 512;       // what disks write whole or not at all
constexpr std::size_t kSlotDistance = 4096;  // and the slots in blocks of their own
constexpr std::size_t kHeaderSize = 20;
constexpr std::size_t kHeadSize = 48;
static_assert(kHeaderSize + kMaxAckedHeads * kHeadSize + 4 <= kSlotSize);

using Slot = std::array<std::byte, kSlotSize>;

Slot encode(const Acked& a) {
  Slot slot{};
  const std::size_t count = std::min(a.heads.size(), kMaxAckedHeads);
  std::byte* p = slot.data();
  p = put_le(p, kMagic);
  p = put_le(p, kVersion);
  p = put_le(p, static_cast<std::uint16_t>(count));
  p = put_le(p, a.sequence);
  p = put_le(p, a.skus);
  for (std::size_t i = 0; i < count; ++i) {
    p = put_le(p, a.heads[i].sku.value);
    p = put_le(p, a.heads[i].seq.value);
    std::memcpy(p, a.heads[i].digest.bytes.data(), 32);
    p += 32;
  }
  put_le(p, crc32c({slot.data(), p}));
  return slot;
}

std::optional<Acked> decode(std::span<const std::byte> slot) {
  const std::byte* p = slot.data();
  if (slot.size() < kSlotSize || get_le<std::uint32_t>(p) != kMagic ||
      get_le<std::uint16_t>(p + 4) != kVersion) {
    return std::nullopt;
  }
  const auto count = get_le<std::uint16_t>(p + 6);
  if (count > kMaxAckedHeads) return std::nullopt;
  const std::size_t before_crc = kHeaderSize + count * kHeadSize;
  if (crc32c(slot.first(before_crc)) != get_le<std::uint32_t>(p + before_crc)) {
    return std::nullopt;
  }
  Acked a;
  a.sequence = get_le<std::uint64_t>(p + 8);
  a.skus = get_le<std::uint32_t>(p + 16);
  p += kHeaderSize;
  for (std::size_t i = 0; i < count; ++i, p += kHeadSize) {
    AckedHead h{SkuId{get_le<std::uint64_t>(p)}, Seq{get_le<std::uint64_t>(p + 8)}, {}};
    std::memcpy(h.digest.bytes.data(), p + 16, 32);
    a.heads.push_back(h);
  }
  return a;
}

struct Newest {
  std::optional<Acked> record;
  unsigned slot = 1;
};

Result<Newest> newest_of(const File& file, const std::filesystem::path& path) {
  Newest newest;
  for (unsigned i = 0; i < 2; ++i) {
    Slot bytes;
    const auto n = read_at(file, path, i * kSlotDistance, bytes);
    if (!n) return tl::unexpected(n.error());
    auto a = decode(std::span(bytes).first(*n));
    if (a && (!newest.record || a->sequence > newest.record->sequence)) {
      newest = {std::move(a), i};
    }
  }
  return newest;
}

}  // namespace

Result<std::optional<Acked>> AckedFile::read(const std::filesystem::path& path) {
  const auto file = open_file(path, O_RDONLY);
  if (!file && file.error().fault == Fault::not_found) return std::optional<Acked>();
  if (!file) return tl::unexpected(file.error());
  auto newest = newest_of(*file, path);
  if (!newest) return tl::unexpected(newest.error());
  return std::move(newest->record);
}

Result<AckedFile> AckedFile::open(const std::filesystem::path& path, std::optional<Acked>& newest) {
  newest.reset();
  auto file = open_file(path, O_RDWR);
  if (!file && file.error().fault == Fault::not_found) {
    // Full size from the start: recording never needs space on the disk.
    std::vector<std::byte> empty(kSlotDistance + kSlotSize);
    if (auto ok = create_durably(path, empty); !ok) return tl::unexpected(ok.error());
    file = open_file(path, O_RDWR);
  }
  if (!file) return tl::unexpected(file.error());

  auto found = newest_of(*file, path);
  if (!found) return tl::unexpected(found.error());
  newest = std::move(found->record);
  return AckedFile(path, std::move(*file), 1 - found->slot);
}

Result<void> AckedFile::record(const Acked& a) {
  const Slot slot = encode(a);
  if (auto ok = write_at(file_, path_, next_slot_ * kSlotDistance, slot); !ok) return ok;
  next_slot_ = 1 - next_slot_;
  dirty_ = true;
  return {};
}

Result<void> AckedFile::sync() {
  if (!dirty_) return {};
  if (auto ok = sync_file(file_, path_); !ok) return ok;
  dirty_ = false;
  return {};
}

}  // namespace fairsale
