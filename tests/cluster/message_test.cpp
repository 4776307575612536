#include "core/cluster/message.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>

#include "core/log/little_endian.hpp"
#include "tests/engine/shop.hpp"

namespace fairsale::cluster {
namespace {

using test::attempt;
using test::scheduled;

std::vector<std::byte> sample() {
  BatchBuilder b;
  b.begin(sku_id("tour"), NodeId{7});
  EXPECT_TRUE(b.add(attempt("anna", "k1", 2)));
  EXPECT_TRUE(b.add(TimePassed{}));
  const auto bytes = b.finish(BatchNumber{3}, Mark{Seq{9}, 0x0102030405060708});
  return {bytes.begin(), bytes.end()};
}

std::string hex(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte b : bytes) out += fmt::format("{:02x}", std::to_integer<int>(b));
  return out;
}

void set_crc(std::vector<std::byte>& m) {
  put_le(m.data() + m.size() - 4, crc32c({m.data(), m.size() - 4}));
}

TEST(Message, ABatchComesBackAsItWas) {
  Batch b;
  ASSERT_TRUE(parse_batch(sample(), b));
  EXPECT_EQ(b.sku, sku_id("tour"));
  EXPECT_EQ(b.origin, NodeId{7});
  EXPECT_EQ(b.number, BatchNumber{3});
  EXPECT_EQ(b.knows, (Mark{Seq{9}, 0x0102030405060708}));
  ASSERT_EQ(b.events.size(), 2u);
  EXPECT_EQ(std::get<PurchaseAttempted>(b.events[0]).customer.view(), "anna");
  EXPECT_TRUE(std::holds_alternative<TimePassed>(b.events[1]));
}

// The bytes of version 1, as nodes of different releases may exchange them.
TEST(Message, TheBytesOfABatchAreTheseForEver) {
  EXPECT_EQ(hex(sample()),
            "4653434201000000"                  // magic, version, flags
            "699135a00948b4d7"                  // SKU
            "0700000000000000"                  // origin
            "0300000000000000"                  // number
            "09000000000000000807060504030201"  // what it knows
            "020000001b000000"                  // events, bytes
            "0704616e6e61"                      // an attempt by anna
            "6ab9f1eb8f7d3388f4f9d586f66e99fd02000000"
            "0e"          // time passed
            "3996c2b4");  // CRC
}

TEST(Message, AnswersComeBackAsTheyWere) {
  const AnswersHead head{.processor = ProcessorId{1},
                         .number = BatchNumber{2},
                         .sku = SkuId{3},
                         .position = Position{4, 5}.epoch(),
                         .mark = Mark{Seq{6}, 7}};
  const std::string content = "what it is";
  std::vector<std::byte> bytes;
  append_answers(bytes, head, std::as_bytes(std::span(content)));
  const auto a = parse_answers(bytes);
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->head.processor, head.processor);
  EXPECT_EQ(a->head.number, head.number);
  EXPECT_EQ(a->head.sku, head.sku);
  EXPECT_EQ(Position::of(a->head.position), (Position{4, 5}));
  EXPECT_EQ(a->head.mark, head.mark);
  EXPECT_EQ(std::memcmp(a->content.data(), content.data(), content.size()), 0);
  EXPECT_EQ(a->content.size(), content.size());
}

TEST(Message, AnOpeningComesBackAsItWas) {
  HeadsDigest digest;
  digest.add(SkuId{1}, Head{Seq{2}, Timestamp{3}, {}});
  const Opening o{PartitionId{5}, 6, digest.skus(), digest.finish()};
  std::vector<std::byte> bytes;
  append_opening(bytes, o);
  EXPECT_TRUE(is_opening(bytes));
  EXPECT_FALSE(is_opening(sample()));
  const auto back = parse_opening(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->partition, o.partition);
  EXPECT_EQ(back->generation, 6);
  EXPECT_EQ(back->skus, 1u);
  EXPECT_EQ(back->heads, o.heads);
}

TEST(Message, APromiseAndACutComeBackAsTheyWere) {
  std::vector<std::byte> bytes;
  append_promise(bytes, {PartitionId{3}, 7, processor_id("p0"), 1'234});
  const auto promise = parse_promise(bytes);
  ASSERT_TRUE(promise) << promise.error().message;
  EXPECT_EQ(promise->partition, PartitionId{3});
  EXPECT_EQ(promise->generation, 7);
  EXPECT_EQ(promise->processor, processor_id("p0"));
  EXPECT_EQ(promise->has, 1'234u);
  EXPECT_FALSE(parse_cut(bytes));
  EXPECT_NE(processor_id("p0"), processor_id("p1"));

  bytes.clear();
  append_cut(bytes, {PartitionId{3}, 7});
  const auto cut = parse_cut(bytes);
  ASSERT_TRUE(cut) << cut.error().message;
  EXPECT_EQ(cut->partition, PartitionId{3});
  EXPECT_EQ(cut->generation, 7);
  EXPECT_FALSE(parse_promise(bytes));
  bytes[9] ^= std::byte{1};
  EXPECT_EQ(parse_cut(bytes).error().fault, Fault::damaged);
}

TEST(Message, ABatchTakesNoMoreThanABlockDoes) {
  BatchBuilder b;
  b.begin(sku_id("tour"), NodeId{7});
  std::uint32_t n = 0;
  while (b.add(attempt(std::string(64, 'c'), "k"))) ++n;
  EXPECT_EQ(n, b.count());
  const auto bytes = b.finish(BatchNumber{1}, {});
  Batch back;
  ASSERT_TRUE(parse_batch(bytes, back));
  BlockBuilder block;
  block.begin(back.sku, {}, test::kOpening, Epoch{1});
  for (const Event& e : back.events) ASSERT_TRUE(block.add(e));
}

TEST(Message, OneOfANewerVersionIsToldFromGarbage) {
  auto newer = sample();
  newer[4] = std::byte{2};
  Batch b;
  EXPECT_EQ(parse_batch(newer, b).error().fault, Fault::damaged) << "its CRC is wrong";
  set_crc(newer);
  EXPECT_EQ(parse_batch(newer, b).error().fault, Fault::unsupported);
  auto event = sample();
  event[event.size() - 5] = std::byte{200};  // the type of the last event
  set_crc(event);
  EXPECT_EQ(parse_batch(event, b).error().fault, Fault::unsupported);
}

RC_GTEST_PROP(Message, WhateverIsChangedIsNoticed, ()) {
  auto bytes = sample();
  const auto at = *rc::gen::inRange<std::size_t>(0, bytes.size());
  bytes[at] ^= std::byte(1 << *rc::gen::inRange(0, 8));
  Batch b;
  RC_ASSERT(!parse_batch(bytes, b));
}

// With a CRC that fits: it is refused or taken, and never read beyond its end.
RC_GTEST_PROP(Message, WhateverIsForgedIsReadWithinItsBounds, ()) {
  auto bytes = sample();
  const auto changes = *rc::gen::inRange(1, 6);
  for (int i = 0; i < changes; ++i) {
    bytes[*rc::gen::inRange<std::size_t>(6, bytes.size() - 4)] =
        std::byte(*rc::gen::inRange(0, 256));
  }
  bytes.resize(*rc::gen::inRange<std::size_t>(4, bytes.size() + 1));
  set_crc(bytes);
  Batch b;
  (void)parse_batch(bytes, b);
  (void)parse_answers(bytes);
  (void)parse_opening(bytes);
  (void)parse_promise(bytes);
  (void)parse_cut(bytes);
}

}  // namespace
}  // namespace fairsale::cluster
