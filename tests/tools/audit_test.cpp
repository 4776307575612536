#include "tools/audit/audit.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/log/memory_log.hpp"
#include "tests/log/support.hpp"
#include "tools/audit/report.hpp"

namespace fairsale::audit {
namespace {

using fairsale::testing::Chain;
using fairsale::testing::TempDir;

struct AuditTest : ::testing::Test {
  SaleReport audit(std::vector<SavedHead> saved = {}) {
    const StoreTasks wanted{.skus = {}, .saved = std::move(saved), .snapshots = files.all()};
    const auto plan = plan_audit(log, wanted);
    EXPECT_TRUE(plan);
    auto reports =
        audit_store(log, files, plan->tasks, {.fairness = true, .jobs = 2, .progress = {}});
    EXPECT_EQ(reports.size(), 1U);
    return std::move(reports.at(0));
  }
  SavedHead saved() {
    return {"sneaker-1", chain.head().seq, chain.head().digest,
            state_digest(fairsale::testing::fold(chain))};
  }
  void grow(unsigned events) { fairsale::testing::commit(log, {chain.block(events)}); }

  TempDir directory;
  SnapshotFiles files{directory / "snapshots", true};
  MemoryLog log;
  Chain chain{"sneaker-1"};
};

TEST_F(AuditTest, TellsWhereASaleStands) {
  grow(3);
  grow(5);
  ASSERT_TRUE(files.put(chain.sku(), chain.head(), fairsale::testing::fold(chain)));
  grow(2);
  const SaleReport r = audit({saved()});
  EXPECT_TRUE(r.sound());
  EXPECT_TRUE(r.fair());
  EXPECT_EQ(r.sku, "sneaker-1");
  EXPECT_EQ(r.head, chain.head());
  EXPECT_EQ(r.state, saved().state);
  EXPECT_EQ(r.events, 10U);
  EXPECT_EQ(r.blocks, 3U);
  EXPECT_EQ(r.snapshots, 1U);
  EXPECT_EQ(r.saved_heads, 1U);
  EXPECT_EQ(r.fairness->attempts, 9U);
}

TEST_F(AuditTest, SavedStateThatTheEventsDoNotLeadToIsNamed) {
  grow(4);
  SavedHead other = saved();
  other.state.bytes[0] ^= std::byte{1};
  const SaleReport r = audit({other});
  ASSERT_EQ(r.divergences.size(), 1U);
  EXPECT_EQ(r.divergences[0].check, Check::saved_head);
  EXPECT_EQ(r.divergences[0].seq, Seq{4});
  EXPECT_NE(r.divergences[0].found.find(to_hex(r.state)), std::string::npos);
}

TEST_F(AuditTest, HeadInsideABlockIsOfAnotherHistory) {
  grow(4);
  const SavedHead early = saved();
  grow(4);
  SavedHead inside = saved();
  inside.position = Seq{6};
  const SaleReport r = audit({early, inside, saved()});
  ASSERT_EQ(r.divergences.size(), 1U);
  EXPECT_EQ(r.divergences[0].seq, Seq{6});
  EXPECT_EQ(r.divergences[0].from, Seq{5});
}

TEST_F(AuditTest, SaleUnderAnothersIdIsNamed) {
  Chain honest("other");
  BlockBuilder builder;
  builder.begin(honest.sku(), Head{}, Timestamp{1}, Epoch{1});
  ASSERT_TRUE(builder.add(fairsale::testing::scheduled("sneaker-1")));
  Head head;
  const auto bytes = builder.finish(head);
  fairsale::testing::commit(log, {{honest.sku(), Seq{1}, head, bytes}});
  const SaleReport r = audit();
  ASSERT_EQ(r.divergences.size(), 1U);
  EXPECT_EQ(r.divergences[0].check, Check::name);
}

TEST_F(AuditTest, WhatLiesBehindTheDamageIsNotCompared) {
  struct Broken : MemoryLog {
    Result<void> read(SkuId, Seq, const std::function<bool(const BlockView&)>&) const override {
      return fail(Fault::damaged, "the block is gone");
    }
  } broken;
  fairsale::testing::commit(broken, {chain.block(3)});
  ASSERT_TRUE(files.put(chain.sku(), chain.head(), fairsale::testing::fold(chain)));
  const auto plan =
      plan_audit(broken, {.skus = {"sneaker-1"}, .saved = {saved()}, .snapshots = files.all()});
  ASSERT_TRUE(plan);
  const SaleReport r = audit_sale(broken, files, plan->tasks.at(0), {});
  ASSERT_EQ(r.divergences.size(), 1U);
  EXPECT_EQ(r.divergences[0].seq, Seq{1});
  EXPECT_EQ(r.divergences[0].found, "the block is gone");
  EXPECT_EQ(r.not_compared, 2U);
  EXPECT_EQ(r.sku, "sneaker-1");
}

TEST_F(AuditTest, ADiskThatFailsIsNoDivergence) {
  struct Failing : MemoryLog {
    Result<void> read(SkuId, Seq, const std::function<bool(const BlockView&)>&) const override {
      return fail(Fault::io, "the disk is on fire");
    }
  } failing;
  fairsale::testing::commit(failing, {chain.block(3)});
  const auto plan = plan_audit(failing, {});
  ASSERT_TRUE(plan);
  const SaleReport r = audit_sale(failing, files, plan->tasks.at(0), {});
  EXPECT_TRUE(r.divergences.empty());
  EXPECT_FALSE(r.sound());
  ASSERT_TRUE(r.failure);
  EXPECT_EQ(r.failure->message, "the disk is on fire");
}

TEST_F(AuditTest, OfManySavedHeadsAllAreComparedWithTheChain) {
  std::vector<SavedHead> all;
  for (int i = 0; i < 40; ++i) {
    grow(2);
    all.push_back(saved());
  }
  EXPECT_EQ(audit(all).saved_heads, 40U);
  all[3].head.bytes[7] ^= std::byte{1};
  const SaleReport r = audit(all);
  ASSERT_EQ(r.divergences.size(), 1U);
  EXPECT_EQ(r.divergences[0].seq, Seq{8});
  EXPECT_EQ(r.divergences[0].from, Seq{7});
}

TEST_F(AuditTest, NamedSaleThatIsNowhereIsNotFound) {
  grow(1);
  const auto plan = plan_audit(log, {.skus = {"nobody"}, .saved = {}, .snapshots = {}});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().fault, Fault::not_found);
}

TEST_F(AuditTest, ReportsCarryTextFromOutsideSafely) {
  grow(2);
  StoreReport report{.store = "<b>\x01\xff\"&'</b>",
                     .program = "p",
                     .fairness = true,
                     .damage = {},
                     .sales = {},
                     .seconds = 0};
  report.sales.push_back(audit());
  report.sales[0].fairness->interventions.push_back({.seq = Seq{1},
                                                     .at = {},
                                                     .what = "w",
                                                     .effect = "e",
                                                     .actor = *Actor::from("</td><script>"),
                                                     .why = *Why::from("\x1b[31m")});
  report.sales[0].fairness->interventions_found = 1;
  const std::string html = to_html(report);
  EXPECT_NE(html.find("&lt;b&gt;\xef\xbf\xbd\xef\xbf\xbd&quot;&amp;&#39;&lt;/b&gt;"),
            std::string::npos);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find('\x1b'), std::string::npos);
  EXPECT_EQ(to_text(report).find('\x1b'), std::string::npos);
  EXPECT_EQ(to_json(report).find('\x1b'), std::string::npos);
}

TEST(SavedHeads, AreOnePerLine) {
  const std::string digest(64, 'a');
  const std::string line = fmt::format(
      R"({{"sku":"demo","position":7,"head":"{0}","state_digest":"{0}","more":[1,{{}}]}})", digest);
  const auto heads = parse_saved_heads(line + "\r\n\n  \n" + line);
  ASSERT_TRUE(heads) << heads.error().message;
  ASSERT_EQ(heads->size(), 2U);
  EXPECT_EQ((*heads)[1].sku, "demo");
  EXPECT_EQ((*heads)[1].position, Seq{7});
  EXPECT_EQ(to_hex((*heads)[1].head), digest);
}

TEST(SavedHeads, WhatIsNoneIsRefusedByItsLine) {
  const std::string digest(64, 'a');
  const std::string good =
      fmt::format(R"({{"sku":"demo","position":7,"head":"{0}","state_digest":"{0}"}})", digest);
  for (const std::string& bad :
       {std::string("{"), std::string("[]"), std::string("7"), std::string(R"({"sku":"demo"})"),
        fmt::format(R"({{"sku":"demo","position":-7,"head":"{0}","state_digest":"{0}"}})", digest),
        fmt::format(R"({{"sku":"demo","position":0,"head":"{0}","state_digest":"{0}"}})", digest),
        fmt::format(R"({{"sku":"demo","position":7,"head":"{0}b","state_digest":"{0}"}})", digest),
        fmt::format(R"({{"sku":"demo","position":7,"head":"{0}","state_digest":"+{1}"}})", digest,
                    std::string(63, 'a'))}) {
    const auto heads = parse_saved_heads(good + "\n" + bad);
    ASSERT_FALSE(heads) << bad;
    EXPECT_EQ(heads.error().fault, Fault::invalid);
    EXPECT_NE(heads.error().message.find("line 2"), std::string::npos);
  }
  EXPECT_FALSE(parse_saved_heads("\n\n"));
}

}  // namespace
}  // namespace fairsale::audit
