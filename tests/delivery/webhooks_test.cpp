// Webhooks as they are registered, changed and remembered. That messages arrive is shown by
// tests/e2e/webhooks_test.py.
#include "projections/delivery/webhooks.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/log/memory_log.hpp"

namespace fairsale {
namespace {

namespace fs = std::filesystem;

class WebhooksTest : public ::testing::Test {
 protected:
  WebhooksTest() {
    std::string pattern = (fs::temp_directory_path() / "fairsale-webhooks-XXXXXX").string();
    directory = mkdtemp(pattern.data());
    live();
  }
  ~WebhooksTest() override {
    die();
    fs::remove_all(directory);
  }

  void live() {
    auto cursors = CursorStore::open(directory / "outbox");
    ASSERT_TRUE(cursors);
    const auto nothing = [] { return std::shared_ptr<const ProjectionStore>(); };
    dispatcher =
        std::make_unique<Dispatcher>(log, nothing, std::move(*cursors), DispatcherOptions{});
    dispatcher->start();
    auto opened = Webhooks::open(directory / "webhooks", *dispatcher, nothing, {});
    ASSERT_TRUE(opened) << opened.error().message;
    webhooks = std::move(*opened);
  }
  void die() {
    if (dispatcher) dispatcher->stop();
    webhooks.reset();
    dispatcher.reset();
  }
  void reborn() {
    die();
    live();
  }

  MemoryLog log;
  fs::path directory;
  std::unique_ptr<Dispatcher> dispatcher;
  std::unique_ptr<Webhooks> webhooks;
};

const NewWebhook kHook{.url = "https://shop.example/hook"};

TEST_F(WebhooksTest, OfADamagedStoreItIsToldWhatToDo) {
  die();
  for (const auto& f : fs::directory_iterator(directory / "webhooks")) {
    if (f.path().filename().string().starts_with("MANIFEST")) fs::resize_file(f.path(), 1);
  }
  const auto opened = WebhookStore::open(directory / "webhooks");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().fault, Fault::damaged);
  EXPECT_NE(opened.error().message.find("register the webhooks again"), std::string::npos)
      << opened.error().message;
}

TEST_F(WebhooksTest, OutliveARestartWithAllThatIsKnownOfThem) {
  NewWebhook wanted = kHook;
  wanted.sku = SkuName::from("a.b");
  wanted.kinds.emplace().add(DecisionKind::ordered);
  wanted.kinds->add_reminders();
  wanted.past = true;
  const auto one = webhooks->add(wanted);
  ASSERT_TRUE(one) << one.error().message;
  const auto other = webhooks->add(kHook);
  ASSERT_TRUE(other);
  const auto disabled = webhooks->disable(other->id);
  ASSERT_TRUE(disabled);
  reborn();
  EXPECT_EQ(webhooks->find(one->id), *one);
  EXPECT_EQ(webhooks->find(other->id), *disabled);
  EXPECT_EQ(dispatcher->status().size(), 2U);
}

TEST_F(WebhooksTest, SecretsRotateAndAtMostTwoSign) {
  const auto w = webhooks->add(kHook);
  ASSERT_TRUE(w);
  const std::string first = w->secrets.at(0);
  const std::string second = webhooks->rotate_secret(w->id)->secrets.at(0);
  EXPECT_EQ(webhooks->find(w->id)->secrets, (std::vector{second, first}));
  const std::string third = webhooks->rotate_secret(w->id)->secrets.at(0);
  reborn();
  EXPECT_EQ(webhooks->find(w->id)->secrets, (std::vector{third, second}));
  EXPECT_EQ(webhooks->drop_old_secret(w->id)->secrets, std::vector{third});
  reborn();
  EXPECT_EQ(webhooks->find(w->id)->secrets, std::vector{third});
}

TEST_F(WebhooksTest, WhatIsRemovedIsGoneWithItsConsumer) {
  const auto w = webhooks->add(kHook);
  ASSERT_TRUE(w);
  EXPECT_TRUE(webhooks->remove(w->id));
  EXPECT_FALSE(webhooks->find(w->id));
  EXPECT_TRUE(dispatcher->status().empty());
  EXPECT_EQ(webhooks->remove(w->id).error().fault, Fault::not_found);
  EXPECT_EQ(webhooks->rotate_secret(w->id).error().fault, Fault::not_found);
  reborn();
  EXPECT_TRUE(webhooks->list().empty());
}

TEST_F(WebhooksTest, ThereIsRoomForSixteen) {
  for (std::size_t i = 0; i < Webhooks::kMax; ++i) ASSERT_TRUE(webhooks->add(kHook));
  EXPECT_EQ(webhooks->add(kHook).error().fault, Fault::full);
  ASSERT_TRUE(webhooks->remove(webhooks->list().front().id));
  EXPECT_TRUE(webhooks->add(kHook));
}

TEST_F(WebhooksTest, OnlyTheOwnerMayLookAtTheSecrets) {
  struct stat info {};
  ASSERT_EQ(::stat((directory / "webhooks").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0700U);
}

TEST(WebhookStore, KeepsTheLastAttemptsOnly) {
  std::string pattern = (fs::temp_directory_path() / "fairsale-webhooks-XXXXXX").string();
  const fs::path directory = mkdtemp(pattern.data());
  {
    auto store = WebhookStore::open(directory);
    ASSERT_TRUE(store);
    for (std::uint64_t i = 1; i <= 300; ++i) {
      const WebhookAttempt a{.message = "m" + std::to_string(i), .status = 503, .error = "no"};
      ASSERT_TRUE((*store)->add("wh", {i, a}, i > 200 ? i - 200 : 0));
      ASSERT_TRUE((*store)->add("wh2", {i, a}, i > 1 ? i - 1 : 0));
    }
  }
  {
    auto store = WebhookStore::open(directory);
    ASSERT_TRUE(store);
    const auto kept = (*store)->attempts("wh");
    ASSERT_TRUE(kept);
    ASSERT_EQ(kept->size(), 200U);
    EXPECT_EQ(kept->front().number, 101U);
    EXPECT_EQ(kept->back().attempt.message, "m300");
    EXPECT_EQ(kept->back().attempt.error, "no");
    ASSERT_TRUE((*store)->erase("wh"));
    EXPECT_TRUE((*store)->attempts("wh")->empty());
    EXPECT_EQ((*store)->attempts("wh2")->size(), 1U);
  }
  fs::remove_all(directory);
}

TEST(WebhookUrl, MustBeOneOfTheWeb) {
  for (const char* good : {"https://shop.example", "http://127.0.0.1:8080/a?b=c", "https://[::1]/"})
    EXPECT_EQ(webhook_url_fault(good), "") << good;
  for (const char* bad : {"", "shop.example", "ftp://shop.example", "https://", "https://u@host/",
                          "https://host/#f", "https://ho st/", "javascript:alert(1)"})
    EXPECT_NE(webhook_url_fault(bad), "") << bad;
  EXPECT_NE(webhook_url_fault("https://host/" + std::string(3000, 'x')), "");
}

TEST(MessageKinds, AreThoseThatLeave) {
  KindSet some;
  EXPECT_TRUE(some.add("ordered"));
  EXPECT_TRUE(some.has(DecisionKind::ordered));
  EXPECT_FALSE(some.has_reminders());
  EXPECT_TRUE(some.add("about_to_expire"));
  EXPECT_TRUE(some.has_reminders());
  EXPECT_EQ(some.names(), (std::vector<std::string_view>{"ordered", "about_to_expire"}));
  EXPECT_FALSE(some.add("refused"));
  EXPECT_FALSE(some.add("unknown"));
  EXPECT_FALSE(default_webhook_kinds().has(DecisionKind::reserved));
  EXPECT_FALSE(default_webhook_kinds().has(DecisionKind::waiting));
  EXPECT_FALSE(default_webhook_kinds().has(DecisionKind::refused));
  EXPECT_TRUE(default_webhook_kinds().has_reminders());
  EXPECT_EQ(default_webhook_kinds().names().size(), all_message_kinds().names().size() - 2);
}

}  // namespace
}  // namespace fairsale
