#include "core/log/block.hpp"

#include <fmt/format.h>
#include <array>

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/domain/invariant.hpp"
#include "core/log/block_format.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale {

using namespace block_format;

namespace {

// Most blocks are small, and a turn may need one builder for each of a thousand SKUs.
constexpr std::size_t kFirstBufferBytes = 4096;

}  // namespace

Mark Mark::of(const Head& head) { return {head.seq, get_be64(head.digest.bytes.data())}; }

BlockBuilder::BlockBuilder() : buffer_(kFirstBufferBytes) {}

void BlockBuilder::begin(SkuId sku, const Head& head, Timestamp time, Epoch epoch) {
  FAIRSALE_INVARIANT(time >= head.time && time.value >= 0 && time.value <= kMaxTimestampMs,
                     "the time of a log never runs back");
  header_ = BlockHeader{.sku = sku,
                        .first = Seq{head.seq.value + 1},
                        .count = 0,
                        .time = time,
                        .epoch = epoch,
                        .previous = head.digest};
  used_ = kHeaderSize;
}

bool BlockBuilder::add(const Event& event) {
  if (header_.count == kMaxBlockEvents || kPayloadEnd - used_ < kLargestEventBytes) return false;
  if (buffer_.size() - used_ < kLargestEventBytes + kTrailerSize) {
    buffer_.resize(std::min(buffer_.size() * 2, kMaxBlockBytes));
  }
  used_ += encoder_.encode(event, buffer_.data() + used_);
  ++header_.count;
  return true;
}

std::span<const std::byte> BlockBuilder::finish(Head& head) {
  FAIRSALE_INVARIANT(header_.count > 0, "a block holds an event");
  std::byte* p = buffer_.data();
  p = put_le(p, kMagic);
  p = put_le(p, kVersion);
  p = put_le(p, kCodecRaw);
  p = put_le(p, std::uint8_t{0});
  p = put_le(p, header_.sku.value);
  p = put_le(p, header_.first.value);
  p = put_le(p, header_.count);
  p = put_le(p, static_cast<std::uint32_t>(used_ - kHeaderSize));
  p = put_le(p, header_.time.value);
  p = put_le(p, header_.epoch.value);
  std::memcpy(p, header_.previous.bytes.data(), kDigestSize);

  sha_.update({buffer_.data(), used_});
  head.digest = sha_.finish();
  head.seq = Seq{header_.first.value + header_.count - 1};
  head.time = header_.time;

  std::memcpy(buffer_.data() + used_, head.digest.bytes.data(), kDigestSize);
  const std::size_t before_crc = used_ + kDigestSize;
  put_le(buffer_.data() + before_crc, crc32c({buffer_.data(), before_crc}));
  return {buffer_.data(), before_crc + kCrcSize};
}

Result<BlockView> BlockView::parse(std::span<const std::byte> bytes) {
  const std::byte* const p = bytes.data();
  if (bytes.size() < kOverhead) {
    return fail(Fault::damaged, fmt::format("the block is cut short: {} bytes", bytes.size()));
  }
  if (bytes.size() > kMaxBlockBytes) {
    return fail(Fault::damaged, fmt::format("the block is too large: {} bytes", bytes.size()));
  }
  if (get_le<std::uint32_t>(p) != kMagic) {
    return fail(Fault::damaged, "these bytes are not a block: wrong magic number");
  }
  // The CRC comes before the version, so that a flipped bit in the version is called damage.
  // Every version of the format keeps magic number, version and the CRC at the end.
  const std::size_t before_crc = bytes.size() - kCrcSize;
  if (crc32c(bytes.first(before_crc)) != get_le<std::uint32_t>(p + before_crc)) {
    return fail(Fault::damaged, "the block's CRC does not match");
  }
  if (const auto version = get_le<std::uint16_t>(p + kVersionAt); version != kVersion) {
    return fail(Fault::unsupported,
                fmt::format("the block has format version {}: written by a newer fairsale; "
                            "use that one",
                            version));
  }
  const auto codec = std::to_integer<unsigned>(p[kCodecAt]);
  const auto flags = std::to_integer<unsigned>(p[kFlagsAt]);
  if (codec != kCodecRaw || flags != 0) {
    return fail(Fault::unsupported,
                fmt::format("the block has codec {} and flags {}: written by a newer fairsale; "
                            "use that one",
                            codec, flags));
  }

  BlockView view;
  BlockHeader& h = view.header_;
  h.sku = SkuId{get_le<std::uint64_t>(p + kSkuAt)};
  h.first = Seq{get_le<std::uint64_t>(p + kFirstAt)};
  h.count = get_le<std::uint32_t>(p + kCountAt);
  h.time = Timestamp{get_le<std::int64_t>(p + kTimeAt)};
  h.epoch = Epoch{get_le<std::uint64_t>(p + kEpochAt)};
  std::memcpy(h.previous.bytes.data(), p + kPreviousAt, kDigestSize);
  const auto payload_size = get_le<std::uint32_t>(p + kPayloadSizeAt);
  if (payload_size != bytes.size() - kOverhead) {
    return fail(Fault::damaged, fmt::format("the block's payload has {} bytes instead of {}",
                                            bytes.size() - kOverhead, payload_size));
  }
  if (h.count == 0 || h.count > kMaxBlockEvents || h.count > payload_size) {
    return fail(Fault::damaged, fmt::format("the block claims {} events", h.count));
  }
  if (h.first.value == 0 ||
      h.first.value > std::numeric_limits<std::uint64_t>::max() - kMaxBlockEvents) {
    return fail(Fault::damaged, fmt::format("the block claims position {}", h.first.value));
  }
  if (h.time.value < 0 || h.time.value > kMaxTimestampMs) {
    return fail(Fault::damaged, fmt::format("the block claims time {}", h.time.value));
  }
  const std::size_t covered = kHeaderSize + payload_size;
  std::memcpy(view.digest_.bytes.data(), p + covered, kDigestSize);
  if (sha256(bytes.first(covered)) != view.digest_) {
    return fail(Fault::damaged, "the block's digest does not match its content");
  }
  view.bytes_ = bytes;
  view.payload_ = bytes.subspan(kHeaderSize, payload_size);
  return view;
}

Result<void> BlockView::follows(const Head& head) const {
  if (header_.first.value != head.seq.value + 1) {
    return fail(Fault::damaged, fmt::format("a block starts at position {} where {} should follow",
                                            header_.first.value, head.seq.value + 1));
  }
  if (header_.previous != head.digest) {
    return fail(Fault::damaged,
                fmt::format("the block at position {} does not chain to the one before it",
                            header_.first.value));
  }
  if (header_.time < head.time) {
    return fail(Fault::damaged,
                fmt::format("the block at position {} is earlier than the one before it",
                            header_.first.value));
  }
  return {};
}

Result<void> BlockView::visit_events(EventVisitor& visitor) const {
  // Decoded and not yet visited: far enough ahead for memory to arrive, near enough to stay cached.
  constexpr std::uint32_t kWindow = 16;
  std::array<Event, kWindow> window;
  std::uint32_t visited = 0;
  const auto visit_up_to = [&](std::uint32_t end) {
    for (; visited < end; ++visited) {
      visitor.visit(Seq{header_.first.value + visited}, window[visited % kWindow]);
    }
  };
  EventDecoder decoder(payload_);
  for (std::uint32_t i = 0; i < header_.count; ++i) {
    if (i >= kWindow) visit_up_to(i + 1 - kWindow);
    Event& event = window[i % kWindow];
    if (const DecodeFault fault = decoder.next(event); fault != DecodeFault::none) {
      visit_up_to(i);
      const bool newer =
          fault == DecodeFault::unknown_type || fault == DecodeFault::unsupported_rules;
      return fail(newer ? Fault::unsupported : Fault::damaged,
                  fmt::format("the event at position {} is {}{}", header_.first.value + i,
                              describe(fault), newer ? "; use the newer one that wrote it" : ""));
    }
    visitor.coming(event);
  }
  visit_up_to(header_.count);
  if (decoder.left() != 0) {
    return fail(Fault::damaged, fmt::format("{} bytes follow the block's last event, position {}",
                                            decoder.left(), last().value));
  }
  return {};
}

}  // namespace fairsale
