// fairsale what-if: how a sale would have gone under other terms.
#include "tools/what_if/what_if.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "core/json/sale_json.hpp"
#include "tools/cli.hpp"
#include "tools/store/output.hpp"
#include "tools/store/progress.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace {

const std::map<std::string, LinePolicy> kPolicies = {{"strict", LinePolicy::strict},
                                                     {"skip_if_unfit", LinePolicy::skip_if_unfit}};

struct WhatIfOptions {
  std::string directory;
  std::string sku;
  std::optional<std::uint32_t> stock;
  std::optional<double> hold;
  std::optional<std::uint32_t> limit;
  std::optional<std::uint32_t> units_per_purchase;
  std::optional<std::uint32_t> line_limit;
  std::string line_policy;
  std::size_t list = 0;
  bool json = false;
};

std::string seconds_text(Duration d) {
  return fmt::format("{:g} s", static_cast<double>(d.value) / 1e3);
}

std::string time_text(const std::optional<Timestamp>& t) {
  std::string out;
  if (t) {
    append_rfc3339(out, *t);
  } else {
    out = "never";
  }
  return out;
}

std::string signed_text(std::int64_t n) { return n == 0 ? "" : fmt::format("{:+}", n); }

void print_row(Output& out, std::string_view name, std::string_view a, std::string_view b,
               std::string_view difference = {}) {
  out.print("  {:<26}{:>30}{:>30}{:>14}\n", name, a, b, difference);
}

void print_row(Output& out, std::string_view name, std::uint64_t a, std::uint64_t b) {
  print_row(out, name, grouped(a), grouped(b),
            signed_text(static_cast<std::int64_t>(b) - static_cast<std::int64_t>(a)));
}

void print_row(Output& out, std::string_view name, const Tally& a, const Tally& b) {
  const auto text = [](const Tally& t) {
    return fmt::format("{} ({} units)", grouped(t.purchases), grouped(t.units));
  };
  print_row(
      out, name, text(a), text(b),
      signed_text(static_cast<std::int64_t>(b.purchases) - static_cast<std::int64_t>(a.purchases)));
}

void print_difference(Output& out, std::string_view sku, std::string_view what, const Affected& d) {
  const auto list = [&](std::string_view sign, const Tally& t, const std::vector<Seq>& first) {
    out.print("  {} {}: {} purchases of {} units", what, sign, grouped(t.purchases),
              grouped(t.units));
    for (std::size_t i = 0; i < first.size(); ++i) {
      out.print("{}{}:{}", i == 0 ? "; " : " ", sku, first[i].value);
    }
    out.print("{}\n", !first.empty() && first.size() < t.purchases ? " …" : "");
  };
  list("only in the other", d.gained, d.first_gained);
  list("only as it was", d.lost, d.first_lost);
}

void print_text(Output& out, std::string_view sku, bool provisional, const WhatIf& w) {
  const Outcome& a = w.real;
  const Outcome& b = w.other;
  out.print("sku {}  {} events{}\n", sku, grouped(w.head.seq.value),
            provisional ? "  (provisional)" : "");
  print_row(out, "", "as it was", "what if");
  const auto changed = [&out](std::string_view name, const std::string& was,
                              const std::string& is) {
    if (was != is) print_row(out, name, was, is);
  };
  changed("hold", seconds_text(a.terms.hold), seconds_text(b.terms.hold));
  changed("limit per customer", std::to_string(a.terms.limit_per_customer.value),
          std::to_string(b.terms.limit_per_customer.value));
  changed("units per purchase", std::to_string(a.terms.units_per_purchase.value),
          std::to_string(b.terms.units_per_purchase.value));
  changed("line limit", std::to_string(a.terms.line_limit), std::to_string(b.terms.line_limit));
  changed("line policy", std::string(name_of(a.terms.line_policy)),
          std::string(name_of(b.terms.line_policy)));
  print_row(out, "stock at the end", a.counters.stocked.value, b.counters.stocked.value);
  print_row(out, "attempts", a.attempts, b.attempts);
  print_row(out, "reserved at once", a.reserved, b.reserved);
  print_row(out, "waited", a.waited, b.waited);
  print_row(out, "offered from the line", a.offered, b.offered);
  print_row(out, "holds expired", a.expired, b.expired);
  print_row(out, "given up", a.given_up, b.given_up);
  print_row(out, "orders", a.ordered, b.ordered);
  print_row(out, "payments to be refunded", a.refunds_due, b.refunds_due);
  for (std::size_t i = 0; i < a.refused.size(); ++i) {
    if (a.refused[i] == 0 && b.refused[i] == 0) continue;
    print_row(out, fmt::format("refused {}", name_of(static_cast<Reason>(i))), a.refused[i],
              b.refused[i]);
  }
  if (a.operator_refused + b.operator_refused > 0) {
    print_row(out, "operator refused", a.operator_refused, b.operator_refused);
  }
  print_row(out, "still held at the end", a.counters.held.value, b.counters.held.value);
  print_row(out, "still waiting at the end", a.counters.waiting, b.counters.waiting);
  print_row(out, "left at the end", a.counters.available.value, b.counters.available.value);
  const auto& code = a.terms.price.currency.code;
  print_row(
      out, fmt::format("revenue ({} minor units)", std::string_view(code.data(), code.size())),
      std::to_string(a.revenue), std::to_string(b.revenue), signed_text(b.revenue - a.revenue));
  print_row(out, "first nothing free", time_text(a.all_taken), time_text(b.all_taken));
  print_row(out, "sold out", time_text(a.sold_out), time_text(b.sold_out));
  print_difference(out, sku, "units held", w.held);
  print_difference(out, sku, "ordered", w.ordered);
}

void append_outcome(JsonWriter& json, std::string_view name, const Outcome& o) {
  json.key(name).begin_object().key("terms").begin_object();
  json.key("hold_seconds").seconds(o.terms.hold);
  json.member("limit_per_customer", o.terms.limit_per_customer.value)
      .member("units_per_purchase", o.terms.units_per_purchase.value)
      .member("line_limit", o.terms.line_limit)
      .member("line_policy", name_of(o.terms.line_policy))
      .end_object();
  json.member("phase", name_of(o.phase));
  append_counters(json, o.counters);
  json.member("attempts", o.attempts);
  append_tally(json, "reserved", o.reserved);
  append_tally(json, "waited", o.waited);
  append_tally(json, "offered", o.offered);
  append_tally(json, "expired", o.expired);
  append_tally(json, "given_up", o.given_up);
  append_tally(json, "ordered", o.ordered);
  json.member("refunds_due", o.refunds_due).key("refused").begin_object();
  for (std::size_t i = 0; i < o.refused.size(); ++i) {
    if (o.refused[i] > 0) json.member(name_of(static_cast<Reason>(i)), o.refused[i]);
  }
  json.end_object().member("operator_refused", o.operator_refused);
  json.member("revenue", Money{MinorUnits{o.revenue}, o.terms.price.currency});
  const auto time = [&](std::string_view key, const std::optional<Timestamp>& t) {
    json.key(key);
    if (t) {
      json.value(*t);
    } else {
      json.null();
    }
  };
  time("first_nothing_free", o.all_taken);
  time("sold_out", o.sold_out);
  json.end_object();
}

void append_difference(JsonWriter& json, std::string_view sku, std::string_view name,
                       const Affected& d) {
  const auto list = [&](std::string_view key, const std::vector<Seq>& first) {
    json.key(key).begin_array();
    for (const Seq s : first) json.value(std::string_view(fmt::format("{}:{}", sku, s.value)));
    json.end_array();
  };
  json.key(name).begin_object();
  append_tally(json, "gained", d.gained);
  append_tally(json, "lost", d.lost);
  list("first_gained", d.first_gained);
  list("first_lost", d.first_lost);
  json.end_object();
}

Result<int> run_what_if(const WhatIfOptions& o) {
  Overrides overrides;
  const auto quantity = [](const std::optional<std::uint32_t>& n) {
    return n ? std::optional(Quantity{*n}) : std::nullopt;
  };
  overrides.stock = quantity(o.stock);
  if (o.hold) overrides.hold = Duration{std::llround(*o.hold * 1000)};
  overrides.limit_per_customer = quantity(o.limit);
  overrides.units_per_purchase = quantity(o.units_per_purchase);
  overrides.line_limit = o.line_limit;
  if (!o.line_policy.empty()) {
    overrides.line_policy =
        o.line_policy == "strict" ? LinePolicy::strict : LinePolicy::skip_if_unfit;
  }

  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto heads = choose(*store, {o.sku});
  if (!heads) return tl::unexpected(heads.error());
  const SkuHead& head = heads->front();
  const auto w = [&] {
    Progress progress("events", head.head.seq.value);
    return what_if(*store->log, head, overrides, o.list,
                   [&](std::uint64_t events) { progress.add(events); });
  }();
  if (!w) return tl::unexpected(w.error());
  const auto durable = durable_seq(*store, head.sku);
  if (!durable) return tl::unexpected(durable.error());
  const bool provisional = w->head.seq > *durable;
  Output out(stdout);
  if (o.json) {
    JsonWriter json(out.text());
    json.begin_object()
        .member("sku", std::string_view(o.sku))
        .member("position", w->head.seq.value)
        .member("provisional", provisional);
    append_outcome(json, "as_it_was", w->real);
    append_outcome(json, "what_if", w->other);
    append_difference(json, o.sku, "held_differently", w->held);
    append_difference(json, o.sku, "ordered_differently", w->ordered);
    json.end_object();
    out.text() += '\n';
  } else {
    print_text(out, o.sku, provisional, *w);
  }
  if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
  return kOk;
}

}  // namespace

void add_what_if(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<WhatIfOptions>();
  CLI::App* c = app.add_subcommand(
      "what-if",
      "Replays a sale's arrivals under other terms and shows what would have come out "
      "differently; never touches the store, works beside a running server");
  c->footer(
      "Held fixed: every event keeps its position and its log time. The same attempts, payments\n"
      "and cancellations come, about the same purchases. So who gets units only in the other sale\n"
      "never paid in this one, and that hold expires; a payment for what holds nothing there is\n"
      "to be refunded; and time passes only when this log has an event. Whether more customers\n"
      "would have come, or paid, no log can tell: \"units held\" shows who would have had the\n"
      "chance.\n"
      "An option replaces its term in every scheduling and change of the terms, and --stock also\n"
      "in every adjustment of the stock. What is not given stays as the log has it.\n"
      "Exit codes: 0 ok; 1 damage, named by SKU and seq; 2 usage; 3 I/O, or no such sale.");
  c->add_option("data", o->directory, "The data directory")->required();
  c->add_option("--sku", o->sku, "The sale")->required();
  c->add_option("--stock", o->stock, "Units")->check(CLI::Range(0U, kMaxStock));
  c->add_option("--hold", o->hold, "Seconds that a reservation or an offer stands")
      ->check(CLI::Range(0.001, static_cast<double>(kMaxHoldMs) / 1000));
  c->add_option("--limit", o->limit, "Units per customer")
      ->check(CLI::Range(1U, kMaxLimitPerCustomer));
  c->add_option("--line-limit", o->line_limit, "Purchases that may wait")
      ->check(CLI::Range(0U, kMaxLine));
  c->add_option("--units-per-purchase", o->units_per_purchase, "The most one purchase may ask for")
      ->check(CLI::Range(1U, kMaxUnitsPerPurchase));
  c->add_option("--line-policy", o->line_policy, "Who is served first")
      ->check(CLI::IsMember({"strict", "skip_if_unfit"}));
  c->add_option("--list", o->list, "Name so many purchases of each kind of difference")
      ->check(CLI::Range(std::size_t{0}, std::size_t{1'000'000}));
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_what_if(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
