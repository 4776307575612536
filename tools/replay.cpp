// fairsale replay: folds stored logs from their first event and says where they lead.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>

#include "core/domain/sale.hpp"
#include "core/engine/recovery.hpp"
#include "core/log/digest.hpp"
#include "tools/cli.hpp"
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

// Folds a SKU's log up to `until` (0: all of it). Fails at the first damage, naming the position.
Result<Replayed> replay(const EventLog& log, const SkuHead& expected, std::uint64_t until) {
  const auto start = std::chrono::steady_clock::now();
  auto folded = fold(log, expected, FoldFrom::start, nullptr,
                     until == 0 ? Seq{~std::uint64_t{0}} : Seq{until});
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
Result<double> scan(const EventLog& log, const SkuHead& expected) {
  const auto start = std::chrono::steady_clock::now();
  Digest head;
  const auto done = log.read(expected.sku, Seq{1}, [&](const BlockView& block) {
    head = block.digest();
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

void print_text(const SkuHead& id, const Replayed& r) {
  const Counters& c = r.sale.counters();
  fmt::print(
      "sku {}  id {:016x}\n"
      "  position  {}\n"
      "  head      {}{}\n"
      "  state     {}\n"
      "  sale      {}, stock {} = available {} + held {} + sold {}; waiting {}; {} purchases by {} "
      "customers\n"
      "  folded    {} events in {:.3f} s, {}/s\n",
      r.sale.sku(), id.sku.value, r.sale.seq().value, to_hex(r.head),
      r.whole ? "" : "  (of the last whole block)", to_hex(state_digest(r.sale)),
      name_of(r.sale.phase()), c.stocked.value, c.available.value, c.held.value, c.sold.value,
      c.waiting, grouped(r.sale.purchases()), grouped(r.sale.customers()),
      grouped(r.sale.seq().value), r.seconds, rate_of(r.sale.seq().value, r.seconds));
}

std::string json_of(const Replayed& r) {
  const Counters& c = r.sale.counters();
  return fmt::format(
      R"({{"sku":{},"position":{},"head":"{}","head_is_of_position":{},"state_digest":"{}",)"
      R"("state":"{}","stock":{},"available":{},"held":{},"sold":{},"waiting":{},)"
      R"("purchases":{},"customers":{},"seconds":{:.6f}}})",
      json_string(r.sale.sku()), r.sale.seq().value, to_hex(r.head), r.whole,
      to_hex(state_digest(r.sale)), name_of(r.sale.phase()), c.stocked.value, c.available.value,
      c.held.value, c.sold.value, c.waiting, r.sale.purchases(), r.sale.customers(), r.seconds);
}

Result<int> run_replay(const ReplayOptions& o) {
  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto heads = choose(*store, o.skus);
  if (!heads) return tl::unexpected(heads.error());

  bool damaged = false;
  std::string json;
  for (const SkuHead& head : *heads) {
    if (o.scan_only) {
      const auto seconds = scan(*store->log, head);
      if (!seconds) {
        complain(seconds.error());
        damaged = true;
        continue;
      }
      const std::uint64_t events = head.head.seq.value;
      if (o.json) {
        json += fmt::format(R"({}{{"id":"{:016x}","position":{},"seconds":{:.6f}}})",
                            json.empty() ? "" : ",", head.sku.value, events, *seconds);
      } else {
        fmt::print("id {:016x}  {} events in {:.3f} s, {}/s\n", head.sku.value, grouped(events),
                   *seconds, rate_of(events, *seconds));
      }
      continue;
    }
    const auto r = replay(*store->log, head, o.until);
    if (!r) {
      complain(r.error());
      damaged = true;
      continue;
    }
    if (o.json) {
      json += (json.empty() ? "" : ",") + json_of(*r);
    } else {
      print_text(head, *r);
    }
  }
  if (o.json) fmt::print("{{\"sales\":[{}]}}\n", json);
  if (damaged) return kCheckFailed;
  return kOk;
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
      "Exit codes: 0 everything checks out; 1 damage, named by SKU and seq; 2 usage; 3 I/O.");
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
