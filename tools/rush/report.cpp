#include "tools/rush/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "tools/cli.hpp"

namespace fairsale::rush {

namespace {

using cli::grouped;
using cli::json_string;

struct NamedHistogram {
  const char* name;
  const char* key;
  const Histogram& histogram;
};

std::array<NamedHistogram, 4> histograms(const CrowdReport& r) {
  return {{{"attempt, from its arrival", "attempt_latency_us", r.attempt_latency},
           {"attempt, from its sending", "attempt_service_us", r.attempt_service},
           {"payment or cancellation", "payment_service_us", r.payment_service},
           {"read", "read_service_us", r.read_service}}};
}

std::string milliseconds(std::uint64_t us) {
  return fmt::format("{:.2f}", static_cast<double>(us) / 1000);
}

std::uint64_t first_answers(const CrowdReport& r) { return r.first[1] + r.first[2] + r.first[3]; }

double rate(const CrowdReport& r) {
  return r.attempt_seconds > 0 ? static_cast<double>(first_answers(r)) / r.attempt_seconds : 0;
}

// "name 12, other 3", by visiting counts that are not zero.
std::string refusals(const CrowdReport& r) {
  std::string s;
  for (std::size_t i = 0; i < r.refused.size(); ++i) {
    if (r.refused[i] == 0) continue;
    if (!s.empty()) s += ", ";
    s += fmt::format("{} {}", name_of(static_cast<Reason>(i)), grouped(r.refused[i]));
  }
  return s;
}

}  // namespace

std::string violations_text(const Violations& v) {
  std::string s;
  auto out = std::back_inserter(s);
  for (const auto& [check, found] : v.by_check()) {
    if (found.count == 0) continue;
    fmt::format_to(out, "  {}: {} violation{}\n", check, grouped(found.count),
                   found.count == 1 ? "" : "s");
    for (const std::string& what : found.first) fmt::format_to(out, "    {}\n", what);
    if (found.count > found.first.size()) fmt::format_to(out, "    …\n");
  }
  std::string names;
  for (const auto& [check, found] : v.by_check()) {
    if (found.count != 0) continue;
    if (!names.empty()) names += ", ";
    names += check;
  }
  if (!names.empty()) fmt::format_to(out, "  hold: {}\n", names);
  return s;
}

std::string violations_json(const Violations& v) {
  std::string s =
      fmt::format(R"({{"passed":{},"violations":{},"by_check":{{)", v.none(), v.total());
  auto out = std::back_inserter(s);
  const char* comma = "";
  for (const auto& [check, found] : v.by_check()) {
    fmt::format_to(out, R"({}"{}":{{"count":{},"first":[)", comma, check, found.count);
    comma = ",";
    for (std::size_t i = 0; i < found.first.size(); ++i) {
      fmt::format_to(out, "{}{}", i == 0 ? "" : ",", json_string(found.first[i]));
    }
    s += "]}";
  }
  s += "}}";
  return s;
}

std::string sale_text(const SaleFacts& s) {
  return fmt::format("stock {}  available {}  held {}  sold {}  waiting {}  {}  position {}\n",
                     s.stock, s.available, s.held, s.sold, s.waiting, s.state, s.position);
}

std::string sale_json(const SaleFacts& s) {
  return fmt::format(
      R"({{"state":{},"stock":{},"available":{},"held":{},"sold":{},"waiting":{},"position":{}}})",
      json_string(s.state), s.stock, s.available, s.held, s.sold, s.waiting, s.position);
}

std::string summary_text(const RunInfo& info, const Crowd& crowd) {
  const CrowdReport& r = crowd.report();
  const PushbackCounters& p = crowd.driver().pushback();
  const WireCounters& w = crowd.driver().wire();
  std::string s;
  auto out = std::back_inserter(s);
  fmt::format_to(out, "sale       {} at {}, seed {}\n", info.sku, info.url, info.seed);
  fmt::format_to(
      out,
      "attempts   {} answered of {} planned in {:.2f} s: {}/s, at most {} in one second; "
      "{:.1f} s in all\n",
      grouped(first_answers(r)), grouped(crowd.planned()), r.attempt_seconds,
      grouped(static_cast<std::uint64_t>(rate(r))), grouped(r.peak_per_second), r.seconds);
  const std::string why = refusals(r);
  fmt::format_to(out, "answers    reserved {}  waiting {}  refused {}{}{}{}\n", grouped(r.first[1]),
                 grouped(r.first[2]), grouped(r.first[3]), why.empty() ? "" : " (", why,
                 why.empty() ? "" : ")");
  fmt::format_to(out, "repeats    {} answered again with the same key\n", grouped(r.repeats));
  fmt::format_to(
      out, "holders    offered {}  paid {}  refund due {}  gave up {} (too late {})  left {}\n",
      grouped(r.offered), grouped(r.paid), grouped(r.refund_due), grouped(r.given_up),
      grouped(r.give_up_refused), grouped(r.left));
  fmt::format_to(out,
                 "pushback   429 {}  503 {}  408 {}  other 5xx {}\n"
                 "wire       connects {}  refused {}  resets {}  timeouts {}  malformed {}\n",
                 p.rate_limited, p.unavailable, p.timed_out, p.server_errors, w.connects, w.refused,
                 w.resets, w.timeouts, w.malformed);
  for (const auto& [status, n] : r.unexpected) {
    fmt::format_to(out, "UNEXPECTED status {}: {} answers\n", status, grouped(n));
  }
  if (!r.first_unexpected.empty()) fmt::format_to(out, "  the first: {}\n", r.first_unexpected);
  fmt::format_to(out, "{:<26}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "milliseconds", "count",
                 "50 %", "90 %", "99 %", "99.9 %", "max");
  for (const auto& [name, key, h] : histograms(r)) {
    if (h.count() == 0) continue;
    fmt::format_to(out, "{:<26}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", name, grouped(h.count()),
                   milliseconds(h.percentile(50)), milliseconds(h.percentile(90)),
                   milliseconds(h.percentile(99)), milliseconds(h.percentile(99.9)),
                   milliseconds(h.max()));
  }
  return s;
}

std::string summary_json(const RunInfo& info, const Crowd& crowd) {
  const CrowdReport& r = crowd.report();
  const PushbackCounters& p = crowd.driver().pushback();
  const WireCounters& w = crowd.driver().wire();
  std::string s;
  auto out = std::back_inserter(s);
  fmt::format_to(out, R"("url":{},"sku":{},"seed":"{}","planned":{},"answered":{},)",
                 json_string(info.url), json_string(info.sku), info.seed, crowd.planned(),
                 first_answers(r));
  fmt::format_to(out,
                 R"("seconds":{:.3f},"attempt_seconds":{:.3f},"answers_per_second":{:.0f},)"
                 R"("peak_per_second":{},"settled":{},)",
                 r.seconds, r.attempt_seconds, rate(r), r.peak_per_second, r.settled);
  fmt::format_to(out, R"("reserved":{},"waiting":{},"refused":{},"refused_by_reason":{{)",
                 r.first[1], r.first[2], r.first[3]);
  const char* comma = "";
  for (std::size_t i = 0; i < r.refused.size(); ++i) {
    if (r.refused[i] == 0) continue;
    fmt::format_to(out, R"({}"{}":{})", comma, name_of(static_cast<Reason>(i)), r.refused[i]);
    comma = ",";
  }
  fmt::format_to(out,
                 R"(}},"repeats":{},"offered":{},"paid":{},"refund_due":{},"payments_refused":{},)"
                 R"("gave_up":{},"gave_up_too_late":{},"left":{},)",
                 r.repeats, r.offered, r.paid, r.refund_due, r.payments_refused, r.given_up,
                 r.give_up_refused, r.left);
  fmt::format_to(
      out,
      R"("pushback":{{"429":{},"503":{},"408":{},"other_5xx":{}}},)"
      R"("wire":{{"connects":{},"refused":{},"resets":{},"timeouts":{},"malformed":{}}},)",
      p.rate_limited, p.unavailable, p.timed_out, p.server_errors, w.connects, w.refused, w.resets,
      w.timeouts, w.malformed);
  s += R"("unexpected":{)";
  comma = "";
  for (const auto& [status, n] : r.unexpected) {
    fmt::format_to(out, R"({}"{}":{})", comma, status, n);
    comma = ",";
  }
  s += "}";
  for (const auto& [name, key, h] : histograms(r)) {
    fmt::format_to(out,
                   R"(,"{}":{{"count":{},"mean":{:.0f},"p50":{},"p90":{},"p99":{},"p99.9":{},)"
                   R"("max":{}}})",
                   key, h.count(), h.mean(), h.percentile(50), h.percentile(90), h.percentile(99),
                   h.percentile(99.9), h.max());
  }
  return s;
}

std::string progress_line(const Crowd& crowd, double answers_per_second) {
  const CrowdReport& r = crowd.report();
  const std::uint64_t answered = first_answers(r);
  constexpr std::size_t kWidth = 20;
  const std::size_t planned = std::max<std::size_t>(crowd.planned(), 1);
  const std::size_t full = std::min(kWidth, kWidth * answered / planned);
  const PushbackCounters& p = crowd.driver().pushback();
  const WireCounters& w = crowd.driver().wire();
  const std::uint64_t errors = w.resets + w.refused + w.timeouts + w.malformed + p.server_errors;
  return fmt::format(
      "[{}{}] {:3d} % {:>7}/s  reserved {}  waiting {}  refused {}  sold {}  429 {}  503 {}  "
      "errors {}",
      std::string(full, '='), std::string(kWidth - full, ' '), 100 * answered / planned,
      grouped(static_cast<std::uint64_t>(answers_per_second)), grouped(r.first[1]),
      grouped(r.first[2]), grouped(r.first[3]), crowd.sale().sold, p.rate_limited, p.unavailable,
      errors);
}

}  // namespace fairsale::rush
