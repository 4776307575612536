#include "tools/audit/report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/json/json.hpp"
#include "tools/cli.hpp"

namespace fairsale::audit {

namespace {

constexpr std::size_t kMostLines = 40;  // of a list in the text

using cli::grouped;
using cli::json_string;

std::string text(Timestamp t) {
  std::string s;
  append_rfc3339(s, t);
  return s;
}

std::string name(const SaleReport& r) {
  return r.sku.empty() ? std::string("(name unknown)") : r.sku;
}

std::string purchase_id(const SaleReport& r, Seq seq) {
  return fmt::format("{}:{}", name(r), seq.value);
}

void add_fairness(std::string& out, const SaleReport& r, const FairnessReport& f) {
  out += fmt::format(
      "  fairness  {}: {} attempts; {} reserved at once, {} waited, of them {} were offered units "
      "and {} released; {} ordered\n",
      f.fair() ? "fair" : "NOT FAIR", grouped(f.attempts), grouped(f.reserved), grouped(f.waited),
      grouped(f.offered), grouped(f.released), grouped(f.ordered));
  std::string refused;
  for (std::size_t i = 0; i < f.refused.size(); ++i) {
    if (f.refused[i] == 0) continue;
    refused += fmt::format("{}{} {}", refused.empty() ? "" : ", ", name_of(static_cast<Reason>(i)),
                           grouped(f.refused[i]));
  }
  if (!refused.empty())
    out += fmt::format("  refused   {}, each rightly unless told below\n", refused);
  if (f.given_up_by_shop > 0 || f.given_up_by_operator > 0) {
    out += fmt::format("  given up  {} purchases, of them {} by the shop and {} by the operator\n",
                       grouped(f.given_up), grouped(f.given_up_by_shop),
                       grouped(f.given_up_by_operator));
  }
  if (f.passed_by_size > 0) {
    out += fmt::format(
        "  policy    {} times somebody was served before one who wanted more than was free "
        "(skip_if_unfit)\n",
        grouped(f.passed_by_size));
  }
  for (std::size_t i = 0; i < std::min(f.breaches.size(), kMostLines); ++i) {
    const Breach& b = f.breaches[i];
    out += fmt::format("  UNFAIR    seq {} at {}, {}{}: expected {}; found {}\n", b.seq.value,
                       text(b.at), name_of(b.promise),
                       b.purchase == Seq{0} ? "" : ", purchase " + purchase_id(r, b.purchase),
                       b.expected, b.found);
  }
  if (f.breaches_found > std::min(f.breaches.size(), kMostLines)) {
    out += fmt::format("            and {} more\n",
                       grouped(f.breaches_found - std::min(f.breaches.size(), kMostLines)));
  }
  if (f.interventions_found == 0) {
    out += "  actors    nobody intervened\n";
    return;
  }
  const std::size_t shown = std::min(f.interventions.size(), kMostLines);
  for (std::size_t i = 0; i < shown; ++i) {
    const Intervention& v = f.interventions[i];
    out += fmt::format("  actors    seq {} at {}: {}: {}{}{}\n", v.seq.value, text(v.at), v.what,
                       v.effect, v.actor.empty() ? "" : ", by " + json_string(v.actor.view()),
                       v.why.empty() ? "" : ", because " + json_string(v.why.view()));
  }
  if (f.interventions_found > shown) {
    out += fmt::format("            and {} more: --json lists them\n",
                       grouped(f.interventions_found - shown));
  }
}

void add_sale(std::string& out, const SaleReport& r) {
  const Counters& c = r.counters;
  out += fmt::format("sku {}  id {:016x}\n", name(r), r.id.value);
  if (r.events > 0) {
    out += fmt::format("  events    {} in {} blocks, {} to {}; {:.3f} s, {}/s\n", grouped(r.events),
                       grouped(r.blocks), text(r.first), text(r.head.time), r.seconds,
                       grouped(static_cast<std::uint64_t>(static_cast<double>(r.events) /
                                                          std::max(r.seconds, 1e-9))));
  }
  out += fmt::format("  position  {}\n  head      {}\n", r.head.seq.value, to_hex(r.head.digest));
  if (r.state != Digest{}) out += fmt::format("  state     {}\n", to_hex(r.state));
  out += fmt::format(
      "  sale      {}, stock {} = available {} + held {} + sold {}; waiting {}; {} purchases by {} "
      "customers\n",
      name_of(r.phase), c.stocked.value, c.available.value, c.held.value, c.sold.value, c.waiting,
      grouped(r.purchases), grouped(r.customers));
  out += fmt::format("  compared  {} snapshots, {} saved heads", r.snapshots, r.saved_heads);
  if (r.not_compared > 0) {
    out += fmt::format("; {} not compared, since they lie behind the damage", r.not_compared);
  }
  if (r.snapshots_gone > 0) {
    out += fmt::format("; {} snapshots were removed meanwhile", r.snapshots_gone);
  }
  out += '\n';
  for (const Divergence& d : r.divergences) {
    out += fmt::format("  DIVERGES  seq {}, {}: expected {}; found {}{}\n", d.seq.value,
                       name_of(d.check), d.expected, d.found,
                       d.from == d.seq
                           ? std::string()
                           : fmt::format(" (the damage may begin at seq {})", d.from.value));
  }
  if (r.failure) out += fmt::format("  FAILED    {}\n", r.failure->message);
  if (r.fairness) add_fairness(out, r, *r.fairness);
  out += fmt::format("  result    {}\n", r.failure    ? "not read to its end"
                                         : !r.sound() ? "diverges"
                                         : !r.fair()  ? "sound, not fair"
                                         : r.fairness ? "sound and fair"
                                                      : "sound");
}

void write_moment(JsonWriter& w, const std::optional<Moment>& m) {
  if (!m) {
    w.null();
    return;
  }
  w.begin_object().member("seq", m->seq.value).member("at", m->at).end_object();
}

void write_timeline(JsonWriter& w, const std::vector<Moment>& moments) {
  w.begin_array();
  for (const Moment& m : moments) {
    w.begin_object()
        .member("seq", m.seq.value)
        .member("at", m.at)
        .member("available", m.counters.available.value)
        .member("held", m.counters.held.value)
        .member("sold", m.counters.sold.value)
        .member("waiting", m.counters.waiting)
        .end_object();
  }
  w.end_array();
}

void write_fairness(JsonWriter& w, const SaleReport& r, const FairnessReport& f) {
  w.begin_object().member("fair", f.fair()).member("breaches_found", f.breaches_found);
  w.key("breaches").begin_array();
  for (const Breach& b : f.breaches) {
    w.begin_object()
        .member("promise", name_of(b.promise))
        .member("seq", b.seq.value)
        .member("at", b.at);
    if (b.purchase != Seq{0}) w.member("purchase", purchase_id(r, b.purchase));
    w.member("expected", b.expected).member("found", b.found).end_object();
  }
  w.end_array().member("interventions_found", f.interventions_found);
  w.key("interventions").begin_array();
  for (const Intervention& v : f.interventions) {
    w.begin_object()
        .member("seq", v.seq.value)
        .member("at", v.at)
        .member("what", v.what)
        .member("effect", v.effect)
        .member("actor", v.actor.view())
        .member("why", v.why.view())
        .end_object();
  }
  w.end_array()
      .member("attempts", f.attempts)
      .member("repeated", f.repeated)
      .member("reserved", f.reserved)
      .member("waited", f.waited)
      .member("offered", f.offered)
      .member("released", f.released)
      .member("expired", f.expired)
      .member("given_up", f.given_up)
      .member("given_up_by_shop", f.given_up_by_shop)
      .member("given_up_by_operator", f.given_up_by_operator)
      .member("ordered", f.ordered)
      .member("refunded", f.refunded)
      .member("passed_by_size", f.passed_by_size)
      .member("most_held", f.most_held)
      .member("most_waiting", f.most_waiting);
  w.key("refused").begin_object();
  for (std::size_t i = 0; i < f.refused.size(); ++i) {
    if (f.refused[i] > 0) w.member(name_of(static_cast<Reason>(i)), f.refused[i]);
  }
  w.end_object();
  w.key("opened");
  write_moment(w, f.opened);
  w.key("first_sold_out");
  write_moment(w, f.first_sold_out);
  w.key("timeline");
  write_timeline(w, f.by_time);
  w.key("timeline_by_position");
  write_timeline(w, f.by_position);
  w.end_object();
}

void write_sale(JsonWriter& w, const SaleReport& r) {
  const Counters& c = r.counters;
  w.begin_object()
      .member("sku", r.sku)
      .member("id", fmt::format("{:016x}", r.id.value))
      .member("position", r.head.seq.value)
      .member("head", to_hex(r.head.digest))
      .member("state_digest", to_hex(r.state))
      .member("sound", r.sound());
  w.key("divergences").begin_array();
  for (const Divergence& d : r.divergences) {
    w.begin_object()
        .member("check", name_of(d.check))
        .member("seq", d.seq.value)
        .member("from", d.from.value)
        .member("expected", d.expected)
        .member("found", d.found)
        .end_object();
  }
  w.end_array();
  if (r.failure) w.member("failure", r.failure->message);
  w.member("events", r.events)
      .member("blocks", r.blocks)
      .member("first_at", r.first)
      .member("last_at", r.head.time)
      .member("state", name_of(r.phase))
      .member("stock", c.stocked.value)
      .member("available", c.available.value)
      .member("held", c.held.value)
      .member("sold", c.sold.value)
      .member("waiting", c.waiting)
      .member("purchases", r.purchases)
      .member("customers", r.customers)
      .member("snapshots_compared", r.snapshots)
      .member("saved_heads_compared", r.saved_heads)
      .member("not_compared", r.not_compared)
      .member("snapshots_gone", r.snapshots_gone);
  w.key("seconds").raw(fmt::format("{:.6f}", r.seconds));
  if (r.fairness) {
    w.key("fairness");
    write_fairness(w, r, *r.fairness);
  }
  w.end_object();
}

}  // namespace

bool StoreReport::sound() const {
  return !damage && std::all_of(sales.begin(), sales.end(),
                                [](const SaleReport& r) { return r.divergences.empty(); });
}

bool StoreReport::fair() const {
  return std::all_of(sales.begin(), sales.end(), [](const SaleReport& r) { return r.fair(); });
}

bool StoreReport::read() const {
  return std::none_of(sales.begin(), sales.end(),
                      [](const SaleReport& r) { return r.failure.has_value(); });
}

std::string to_text(const StoreReport& report) {
  std::string out;
  std::uint64_t events = 0;
  std::size_t diverge = 0;
  std::size_t unfair = 0;
  for (const SaleReport& r : report.sales) {
    add_sale(out, r);
    events += r.events;
    diverge += !r.sound();
    unfair += !r.fair();
  }
  if (report.damage) out += fmt::format("DAMAGED     {}\n", report.damage->message);
  out += fmt::format("{} sales, {} events in {:.3f} s: {}", grouped(report.sales.size()),
                     grouped(events), report.seconds,
                     diverge == 0 ? report.damage ? "the sales are sound" : "all sound"
                                  : fmt::format("{} DIVERGE", diverge));
  if (report.fairness) {
    out += unfair == 0 ? ", all fair" : fmt::format(", {} NOT FAIR", unfair);
  }
  out += '\n';
  return out;
}

std::string to_json(const StoreReport& report) {
  std::string out;
  JsonWriter w(out);
  w.begin_object()
      .member("store", report.store)
      .member("outcome", !report.read()    ? "failed"
                         : !report.sound() ? "diverges"
                         : !report.fair()  ? "unfair"
                                           : "ok")
      .member("sound", report.sound());
  if (report.fairness) w.member("fair", report.fair());
  if (report.damage) w.member("damage", report.damage->message);
  w.key("seconds").raw(fmt::format("{:.6f}", report.seconds));
  w.key("sales").begin_array();
  for (const SaleReport& r : report.sales) write_sale(w, r);
  w.end_array().end_object();
  return out;
}

}  // namespace fairsale::audit
