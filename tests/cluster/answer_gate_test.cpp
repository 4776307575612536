#include "core/cluster/answer_gate.hpp"

#include <gtest/gtest.h>

#include <string>

namespace fairsale::cluster {
namespace {

using Heard = AnswerGate::Heard;

class Gate : public ::testing::Test {
 protected:
  Heard answer(std::uint64_t processor, BatchNumber n, std::uint64_t position = 1,
               std::uint64_t mark = 1, const std::string& content = "fine") {
    const Answers a{{.processor = ProcessorId{processor},
                     .number = n,
                     .sku = SkuId{1},
                     .position = Position{0, position}.epoch(),
                     .mark = Mark{Seq{5}, mark}},
                    std::as_bytes(std::span(content))};
    return gate.answered(a);
  }
  std::string content() const {
    const auto c = gate.content();
    return {reinterpret_cast<const char*>(c.data()), c.size()};
  }

  AnswerGate gate{{.durable_on = 2, .limit = 3, .patience = Duration{100}}};
};

TEST_F(Gate, OpensWhenItIsStoredAndTwoHaveIt) {
  const BatchNumber n = *gate.await(Duration{0});
  EXPECT_EQ(answer(1, n), Heard::held);
  EXPECT_EQ(answer(2, n), Heard::held) << "not acknowledged by what orders it";
  EXPECT_EQ(gate.stored(n, Position{0, 1}), Heard::released);
  EXPECT_EQ(content(), "fine");
  EXPECT_EQ(answer(3, n), Heard::unawaited);
  EXPECT_EQ(gate.waiting(), 0u);
}

TEST_F(Gate, OneProcessorIsNotTwoHoweverOftenItSaysSo) {
  const BatchNumber n = *gate.await(Duration{0});
  gate.stored(n, Position{0, 1});
  EXPECT_EQ(answer(1, n), Heard::held);
  EXPECT_EQ(answer(1, n), Heard::held);
  EXPECT_EQ(answer(2, n), Heard::released);
}

TEST_F(Gate, ThoseWhoDifferDoNotAddUp) {
  const BatchNumber n = *gate.await(Duration{0});
  gate.stored(n, Position{0, 1});
  EXPECT_EQ(answer(1, n, 1, 7, "parted"), Heard::held);
  EXPECT_EQ(answer(2, n, 1, 8, "right"), Heard::disagreed);
  EXPECT_EQ(answer(3, n, 1, 8, "late"), Heard::released) << "one that errs holds up nobody";
  EXPECT_EQ(content(), "right");
}

TEST_F(Gate, WhatWasStoredElsewhereThanItWasFoundIsNotLetThrough) {
  const BatchNumber n = *gate.await(Duration{0});
  gate.stored(n, Position{0, 9});
  EXPECT_EQ(answer(1, n), Heard::held);
  EXPECT_EQ(answer(2, n), Heard::held);
}

TEST_F(Gate, BatchesAreIndependentOfEachOther) {
  const BatchNumber first = *gate.await(Duration{0});
  const BatchNumber second = *gate.await(Duration{0});
  gate.stored(first, Position{0, 1});
  gate.stored(second, Position{0, 2});
  EXPECT_EQ(answer(1, first), Heard::held);
  EXPECT_EQ(answer(1, second, 2), Heard::held);
  EXPECT_EQ(answer(2, second, 2), Heard::released);
  EXPECT_EQ(answer(2, first), Heard::released);
}

TEST_F(Gate, IsBoundedAndGivesUpInTime) {
  const BatchNumber first = *gate.await(Duration{0});
  const BatchNumber second = *gate.await(Duration{50});
  gate.forget(*gate.await(Duration{60}));
  ASSERT_TRUE(gate.await(Duration{60}));
  EXPECT_FALSE(gate.await(Duration{60})) << "three wait";
  EXPECT_EQ(gate.next_expiry(), Duration{100});
  std::vector<BatchNumber> lost;
  const auto note = [&](BatchNumber n) { lost.push_back(n); };
  gate.expire(Duration{99}, note);
  EXPECT_TRUE(lost.empty());
  gate.expire(Duration{100}, note);
  EXPECT_EQ(lost, std::vector{first});
  EXPECT_EQ(answer(1, first), Heard::unawaited);
  gate.expire(Duration{1'000}, note);
  EXPECT_EQ(lost.size(), 3u);
  EXPECT_EQ(lost[1], second);
  EXPECT_FALSE(gate.next_expiry());
}

}  // namespace
}  // namespace fairsale::cluster
