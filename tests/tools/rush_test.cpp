// A crowd against a server that keeps the rules, one with faults, and ones that lie.
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "tests/tools/fake_server.hpp"
#include "tools/rush/audit.hpp"
#include "tools/rush/crowd.hpp"
#include "tools/rush/one_request.hpp"

namespace fairsale::rush {
namespace {

using testing::FakeOptions;
using testing::FakeReply;
using testing::FakeServer;

struct Outcome {
  CrowdReport report;
  SaleFacts sale;
  WireCounters wire;
  PushbackCounters pushback;
  Violations violations;
  std::vector<Claim> claims;
  std::string error;

  std::uint64_t found(const std::string& check) const {
    const auto it = violations.by_check().find(check);
    return it == violations.by_check().end() ? 0 : it->second.count;
  }
  std::string all() const {
    std::string s = error;
    for (const auto& [check, f] : violations.by_check()) {
      for (const std::string& what : f.first) s += check + ": " + what + "\n";
    }
    return s;
  }
};

CrowdOptions small() {
  CrowdOptions o;
  o.attempts = 400;
  o.customers = 100;
  o.curve.flat_rate = 4000;
  o.pay_delay_from = 0.005;
  o.pay_delay_to = 0.02;
  o.retry = 0.1;
  o.retry_within_seconds = 0.1;
  o.duplicate = 0.1;
  o.until_settled = true;
  o.settle_seconds = 30;
  o.seed = 42;
  o.patience_us = 20'000'000;
  return o;
}

Outcome rush(
    FakeServer& server, CrowdOptions o,
    const std::function<void(const Crowd&)>& progress = [](const Crowd&) {}) {
  Outcome out;
  o.curve.attempts = o.attempts;
  const auto endpoint = parse_url(server.url());
  RunInfo info{.url = server.url(),
               .sku = "demo",
               .seed = o.seed,
               .key_prefix = "k",
               .customer_prefix = "c",
               .alone = true};
  const Requests requests(info, endpoint->authority, "shop-token");
  std::string request;
  requests.read_sale(0, request);
  const auto reply = ask(*endpoint, request, 5'000'000);
  if (!reply) {
    out.error = reply.error().message;
    return out;
  }
  AnswerReader reader;
  SaleFacts sale;
  reader.read(reply->body(), sale);
  Driver driver(*HttpPool::open(*endpoint, 16, 5'000'000), o.seed);
  const volatile int never = 0;
  Crowd crowd(driver, requests, info, o, sale, nullptr, out.violations);
  if (const auto ran = crowd.run(*rate_curve(o.curve), never, progress); !ran) {
    out.error = ran.error().message;
    return out;
  }
  Driver fresh(*HttpPool::open(*endpoint, 16, 5'000'000), o.seed);
  AuditOptions audit_options;
  audit_options.repeats = 100;
  audit_options.listings = 20;
  auto audited = audit(fresh, requests, info, crowd.claims(), audit_options, out.violations);
  if (!audited) {
    out.error = audited.error().message;
    return out;
  }
  out.sale = audited->sale;
  out.report = crowd.report();
  out.wire = driver.wire();
  out.pushback = driver.pushback();
  out.claims = crowd.claims();
  return out;
}

std::uint64_t answered(const Outcome& o) {
  return o.report.first[1] + o.report.first[2] + o.report.first[3];
}

TEST(Rush, SellsEverythingAndFindsNothingWrong) {
  FakeServer server(FakeOptions{});
  const Outcome o = rush(server, small());
  EXPECT_EQ(o.all(), "");
  EXPECT_TRUE(o.report.settled);
  EXPECT_EQ(answered(o), 400U);
  EXPECT_EQ(server.attempts_decided(), 400U);
  EXPECT_EQ(o.sale.sold, 10);
  EXPECT_EQ(o.report.paid, 10U);
  EXPECT_EQ(o.report.first[1], 10U);
  EXPECT_GT(o.report.offered, 0U);
  EXPECT_GT(o.report.repeats, 40U);
  EXPECT_EQ(o.report.unexpected.size(), 0U);
  EXPECT_EQ(o.report.attempt_latency.count(), 400U);
  EXPECT_EQ(o.wire.resets + o.wire.malformed + o.wire.timeouts, 0U);
}

TEST(Rush, MixOfQuantitiesInALineThatSkips) {
  FakeOptions f;
  f.stock = Quantity{30};
  f.limit = Quantity{4};
  f.units = Quantity{3};
  f.policy = LinePolicy::skip_if_unfit;
  FakeServer server(f);
  CrowdOptions c = small();
  c.units = {1, 2, 3};
  const Outcome o = rush(server, c);
  EXPECT_EQ(o.all(), "");
  EXPECT_TRUE(o.report.settled);
}

TEST(Rush, SmallLineAndFewCustomers) {
  FakeOptions f;
  f.line_limit = 5;
  FakeServer server(f);
  CrowdOptions c = small();
  c.customers = 30;
  const Outcome o = rush(server, c);
  EXPECT_EQ(o.all(), "");
  EXPECT_GT(o.report.refused[static_cast<std::size_t>(Reason::line_full)], 0U);
}

TEST(Rush, ClosedLoop) {
  FakeServer server(FakeOptions{});
  CrowdOptions c = small();
  c.closed_loop = true;
  const Outcome o = rush(server, c);
  EXPECT_EQ(o.all(), "");
  EXPECT_EQ(answered(o), 400U);
}

TEST(Rush, SameSeedRepeatsTheSameAttempts) {
  FakeServer server(FakeOptions{});
  const Outcome first = rush(server, small());
  const Outcome again = rush(server, small());
  EXPECT_EQ(server.attempts_decided(), 400U);
  ASSERT_EQ(first.claims.size(), again.claims.size());
  for (std::size_t i = 0; i < first.claims.size(); ++i) {
    EXPECT_EQ(first.claims[i].digest, again.claims[i].digest);
  }
}

TEST(Rush, ComesBackAfter429WithTheSameKey) {
  FakeOptions f;
  f.rate_limit_every = 3;
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_EQ(o.all(), "");
  EXPECT_EQ(answered(o), 400U);
  EXPECT_EQ(server.attempts_decided(), 400U);
  EXPECT_GT(o.pushback.rate_limited, 100U);
}

TEST(Rush, AnswerLostOnTheWayIsAskedForAgain) {
  FakeOptions f;
  f.drop_every = 5;
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_EQ(o.all(), "");
  EXPECT_EQ(answered(o), 400U);
  EXPECT_EQ(server.attempts_decided(), 400U);
  EXPECT_GT(o.wire.resets, 50U);
}

TEST(Rush, GarbageIsCountedAndAskedForAgain) {
  FakeOptions f;
  f.garbage_every = 50;
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_EQ(o.all(), "");
  EXPECT_EQ(answered(o), 400U);
  EXPECT_GT(o.wire.malformed, 3U);
}

TEST(Rush, LivesThroughARestart) {
  FakeServer server(FakeOptions{});
  CrowdOptions c = small();
  c.curve.flat_rate = 1000;
  int ticks_away = 0;
  const Outcome o = rush(server, c, [&](const Crowd& crowd) {
    const auto& first = crowd.report().first;
    const auto n = first[1] + first[2] + first[3];
    if (ticks_away == 0 && n > 100) server.away();
    if (n > 100 && ++ticks_away == 5) server.back();
  });
  EXPECT_GE(ticks_away, 5);
  EXPECT_EQ(o.all(), "");
  EXPECT_EQ(answered(o), 400U);
  EXPECT_EQ(server.attempts_decided(), 400U);
  EXPECT_TRUE(o.report.settled);
}

TEST(Rush, GivesUpWhenNobodyAnswers) {
  FakeServer server(FakeOptions{});
  CrowdOptions c = small();
  c.patience_us = 300'000;
  bool gone = false;
  const Outcome o = rush(server, c, [&](const Crowd& crowd) {
    if (!gone && crowd.report().first[1] > 0) {
      gone = true;
      server.away();
    }
  });
  EXPECT_NE(o.error.find("answered nothing"), std::string::npos) << o.error;
}

// ---- Lies ----

void replace(std::string& s, const std::string& from, const std::string& to) {
  const std::size_t at = s.find(from);
  if (at != std::string::npos) s.replace(at, from.size(), to);
}

TEST(Lies, OneWhoWaitsIsToldThatUnitsAreHeld) {
  FakeOptions f;
  unsigned n = 0;
  f.lie = [&n](const std::string&, const std::string&, FakeReply& r) {
    if (r.status != 202 || r.replayed || ++n != 20) return;
    r.status = 201;
    replace(r.body, "waiting", "reserved");
  };
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_EQ(o.found("kept"), 1U) << o.all();
  EXPECT_EQ(o.found("no_passing"), 1U);
}

TEST(Lies, RepeatIsAnsweredDifferently) {
  FakeOptions f;
  f.lie = [](const std::string&, const std::string&, FakeReply& r) {
    if (r.replayed) replace(r.body, "\"position\":", "\"position\":1");
  };
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_GT(o.found("repeats"), 100U);
}

TEST(Lies, RepeatIsDecidedAgain) {
  FakeOptions f;
  f.lie = [](const std::string&, const std::string&, FakeReply& r) { r.replayed = false; };
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_GT(o.found("repeats"), 100U);
}

TEST(Lies, AcknowledgedPurchaseIsForgotten) {
  FakeOptions f;
  f.lie = [](const std::string& method, const std::string& target, FakeReply& r) {
    if (method == "GET" && target.starts_with("/v1/purchases/demo:3?")) r = {404, "{}", {}, false};
  };
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_EQ(o.found("kept"), 1U) << o.all();
}

TEST(Lies, SaleDocumentHidesAnOversale) {
  FakeOptions f;
  f.lie = [](const std::string& method, const std::string& target, FakeReply& r) {
    if (method == "GET" && target.starts_with("/v1/sales/demo?")) {
      replace(r.body, "\"sold\":10", "\"sold\":9");
      replace(r.body, "\"available\":0", "\"available\":1");
    }
  };
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_EQ(o.found("tally"), 1U) << o.all();
}

TEST(Lies, ListingLacksAPurchase) {
  FakeOptions f;
  f.lie = [](const std::string& method, const std::string& target, FakeReply& r) {
    if (method == "GET" && target.find("?customer=") != std::string::npos) {
      r.body = R"({"purchases":[],"position":1})";
    }
  };
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_GT(o.found("listing"), 5U);
}

TEST(Lies, UnknownAnswerIsNotTakenForOne) {
  FakeOptions f;
  f.lie = [](const std::string&, const std::string&, FakeReply& r) {
    if (r.status == 403) r = {418, "{}", {}, r.replayed};
  };
  FakeServer server(f);
  const Outcome o = rush(server, small());
  EXPECT_LT(answered(o), 400U);
  EXPECT_GT(o.report.unexpected.count(418), 0U);
}

}  // namespace
}  // namespace fairsale::rush
