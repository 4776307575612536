// How fast an audit goes: makes a store of one sale with as many events as asked for, and audits
// it on one core.
//
//   audit_bench [EVENTS] [DIRECTORY]   default 2,000,000, in a temporary directory
//
// Run by hand; not part of the tests. The sale is a rush: most attempts find the line full, one in
// ten of those who got units lets them expire.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <deque>

#include "core/log/rocks_log.hpp"
#include "projections/audit/audit.hpp"
#include "tests/engine/shop.hpp"
#include "tests/log/support.hpp"

namespace {

using namespace fairsale;

// Appends a sale of `events` events in blocks of a few hundred.
void make_store(const std::filesystem::path& directory, std::uint64_t events) {
  const auto log = fairsale::testing::open_log(directory);
  const SkuId sku = sku_id("bench");
  Terms terms = test::terms(static_cast<std::uint32_t>(std::max<std::uint64_t>(1, events / 10)));
  terms.line_limit = static_cast<std::uint32_t>(events / 20 + 1);
  struct Keep final : DecisionSink {
    void on(const Decision& d) override {
      if (d.kind == DecisionKind::reserved || d.kind == DecisionKind::offered) {
        held.push_back(d.purchase);
      }
    }
    std::deque<Seq> held;
  } keep;
  Sale sale;
  Head head;
  BlockBuilder builder;
  std::uint64_t customer = 0;
  for (Seq seq{1}; seq.value <= events;) {
    const Timestamp now{test::kOpening.value + static_cast<std::int64_t>(seq.value / 20)};
    const Seq first = seq;
    builder.begin(sku, head, now, Epoch{1});
    for (unsigned i = 0; i < 400 && seq.value <= events; ++i, ++seq.value) {
      Event event = test::attempt(fmt::format("customer-{:09}", customer), "k");
      if (seq == Seq{1}) {
        event = SaleScheduled{
            .sku = *SkuName::from("bench"), .terms = terms, .actor = *Actor::from("ops")};
      } else if (seq.value % 4 == 0 && !keep.held.empty()) {
        event = PaymentReceived{.purchase = keep.held.front(),
                                .reference = *PaymentReference::from("pay"),
                                .amount = terms.price};
        keep.held.pop_front();
        if (seq.value % 40 == 0 && !keep.held.empty()) keep.held.pop_front();
      } else {
        event = test::attempt(fmt::format("customer-{:09}", customer++), "k");
      }
      builder.add(event);
      sale.apply(seq, now, event, keep);
    }
    const auto bytes = builder.finish(head);
    fairsale::testing::commit(*log, {BlockWrite{sku, first, head, bytes}});
  }
  if (!log->put_snapshot(sku, head, sale)) std::abort();
}

void measure(const std::filesystem::path& directory, bool fairness) {
  const SnapshotFiles files(directory / "snapshots", false);
  audit::StoreTasks wanted{.skus = {}, .saved = {}, .snapshots = files.all()};
  RecoveryReport recovery;
  const auto log = open_rocks_log({.directory = directory, .mode = OpenMode::read_only}, recovery);
  if (!log) std::abort();
  const auto plan = audit::plan_audit(**log, wanted);
  if (!plan) std::abort();
  // One job works on this thread, and a busy machine does not count.
  const std::clock_t start = std::clock();
  const auto tell = [&](audit::SaleReport&& r) {
    const double cpu = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    fmt::print("{:<18} {} events in {:.3f} s, {:.3f} s of CPU, {:.2f} M events/s of CPU{}{}\n",
               fairness ? "audit --fairness" : "audit", r.events, r.seconds, cpu,
               static_cast<double>(r.events) / cpu / 1e6, r.sound() ? "" : ", DIVERGES",
               r.unfair() ? ", NOT FAIR" : "");
  };
  if (!audit::audit_store(**log, files, plan->tasks,
                          {.fairness = fairness, .jobs = 1, .progress = {}}, tell)) {
    std::abort();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t events = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2'000'000;
  fairsale::testing::TempDir temporary;
  const std::filesystem::path directory =
      argc > 2 ? std::filesystem::path(argv[2]) : temporary / "data";
  if (!std::filesystem::exists(directory)) make_store(directory, events);
  for (int i = 0; i < 3; ++i) measure(directory, false);
  measure(directory, true);
}
