#include "tools/orders/processor.hpp"

#include <gtest/gtest.h>

#include <deque>

#include "tests/log/support.hpp"

namespace fairsale::orders {
namespace {

using fairsale::testing::TempDir;

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Answers as it was told to, and else with done.
struct Script {
  std::mutex mutex;
  std::map<std::string, std::deque<Verdict>> answers;  // by key
  std::vector<std::string> calls;
  bool silent = false;  // gives no answer to anything

  std::size_t count() {
    const std::scoped_lock lock(mutex);
    return calls.size();
  }
};

class Scripted final : public Gateway {
 public:
  explicit Scripted(Script& s) : script_(s) {}
  Verdict carry_out(Action a, const Case& c) override {
    const std::scoped_lock lock(script_.mutex);
    const std::string key = idempotency_key(c, a);
    script_.calls.push_back(key);
    if (script_.silent) return {Answer::unknown, "silent", {}};
    auto& answers = script_.answers[key];
    if (answers.empty()) return {Answer::done, {}, {}};
    const Verdict v = answers.front();
    answers.pop_front();
    return v;
  }

 private:
  Script& script_;
};

Case order(State s = State::placed) {
  Case c;
  c.purchase = "demo:2";
  c.id = "demo:3:0";
  c.reference = "pay-1";
  c.amount = 4900;
  c.currency = "EUR";
  c.state = s;
  return c;
}

class ProcessorTest : public ::testing::Test {
 protected:
  void start(std::size_t most_open = 100) {
    store_ = std::move(OrderStore::open(dir_.path()).value());
    processor_ = std::move(Processor::start(
                               *store_, [&] { return std::make_unique<Scripted>(script_); },
                               {.workers = 2,
                                .most_open = most_open,
                                .retry_first = milliseconds(1),
                                .retry_most = milliseconds(4)},
                               [](const Error& e) { FAIL() << e.message; })
                               .value());
  }
  void restart() {
    processor_.reset();
    store_.reset();
    start();
  }
  State state() {
    State s{};
    EXPECT_TRUE(store_->each([&](const Case& c) {
      s = c.state;
      return true;
    }));
    return s;
  }
  template <class Condition>
  ::testing::AssertionResult eventually(Condition&& condition) {
    const auto end = steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      if (steady_clock::now() > end) return ::testing::AssertionFailure() << "in vain";
      std::this_thread::yield();
    }
    return ::testing::AssertionSuccess();
  }
  bool idle() { return processor_->counts().open == 0; }

  TempDir dir_;
  Script script_;
  std::unique_ptr<OrderStore> store_;
  std::unique_ptr<Processor> processor_;
};

TEST_F(ProcessorTest, AnOrderIsCapturedAndHandedOverOnceThoughItsMessageComesTwice) {
  start();
  ASSERT_TRUE(processor_->take({.cases = {order()}}));
  ASSERT_TRUE(eventually([&] { return idle(); }));
  ASSERT_TRUE(processor_->take({.cases = {order()}}));
  EXPECT_TRUE(idle());
  EXPECT_EQ(state(), State::handed_over);
  EXPECT_EQ(script_.calls, (std::vector<std::string>{"demo:2/capture", "demo:2/hand_over"}));
  EXPECT_EQ(processor_->counts().repeated, 1U);
}

TEST_F(ProcessorTest, AHandOverThatIsDeclinedIsRefundedAndRecorded) {
  script_.answers["demo:2/hand_over"] = {{Answer::unknown, "?", {}}, {Answer::declined, "no", {}}};
  start();
  ASSERT_TRUE(processor_->take({.cases = {order()}}));
  ASSERT_TRUE(eventually([&] { return idle(); }));
  EXPECT_EQ(state(), State::compensated);
  EXPECT_EQ(script_.calls,
            (std::vector<std::string>{"demo:2/capture", "demo:2/hand_over", "demo:2/hand_over",
                                      "demo:2/refund/pay-1", "demo:2/record"}));
}

TEST_F(ProcessorTest, ARefundDueIsTriedForAsLongAsItTakesAcrossRestarts) {
  script_.silent = true;
  start();
  ASSERT_TRUE(processor_->take({.cases = {order(State::refund_due)}}));
  ASSERT_TRUE(eventually([&] { return script_.count() > Processor::kWorthALook; }));
  ASSERT_TRUE(eventually([&] { return processor_->counts().stuck == 1; }));
  restart();
  EXPECT_EQ(processor_->counts().open, 1U);
  const std::size_t before = script_.count();
  ASSERT_TRUE(eventually([&] { return script_.count() > before + 2; }));
  {
    const std::scoped_lock lock(script_.mutex);
    script_.silent = false;
    script_.answers["demo:2/refund/pay-1"] = {{Answer::declined, "account closed", {}}};
  }
  ASSERT_TRUE(eventually([&] { return idle(); })) << "declined, it is still tried on";
  EXPECT_EQ(state(), State::refunded);
  EXPECT_EQ(processor_->counts().stuck, 0U);
}

TEST_F(ProcessorTest, NoMoreIsTakenThanMayBeOpen) {
  script_.silent = true;
  start(2);
  EXPECT_TRUE(processor_->room());
  Case other = order();
  other.purchase = "demo:5";
  other.id = "demo:6:0";
  ASSERT_TRUE(processor_->take({.cases = {order(), other}}));
  EXPECT_FALSE(processor_->room());
  {
    const std::scoped_lock lock(script_.mutex);
    script_.silent = false;
  }
  EXPECT_TRUE(eventually([&] { return processor_->room(); }));
}

}  // namespace
}  // namespace fairsale::orders
