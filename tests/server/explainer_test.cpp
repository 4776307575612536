// Explanations beside the server's work: one at a time, few waiting, none forgotten.
#include "api/explainer.hpp"

#include "tests/engine/shop.hpp"

namespace fairsale::test {
namespace {

using api::AnswerMail;
using api::Explainer;
using api::ExplainJob;

// A log whose reading waits at a gate.
struct GatedLog final : MemoryLog {
  Result<void> read(SkuId sku, Seq from,
                    const std::function<bool(const BlockView&)>& visit) const override {
    {
      std::unique_lock lock(mutex);
      ++reading;
      changed.notify_all();
      changed.wait(lock, [this] { return open; });
    }
    return MemoryLog::read(sku, from, visit);
  }
  void wait_until_reading() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return reading > 0; });
  }
  void let_through() {
    const std::scoped_lock lock(mutex);
    open = true;
    changed.notify_all();
  }

  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  mutable int reading = 0;
  bool open = false;
};

// Collects the answers; wait_for() returns when there are as many.
struct Post {
  Explainer::Deliver deliver() {
    return [this](std::uint16_t origin, AnswerMail mail) {
      const std::scoped_lock lock(mutex);
      answers.emplace_back(origin, std::move(mail));
      changed.notify_all();
    };
  }
  void wait_for(std::size_t n) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return answers.size() >= n; });
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::pair<std::uint16_t, AnswerMail>> answers;
};

struct Explaining : ::testing::Test {
  Explaining() {
    shop.now("a", scheduled("a", 1));
    shop.now("a", attempt("anna", "k"));
  }
  ExplainJob job(std::uint32_t request, std::uint64_t purchase = 2) {
    return {.sku = {sku_id("a"), *shop.sequencer.head(sku_id("a"))},
            .purchase = Seq{purchase},
            .origin = 3,
            .ticket = {.connection = 1, .generation = 2, .request = request}};
  }

  GatedLog log;
  Shop shop{log};
  Post post;
};

TEST_F(Explaining, AnswersTheDeskThatAsked) {
  log.let_through();
  Explainer explainer(log, post.deliver());
  EXPECT_TRUE(explainer.ask(job(7)));
  post.wait_for(1);
  const auto& [origin, mail] = post.answers[0];
  EXPECT_EQ(origin, 3);
  EXPECT_EQ(mail.ticket.request, 7u);
  EXPECT_EQ(mail.status, 200);
  EXPECT_EQ(mail.content_type, "application/json");
  EXPECT_NE(mail.body.find("\"a:2\""), std::string::npos);
  EXPECT_EQ(mail.body.find("anna"), std::string::npos);
}

TEST_F(Explaining, AnUnknownPurchaseIs404) {
  log.let_through();
  Explainer explainer(log, post.deliver());
  EXPECT_TRUE(explainer.ask(job(1, 1)));
  post.wait_for(1);
  EXPECT_EQ(post.answers[0].second.status, 404);
  EXPECT_NE(post.answers[0].second.body.find("unknown_purchase"), std::string::npos);
}

// Memory runs out, say.
struct ThrowingLog final : MemoryLog {
  Result<void> read(SkuId sku, Seq from,
                    const std::function<bool(const BlockView&)>& visit) const override {
    if (std::exchange(fails, false)) throw std::length_error("too long");
    if (std::exchange(odd, false)) throw 7;
    return MemoryLog::read(sku, from, visit);
  }
  mutable bool fails = false;
  mutable bool odd = false;
};

TEST(Explainer, WhatIsThrownIsAnsweredWith503AndTheNextIsExplained) {
  ThrowingLog log;
  Shop shop{log};
  Post post;
  shop.now("a", scheduled("a", 1));
  shop.now("a", attempt("anna", "k"));
  log.fails = log.odd = true;
  Explainer explainer(log, post.deliver());
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(explainer.ask({.sku = {sku_id("a"), *shop.sequencer.head(sku_id("a"))},
                               .purchase = Seq{2},
                               .origin = 0,
                               .ticket = {.connection = 1, .generation = 2, .request = i}}));
  }
  post.wait_for(3);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(post.answers[i].second.status, 503);
    EXPECT_NE(post.answers[i].second.body.find("overloaded"), std::string::npos);
  }
  EXPECT_EQ(post.answers[2].second.status, 200);
}

TEST_F(Explaining, TooManyAreRefusedAtOnceAndTheOthersAnsweredInOrder) {
  Explainer explainer(log, post.deliver());
  EXPECT_TRUE(explainer.ask(job(0)));
  log.wait_until_reading();
  for (std::uint32_t i = 1; i <= Explainer::kMaxWaiting; ++i) EXPECT_TRUE(explainer.ask(job(i)));
  EXPECT_FALSE(explainer.ask(job(99)));
  log.let_through();
  post.wait_for(Explainer::kMaxWaiting + 1);
  for (std::uint32_t i = 0; i <= Explainer::kMaxWaiting; ++i) {
    EXPECT_EQ(post.answers[i].second.ticket.request, i);
    EXPECT_EQ(post.answers[i].second.status, 200);
  }
}

TEST_F(Explaining, StoppingAnswersAllThatWait) {
  Explainer explainer(log, post.deliver());
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_TRUE(explainer.ask(job(i)));
  log.wait_until_reading();
  std::thread stopper([&] { explainer.stop(); });
  while (!explainer.stopping()) std::this_thread::yield();
  log.let_through();
  stopper.join();
  EXPECT_FALSE(explainer.ask(job(9)));
  ASSERT_EQ(post.answers.size(), 3u);
  for (const auto& [origin, mail] : post.answers) {
    EXPECT_EQ(mail.status, 503);
    EXPECT_NE(mail.headers.find("Retry-After"), std::string::npos);
    EXPECT_NE(mail.body.find("stopping"), std::string::npos);
  }
}

}  // namespace
}  // namespace fairsale::test
