// Blocks and the events in them: what parse() and for_each() accept is encoded again to the same
// bytes, so nothing has two forms.
#include "core/log/block.hpp"
#include "core/log/block_format.hpp"
#include "core/log/little_endian.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

namespace {

using namespace block_format;

enum Form : std::uint8_t {
  as_is = 0,     // the bytes of a block
  repaired = 1,  // the same, with sizes and checksums made right: what damage cannot look like
  payload = 2,   // of a block that is right otherwise; begins with the count of its events
};

// Without right checksums nothing would get past them.
void repair(std::string& block) {
  if (block.size() < kOverhead) block.resize(kOverhead);
  auto* const p = reinterpret_cast<std::byte*>(block.data());
  put_le(p, kMagic);
  put_le(p + kPayloadSizeAt, static_cast<std::uint32_t>(block.size() - kOverhead));
  const std::size_t covered = block.size() - kTrailerSize;
  const Digest digest = sha256(bytes_of(std::string_view(block).substr(0, covered)));
  std::memcpy(p + covered, digest.bytes.data(), digest.bytes.size());
  const std::size_t before_crc = block.size() - kCrcSize;
  put_le(p + before_crc, crc32c(bytes_of(std::string_view(block).substr(0, before_crc))));
}

std::string block_of(std::uint8_t count, std::string_view events) {
  std::string block(kHeaderSize, '\0');
  auto* const p = reinterpret_cast<std::byte*>(block.data());
  put_le(p + kVersionAt, kVersion);
  put_le(p + kSkuAt, sku_id("sneaker-1").value);
  put_le(p + kFirstAt, std::uint64_t{1});
  put_le(p + kCountAt, std::uint32_t{count});
  put_le(p + kTimeAt, std::int64_t{1'700'000'000'000});
  put_le(p + kEpochAt, std::uint64_t{1});
  block += events;
  block.append(kTrailerSize, '\0');
  repair(block);
  return block;
}

void judge_block(std::string_view bytes) {
  const auto block = BlockView::parse(bytes_of(bytes));
  if (!block) {
    expect(!block.error().message.empty(), "a refusal says why");
    return;
  }
  const BlockHeader& h = block->header();
  expect(text_of(block->bytes()) == bytes, "a block is all of its bytes");
  Head head{Seq{h.first.value - 1}, h.time, h.previous};
  expect(block->follows(head).has_value(), "a block follows the head that it names");

  BlockBuilder builder;
  builder.begin(h.sku, head, h.time, h.epoch);
  std::uint32_t events = 0;
  bool fits = true;
  const auto decoded = block->for_each([&](Seq seq, const Event& e) {
    expect(seq.value == h.first.value + events, "positions have no gap");
    ++events;
    expect(well_formed(e), "what is decoded may be encoded");
    fits = fits && builder.add(e);
  });
  if (!decoded) {
    expect(events < h.count || !decoded.error().message.empty(), "a refusal says why");
    return;
  }
  expect(events == h.count, "every event is visited");
  // A builder leaves room for the largest event.
  if (!fits) return expect(bytes.size() > kMaxBlockBytes - kLargestEventBytes, "events fit again");
  Head after;
  expect(text_of(builder.finish(after)) == bytes, "a block has one form");
  expect(after.digest == block->digest() && after.seq == block->last(), "and leads to one head");
}

}  // namespace

void judge(std::string_view input) {
  Choices in(input);
  const std::uint8_t form = in.byte() % 3;
  if (form == payload) {
    const std::uint8_t count = in.byte();
    return judge_block(block_of(count, in.rest()));
  }
  std::string bytes(in.rest());
  if (form == repaired) repair(bytes);
  judge_block(bytes);
}

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  const std::string block = from_hex(golden_lines("tests/log/golden/block_v1.txt").at(0));
  out.push_back('\0' + block);
  out.push_back('\1' + block);
  std::string all;
  for (const std::string& line : golden_lines("tests/log/golden/events_v1.txt")) {
    const std::string event = from_hex(line.substr(line.find(' ') + 1));
    out.push_back(std::string("\2\1") + event);
    all += event;
  }
  out.push_back(std::string("\2\x0d") + all);
  return out;
}

}  // namespace fairsale::fuzz
