// The checkers against histories whose verdict is known.
#include <gtest/gtest.h>

#include "tests/linear/history.hpp"

namespace fairsale::linear {
namespace {

// ---- The search, with a register as the object ----

struct Access {
  bool write = false;
  int value = 0;
  Interval when;
};

Access write(int value, std::int64_t call, std::int64_t answer = kNoAnswer) {
  return {true, value, {call, answer, {}}};
}
Access read(int value, std::int64_t call, std::int64_t answer) {
  return {false, value, {call, answer, {}}};
}

Verdict verdict(const std::vector<Access>& history, std::size_t most_steps = 1000) {
  std::vector<Interval> intervals;
  for (const Access& a : history) intervals.push_back(a.when);
  return search(
             intervals, 0,
             [&](int state, std::size_t i) -> std::optional<int> {
               if (history[i].write) return history[i].value;
               return state == history[i].value ? std::optional(state) : std::nullopt;
             },
             [&](std::size_t i) { return !history[i].write; },
             [](int state) { return std::to_string(state); }, most_steps)
      .verdict;
}

TEST(Search, AnEmptyHistoryIsLinearizable) { EXPECT_EQ(verdict({}), Verdict::linearizable); }

TEST(Search, AReadDuringAWriteMaySeeEither) {
  EXPECT_EQ(verdict({write(1, 0, 10), read(0, 2, 4)}), Verdict::linearizable);
  EXPECT_EQ(verdict({write(1, 0, 10), read(1, 2, 4)}), Verdict::linearizable);
  EXPECT_EQ(verdict({write(1, 0, 10), read(2, 2, 4)}), Verdict::not_linearizable);
}

TEST(Search, AReadAfterAWriteMustSeeIt) {
  EXPECT_EQ(verdict({write(1, 0, 1), read(0, 2, 3)}), Verdict::not_linearizable);
}

TEST(Search, WhatOneReadSawTheNextMayNotUnsee) {
  EXPECT_EQ(verdict({write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)}), Verdict::not_linearizable);
  EXPECT_EQ(verdict({write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)}), Verdict::linearizable);
}

TEST(Search, TouchingTimesAreNotAnOrder) {
  EXPECT_EQ(verdict({write(1, 0, 2), read(0, 2, 3)}), Verdict::linearizable);
}

TEST(Search, WhatWasNeverAnsweredMayHaveHappenedOrNot) {
  EXPECT_EQ(verdict({write(1, 0), read(0, 5, 6)}), Verdict::linearizable);
  EXPECT_EQ(verdict({write(1, 0), read(0, 5, 6), read(1, 7, 8)}), Verdict::linearizable);
  EXPECT_EQ(verdict({write(1, 0), read(1, 5, 6), read(0, 7, 8)}), Verdict::not_linearizable);
  EXPECT_EQ(verdict({read(1, 0, 1), write(1, 2)}), Verdict::not_linearizable) << "not before it";
}

TEST(Search, AnOperationMayHaveToComeAfterAnother) {
  std::vector<Access> history{write(1, 0, 10), read(0, 1, 9)};
  EXPECT_EQ(verdict(history), Verdict::linearizable);
  history[1].when.after = 0;
  EXPECT_EQ(verdict(history), Verdict::not_linearizable);
}

TEST(Search, AReadMayHaveToComeAfterOneThatWasCalledLater) {
  std::vector<Access> history{read(1, 0, 20), write(1, 1, 2), read(1, 3, 4), write(2, 10, 11)};
  history[0].when.after = 2;
  EXPECT_EQ(verdict(history), Verdict::linearizable);
}

TEST(Search, GoesBackAsFarAsItMust) {
  // Only 2, 1, 3 explains the reads, and the search begins with 1.
  EXPECT_EQ(verdict({write(1, 0, 100), write(2, 1, 100), write(3, 2, 100), read(2, 3, 10),
                     read(1, 11, 20), read(3, 21, 30)}),
            Verdict::linearizable);
}

TEST(Search, ManyReadsAtOnceCostLittle) {
  std::vector<Access> history;
  for (int i = 0; i < 200; ++i) history.push_back(read(i / 10, 0, 10'000));
  for (int i = 1; i < 20; ++i) history.push_back(write(i, 100 * i, 100 * i + 50));
  EXPECT_EQ(verdict(history, 20'000), Verdict::linearizable);
}

TEST(Search, GivesUpAtItsBound) {
  std::vector<Access> history;
  for (int i = 0; i < 20; ++i) history.push_back(write(i, i, 100));
  history.push_back(read(99, 200, 201));
  EXPECT_EQ(verdict(history, 50), Verdict::undecided);
}

// ---- Sales ----

class Sales : public ::testing::Test {
 protected:
  // Two units, one a purchase, a line of two.
  Sales() {
    history.sales.push_back({.stock = Quantity{2},
                             .price = {MinorUnits{100}, Currency{{'E', 'U', 'R'}}},
                             .hold = Duration{1000},
                             .limit_per_customer = Quantity{2},
                             .units_per_purchase = Quantity{1},
                             .line_limit = 2});
  }

  Operation& add(Operation o, std::int64_t call, std::int64_t answer) {
    o.when = {call, answer, {}};
    history.operations.push_back(o);
    return history.operations.back();
  }
  Operation& attempt(std::uint32_t key, DecisionKind told, std::uint64_t position,
                     std::int64_t call, std::int64_t answer) {
    const std::string body = std::to_string(key);
    return add({.kind = Kind::attempt,
                .key = key,
                .quantity = 1,
                .told = told,
                .position = position,
                .body = body},
               call, answer);
  }
  Operation& look(std::uint32_t available, std::uint32_t held, std::uint32_t waiting,
                  std::uint64_t position, std::int64_t call, std::int64_t answer) {
    Operation o{.position = position};
    o.counters = {.available = Quantity{available}, .held = Quantity{held}, .waiting = waiting};
    return add(o, call, answer);
  }

  // Positions alone, answers alone, or both.
  bool linearizable() const { return !judge_linearizable(history); }
  bool in_order() const { return !judge_positions(history); }

  History history;
};

constexpr auto kReserved = DecisionKind::reserved;
constexpr auto kWaiting = DecisionKind::waiting;

TEST_F(Sales, OneAfterTheOther) {
  attempt(0, kReserved, 2, 0, 1);
  attempt(1, kReserved, 3, 2, 3);
  attempt(2, kWaiting, 4, 4, 5).place = 1;
  look(0, 2, 1, 4, 6, 7);
  Operation& cancelled =
      add({.kind = Kind::give_up, .key = 0, .told = DecisionKind::cancelled, .position = 5}, 8, 9);
  EXPECT_TRUE(linearizable());
  EXPECT_TRUE(in_order());
  cancelled.reason = Reason::already_ordered;
  EXPECT_FALSE(linearizable());
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, ADoubleSaleHasNoOrder) {
  attempt(0, kReserved, 2, 0, 10);
  attempt(1, kReserved, 3, 0, 10);
  EXPECT_TRUE(linearizable());
  attempt(2, kReserved, 4, 0, 10);
  EXPECT_FALSE(linearizable());
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, TwoInOnePlaceHaveNoOrder) {
  attempt(0, kReserved, 2, 0, 1);
  attempt(1, kReserved, 3, 0, 1);
  attempt(2, kWaiting, 4, 2, 10).place = 1;
  Operation& second = attempt(3, kWaiting, 5, 2, 10);
  second.place = 2;
  EXPECT_TRUE(linearizable());
  EXPECT_TRUE(in_order());
  second.place = 1;
  EXPECT_FALSE(linearizable());
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, ALostOrderShows) {
  attempt(0, kReserved, 2, 0, 1);
  Operation paid{
      .kind = Kind::pay, .key = 0, .amount = 100, .told = DecisionKind::ordered, .position = 3};
  add(paid, 2, 3);
  // The payment was forgotten, and the purchase could be given up.
  add({.kind = Kind::give_up, .key = 0, .told = DecisionKind::cancelled, .position = 4}, 4, 5);
  EXPECT_FALSE(linearizable());
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, AStaleReadIsToldFromALateOne) {
  const std::int64_t later = 10 * kReadMayBeOld;
  attempt(0, kReserved, 2, 0, 1);
  look(2, 0, 0, 1, 2, 3);
  EXPECT_TRUE(linearizable()) << "a second old at most";
  EXPECT_TRUE(in_order());
  Operation& stale = look(2, 0, 0, 1, later, later + 1);
  EXPECT_FALSE(linearizable());
  EXPECT_FALSE(in_order());
  stale.counters = {.available = Quantity{1}, .held = Quantity{1}};
  EXPECT_TRUE(linearizable());
  EXPECT_FALSE(in_order()) << "it claims a position at which that was not so";
}

TEST_F(Sales, AReadMustReflectItsMinSeq) {
  attempt(0, kReserved, 2, 0, 1);
  Operation& o = look(2, 0, 0, 1, 2, 3);
  o.when.after = 0;
  EXPECT_FALSE(linearizable());
  EXPECT_TRUE(in_order());
  o.min_seq = 2;
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, CountersMustBeThoseOfTheirPosition) {
  attempt(0, kReserved, 2, 0, 1);
  attempt(1, kReserved, 3, 2, 3);
  look(1, 1, 0, 3, 4, 5);
  EXPECT_TRUE(linearizable()) << "it may be old";
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, PositionsMustFollowTime) {
  attempt(0, kReserved, 3, 0, 1);
  attempt(1, kReserved, 2, 2, 3);
  EXPECT_TRUE(linearizable());
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, OnePositionForTwoIsNone) {
  attempt(0, kReserved, 2, 0, 9);
  attempt(1, kReserved, 2, 0, 9);
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, AnEventThatNobodyAskedForShows) {
  attempt(0, kReserved, 3, 0, 1);
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, ARepetitionGetsTheFirstAnswer) {
  attempt(0, kReserved, 2, 0, 9);
  Operation& again = attempt(0, kReserved, 2, 0, 9);
  EXPECT_FALSE(linearizable()) << "both say that they were first";
  EXPECT_FALSE(in_order());
  again.repeated = true;
  EXPECT_TRUE(linearizable());
  EXPECT_TRUE(in_order());
  again.body = "other";
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, WhatWasLostInACrashMayHaveHappened) {
  history.whole = false;
  attempt(0, kReserved, 0, 0, kNoAnswer);
  attempt(1, kReserved, 3, 2, 3);
  look(0, 2, 0, 3, 4, 5);
  EXPECT_TRUE(linearizable());
  // Then the repetition must find it.
  Operation& again = attempt(0, kReserved, 4, 6, 7);
  EXPECT_FALSE(linearizable());
  again.repeated = true;
  EXPECT_TRUE(linearizable());
}

TEST_F(Sales, WhatWasAnsweredBeforeACrashMayNotBeLost) {
  history.whole = false;
  attempt(0, kReserved, 2, 0, 1);
  attempt(1, kReserved, 2, 2, 3);
  attempt(0, kReserved, 3, 4, 5);
  EXPECT_FALSE(linearizable());
  EXPECT_FALSE(in_order());
}

TEST_F(Sales, AreJudgedApart) {
  history.sales.push_back(history.sales[0]);
  attempt(0, kReserved, 2, 0, 1);
  attempt(1, kReserved, 3, 0, 1);
  attempt(2, kReserved, 2, 2, 3).sale = 1;
  EXPECT_TRUE(linearizable());
  EXPECT_TRUE(in_order());
}

}  // namespace
}  // namespace fairsale::linear
