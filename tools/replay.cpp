// fairsale replay: folds stored logs from their first event and says where they lead.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <utility>

#include "core/domain/sale.hpp"
#include "core/engine/recovery.hpp"
#include "core/log/digest.hpp"
#include "tools/cli.hpp"
#include "tools/store/fold_progress.hpp"
#include "tools/store/output.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace {

struct ReplayOptions {
  std::string directory;
  std::vector<std::string> skus;
  std::uint64_t until = 0;
  bool json = false;
  bool scan_only = false;
};

struct Replayed {
  Sale sale;
  Digest head;        // of the last block that was folded whole
  bool whole = true;  // the head is that of the sale's position
  double seconds = 0;
};

Seq last_of(const ReplayOptions& o) { return Seq{o.until == 0 ? ~std::uint64_t{0} : o.until}; }

// Folds a SKU's log up to `until`. Fails at the first damage, naming the position.
Result<Replayed> replay(const EventLog& log, const SkuHead& expected, Seq until,
                        SaleObserver* observer) {
  const auto start = std::chrono::steady_clock::now();
  auto folded = fold(log, expected, FoldFrom::start, observer, until);
  if (!folded) return tl::unexpected(folded.error());
  Replayed r{.sale = std::move(folded->sale),
             .head = folded->head.digest,
             .whole = folded->head.seq == folded->sale.seq(),
             .seconds = 0};
  r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (const auto wrong = r.sale.check()) {
    return fail(Fault::damaged,
                fmt::format("SKU {} ({:016x}): the state at seq {} breaks an "
                            "invariant: {}",
                            r.sale.sku(), expected.sku.value, r.sale.seq().value, *wrong));
  }
  return r;
}

// Checks the blocks and their chain without a look at what is in them.
Result<double> scan(const EventLog& log, const SkuHead& expected, Progress& progress) {
  const auto start = std::chrono::steady_clock::now();
  Digest head;
  const auto done = log.read(expected.sku, Seq{1}, [&](const BlockView& block) {
    head = block.digest();
    progress.add(block.header().count);
    return true;
  });
  if (!done) return tl::unexpected(done.error());
  if (head != expected.head.digest) {
    return fail(Fault::damaged, fmt::format("SKU {:016x}: the chain ends in {}, not in its head",
                                            expected.sku.value, to_hex(head)));
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string rate_of(std::uint64_t events, double seconds) {
  return grouped(static_cast<std::uint64_t>(static_cast<double>(events) / std::max(seconds, 1e-9)));
}

std::string text_of(const SkuHead& id, bool provisional, const Replayed& r) {
  const Counters& c = r.sale.counters();
  return fmt::format(
      "sku {}  id {:016x}\n"
      "  position  {}{}\n"
      "  head      {}{}\n"
      "  state     {}\n"
      "  sale      {}, stock {} = available {} + held {} + sold {}; waiting {}; {} purchases by {} "
      "customers\n"
      "  folded    {} events in {:.3f} s, {}/s\n",
      r.sale.sku(), id.sku.value, r.sale.seq().value, provisional ? "  (provisional)" : "",
      to_hex(r.head), r.whole ? "" : "  (of the last whole block)", to_hex(state_digest(r.sale)),
      name_of(r.sale.phase()), c.stocked.value, c.available.value, c.held.value, c.sold.value,
      c.waiting, grouped(r.sale.purchases()), grouped(r.sale.customers()),
      grouped(r.sale.seq().value), r.seconds, rate_of(r.sale.seq().value, r.seconds));
}

std::string json_of(bool provisional, const Replayed& r) {
  const Counters& c = r.sale.counters();
  return fmt::format(
      R"({{"sku":{},"position":{},"provisional":{},"head":"{}","head_is_of_position":{},"state_digest":"{}",)"
      R"("state":"{}","stock":{},"available":{},"held":{},"sold":{},"waiting":{},)"
      R"("purchases":{},"customers":{},"seconds":{:.6f}}})",
      json_string(r.sale.sku()), r.sale.seq().value, provisional, to_hex(r.head), r.whole,
      to_hex(state_digest(r.sale)), name_of(r.sale.phase()), c.stocked.value, c.available.value,
      c.held.value, c.sold.value, c.waiting, r.sale.purchases(), r.sale.customers(), r.seconds);
}

Result<std::string> scanned(const Store& store, const SkuHead& head, Seq durable,
                            const ReplayOptions& o, Progress& progress) {
  const auto seconds = scan(*store.log, head, progress);
  if (!seconds) return tl::unexpected(seconds.error());
  const std::uint64_t events = head.head.seq.value;
  const bool provisional = head.head.seq > durable;
  if (o.json) {
    return fmt::format(R"({{"id":"{:016x}","position":{},"provisional":{},"seconds":{:.6f}}})",
                       head.sku.value, events, provisional, *seconds);
  }
  return fmt::format("id {:016x}  {} events in {:.3f} s, {}/s{}\n", head.sku.value, grouped(events),
                     *seconds, rate_of(events, *seconds), provisional ? "  (provisional)" : "");
}

Result<std::string> replayed(const Store& store, const SkuHead& head, Seq durable,
                             const ReplayOptions& o, SaleObserver* observer) {
  const auto r = replay(*store.log, head, last_of(o), observer);
  if (!r) return tl::unexpected(r.error());
  const bool provisional = r->sale.seq() > durable;
  return o.json ? json_of(provisional, *r) : text_of(head, provisional, *r);
}

Result<int> run_replay(const ReplayOptions& o) {
  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto heads = choose(*store, o.skus);
  if (!heads) return tl::unexpected(heads.error());
  std::uint64_t total = 0;
  for (const SkuHead& head : *heads) total += std::min(last_of(o), head.head.seq).value;

  Progress progress("events", total);
  FoldProgress observer(progress);
  Output out(stdout);
  int code = kOk;
  bool first = true;
  if (o.json) out.text() += R"({"sales":[)";
  for (const SkuHead& head : *heads) {
    const auto durable = durable_seq(*store, head.sku);
    if (!durable) return tl::unexpected(durable.error());
    auto text = o.scan_only ? scanned(*store, head, *durable, o, progress)
                            : replayed(*store, head, *durable, o, observer.if_visible());
    if (!text) {
      progress.hide();
      code = worse(code, complain(text.error()));
      continue;
    }
    if (o.json && !std::exchange(first, false)) out.text() += ',';
    out.text() += *text;
    if (out.is_due()) progress.hide();
    if (auto ok = out.pass(); !ok) return worse(code, complain(ok.error()));
  }
  progress.hide();
  if (o.json) out.text() += "]}\n";
  if (auto ok = out.flush(); !ok) return worse(code, complain(ok.error()));
  return code;
}

}  // namespace

void add_replay(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<ReplayOptions>();
  CLI::App* c = app.add_subcommand(
      "replay",
      "Folds the logs in a data directory from their first event, checking the chain, "
      "the positions and the invariants; works beside a running server");
  c->footer(
      "The state digest equals that of GET /v1/sales/{sku}/audit-head at the same position.\n"
      "Exit codes: 0 everything checks out; 1 damage, named by SKU and seq, whatever else\n"
      "failed; 2 usage; 3 I/O, or a newer fairsale wrote it. What a crash could still take back, "
      "since\nit is not on record as acknowledged, is marked provisional.");
  c->add_option("data", o->directory, "The data directory")->required();
  c->add_option("--sku", o->skus, "Only this sale; may be given again");
  c->add_option("--until", o->until, "Only up to this seq")->check(CLI::PositiveNumber);
  c->add_flag("--scan-only", o->scan_only, "Check the blocks and the chain, and fold nothing")
      ->excludes("--until");
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_replay(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
