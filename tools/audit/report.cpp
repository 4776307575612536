#include "tools/audit/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/json/sale_json.hpp"
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
      "  fairness  {}{}: {} attempts; {} reserved at once, {} waited, of them {} were offered "
      "units "
      "and {} released; {} ordered\n",
      f.fair() ? "fair" : "NOT FAIR",
      r.complete ? std::string() : fmt::format(" as far as position {}", r.events),
      grouped(f.attempts), grouped(f.reserved), grouped(f.waited), grouped(f.offered),
      grouped(f.released), grouped(f.ordered));
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

std::string verdict(bool read, std::uint64_t divergences, std::uint64_t breaches, bool complete,
                    bool fairness, std::uint64_t position) {
  if (divergences > 0 || breaches > 0) {
    return fmt::format(
        "{}{}{}",
        divergences > 0 ? "diverges"
        : read          ? "sound"
                        : "not read to its end",
        breaches > 0 ? ", not fair" : "",
        complete ? std::string() : fmt::format("; read as far as position {}", position));
  }
  if (!read) return fmt::format("not read to its end, only as far as position {}", position);
  return fairness ? "sound and fair" : "sound";
}
std::string verdict(const SaleReport& r) {
  return verdict(!r.failure, r.divergences_found, r.unfair() ? r.fairness->breaches_found : 0,
                 r.complete, r.fairness.has_value(), r.events);
}
std::string verdict(const SaleSummary& s, bool fairness) {
  return verdict(s.read, s.divergences, s.breaches, s.complete, fairness, s.events);
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
  if (r.provisional != Seq{0}) {
    out += fmt::format(
        "  beyond    the log goes on to position {}, provisionally: not known to be durable, and "
        "not audited\n",
        r.provisional.value);
  }
  out += fmt::format("  compared  {} snapshots, {} stored projections, {} saved heads", r.snapshots,
                     r.projections, r.saved_heads);
  if (r.not_compared > 0) {
    out += fmt::format("; {} not compared, since they lie behind what was audited", r.not_compared);
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
  if (r.divergences_found > r.divergences.size()) {
    out += fmt::format("            and {} more\n",
                       grouped(r.divergences_found - r.divergences.size()));
  }
  if (r.failure) out += fmt::format("  FAILED    {}\n", r.failure->message);
  if (r.fairness) add_fairness(out, r, *r.fairness);
  out += fmt::format("  result    {}\n", verdict(r));
}

void add_summary(std::string& out, const SaleSummary& s, bool fairness) {
  out += fmt::format(
      "sku {}  id {:016x}: {} events, head {}{}: {}\n", s.sku.empty() ? "(name unknown)" : s.sku,
      s.id.value, grouped(s.events), to_hex(s.head.digest),
      s.provisional == Seq{0} ? std::string()
                              : fmt::format(", provisional to {}", s.provisional.value),
      verdict(s, fairness));
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

// A sale of which the rest is not known is not known to have been fair.
void write_fair(JsonWriter& w, bool unfair, bool complete) {
  w.raw(unfair ? "false" : complete ? "true" : "null");
}

void write_fairness(JsonWriter& w, const SaleReport& r, const FairnessReport& f) {
  w.begin_object().key("fair");
  write_fair(w, r.unfair(), r.complete);
  w.member("as_far_as", r.events).member("breaches_found", f.breaches_found);
  w.key("broken").begin_object();
  for (std::size_t i = 0; i < kPromises; ++i) {
    if (f.broken[i] > 0) w.member(name_of(static_cast<Promise>(i)), f.broken[i]);
  }
  w.end_object();
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

// What a sale's report and its summary begin with.
template <class Sale>
void begin_sale(JsonWriter& w, const Sale& s, bool detailed) {
  w.begin_object()
      .member("sku", s.sku)
      .member("id", fmt::format("{:016x}", s.id.value))
      .member("position", s.head.seq.value)
      .member("head", to_hex(s.head.digest));
  // A state that was left half folded has no digest.
  if (s.state != Digest{}) w.member("state_digest", to_hex(s.state));
  w.member("detailed", detailed).member("sound", s.sound()).member("complete", s.complete);
  if (s.provisional != Seq{0}) w.member("provisional_to", s.provisional.value);
}

void write_sale(JsonWriter& w, const SaleReport& r) {
  begin_sale(w, r, true);
  w.member("divergences_found", r.divergences_found);
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
      .member("state", name_of(r.phase));
  append_counters(w, r.counters);
  w.member("purchases", r.purchases)
      .member("customers", r.customers)
      .member("snapshots_compared", r.snapshots)
      .member("projections_compared", r.projections)
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

void write_summary(JsonWriter& w, const SaleSummary& s, bool fairness) {
  begin_sale(w, s, false);
  w.member("divergences_found", s.divergences).member("events", s.events);
  if (fairness) {
    w.key("fair");
    write_fair(w, s.breaches > 0, s.complete);
    w.member("breaches_found", s.breaches);
  }
  w.end_object();
}

SaleSummary summary_of(const SaleReport& r) {
  return {.number = r.number,
          .id = r.id,
          .sku = r.sku,
          .head = r.head,
          .state = r.state,
          .provisional = r.provisional,
          .events = r.events,
          .divergences = r.divergences_found,
          .breaches = r.fairness ? r.fairness->breaches_found : 0,
          .read = !r.failure,
          .complete = r.complete};
}

// Those in which something is wrong first, else in the order of the tasks.
constexpr auto kByTrouble = [](const auto& a, const auto& b) {
  if (a.troubled() != b.troubled()) return a.troubled();
  return a.number < b.number;
};

}  // namespace

void StoreReport::add(SaleReport r) {
  events_ += r.events;
  diverging_ += r.divergences_found > 0 ? 1 : 0;
  unfair_ += r.unfair() ? 1 : 0;
  unread_ += r.failure ? 1 : 0;
  incomplete_ += r.complete ? 0 : 1;
  if (sales_.size() < kMostDetailed) {
    sales_.push_back(std::move(r));
    return;
  }
  const auto gives_way =
      r.troubled() ? std::find_if(sales_.begin(), sales_.end(),
                                  [](const SaleReport& other) { return !other.troubled(); })
                   : sales_.end();
  if (gives_way != sales_.end()) std::swap(*gives_way, r);
  others_.push_back(summary_of(r));
}

void StoreReport::finish() {
  std::sort(sales_.begin(), sales_.end(), kByTrouble);
  std::sort(others_.begin(), others_.end(), kByTrouble);
}

Result<void> write_text(const StoreReport& report, std::string& out, const Pass& pass) {
  for (const SaleReport& r : report.sales()) {
    add_sale(out, r);
    if (auto ok = pass(); !ok) return ok;
  }
  for (const SaleSummary& s : report.others()) {
    add_summary(out, s, report.fairness);
    if (auto ok = pass(); !ok) return ok;
  }
  if (report.damage) out += fmt::format("DAMAGED     {}\n", report.damage->message);
  out += fmt::format("{} sales, {} events in {:.3f} s: ", grouped(report.audited()),
                     grouped(report.events()), report.seconds);
  if (report.diverging() > 0) {
    out += fmt::format("{} DIVERGE", grouped(report.diverging()));
  } else if (report.unread() == 0) {
    out += report.damage ? "the sales are sound" : "all sound";
  } else {
    out += "sound as far as they could be read";
  }
  if (report.unread() > 0) {
    out += fmt::format(", {} NOT READ TO THEIR END", grouped(report.unread()));
  }
  if (report.fairness) {
    out += report.unfair() > 0 ? fmt::format(", {} NOT FAIR", grouped(report.unfair()))
           : report.fair()     ? std::string(", all fair")
                           : fmt::format(", fair as far as they were read ({} not to their end)",
                                         grouped(report.incomplete()));
  }
  out += '\n';
  return pass();
}

Result<void> write_json(const StoreReport& report, std::string& out, const Pass& pass) {
  {
    JsonWriter w(out);
    w.begin_object()
        .member("store", report.store)
        .member("outcome", report.damage || report.diverging() > 0 ? "diverges"
                           : report.unfair() > 0                   ? "unfair"
                           : report.unread() > 0                   ? "failed"
                                                                   : "ok")
        .member("sound", report.sound());
    if (report.fairness) {
      w.key("fair");
      write_fair(w, report.unfair() > 0, report.incomplete() == 0);
    }
    if (report.damage) w.member("damage", report.damage->message);
    w.key("notes").begin_array();
    for (const std::string& note : report.notes) w.value(std::string_view(note));
    w.end_array();
    w.member("audited", report.audited())
        .member("detailed", report.sales().size())
        .member("events", report.events());
    w.key("seconds").raw(fmt::format("{:.6f}", report.seconds));
    w.key("sales").begin_array();
  }
  // A writer for each sale, since what came before it may be gone.
  bool first = true;
  const auto next = [&]() -> JsonWriter {
    if (!std::exchange(first, false)) out += ',';
    return JsonWriter(out);
  };
  for (const SaleReport& r : report.sales()) {
    JsonWriter w = next();
    write_sale(w, r);
    if (auto ok = pass(); !ok) return ok;
  }
  for (const SaleSummary& s : report.others()) {
    JsonWriter w = next();
    write_summary(w, s, report.fairness);
    if (auto ok = pass(); !ok) return ok;
  }
  out += "]}";
  return pass();
}

}  // namespace fairsale::audit
