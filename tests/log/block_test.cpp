#include "core/log/block.hpp"

#include <gtest/gtest.h>

// After GoogleTest, which it builds on.
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <fstream>

#include "core/log/block_format.hpp"
#include "core/log/little_endian.hpp"
#include "tests/log/support.hpp"

namespace fairsale::testing {
namespace {

using namespace block_format;

Bytes sample_block() {
  BlockBuilder builder;
  Head head{Seq{41}, Timestamp{1'700'000'000'000}, sha256({})};
  builder.begin(sku_id("sneaker-1"), head, Timestamp{1'700'000'000'123}, Epoch{3});
  for (const Event& e : sample_events()) EXPECT_TRUE(builder.add(e));
  const auto bytes = builder.finish(head);
  return {bytes.begin(), bytes.end()};
}

// Makes digest and CRC right again after a change, as a forger or a newer version would.
Bytes resealed(Bytes b) {
  const Digest d = sha256(std::span(b).first(b.size() - kTrailerSize));
  std::memcpy(b.data() + b.size() - kTrailerSize, d.bytes.data(), kDigestSize);
  put_le(b.data() + b.size() - kCrcSize, crc32c(std::span(b).first(b.size() - kCrcSize)));
  return b;
}

TEST(Block, version_1_keeps_its_bytes) {
  std::ifstream in(std::filesystem::path(FAIRSALE_GOLDEN_DIR) / "block_v1.txt");
  std::string hex;
  in >> hex;
  EXPECT_EQ(to_hex(sample_block()), hex);
  EXPECT_TRUE(BlockView::parse(from_hex(hex)));
}

TEST(Block, shows_what_was_put_in) {
  const Bytes bytes = sample_block();
  const auto view = BlockView::parse(bytes);
  ASSERT_TRUE(view) << view.error().message;
  EXPECT_EQ(view->header().sku, sku_id("sneaker-1"));
  EXPECT_EQ(view->header().first, Seq{42});
  EXPECT_EQ(view->header().count, 13U);
  EXPECT_EQ(view->last(), Seq{54});
  EXPECT_EQ(view->header().time, Timestamp{1'700'000'000'123});
  EXPECT_EQ(view->header().epoch, Epoch{3});
  EXPECT_EQ(view->header().previous, sha256({}));
  std::vector<unsigned> numbers;
  std::uint64_t next = 42;
  const auto ok = view->for_each([&](Seq seq, const Event& e) {
    EXPECT_EQ(seq, Seq{next++});
    numbers.push_back(number_of(e));
  });
  EXPECT_TRUE(ok);
  EXPECT_EQ(numbers, (std::vector<unsigned>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14}));
}

TEST(Block, every_truncation_and_extension_is_detected) {
  const Bytes bytes = sample_block();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_FALSE(BlockView::parse(cut)) << n;
  }
  Bytes longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(BlockView::parse(longer));
}

TEST(Block, every_flipped_bit_is_detected_and_called_damage) {
  Bytes bytes = sample_block();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      bytes[i] ^= std::byte{1} << bit;
      const auto view = BlockView::parse(bytes);
      ASSERT_FALSE(view) << i;
      EXPECT_EQ(view.error().fault, Fault::damaged) << i;
      bytes[i] ^= std::byte{1} << bit;
    }
  }
}

RC_GTEST_PROP(Block, several_flipped_bits_are_detected, ()) {
  Bytes bytes = sample_block();
  const Bytes whole = bytes;
  const auto flips = *rc::gen::inRange(2, 64);
  for (int i = 0; i < flips; ++i) {
    const auto bit = *rc::gen::inRange<std::size_t>(0, bytes.size() * 8);
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  RC_PRE(bytes != whole);
  RC_ASSERT(!BlockView::parse(bytes));
}

// A forged header with right digest and CRC: the bounds alone must hold.
TEST(Block, impossible_headers_are_refused_even_when_sealed) {
  const auto with = [](std::size_t at, auto value) {
    Bytes b = sample_block();
    put_le(b.data() + at, value);
    const auto view = BlockView::parse(resealed(std::move(b)));
    return view ? std::optional<Fault>() : view.error().fault;
  };
  EXPECT_EQ(with(kFirstAt, std::uint64_t{0}), Fault::damaged);
  EXPECT_EQ(with(kFirstAt, ~std::uint64_t{0}), Fault::damaged);
  EXPECT_EQ(with(kFirstAt, std::uint64_t{7}), std::nullopt);
  EXPECT_EQ(with(kCountAt, std::uint32_t{0}), Fault::damaged);
  EXPECT_EQ(with(kCountAt, kMaxBlockEvents + 1), Fault::damaged);
  EXPECT_EQ(with(kPayloadSizeAt, std::uint32_t{0}), Fault::damaged);
  EXPECT_EQ(with(kPayloadSizeAt, ~std::uint32_t{0}), Fault::damaged);
  EXPECT_EQ(with(kTimeAt, std::int64_t{-1}), Fault::damaged);
  EXPECT_EQ(with(kTimeAt, kMaxTimestampMs + 1), Fault::damaged);
  EXPECT_EQ(with(kVersionAt, std::uint16_t{2}), Fault::unsupported);
  EXPECT_EQ(with(kCodecAt, std::uint8_t{1}), Fault::unsupported);
  EXPECT_EQ(with(kFlagsAt, std::uint8_t{1}), Fault::unsupported);
}

TEST(Block, a_digest_that_is_not_of_its_content_is_refused_whatever_the_crc) {
  for (const std::size_t from_end : {kTrailerSize + 1, kTrailerSize}) {  // payload, digest
    Bytes b = sample_block();
    b[b.size() - from_end] ^= std::byte{1};
    put_le(b.data() + b.size() - kCrcSize, crc32c(std::span(b).first(b.size() - kCrcSize)));
    const auto view = BlockView::parse(b);
    ASSERT_FALSE(view);
    EXPECT_NE(view.error().message.find("digest"), std::string::npos) << view.error().message;
  }
}

TEST(Block, a_wrong_count_shows_when_the_events_are_decoded) {
  for (const std::uint32_t count : {12U, 14U}) {
    Bytes b = sample_block();
    put_le(b.data() + kCountAt, count);
    b = resealed(std::move(b));
    const auto view = BlockView::parse(b);
    ASSERT_TRUE(view);
    const auto ok = view->for_each([](Seq, const Event&) {});
    ASSERT_FALSE(ok);
    EXPECT_EQ(ok.error().fault, Fault::damaged);
  }
}

TEST(Block, the_first_bad_event_is_named_by_its_position) {
  const auto error_of_payload = [](std::size_t at, unsigned value) {
    Bytes b = sample_block();
    b[kHeaderSize + at] = static_cast<std::byte>(value);
    b = resealed(std::move(b));
    const auto view = BlockView::parse(b);
    EXPECT_TRUE(view);
    const auto ok = view->for_each([](Seq, const Event&) {});
    EXPECT_FALSE(ok);
    return ok ? Error{} : ok.error();
  };
  const Error unknown = error_of_payload(0, 13);
  EXPECT_EQ(unknown.fault, Fault::unsupported);
  EXPECT_NE(unknown.message.find("position 42"), std::string::npos) << unknown.message;
  const Error rules = error_of_payload(11, 9);  // type, length, "sneaker-1", rules
  EXPECT_EQ(rules.fault, Fault::unsupported);
  EXPECT_NE(rules.message.find("rules version"), std::string::npos) << rules.message;
  const Error damaged = error_of_payload(1, 255);
  EXPECT_EQ(damaged.fault, Fault::damaged);
}

TEST(Block, a_full_block_refuses_another_event_and_stays_whole) {
  BlockBuilder builder;
  Head head;
  builder.begin(SkuId{1}, head, Timestamp{1}, Epoch{1});
  while (builder.add(attempt(builder.count()))) {
  }
  EXPECT_EQ(builder.count(), kMaxBlockEvents);
  EXPECT_TRUE(BlockView::parse(builder.finish(head)));

  // Large events fill the bytes before the count.
  builder.begin(SkuId{1}, head, Timestamp{1}, Epoch{1});
  const SaleChanged large{sample_terms(), *Actor::from(std::string(64, 'a')),
                          *Why::from(std::string(160, 'w'))};
  while (builder.add(large)) {
  }
  EXPECT_LT(builder.count(), kMaxBlockEvents);
  const auto bytes = builder.finish(head);
  EXPECT_LE(bytes.size(), kMaxBlockBytes);
  const auto view = BlockView::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->header().first, Seq{kMaxBlockEvents + 1});
  EXPECT_TRUE(view->for_each([](Seq, const Event&) {}));
}

// Follows the blocks of a chain in the given order and tells where it breaks.
std::optional<std::size_t> first_break(const Chain& chain, const std::vector<std::size_t>& order) {
  Head head;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto view = BlockView::parse(*chain.blocks()[order[i]]);
    EXPECT_TRUE(view);
    if (!view->follows(head)) return i;
    head = {view->last(), view->header().time, view->digest()};
  }
  return std::nullopt;
}

TEST(BlockChain, breaks_where_a_block_is_swapped_removed_doubled_or_replaced) {
  Chain chain("sneaker-1");
  for (int i = 0; i < 5; ++i) chain.block(2);
  EXPECT_EQ(first_break(chain, {0, 1, 2, 3, 4}), std::nullopt);
  EXPECT_EQ(first_break(chain, {0, 2, 1, 3, 4}), 1U);
  EXPECT_EQ(first_break(chain, {0, 1, 3, 4}), 2U);
  EXPECT_EQ(first_break(chain, {0, 1, 1, 2}), 2U);
  EXPECT_EQ(first_break(chain, {1, 2}), 0U);

  // A block of the same positions with another content: those after it no longer follow.
  Chain other("sneaker-1");
  other.block(2);
  const Bytes forged = [&] {
    BlockBuilder b;
    Head head = other.head();
    b.begin(other.sku(), head, head.time, Epoch{1});
    b.add(attempt(99));
    b.add(attempt(98));
    const auto bytes = b.finish(head);
    return Bytes(bytes.begin(), bytes.end());
  }();
  const auto view = BlockView::parse(forged);
  ASSERT_TRUE(view);
  EXPECT_TRUE(view->follows(other.head()));
  const auto next = BlockView::parse(*chain.blocks()[2]);
  EXPECT_FALSE(next->follows({view->last(), view->header().time, view->digest()}));
}

TEST(BlockChain, leaves_out_no_position_even_when_sealed) {
  Chain chain("sneaker-1");
  chain.block(2);
  Head gap = chain.head();
  gap.seq.value += 1;
  BlockBuilder b;
  b.begin(chain.sku(), gap, gap.time, Epoch{1});
  b.add(attempt(99));
  const auto view = BlockView::parse(b.finish(gap));
  ASSERT_TRUE(view);
  EXPECT_FALSE(view->follows(chain.head()));
}

TEST(BlockChain, time_does_not_run_back) {
  Chain chain("sneaker-1");
  chain.block(1);
  const auto second = chain.block(1);
  const auto view = BlockView::parse(second.bytes);
  Head before{Seq{1}, view->header().time, view->header().previous};
  EXPECT_TRUE(view->follows(before));
  before.time.value += 1;
  EXPECT_FALSE(view->follows(before));
}

}  // namespace
}  // namespace fairsale::testing
