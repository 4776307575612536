#include "projections/audit/audit.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <new>

#include "core/log/memory_log.hpp"
#include "tests/log/support.hpp"
#include "tools/audit/report.hpp"

namespace fairsale::audit {
namespace {

using fairsale::testing::Chain;
using fairsale::testing::TempDir;

using Writer = Result<void>(const StoreReport&, std::string&, const Pass&);

std::string all_of(Writer& write, const StoreReport& report) {
  std::string out;
  EXPECT_TRUE(write(report, out, [] { return Result<void>{}; }));
  return out;
}

// What a program that reads it piece by piece gets.
std::string in_pieces(Writer& write, const StoreReport& report) {
  std::string out;
  std::string all;
  EXPECT_TRUE(write(report, out, [&] {
    all += out;
    out.clear();
    return Result<void>{};
  }));
  return all + out;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// A log of which only the first blocks are known to be durable, as beside a running server.
struct Provisional : MemoryLog {
  Result<std::vector<SkuHead>> durable_heads() const override {
    auto all = heads();
    for (SkuHead& h : *all) h.head = durable;
    return all;
  }
  Head durable;
};

struct AuditTest : ::testing::Test {
  SaleReport audit(std::vector<SavedHead> saved = {}) {
    const StoreTasks wanted{.skus = {}, .saved = std::move(saved), .snapshots = files.all()};
    const auto plan = plan_audit(log, wanted);
    EXPECT_TRUE(plan);
    std::vector<SaleReport> reports;
    EXPECT_TRUE(audit_store(log, files, plan->tasks, {.fairness = true, .jobs = 2, .progress = {}},
                            [&reports](SaleReport&& r) { reports.push_back(std::move(r)); }));
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
  EXPECT_EQ(r.state, *saved().state);
  EXPECT_TRUE(r.complete);
  EXPECT_EQ(r.events, 10U);
  EXPECT_EQ(r.blocks, 3U);
  EXPECT_EQ(r.snapshots, 1U);
  EXPECT_EQ(r.saved_heads, 1U);
  EXPECT_EQ(r.fairness->attempts, 9U);
}

TEST_F(AuditTest, SavedStateThatTheEventsDoNotLeadToIsNamed) {
  grow(4);
  SavedHead other = saved();
  other.state->bytes[0] ^= std::byte{1};
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

TEST_F(AuditTest, GoesAsFarAsTheLogIsDurable) {
  Provisional live;
  fairsale::testing::commit(live, {chain.block(3)});
  live.durable = chain.head();
  const SavedHead early = saved();
  fairsale::testing::commit(live, {chain.block(4)});
  const auto plan = plan_audit(live, {.skus = {}, .saved = {early}, .snapshots = {}});
  ASSERT_TRUE(plan);
  const SaleReport r = audit_sale(live, files, plan->tasks.at(0), {.fairness = true});
  EXPECT_TRUE(r.sound());
  EXPECT_TRUE(r.complete);
  EXPECT_EQ(r.head, live.durable);
  EXPECT_EQ(r.state, *early.state);
  EXPECT_EQ(r.events, 3U);
  EXPECT_EQ(r.provisional, Seq{7});
  EXPECT_EQ(r.saved_heads, 1U);
  StoreReport report;
  report.add(r);
  EXPECT_TRUE(has(all_of(write_text, report), "goes on to position 7, provisionally"));
  EXPECT_TRUE(has(all_of(write_json, report), "\"provisional_to\":7"));
  EXPECT_TRUE(has(all_of(write_html, report), "goes on to position 7, provisionally"));
}

// Whoever saved the head was given it by the server, which gives none that is not durable.
TEST_F(AuditTest, ASavedHeadVouchesForWhatIsProvisional) {
  Provisional live;
  fairsale::testing::commit(live, {chain.block(3)});
  live.durable = chain.head();
  fairsale::testing::commit(live, {chain.block(4)});
  SavedHead late = saved();
  for (const bool forged : {false, true}) {
    if (forged) late.head.bytes[0] ^= std::byte{1};
    const auto plan = plan_audit(live, {.skus = {}, .saved = {late}, .snapshots = {}});
    ASSERT_TRUE(plan);
    const SaleReport r = audit_sale(live, files, plan->tasks.at(0), {});
    EXPECT_EQ(r.sound(), !forged);
    EXPECT_EQ(r.head.seq, Seq{7});
    EXPECT_EQ(r.provisional, Seq{0});
  }
}

TEST_F(AuditTest, NothingDurableIsNothingToAudit) {
  Provisional live;
  fairsale::testing::commit(live, {chain.block(3)});
  const auto plan = plan_audit(live, {});
  ASSERT_TRUE(plan);
  const SaleReport r = audit_sale(live, files, plan->tasks.at(0), {});
  EXPECT_TRUE(r.sound());
  EXPECT_EQ(r.events, 0U);
  EXPECT_EQ(r.provisional, Seq{3});
}

// The log ends in damage after its second block.
struct Cut : MemoryLog {
  Result<void> read(SkuId sku, Seq from,
                    const std::function<bool(const BlockView&)>& visit) const override {
    unsigned n = 0;
    const auto done =
        MemoryLog::read(sku, from, [&](const BlockView& b) { return ++n <= 2 ? visit(b) : false; });
    return done && n > 2 ? fail(fault, "gone") : done;
  }
  Fault fault = Fault::damaged;
};

TEST_F(AuditTest, FairIsSaidOnlyAsFarAsTheLogWasRead) {
  for (const Fault fault : {Fault::damaged, Fault::io}) {
    Cut cut;
    cut.fault = fault;
    Chain sale("sneaker-1");
    for (int i = 0; i < 3; ++i) fairsale::testing::commit(cut, {sale.block(2)});
    const auto plan = plan_audit(cut, {});
    ASSERT_TRUE(plan);
    StoreReport report;
    report.fairness = true;
    report.add(audit_sale(cut, files, plan->tasks.at(0), {.fairness = true}));
    report.finish();
    EXPECT_FALSE(report.sound());
    EXPECT_FALSE(report.fair());
    EXPECT_EQ(report.found_wrong(), fault == Fault::damaged);
    const std::string text = all_of(write_text, report);
    EXPECT_TRUE(has(text, "fair as far as position 4")) << text;
    EXPECT_FALSE(has(text, "all fair")) << text;
    const std::string json = all_of(write_json, report);
    EXPECT_TRUE(has(json, "\"sound\":false,\"fair\":null")) << json;
    EXPECT_TRUE(has(json, "\"fairness\":{\"fair\":null,\"as_far_as\":4")) << json;
    EXPECT_TRUE(
        has(json, fault == Fault::damaged ? "\"outcome\":\"diverges\"" : "\"outcome\":\"failed\""));
    EXPECT_TRUE(has(all_of(write_html, report), "every promise was kept as far as position 4"));
  }
}

TEST_F(AuditTest, MemoryThatRunsOutIsAFailure) {
  struct Hungry : MemoryLog {
    Result<void> read(SkuId sku, Seq from,
                      const std::function<bool(const BlockView&)>& visit) const override {
      if (sku == sku_id("sneaker-1")) throw std::bad_alloc();
      return MemoryLog::read(sku, from, visit);
    }
  } hungry;
  Chain other("other");
  fairsale::testing::commit(hungry, {chain.block(3)});
  fairsale::testing::commit(hungry, {other.block(2)});
  const auto plan = plan_audit(hungry, {});
  ASSERT_TRUE(plan);
  StoreReport report;
  ASSERT_TRUE(audit_store(hungry, files, plan->tasks, {.fairness = true, .jobs = 2, .progress = {}},
                          [&report](SaleReport&& r) { report.add(std::move(r)); }));
  report.finish();
  ASSERT_EQ(report.audited(), 2U);
  EXPECT_EQ(report.unread(), 1U);
  ASSERT_TRUE(report.sales()[0].failure);
  EXPECT_TRUE(has(report.sales()[0].failure->message, "memory"));
  EXPECT_TRUE(report.sales()[1].sound());

  EXPECT_FALSE(
      audit_store(hungry, files, plan->tasks, {}, [](SaleReport&&) { throw std::bad_alloc(); }));
}

TEST_F(AuditTest, OneThatIsBrokenOffBeginsNoFurtherSale) {
  for (int i = 0; i < 20; ++i) {
    Chain sale("sale-" + std::to_string(i));
    fairsale::testing::commit(log, {sale.block(3)});
  }
  const auto plan = plan_audit(log, {});
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->tasks.size(), 20U);
  std::vector<SaleReport> reports;
  ASSERT_TRUE(audit_store(log, files, plan->tasks,
                          {.progress = {}, .go_on = [&] { return reports.size() < 3; }},
                          [&](SaleReport&& r) { reports.push_back(std::move(r)); }));
  EXPECT_EQ(reports.size(), 3U);
}

TEST_F(AuditTest, CountsThatDifferAreShown) {
  const Counters decided{Quantity{9}, Quantity{4}, Quantity{3}, Quantity{2}, 0};
  Counters sale = decided;
  sale.waiting = 7;
  const Divergence d = counts_differ(Seq{5}, decided, sale);
  EXPECT_EQ(d.seq, Seq{5});
  EXPECT_EQ(d.expected,
            "what the decisions add up to, stock 9 = free 4 + held 3 + sold 2, 0 waiting");
  EXPECT_EQ(d.found, "stock 9 = free 4 + held 3 + sold 2, 7 waiting");
}

TEST_F(AuditTest, DivergencesBeyondThoseThatAreKeptAreCounted) {
  grow(1);
  SavedHead other = saved();
  other.head.bytes[0] ^= std::byte{1};
  const SaleReport r = audit(std::vector<SavedHead>(130, other));
  EXPECT_EQ(r.divergences.size(), 100U);
  EXPECT_EQ(r.divergences_found, 130U);
  StoreReport report;
  report.add(r);
  EXPECT_TRUE(has(all_of(write_text, report), "and 30 more"));
  EXPECT_TRUE(has(all_of(write_json, report), "\"divergences_found\":130"));
  EXPECT_TRUE(has(all_of(write_html, report), "The first 100 of 130."));
}

// Details of a bounded number of sales; none in which something is wrong gives way to a sound one.
TEST_F(AuditTest, OfVeryManySalesTheUnsoundAreToldInFull) {
  StoreReport report;
  report.fairness = true;
  constexpr std::size_t kMany = 3 * StoreReport::kMostDetailed;
  for (std::size_t i = 0; i < kMany; ++i) {
    SaleReport r;
    r.number = i;
    r.sku = fmt::format("sale-{:04}", i);
    r.complete = true;
    r.fairness.emplace();
    if (i % 50 == 49) {
      r.divergences.push_back({Check::block, Seq{i}, Seq{i}, "one thing", "another"});
      r.divergences_found = 1;
    }
    report.add(std::move(r));
  }
  report.finish();
  ASSERT_EQ(report.sales().size(), StoreReport::kMostDetailed);
  EXPECT_EQ(report.audited(), kMany);
  EXPECT_EQ(report.diverging(), 6U);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(report.sales()[i].sku, fmt::format("sale-{:04}", 50 * i + 49));
  }
  for (const SaleSummary& s : report.others()) EXPECT_FALSE(s.troubled());
  for (Writer* write : {write_text, write_json, write_html}) {
    const std::string all = all_of(*write, report);
    EXPECT_EQ(all, in_pieces(*write, report));
    for (std::size_t i = 0; i < kMany; ++i) EXPECT_TRUE(has(all, fmt::format("sale-{:04}", i)));
  }
}

TEST_F(AuditTest, PromisesBrokenAreCountedBeyondTheBreachesKept) {
  grow(2);
  SaleReport r = audit();
  r.fairness->breaches.assign(100, {.promise = Promise::hold_kept});
  r.fairness->breaches_found = 4'321;
  r.fairness->broken[static_cast<std::size_t>(Promise::hold_kept)] = 1'320;
  r.fairness->broken[static_cast<std::size_t>(Promise::same_answer)] = 3'001;
  StoreReport report;
  report.fairness = true;
  report.add(r);
  const std::string html = all_of(write_html, report);
  EXPECT_TRUE(has(html, "broken, 1,320 found"));
  EXPECT_TRUE(has(html, "broken, 3,001 found"));
  EXPECT_TRUE(has(all_of(write_json, report), R"("hold_kept":1320)"));
}

// One thing wrong outweighs another that could not be read.
TEST_F(AuditTest, WhatIsWrongIsToldBeforeWhatWasNotRead) {
  StoreReport report;
  SaleReport wrong;
  wrong.divergences_found = 1;
  SaleReport unread;
  unread.failure = Error{Fault::io, "the disk is on fire"};
  report.add(unread);
  EXPECT_FALSE(report.sound());
  EXPECT_FALSE(report.found_wrong());
  EXPECT_TRUE(has(all_of(write_json, report), R"("outcome":"failed","sound":false)"));
  report.add(wrong);
  EXPECT_TRUE(report.found_wrong());
  EXPECT_TRUE(has(all_of(write_json, report), R"("outcome":"diverges","sound":false)"));
}

TEST_F(AuditTest, NamedSaleThatIsNowhereIsNotFound) {
  grow(1);
  const auto plan = plan_audit(log, {.skus = {"nobody"}, .saved = {}, .snapshots = {}});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().fault, Fault::not_found);
}

TEST_F(AuditTest, ReportsCarryTextFromOutsideSafely) {
  grow(2);
  StoreReport report;
  report.store = "<b>\x01\xff\"&'</b>";
  report.program = "p";
  report.fairness = true;
  SaleReport r = audit();
  r.fairness->interventions.push_back({.seq = Seq{1},
                                       .at = {},
                                       .what = "w",
                                       .effect = "e",
                                       .actor = *Actor::from("</td><script>"),
                                       .why = *Why::from("\x1b[31m")});
  r.fairness->interventions_found = 1;
  report.add(std::move(r));
  const std::string html = all_of(write_html, report);
  EXPECT_NE(html.find("&lt;b&gt;\xef\xbf\xbd\xef\xbf\xbd&quot;&amp;&#39;&lt;/b&gt;"),
            std::string::npos);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find('\x1b'), std::string::npos);
  EXPECT_EQ(all_of(write_text, report).find('\x1b'), std::string::npos);
  EXPECT_EQ(all_of(write_json, report).find('\x1b'), std::string::npos);
}

TEST(SavedHeads, AreOnePerLine) {
  const std::string digest(64, 'a');
  const std::string line = fmt::format(
      R"({{"sku":"demo","position":7,"head":"{0}","state_digest":"{0}","more":[1,{{}}]}})", digest);
  const auto heads = parse_saved_heads(line + "\r\n\n  \n" + line);
  ASSERT_TRUE(heads) << heads.error().message;
  ASSERT_EQ(heads->heads.size(), 2U);
  EXPECT_EQ(heads->heads[1].sku, "demo");
  EXPECT_EQ(heads->heads[1].position, Seq{7});
  EXPECT_EQ(to_hex(heads->heads[1].head), digest);
  EXPECT_EQ(to_hex(*heads->heads[1].state), digest);
  EXPECT_TRUE(heads->passed_over.empty());
}

// As `fairsale backup --heads` writes them, of a store in which one sale has no event yet and the
// name of another cannot be read.
TEST(SavedHeads, OfABackupHaveNoState) {
  const std::string digest(64, 'a');
  const auto line = [&digest](std::string_view sku, unsigned position) {
    return fmt::format("{{\"sku\":\"{}\",\"position\":{},\"head\":\"{}\"}}\n", sku, position,
                       digest);
  };
  const auto heads = parse_saved_heads(line("demo", 7) + line("empty", 0) + line("", 3));
  ASSERT_TRUE(heads) << heads.error().message;
  ASSERT_EQ(heads->heads.size(), 1U);
  EXPECT_FALSE(heads->heads[0].state);
  ASSERT_EQ(heads->passed_over.size(), 2U);
  EXPECT_TRUE(has(heads->passed_over[0], "line 2 "));
  EXPECT_TRUE(has(heads->passed_over[1], "line 3 "));
}

TEST_F(AuditTest, AHeadWithoutAStateIsComparedWithTheChain) {
  grow(4);
  SavedHead head = saved();
  head.state.reset();
  EXPECT_TRUE(audit({head}).sound());
  head.head.bytes[0] ^= std::byte{1};
  EXPECT_FALSE(audit({head}).sound());
}

TEST(SavedHeads, WhatIsNoneIsRefusedByItsLine) {
  const std::string digest(64, 'a');
  const std::string good =
      fmt::format(R"({{"sku":"demo","position":7,"head":"{0}","state_digest":"{0}"}})", digest);
  for (const std::string& bad :
       {std::string("{"), std::string("[]"), std::string("7"), std::string(R"({"sku":"demo"})"),
        fmt::format(R"({{"sku":"demo","position":-7,"head":"{0}","state_digest":"{0}"}})", digest),
        fmt::format(R"({{"sku":"demo","position":7,"head":"{0}","state_digest":7}})", digest),
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
