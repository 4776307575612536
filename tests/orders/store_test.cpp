// What a processor has been told is durable is there after it was killed.
#include "tools/orders/order_store.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <map>
#include <random>

#include "tests/log/support.hpp"

namespace fairsale::orders {
namespace {

using fairsale::testing::TempDir;

Case order(int n, State s = State::placed) {
  Case c;
  c.purchase = "demo:" + std::to_string(n);
  c.id = "demo:" + std::to_string(n) + ":0";
  c.reference = "pay-" + std::to_string(n);
  c.amount = 4900 + n;
  c.currency = "EUR";
  c.quantity = 2;
  c.state = s;
  return c;
}

std::map<std::string, Case> all_of(const OrderStore& store, bool open) {
  std::map<std::string, Case> out;
  const auto visit = [&](const Case& c) {
    out.emplace(c.id, c);
    return true;
  };
  const auto ok = open ? store.each_open(visit) : store.each(visit);
  EXPECT_TRUE(ok) << ok.error().message;
  return out;
}

TEST(OrderStore, AMessageThatComesAgainIsKnown) {
  const TempDir dir;
  auto store = OrderStore::open(dir.path());
  ASSERT_TRUE(store) << store.error().message;
  auto taken = (*store)->take({.cases = {order(1), order(2), order(1)}});
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->fresh.size(), 2U);
  Case c = order(1, State::handed_over);
  ASSERT_TRUE((*store)->put(c));
  taken = (*store)->take({.cases = {order(1), order(3)}});
  ASSERT_TRUE(taken);
  ASSERT_EQ(taken->fresh.size(), 1U);
  EXPECT_EQ(taken->fresh.front(), order(3));
  EXPECT_TRUE(taken->strange.empty());
  EXPECT_EQ(all_of(**store, false).at("demo:1:0").state, State::handed_over);
  EXPECT_EQ(all_of(**store, true).size(), 2U) << "what is at its end is not open";
}

TEST(OrderStore, AnotherPaymentUnderAKnownIdIsNoRepeat) {
  const TempDir dir;
  auto store = OrderStore::open(dir.path());
  ASSERT_TRUE(store);
  Case other = order(1);
  other.reference = "pay-of-another-log";
  auto taken = (*store)->take({.cases = {order(1), other}});
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->fresh, std::vector{order(1)});
  EXPECT_EQ(taken->strange.size(), 1U) << "of the same batch";
  ASSERT_TRUE((*store)->put(order(1, State::handed_over)));
  other.reference = "pay-of-a-third";
  taken = (*store)->take({.cases = {order(1), other}});
  ASSERT_TRUE(taken);
  EXPECT_TRUE(taken->fresh.empty());
  ASSERT_EQ(taken->strange.size(), 1U);
  EXPECT_NE(taken->strange[0].why.find("pay-1 of 4901 EUR"), std::string::npos);
  std::vector<std::string> dead;
  ASSERT_TRUE((*store)->each_dead([&](const DeadLetter& d) {
    dead.push_back(d.id);
    return true;
  }));
  EXPECT_EQ(dead,
            (std::vector<std::string>{"demo:1:0 pay-of-a-third", "demo:1:0 pay-of-another-log"}));
}

TEST(OrderStore, TellsApartThePurchasesWhoseNumbersBeginAlike) {
  const TempDir dir;
  auto store = OrderStore::open(dir.path());
  ASSERT_TRUE(store);
  Case second = order(1, State::refund_due);
  second.id = "demo:99:0";
  ASSERT_TRUE((*store)->take({.cases = {order(1), order(11), second}}));
  int n = 0;
  ASSERT_TRUE((*store)->each_of("demo:1", [&](const Case& c) {
    EXPECT_EQ(c.purchase, "demo:1");
    ++n;
    return true;
  }));
  EXPECT_EQ(n, 2);
}

TEST(OrderStore, DeadLettersAndCursorsStayAndAnotherProcessMayLook) {
  const TempDir dir;
  auto store = OrderStore::open(dir.path());
  ASSERT_TRUE(store);
  ASSERT_TRUE((*store)->take({.cases = {order(1)},
                              .dead = {{"x 7", "no JSON", "{"}},
                              .cursor = SourceCursor{"demo", "17.0"}}));
  EXPECT_EQ((*store)->cursor("demo").value(), "17.0");
  EXPECT_EQ((*store)->cursor("other").value(), "");
  EXPECT_EQ(OrderStore::open(dir.path()).error().fault, Fault::busy);
  auto look = OrderStore::look(dir.path());
  ASSERT_TRUE(look) << look.error().message;
  EXPECT_EQ(all_of(**look, true).size(), 1U);
  std::vector<std::string> dead;
  ASSERT_TRUE((*look)->each_dead([&](const DeadLetter& d) {
    dead.push_back(d.id + "|" + d.why + "|" + d.content);
    return true;
  }));
  EXPECT_EQ(dead, std::vector<std::string>{"x 7|no JSON|{"});
}

// Takes orders and carries them on, and says after each write what is durable now.
[[noreturn]] void labour(const std::filesystem::path& path, int out, int first) {
  auto store = OrderStore::open(path);
  if (!store) _exit(3);
  for (int n = first;; ++n) {
    Case c = order(n);
    if (!(*store)->take({.cases = {c}, .cursor = SourceCursor{"demo", std::to_string(n)}}))
      _exit(4);
    for (;;) {
      dprintf(out, "%d %d\n", n, static_cast<int>(c.state));
      c.state = after(c.state, n % 3 == 0 ? Answer::declined : Answer::done);
      if (n % 3 == 0 && c.state == State::failed) break;
      if (!(*store)->put(c)) _exit(5);
      if (at_end(c.state)) {
        dprintf(out, "%d %d\n", n, static_cast<int>(c.state));
        break;
      }
    }
  }
}

TEST(OrderStore, WhatWasDurableIsThereAfterAKill) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer knows no threads in the child of a process with threads";
#endif
  const TempDir dir;
  std::mt19937 chance(7);
  std::map<int, int> durable;
  int next = 1;
  for (int round = 0; round < 12; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(pipe_ends[0]);
      labour(dir.path(), pipe_ends[1], next);
    }
    ::close(pipe_ends[1]);
    FILE* in = ::fdopen(pipe_ends[0], "r");
    const int most = std::uniform_int_distribution(1, 120)(chance);
    int n = 0;
    int state = 0;
    for (int i = 0; std::fscanf(in, "%d %d", &n, &state) == 2; ++i) {
      durable[n] = std::max(durable[n], state);
      next = n + 1;
      if (i == most) ::kill(child, SIGKILL);
    }
    std::fclose(in);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "exit code " << WEXITSTATUS(status);

    auto store = OrderStore::open(dir.path());
    ASSERT_TRUE(store) << store.error().message;
    const auto all = all_of(**store, false);
    const auto open = all_of(**store, true);
    for (const auto& [number, reached] : durable) {
      const auto it = all.find(order(number).id);
      ASSERT_NE(it, all.end()) << number;
      EXPECT_GE(static_cast<int>(it->second.state), reached) << number;
    }
    for (const auto& [id, c] : all) {
      EXPECT_EQ(open.contains(id), !at_end(c.state)) << id;
      if (const auto it = open.find(id); it != open.end()) {
        EXPECT_EQ(it->second, c);
      }
    }
    EXPECT_GE(std::stoi((*store)->cursor("demo").value()), next - 1);
    next = std::stoi((*store)->cursor("demo").value()) + 1;
  }
}

}  // namespace
}  // namespace fairsale::orders
