// The small records that recovery starts from: ACKED's slots and the heads of SKUs.
#include <fcntl.h>

#include <optional>

#include "core/log/acked.hpp"
#include "core/log/head_record.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

namespace {

constexpr std::size_t kSlot = 512;
constexpr std::size_t kDistance = 4096;

// How long a slot's record is if it is whole, read from docs/log-format.md and not from the code.
std::optional<std::size_t> whole_record(std::string_view slot) {
  const auto* p = reinterpret_cast<const std::byte*>(slot.data());
  if (slot.size() < kSlot || slot.substr(0, 4) != "FSAK") return std::nullopt;
  const auto count = get_le<std::uint16_t>(p + 6);
  if (get_le<std::uint16_t>(p + 4) != 1 || count > 10) return std::nullopt;
  const std::size_t covered = 20 + std::size_t{48} * count;
  if (crc32c(bytes_of(slot.substr(0, covered))) != get_le<std::uint32_t>(p + covered)) {
    return std::nullopt;
  }
  return covered + 4;
}

void repair(std::string& slot) {
  slot.resize(kSlot);
  std::memcpy(slot.data(), "FSAK\1", 6);
  slot[6] = static_cast<char>(static_cast<std::uint8_t>(slot[6]) % 11);
  slot[7] = 0;
  const std::size_t covered = 20 + std::size_t{48} * static_cast<std::uint8_t>(slot[6]);
  put_le(reinterpret_cast<std::byte*>(slot.data()) + covered,
         crc32c(bytes_of(std::string_view(slot).substr(0, covered))));
}

std::uint64_t sequence_of(std::string_view slot) {
  return get_le<std::uint64_t>(reinterpret_cast<const std::byte*>(slot.data()) + 8);
}

bool same(const Acked& a, const Acked& b) {
  return a.sequence == b.sequence && a.skus == b.skus &&
         std::equal(a.heads.begin(), a.heads.end(), b.heads.begin(), b.heads.end(),
                    [](const AckedHead& x, const AckedHead& y) {
                      return x.sku == y.sku && x.seq == y.seq && x.digest == y.digest;
                    });
}

std::string content_of(const std::string& path) {
  std::string bytes(2 * kDistance, '\0');
  const auto file = open_file(path, O_RDONLY);
  expect(file.has_value(), "the file is there");
  const auto n = read_at(*file, path, 0, std::as_writable_bytes(std::span(bytes)));
  expect(n.has_value(), "and legible");
  bytes.resize(*n);
  return bytes;
}

void judge_acked(std::string_view input, bool repaired) {
  std::string slots[2] = {std::string(input.substr(0, input.size() / 2)),
                          std::string(input.substr(input.size() / 2))};
  for (std::string& s : slots) {
    if (repaired) repair(s);
    s.resize(std::min(s.size(), kSlot));
  }
  std::string content = slots[0];
  if (!slots[1].empty()) {
    content.resize(kDistance);
    content += slots[1];
    slots[0] = content.substr(0, kSlot);
  }
  static MemoryFile file;
  file.write(content);

  std::optional<unsigned> newest;
  for (unsigned i = 0; i < 2; ++i) {
    if (!whole_record(slots[i])) continue;
    if (!newest || sequence_of(slots[i]) > sequence_of(slots[*newest])) newest = i;
  }
  const auto read = AckedFile::read(file.path());
  expect(read.has_value(), "a file that is there can be read");
  expect(read->has_value() == newest.has_value(), "a record counts if and only if it is whole");
  if (!newest) return;
  expect((*read)->sequence == sequence_of(slots[*newest]), "the newest record counts");
  expect((*read)->heads.size() <= kMaxAckedHeads, "a record has a bound");

  std::optional<Acked> found;
  auto opened = AckedFile::open(file.path(), found);
  expect(opened.has_value() && found.has_value() && same(*found, **read), "opening finds the same");
  expect(opened->record(*found).has_value(), "and the record can be written");
  const std::string after = content_of(file.path());
  const std::string_view written = std::string_view(after).substr((1 - *newest) * kDistance, kSlot);
  const std::size_t size = *whole_record(slots[*newest]);
  expect(std::string_view(after).substr(*newest * kDistance, kSlot) == slots[*newest],
         "the newest record stays until the next is written");
  expect(written.substr(0, size) == slots[*newest].substr(0, size), "a record has one form");
}

void judge_head(std::string_view input, bool repaired) {
  Choices in(input);
  std::string name(in.take(8));
  name.resize(8);
  const SkuId sku{get_be64(name.data())};
  std::string value(in.rest());
  if (repaired) {
    value.resize(60);
    const auto fields = bytes_of(value).first<56>();
    put_le(reinterpret_cast<std::byte*>(value.data()) + 56, head_crc(sku, fields));
  }
  const auto record = decode_head(sku, value);
  expect(record.has_value() || !repaired, "a whole record is read");
  if (!record) return;
  expect(text_of(encode_head(sku, *record)) == value, "a head has one form");
  expect(!decode_head(SkuId{sku.value + 1}, value), "under another key it is none");
}

}  // namespace

void judge(std::string_view input) {
  Choices in(input);
  const std::uint8_t form = in.byte();
  const bool repaired = (form & 1) != 0;
  if ((form & 2) != 0) return judge_head(in.rest(), repaired);
  judge_acked(in.rest(), repaired);
}

std::vector<std::string> seeds() {
  std::string one(kSlot, '\0');
  one[6] = 2;
  one[8] = 7;
  repair(one);
  std::string two = one;
  two[6] = 10;
  two[8] = 8;
  repair(two);
  HeadRecord head{{Seq{17}, Timestamp{1'700'000'000'000}, sha256({})}, Seq{12}};
  std::string key(8, '\0');
  put_be64(key.data(), 17);
  const auto value = encode_head(SkuId{17}, head);
  return {'\0' + one + two, '\1' + two + one, '\0' + one.substr(0, 300),
          '\2' + key + std::string(text_of(value)), '\3' + key};
}

}  // namespace fairsale::fuzz
