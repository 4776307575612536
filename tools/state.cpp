// fairsale state: a sale as it stood at any moment of its log.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "core/json/sale_json.hpp"
#include "tools/cli.hpp"
#include "tools/events/event_json.hpp"
#include "tools/moment/moment.hpp"
#include "tools/store/fold_progress.hpp"
#include "tools/store/output.hpp"
#include "tools/store/purchase_id.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace {

struct StateOptions {
  std::string directory;
  std::vector<std::string> skus;
  std::string at;
  std::string customer;
  std::string purchase;
  bool from_start = false;
  bool json = false;
};

struct When {
  std::optional<Seq> seq;
  std::optional<Timestamp> time;
};

Result<When> parse_when(const std::string& text) {
  if (text.empty()) return When{};
  std::uint64_t seq = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seq);
  if (error == std::errc() && end == text.data() + text.size()) return When{.seq = Seq{seq}};
  if (const auto time = parse_rfc3339(text)) return When{.time = *time};
  return fail(Fault::invalid, fmt::format("--at {}: give a position in the log, or a time as in "
                                          "2026-11-24T06:00:00Z",
                                          text));
}

// The position that is meant; nothing when the log ends before.
Result<std::optional<Seq>> position_of(const EventLog& log, const SkuHead& sku, const When& when) {
  if (when.time) {
    const auto at = position_at(log, sku, *when.time);
    if (!at) return tl::unexpected(at.error());
    return std::optional(*at);
  }
  const Seq at = when.seq.value_or(sku.head.seq);
  return at > sku.head.seq ? std::nullopt : std::optional(at);
}

std::string text_of(Timestamp t) {
  std::string out;
  append_rfc3339(out, t);
  return out;
}

std::string text_of(Duration d) {
  return fmt::format("{:g} s", static_cast<double>(d.value) / 1e3);
}

std::string word(std::string_view text) {
  std::string out;
  append_word(out, text);
  return out;
}

void print_text(Output& out, const StateOptions& o, const SkuHead& head, bool provisional,
                const Moment& m, const Look& look) {
  const Sale& sale = m.sale;
  out.print("sku {}  position {} of {}", sale.exists() ? sale.sku() : "?", sale.seq().value,
            head.head.seq.value);
  if (sale.seq() > Seq{0}) out.print("  log time {}", text_of(sale.time()));
  if (m.now != sale.time()) out.print("  asked for {}", text_of(m.now));
  out.print("{}\n", provisional ? "  (provisional)" : "");
  if (!sale.exists()) {
    out.print("  nothing was scheduled yet\n");
    return;
  }
  const Counters& c = sale.counters();
  const Terms& t = sale.terms();
  out.print("  phase    {}{}{}\n", name_of(sale.phase()), look.due.opening ? ", due to open" : "",
            look.due.end ? ", due to end" : "");
  out.print("  stock    {} = available {} + held {} + sold {}\n", c.stocked.value,
            c.available.value, c.held.value, c.sold.value);
  if (look.due.holds.purchases > 0) {
    out.print("  due      {} holds of {} units: their deadline had come, no event had ended them\n",
              look.due.holds.purchases, look.due.holds.units);
  }
  out.print("  line     {} waiting for {} units", look.line.purchases, look.line.units);
  for (std::size_t i = 0; i < look.next.size(); ++i) {
    out.print("{}{}:{}", i == 0 ? "; first " : " ", sale.sku(), look.next[i].value);
  }
  out.print("\n");
  out.print(
      "  terms    {} {:.3} a unit, hold {} + grace {}, {} a customer, {} a purchase\n"
      "           line of {}, {}; from {}{}\n",
      t.price.amount.value,
      std::string_view(t.price.currency.code.data(), t.price.currency.code.size()), text_of(t.hold),
      text_of(t.grace), t.limit_per_customer.value, t.units_per_purchase.value, t.line_limit,
      name_of(t.line_policy), text_of(t.starts_at),
      t.ends_at == kNever ? std::string{} : " to " + text_of(t.ends_at));
  out.print("  attempts {} by {} customers\n", sale.purchases(), sale.customers());
  if (!o.customer.empty()) {
    const auto customer = sale.find_customer(o.customer);
    if (customer) {
      out.print("  customer {}: {} of {} units\n", word(o.customer),
                sale.customer_units(*customer).value, t.limit_per_customer.value);
    } else {
      out.print("  customer {}: had not asked yet\n", word(o.customer));
    }
  }
  if (!o.purchase.empty() && look.chosen.empty()) {
    out.print("  {}: no such purchase at that moment\n", word(o.purchase));
  }
  for (const Standing& s : look.chosen) {
    const Purchase& p = sale.purchase(s.purchase);
    out.print("  {}:{}  {} unit{}  {}", sale.sku(), p.seq.value, p.quantity,
              p.quantity == 1 ? "" : "s", name_of(p.status));
    if (p.reason != Reason::none) out.print(" ({})", name_of(p.reason));
    if (s.place > 0) out.print(", place {}", s.place);
    if (p.place > 0) out.print(", was told place {}", p.place);
    if (holds_units(p.status)) {
      out.print(", until {}{}", text_of(p.until), s.due ? ", due to expire" : "");
    }
    out.print("\n");
  }
  if (look.left_out > 0) out.print("  and {} more\n", look.left_out);
}

void append_json(JsonWriter& json, const StateOptions& o, const SkuHead& head, bool provisional,
                 const Moment& m, const Look& look) {
  const Sale& sale = m.sale;
  json.begin_object().member("id", std::string_view(fmt::format("{:016x}", head.sku.value)));
  json.member("position", sale.seq().value).member("head", head.head.seq.value);
  json.member("provisional", provisional);
  json.member("folded_from", m.from.value).member("phase", name_of(sale.phase()));
  if (sale.exists()) {
    const Counters& c = sale.counters();
    json.member("sku", sale.sku()).member("time", sale.time()).member("now", m.now);
    json.key("terms").begin_object();
    append_terms(json, sale.terms());
    json.end_object();
    json.member("stock", c.stocked.value)
        .member("available", c.available.value)
        .member("held", c.held.value)
        .member("sold", c.sold.value)
        .member("waiting", look.line.purchases)
        .member("waiting_units", look.line.units)
        .member("purchases", sale.purchases())
        .member("customers", sale.customers());
    const auto id_of = [&](Seq seq) { return fmt::format("{}:{}", sale.sku(), seq.value); };
    json.key("line").begin_array();
    for (const Seq seq : look.next) json.value(std::string_view(id_of(seq)));
    json.end_array();
    json.key("due")
        .begin_object()
        .member("opening", look.due.opening)
        .member("end", look.due.end)
        .member("holds", look.due.holds.purchases)
        .member("units", look.due.holds.units)
        .end_object();
    if (!o.customer.empty()) {
      const auto customer = sale.find_customer(o.customer);
      json.key("customer").begin_object().member("customer", std::string_view(o.customer));
      json.member("units", customer ? sale.customer_units(*customer).value : 0).end_object();
    }
    if (!o.customer.empty() || !o.purchase.empty()) {
      json.key("standing").begin_array();
      for (const Standing& s : look.chosen) {
        const Purchase& p = sale.purchase(s.purchase);
        json.begin_object().member("purchase", std::string_view(id_of(p.seq)));
        json.member("quantity", p.quantity).member("status", name_of(p.status));
        if (p.reason != Reason::none) json.member("reason", name_of(p.reason));
        if (s.place > 0) json.member("place", s.place);
        if (p.place > 0) json.member("first_place", p.place);
        if (holds_units(p.status)) json.member("until", p.until).member("due", s.due);
        json.end_object();
      }
      json.end_array().member("left_out", look.left_out);
    }
  }
  json.end_object();
}

// Of a sale whose log ends before the position that was asked for of all.
Result<void> put_shorter(Output& out, std::optional<JsonWriter>& json, const Store& store,
                         const SkuHead& head) {
  const auto name = sale_name(*store.log, head.sku);
  if (!name) return tl::unexpected(name.error());
  const std::string id = id_text(head.sku);
  if (!json) {
    out.print("sku {}  its log ends at position {}\n", name->empty() ? id : *name,
              head.head.seq.value);
    return {};
  }
  json->begin_object().member("id", std::string_view(id));
  json->key("position").null().member("head", head.head.seq.value);
  if (!name->empty()) json->member("sku", std::string_view(*name));
  json->end_object();
  return {};
}

Result<int> run_state(StateOptions o) {
  const auto when = parse_when(o.at);
  if (!when) return tl::unexpected(when.error());
  std::optional<PurchaseId> purchase;
  if (!o.purchase.empty()) {
    purchase = parse_purchase_id(o.purchase);
    if (!purchase) {
      return fail(Fault::invalid, "--purchase " + o.purchase + ": give SKU:SEQ, as in demo:17");
    }
    o.skus = {purchase->sku};
  }
  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto heads = choose(*store, o.skus);
  if (!heads) return tl::unexpected(heads.error());

  std::vector<std::optional<Seq>> positions;
  std::uint64_t events = 0;
  for (const SkuHead& head : *heads) {
    const auto at = position_of(*store->log, head, *when);
    if (!at) return tl::unexpected(at.error());
    positions.push_back(*at);
    events += at->value_or(Seq{0}).value;
  }

  const auto longest =
      std::max_element(heads->begin(), heads->end(),
                       [](const SkuHead& a, const SkuHead& b) { return a.head.seq < b.head.seq; });
  if (when->seq && longest != heads->end() && *when->seq > longest->head.seq) {
    return fail(Fault::not_found, fmt::format("the log ends at position {}, before {}",
                                              longest->head.seq.value, when->seq->value));
  }

  Progress progress("events", events);
  FoldProgress observer(progress);
  const Way way{.from = o.from_start ? FoldFrom::start : FoldFrom::snapshot,
                .observer = observer.if_visible()};
  Output out(stdout);
  std::optional<JsonWriter> json;
  if (o.json) json.emplace(out.text()).begin_object().key("sales").begin_array();
  for (std::size_t i = 0; i < heads->size(); ++i) {
    const SkuHead& head = (*heads)[i];
    const auto durable = durable_seq(*store, head.sku);
    if (!durable) return tl::unexpected(durable.error());
    if (!positions[i]) {
      if (auto ok = put_shorter(out, json, *store, head); !ok) return tl::unexpected(ok.error());
      continue;
    }
    auto m = moment_at(*store->log, head, *positions[i], way);
    if (!m) return tl::unexpected(m.error());
    if (when->time) m->now = *when->time;
    const bool provisional = *positions[i] > *durable;
    const auto customer = o.customer.empty() ? std::nullopt : m->sale.find_customer(o.customer);
    const Look look = look_at(*m, customer, purchase ? std::optional(purchase->seq) : std::nullopt);
    if (json) {
      append_json(*json, o, head, provisional, *m, look);
    } else {
      print_text(out, o, head, provisional, *m, look);
    }
    if (out.is_due() && !json) {
      progress.hide();
      if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
    }
  }
  progress.hide();
  if (json) {
    json->end_array().end_object();
    out.text() += '\n';
  }
  if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
  return kOk;
}

}  // namespace

void add_state(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<StateOptions>();
  CLI::App* c = app.add_subcommand(
      "state",
      "Tells how a sale stood at any moment of its log: phase, terms, stock, holds, line and any "
      "customer's standing; works beside a running server");
  c->footer(
      "A position means: after the event there. A time means: after the last event at or before\n"
      "it. What time alone brought since (an opening, an end, holds whose deadline, grace\n"
      "included, has come) is shown as due, not as done: it takes effect with the next event, so\n"
      "until then held units are held.\n"
      "Snapshots make it fast: the log is folded from the nearest one before the moment. That one\n"
      "is taken at its word, which only its own digest backs: who can write to the directory can\n"
      "forge one. --from-start trusts the log alone; audit compares snapshots with it.\n"
      "What a crash could still take back, since it is not on record as acknowledged, is marked\n"
      "provisional.\n"
      "Exit codes: 0 ok; 1 damage, named by SKU and seq; 2 usage; 3 I/O, or no such sale or "
      "position\n(of several sales, those that end before the position are named, and that is no "
      "failure).");
  c->add_option("data", o->directory, "The data directory")->required();
  c->add_option("--sku", o->skus, "Only this sale; may be given again");
  c->add_option("--at", o->at, "A position, or an RFC 3339 time; without it, the end of the log");
  auto* customer = c->add_option("--customer", o->customer, "And how this customer stood");
  c->add_option("--purchase", o->purchase, "And how this purchase (SKU:SEQ) stood")
      ->excludes(customer)
      ->excludes("--sku");
  c->add_flag("--from-start", o->from_start, "Fold from position 1, whatever snapshots there are");
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_state(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
