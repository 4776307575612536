#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/json/json.hpp"
#include "tools/audit/report.hpp"
#include "tools/cli.hpp"

namespace fairsale::audit {

namespace {

constexpr std::size_t kMostCharts = 20;  // sales with charts
constexpr std::size_t kMostRows = 1000;  // of a table

using cli::grouped;

// Text as it may stand in an element or a quoted attribute. What is not UTF-8 and what a terminal
// or a browser would act upon becomes U+FFFD.
std::string escaped(std::string_view s) {
  std::string out;
  while (!s.empty()) {
    const auto c = static_cast<unsigned char>(s.front());
    const std::size_t n = utf8_length(s);
    if (n == 0 || c < 0x20 || c == 0x7f) {
      out += "\xef\xbf\xbd";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else {
      out += s.substr(0, n);
    }
    s.remove_prefix(std::max<std::size_t>(n, 1));
  }
  return out;
}

std::string text(Timestamp t) {
  std::string s;
  append_rfc3339(s, t);
  return s;
}

template <class... Args>
void add(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

void row(std::string& out, std::string_view name, std::string_view value) {
  add(out, "<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value));
}

void code_row(std::string& out, std::string_view name, std::string_view value) {
  add(out, "<tr><th>{}</th><td><code>{}</code></td></tr>\n", escaped(name), escaped(value));
}

constexpr std::string_view kStyle = R"(
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-bottom:1px solid #e4e4e4}
th{font-weight:600}td.n{text-align:right}code{font-size:.85em;word-break:break-all}
.ok{color:#0b6b2f}.bad{color:#a3121f;font-weight:600}
.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}
svg{width:100%;height:auto;border:1px solid #e4e4e4}
.note{color:#555}
@media print{body{margin:0;max-width:none;font-size:11px}h2{break-before:auto}svg{break-inside:avoid}}
)";

constexpr std::string_view kSold = "#1f5fa8";
constexpr std::string_view kHeld = "#e0a030";
constexpr std::string_view kFree = "#cfe3cf";
constexpr std::string_view kLine = "#a3121f";

// One chart of how stock and line stood. `key` places a moment on the x axis.
template <class Key>
void chart(std::string& out, const std::vector<Moment>& moments, Key&& key, std::string_view from,
           std::string_view to, std::string_view title) {
  constexpr double kWidth = 800;
  constexpr double kHeight = 220;
  constexpr double kTop = 10;
  const double first = static_cast<double>(key(moments.front()));
  const double span = std::max(1.0, static_cast<double>(key(moments.back())) - first);
  std::uint32_t most = 1;
  std::uint32_t longest = 1;
  for (const Moment& m : moments) {
    most = std::max(most, m.counters.stocked.value);
    longest = std::max(longest, m.counters.waiting);
  }
  const auto x = [&](const Moment& m) {
    return (static_cast<double>(key(m)) - first) / span * kWidth;
  };
  const auto y = [&](std::uint64_t n, std::uint32_t of) {
    return kTop + kHeight - static_cast<double>(n) / of * kHeight;
  };
  add(out, "<svg viewBox=\"0 0 800 250\" role=\"img\" aria-label=\"{}\"><title>{}</title>\n",
      escaped(title), escaped(title));
  // Each layer is painted over the one below it, down to the base line.
  const auto layer = [&](std::string_view color, auto&& value) {
    add(out, "<path fill=\"{}\" d=\"M0 {:.1f}", color, kTop + kHeight);
    for (const Moment& m : moments) {
      add(out, "H{:.1f}V{:.1f}", x(m), y(value(m.counters), most));
    }
    add(out, "H{:.0f}V{:.1f}Z\"/>\n", kWidth, kTop + kHeight);
  };
  layer(kFree, [](const Counters& c) { return std::uint64_t{c.stocked.value}; });
  layer(kHeld, [](const Counters& c) { return std::uint64_t{c.sold.value} + c.held.value; });
  layer(kSold, [](const Counters& c) { return std::uint64_t{c.sold.value}; });
  add(out, "<path fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" d=\"M{:.1f} {:.1f}", kLine,
      x(moments.front()), y(moments.front().counters.waiting, longest));
  for (const Moment& m : moments) add(out, "H{:.1f}V{:.1f}", x(m), y(m.counters.waiting, longest));
  add(out,
      "\"/>\n<g font-size=\"11\" fill=\"#333\"><text x=\"4\" y=\"22\">{} units</text>"
      "<text x=\"796\" y=\"22\" text-anchor=\"end\" fill=\"{}\">{} waiting</text>"
      "<text x=\"4\" y=\"245\">{}</text><text x=\"796\" y=\"245\" text-anchor=\"end\">{}</text></g>"
      "</svg>\n",
      grouped(most), kLine, grouped(longest), escaped(from), escaped(to));
}

void add_charts(std::string& out, const FairnessReport& f) {
  if (f.by_time.empty()) return;
  add(out,
      "<h3>Stock and line</h3>\n<p class=\"note\"><span class=\"key\" style=\"background:{}\">"
      "</span>sold<span class=\"key\" style=\"background:{}\"></span>held<span class=\"key\" "
      "style=\"background:{}\"></span>free<span class=\"key\" style=\"background:{}\"></span>"
      "waiting (own scale). Over time, then over positions in the log, where a rush shows in "
      "detail.</p>\n",
      kSold, kHeld, kFree, kLine);
  chart(
      out, f.by_time, [](const Moment& m) { return m.at.value; }, text(f.by_time.front().at),
      text(f.by_time.back().at), "Stock and line over time");
  chart(
      out, f.by_position, [](const Moment& m) { return m.seq.value; },
      fmt::format("position {}", f.by_position.front().seq.value),
      fmt::format("position {}", f.by_position.back().seq.value),
      "Stock and line over positions in the log");
}

void add_promises(std::string& out, const FairnessReport& f) {
  out += "<h3>What was promised</h3>\n<table>\n";
  for (std::size_t i = 0; i < kPromises; ++i) {
    add(out, "<tr><td>{}</td><td class=\"{}\">{}</td></tr>\n", explain(static_cast<Promise>(i)),
        f.broken[i] == 0 ? "ok" : "bad",
        f.broken[i] == 0 ? std::string("kept")
                         : fmt::format("broken, {} found", grouped(f.broken[i])));
  }
  out += "</table>\n";
}

void add_breaches(std::string& out, const SaleReport& r, const FairnessReport& f) {
  if (f.fair()) return;
  add(out,
      "<h3 class=\"bad\">Promises not kept: {}</h3>\n<table><tr><th>seq</th><th>time</th>"
      "<th>promise</th><th>purchase</th><th>expected</th><th>found</th></tr>\n",
      grouped(f.breaches_found));
  for (const Breach& b : f.breaches) {
    add(out, "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        b.seq.value, text(b.at), name_of(b.promise),
        b.purchase == Seq{0} ? std::string()
                             : escaped(fmt::format("{}:{}", r.sku, b.purchase.value)),
        escaped(b.expected), escaped(b.found));
  }
  out += "</table>\n";
  if (f.breaches_found > f.breaches.size()) {
    add(out, "<p class=\"note\">The first {} are listed.</p>\n", f.breaches.size());
  }
}

void add_interventions(std::string& out, const FairnessReport& f) {
  out += "<h3>What somebody did to the sale</h3>\n";
  if (f.interventions_found == 0) {
    out += "<p>Nobody intervened.</p>\n";
    return;
  }
  out +=
      "<table><tr><th>seq</th><th>time</th><th>what</th><th>effect</th><th>actor</th>"
      "<th>reason given</th></tr>\n";
  const std::size_t shown = std::min(f.interventions.size(), kMostRows);
  for (std::size_t i = 0; i < shown; ++i) {
    const Intervention& v = f.interventions[i];
    add(out,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><bdi>{}</bdi></td>"
        "<td><bdi>{}</bdi></td></tr>\n",
        v.seq.value, text(v.at), escaped(v.what), escaped(v.effect), escaped(v.actor.view()),
        escaped(v.why.view()));
  }
  out += "</table>\n";
  if (f.interventions_found > shown) {
    add(out, "<p class=\"note\">The first {} of {}; the JSON has more.</p>\n", grouped(shown),
        grouped(f.interventions_found));
  }
}

void add_figures(std::string& out, const SaleReport& r) {
  const Counters& c = r.counters;
  out += "<h3>Figures</h3>\n<table>\n";
  row(out, "Log",
      fmt::format("{} events in {} blocks, {} to {}", grouped(r.events), grouped(r.blocks),
                  text(r.first), text(r.head.time)));
  row(out, "Sale",
      fmt::format("{}; stock {} = free {} + held {} + sold {}; {} waiting", name_of(r.phase),
                  grouped(c.stocked.value), grouped(c.available.value), grouped(c.held.value),
                  grouped(c.sold.value), grouped(c.waiting)));
  if (r.fairness) {
    const FairnessReport& f = *r.fairness;
    row(out, "Attempts",
        fmt::format("{} by {} customers, and {} repeated ones", grouped(f.attempts),
                    grouped(r.customers), grouped(f.repeated)));
    row(out, "Served",
        fmt::format("{} reserved at once; {} waited, of whom {} were offered units",
                    grouped(f.reserved), grouped(f.waited), grouped(f.offered)));
    row(out, "Purchases",
        fmt::format("{} ordered, {} expired, {} given up (by the shop {}, by the operator {}), {} "
                    "released from the line, {} refunded",
                    grouped(f.ordered), grouped(f.expired), grouped(f.given_up),
                    grouped(f.given_up_by_shop), grouped(f.given_up_by_operator),
                    grouped(f.released), grouped(f.refunded)));
    std::string refused;
    for (std::size_t i = 0; i < f.refused.size(); ++i) {
      if (f.refused[i] == 0) continue;
      refused += fmt::format("{}{} {}", refused.empty() ? "" : ", ", grouped(f.refused[i]),
                             name_of(static_cast<Reason>(i)));
    }
    row(out, "Refused", refused.empty() ? "none" : refused);
    row(out, "Most at once",
        fmt::format("{} held, {} waiting", grouped(f.most_held), grouped(f.most_waiting)));
    if (f.opened) {
      row(out, "Opened", fmt::format("{}, position {}", text(f.opened->at), f.opened->seq.value));
    }
    if (f.first_sold_out) {
      row(out, "Sold out",
          fmt::format("{}, position {}", text(f.first_sold_out->at), f.first_sold_out->seq.value));
    }
    if (f.passed_by_size > 0) {
      row(out, "Passed over by size",
          fmt::format("{} times, as the terms say (skip_if_unfit)", grouped(f.passed_by_size)));
    }
  }
  out += "</table>\n";
}

void add_digests(std::string& out, const SaleReport& r) {
  out += "<h3>To compare with</h3>\n<table>\n";
  code_row(out, "Position", fmt::format("{}", r.head.seq.value));
  code_row(out, "Head", to_hex(r.head.digest));
  if (r.state != Digest{}) code_row(out, "State", to_hex(r.state));
  out += "</table>\n";
  add(out,
      "<p class=\"note\">{} saved heads, {} snapshots and {} stored projections were compared. The "
      "head is a SHA-256 over all events up to the position: whoever kept one for this position "
      "and finds the same has "
      "seen the same events.</p>\n",
      r.saved_heads, r.snapshots, r.projections);
}

void add_divergences(std::string& out, const SaleReport& r) {
  if (r.failure)
    add(out, "<p class=\"bad\">Not read to its end: {}</p>\n", escaped(r.failure->message));
  if (r.provisional != Seq{0}) {
    add(out,
        "<p class=\"note\">The log goes on to position {}, provisionally: not known to be durable, "
        "and not audited.</p>\n",
        r.provisional.value);
  }
  if (r.divergences.empty()) return;
  out +=
      "<h3 class=\"bad\">What does not check "
      "out</h3>\n<table><tr><th>seq</th><th>from</th><th>check</th>"
      "<th>expected</th><th>found</th></tr>\n";
  for (const Divergence& d : r.divergences) {
    add(out, "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n", d.seq.value,
        d.from.value, name_of(d.check), escaped(d.expected), escaped(d.found));
  }
  out += "</table>\n";
  if (r.divergences_found > r.divergences.size()) {
    add(out, "<p class=\"note\">The first {} of {}.</p>\n", r.divergences.size(),
        grouped(r.divergences_found));
  }
}

void add_sale(std::string& out, const SaleReport& r, bool charts) {
  add(out, "<h2>{}</h2>\n", escaped(r.sku.empty() ? fmt::format("{:016x}", r.id.value) : r.sku));
  add(out, "<p><span class=\"{}\">{}</span>", r.sound() ? "ok" : "bad",
      r.divergences_found > 0 ? "The log does not check out"
      : r.failure             ? "Not read to its end"
                              : "The log is sound");
  if (r.fairness) {
    add(out, "; <span class=\"{}\">{}{}</span>", r.fair() ? "ok" : "bad",
        r.unfair() ? "not every promise was kept" : "every promise was kept",
        r.complete ? std::string() : fmt::format(" as far as position {}", r.events));
  }
  out += ".</p>\n";
  add_divergences(out, r);
  if (r.fairness) add_breaches(out, r, *r.fairness);
  add_figures(out, r);
  if (r.fairness) {
    if (charts) add_charts(out, *r.fairness);
    add_interventions(out, *r.fairness);
    add_promises(out, *r.fairness);
  }
  add_digests(out, r);
}

void add_others(std::string& out, const StoreReport& report) {
  if (report.others().empty()) return;
  add(out,
      "<h2>The other sales</h2>\n<p class=\"note\">Details are kept of {} sales.</p>\n"
      "<table><tr><th>sale</th><th>position</th><th>head</th><th>what was found</th></tr>\n",
      report.sales().size());
  const std::size_t shown = std::min(report.others().size(), kMostRows);
  for (std::size_t i = 0; i < shown; ++i) {
    const SaleSummary& s = report.others()[i];
    add(out,
        "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td class=\"{}\">{}{}{}</td></tr>\n",
        escaped(s.sku.empty() ? fmt::format("{:016x}", s.id.value) : s.sku), s.head.seq.value,
        to_hex(s.head.digest), s.troubled() ? "bad" : "ok",
        s.divergences > 0 ? "does not check out"
        : s.read          ? "sound"
                          : "not read to its end",
        s.breaches > 0                  ? ", not fair"
        : report.fairness && s.complete ? ", fair"
                                        : "",
        s.provisional == Seq{0} ? std::string()
                                : fmt::format("; provisional to {}", s.provisional.value));
  }
  out += "</table>\n";
  if (report.others().size() > shown) {
    add(out, "<p class=\"note\">The first {} of {}; the JSON has all.</p>\n", grouped(shown),
        grouped(report.others().size()));
  }
}

}  // namespace

Result<void> write_html(const StoreReport& report, std::string& out, const Pass& pass) {
  add(out,
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width\">\n"
      "<title>Fairness report</title>\n<style>{}</style></head><body>\n<h1>Fairness report</h1>\n",
      kStyle);
  const bool good = report.sound() && report.fair();
  add(out, "<p class=\"{}\">{}</p>\n<p class=\"note\">Store {}, by {}.</p>\n", good ? "ok" : "bad",
      good ? "Every sale below is sound and was fair."
           : "Not every sale below is known to be sound and fair; the red lines tell where.",
      escaped(report.store), escaped(report.program));
  if (report.damage) add(out, "<p class=\"bad\">{}</p>\n", escaped(report.damage->message));
  for (const std::string& note : report.notes) {
    add(out, "<p class=\"note\">{}</p>\n", escaped(note));
  }
  std::size_t n = 0;
  for (const SaleReport& r : report.sales()) {
    add_sale(out, r, n++ < kMostCharts);
    if (auto ok = pass(); !ok) return ok;
  }
  if (report.sales().size() > kMostCharts) {
    add(out, "<p class=\"note\">Charts are shown for the first {} sales.</p>\n", kMostCharts);
  }
  add_others(out, report);
  out += "</body></html>\n";
  return pass();
}

}  // namespace fairsale::audit
