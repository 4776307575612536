// fairsale rush and fairsale check.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include "core/json/json.hpp"
#include "tools/cli.hpp"
#include "tools/rush/audit.hpp"
#include "tools/rush/crowd.hpp"
#include "tools/rush/one_request.hpp"
#include "tools/rush/report.hpp"

namespace fairsale::cli {

namespace {

using namespace rush;

constexpr const char* kShopToken = "FAIRSALE_SHOP_TOKEN";
constexpr const char* kOperatorToken = "FAIRSALE_OPERATOR_TOKEN";

struct RushOptions {
  std::string url;
  std::string sku = "demo";
  CrowdOptions crowd;
  std::size_t connections = 256;
  std::string seed;
  std::string units = "1";
  std::string pay_delay = "0.1:1";
  double abandon = 0.2;
  double timeout_seconds = 10;
  double patience_seconds = 60;
  std::string token_file;
  std::string operator_token_file;
  std::string create;
  std::string record;
  std::string customer_prefix = "c";
  bool alone = false;
  bool no_check = false;
  AuditOptions audit;
  std::int64_t expect_sold = -1;
  bool json = false;
  bool quiet = false;
};

template <class Number>
bool parse(std::string_view s, Number& out) {
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), out);
  return error == std::errc{} && end == s.data() + s.size() && !s.empty();
}

std::vector<std::string_view> split(std::string_view s, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = s.find(separator);
    parts.push_back(s.substr(0, at));
    if (at == std::string_view::npos) return parts;
    s.remove_prefix(at + 1);
  }
}

Result<void> parse_mix(RushOptions& o) {
  o.crowd.units.clear();
  for (const std::string_view part : split(o.units, ',')) {
    std::uint16_t n = 0;
    if (!parse(part, n) || n == 0 || n > kMaxUnitsPerPurchase) {
      return fail(Fault::invalid, fmt::format("--units-per-attempt {}: write numbers from 1 to {} "
                                              "with commas between, for example 1,1,2",
                                              o.units, kMaxUnitsPerPurchase));
    }
    o.crowd.units.push_back(n);
  }
  const auto delay = split(o.pay_delay, ':');
  if (delay.size() != 2 || !parse(delay[0], o.crowd.pay_delay_from) ||
      !parse(delay[1], o.crowd.pay_delay_to) || o.crowd.pay_delay_from < 0 ||
      o.crowd.pay_delay_to < o.crowd.pay_delay_from) {
    return fail(Fault::invalid, "--pay-delay " + o.pay_delay + ": write FROM:TO in seconds");
  }
  if (o.crowd.pay + o.crowd.cancel + o.abandon > 1.0001) {
    return fail(Fault::invalid, "--pay, --abandon and --cancel are shares: together at most 1");
  }
  if (o.seed.empty()) {
    std::random_device device;
    o.crowd.seed = (std::uint64_t{device()} << 32) | device();
  } else if (!parse(o.seed, o.crowd.seed)) {
    return fail(Fault::invalid, "--seed is a number from 0 to 18446744073709551615");
  }
  o.audit.seed = o.crowd.seed;
  return {};
}

// "stock=1000,hold=2" as the body of PUT /v1/sales/{sku}.
Result<std::string> sale_body(const std::string& create) {
  std::map<std::string_view, std::string_view> given;
  for (const std::string_view part : split(create, ',')) {
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      return fail(Fault::invalid, fmt::format("--create: \"{}\" is not name=value", part));
    }
    given[part.substr(0, equals)] = part.substr(equals + 1);
  }
  // Name here, member in the body, default; an empty default leaves the member to the server.
  struct Member {
    const char* name;
    const char* member;
    const char* standard;
    bool text;
  };
  constexpr std::array kMembers = {
      Member{"stock", "stock", "1000", false},
      Member{"hold", "hold_seconds", "120", false},
      Member{"grace", "grace_seconds", "", false},
      Member{"limit", "limit_per_customer", "", false},
      Member{"units", "units_per_purchase", "", false},
      Member{"line", "line_limit", "", false},
      Member{"policy", "line_policy", "", true},
  };
  std::string price = "4900";
  std::string currency = "EUR";
  std::string body = "{";
  for (const Member& m : kMembers) {
    std::string_view value = m.standard;
    if (const auto it = given.find(m.name); it != given.end()) {
      value = it->second;
      given.erase(it);
    }
    double number = 0;
    if (!m.text && !value.empty() && !parse(value, number)) {
      return fail(Fault::invalid, fmt::format("--create: {}={} is not a number", m.name, value));
    }
    if (value.empty()) continue;
    body += fmt::format(R"("{}":{},)", m.member, m.text ? json_string(value) : std::string(value));
  }
  double opens_in = 0;
  double ends_in = 0;
  for (const auto& [name, value] : given) {
    bool good = true;
    if (name == "price") {
      std::int64_t n = 0;
      good = parse(value, n);
      price = value;
    } else if (name == "currency") {
      currency = value;
    } else if (name == "opens_in") {
      good = parse(value, opens_in) && opens_in >= 0;
    } else if (name == "ends_in") {
      good = parse(value, ends_in) && ends_in > 0;
    } else {
      return fail(Fault::invalid,
                  fmt::format("--create: unknown name \"{}\"; it takes stock, price, currency, "
                              "hold, grace, limit, units, line, policy, opens_in and ends_in",
                              name));
    }
    if (!good) return fail(Fault::invalid, fmt::format("--create: {}={} is wrong", name, value));
  }
  const auto after = [](double seconds) {
    const auto at = std::chrono::system_clock::now().time_since_epoch() +
                    std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
    std::string text;
    append_rfc3339(text,
                   Timestamp{std::chrono::duration_cast<std::chrono::milliseconds>(at).count()});
    return text;
  };
  if (opens_in > 0) body += fmt::format(R"("starts_at":"{}",)", after(opens_in));
  if (ends_in > 0) body += fmt::format(R"("ends_at":"{}",)", after(ends_in));
  body += fmt::format(R"("price":{{"amount":{},"currency":{}}}}})", price, json_string(currency));
  return body;
}

// Creates the sale when asked to and reads it. `created` when it was not there before.
Result<SaleFacts> open_sale(const RushOptions& o, const Endpoint& endpoint,
                            const Requests& requests, std::int64_t patience_us, bool& created) {
  if (!o.create.empty()) {
    auto token = token_from(o.operator_token_file, kOperatorToken);
    if (!token) return tl::unexpected(token.error());
    if (token->empty()) {
      return fail(Fault::invalid, fmt::format("--create needs the operator's token: "
                                              "--operator-token-file or {}",
                                              kOperatorToken));
    }
    auto body = sale_body(o.create);
    if (!body) return tl::unexpected(body.error());
    auto reply =
        ask(endpoint, Requests::put(endpoint.authority, *token, "/v1/sales/" + o.sku, *body),
            patience_us);
    if (!reply) return tl::unexpected(reply.error());
    if (reply->status != 200 && reply->status != 201) {
      return fail(Fault::io, fmt::format("the server refused to open the sale: {} {}",
                                         reply->status, reply->body()));
    }
    created = reply->status == 201;
  }
  std::string request;
  requests.read_sale(0, request);
  auto reply = ask(endpoint, request, patience_us);
  if (!reply) return tl::unexpected(reply.error());
  AnswerReader reader;
  SaleFacts facts;
  if (reply->status != 200 || !reader.read(reply->body(), facts)) {
    return fail(Fault::io,
                fmt::format("sale {} cannot be read: {} {}{}", o.sku, reply->status, reply->body(),
                            reply->status == 404 ? "\nOpen it with --create stock=1000" : ""));
  }
  return facts;
}

class Progress {
 public:
  explicit Progress(bool on) : on_(on) {}

  void operator()(const Crowd& crowd) {
    if (!on_) return;
    const std::int64_t now = now_us();
    if (now - shown_us_ < kEveryUs) return;
    const auto& first = crowd.report().first;
    const std::uint64_t answered = first[1] + first[2] + first[3];
    const double rate = shown_us_ == 0 ? 0
                                       : static_cast<double>(answered - answered_) * 1e6 /
                                             static_cast<double>(now - shown_us_);
    answered_ = answered;
    shown_us_ = now;
    fmt::print(stderr, "\r\x1b[K{}", progress_line(crowd, rate));
    std::fflush(stderr);
  }

  void clear() const {
    if (on_) fmt::print(stderr, "\r\x1b[K");
  }

 private:
  static constexpr std::int64_t kEveryUs = 200'000;
  bool on_;
  std::int64_t shown_us_ = 0;
  std::uint64_t answered_ = 0;
};

// What failed beyond the checks: anything that a good server does not do to a good client.
void check_conduct(const RushOptions& o, const Crowd& crowd, Violations& v) {
  const CrowdReport& r = crowd.report();
  v.ran("conduct");
  for (const auto& [status, n] : r.unexpected) {
    v.add("conduct", fmt::format("{} answers with an unexpected status {} or content", n, status));
  }
  if (const auto n = crowd.driver().wire().malformed; n != 0) {
    v.add("conduct", fmt::format("{} responses are not HTTP as expected", n));
  }
  const std::uint64_t answered = r.first[1] + r.first[2] + r.first[3];
  if (interrupted == 0 && answered != crowd.planned()) {
    v.add("conduct",
          fmt::format("{} attempts never got an answer for good", crowd.planned() - answered));
  }
  if (interrupted == 0 && o.crowd.until_settled && !r.settled) {
    v.add("conduct", fmt::format("the sale did not settle within {} s after the last attempt",
                                 o.crowd.settle_seconds));
  }
}

Result<int> run_rush(RushOptions& o) {
  if (auto ok = parse_mix(o); !ok) return tl::unexpected(ok.error());
  auto endpoint = parse_url(o.url);
  if (!endpoint) return tl::unexpected(endpoint.error());
  o.crowd.curve.attempts = o.crowd.attempts;
  auto curve = rate_curve(o.crowd.curve);
  if (!curve) return tl::unexpected(curve.error());
  auto token = token_from(o.token_file, kShopToken);
  if (!token) return tl::unexpected(token.error());
  if (token->empty()) {
    return fail(Fault::invalid, fmt::format("the crowd acts with the shop's token: give "
                                            "--token-file or set {}",
                                            kShopToken));
  }
  RunInfo info{.url = o.url,
               .sku = o.sku,
               .seed = o.crowd.seed,
               .key_prefix = fmt::format("rush-{}-", o.crowd.seed),
               .customer_prefix = o.customer_prefix,
               .alone = o.alone};
  const auto timeout_us = static_cast<std::int64_t>(o.timeout_seconds * 1e6);
  o.crowd.patience_us = static_cast<std::int64_t>(o.patience_seconds * 1e6);
  o.audit.patience_us = o.crowd.patience_us;
  const Requests requests(info, endpoint->authority, *token);

  bool created = false;
  auto sale = open_sale(o, *endpoint, requests, o.crowd.patience_us, created);
  if (!sale) return tl::unexpected(sale.error());
  info.alone = info.alone || created;

  std::optional<RecordWriter> record;
  if (!o.record.empty()) {
    auto writer = RecordWriter::create(o.record, info);
    if (!writer) return tl::unexpected(writer.error());
    record.emplace(std::move(*writer));
  }
  auto pool = HttpPool::open(*endpoint, o.connections, timeout_us);
  if (!pool) return tl::unexpected(pool.error());
  if (!o.quiet) {
    fmt::print(stderr, "{} attempts by {} customers on {} connections, seed {}\n",
               grouped(o.crowd.attempts), grouped(o.crowd.customers), o.connections, info.seed);
  }
  watch_signals();
  Violations violations;
  Driver driver(std::move(*pool), o.crowd.seed);
  Crowd crowd(driver, requests, info, o.crowd, *sale, record ? &*record : nullptr, violations);
  Progress progress(!o.quiet && isatty(STDERR_FILENO) == 1);
  auto ran = crowd.run(*curve, interrupted, [&](const Crowd& c) { progress(c); });
  progress.clear();
  if (record) {
    if (auto closed = record->close(); !closed) return tl::unexpected(closed.error());
  }
  if (!ran) {
    if (!o.json) fmt::print("{}", summary_text(info, crowd));
    return tl::unexpected(ran.error());
  }
  check_conduct(o, crowd, violations);

  SaleFacts now = crowd.sale();
  if (!o.no_check && interrupted == 0) {
    if (!o.quiet) fmt::print(stderr, "reading back what was acknowledged …\n");
    auto fresh = HttpPool::open(*endpoint, o.connections, timeout_us);
    if (!fresh) return tl::unexpected(fresh.error());
    Driver reader(std::move(*fresh), o.crowd.seed);
    auto report = audit(reader, requests, info, crowd.claims(), o.audit, violations);
    if (!report) return tl::unexpected(report.error());
    now = report->sale;
  }
  if (o.expect_sold >= 0) {
    violations.ran("expect_sold");
    if (now.sold != o.expect_sold) {
      violations.add("expect_sold", fmt::format("sold {} instead of {}", now.sold, o.expect_sold));
    }
  }
  if (o.json) {
    fmt::print("{{{},\"sale\":{},\"checks\":{}}}\n", summary_json(info, crowd), sale_json(now),
               violations_json(violations));
  } else {
    fmt::print("{}sale now   {}checks     {}\n{}", summary_text(info, crowd), sale_text(now),
               violations.none() ? "passed" : "FAILED", violations_text(violations));
  }
  return violations.none() ? kOk : kCheckFailed;
}

struct CheckOptions {
  std::string url;
  std::string record;
  std::string token_file;
  std::size_t connections = 64;
  AuditOptions audit;
  double timeout_seconds = 10;
  double patience_seconds = 60;
  std::int64_t expect_sold = -1;
  bool json = false;
};

Result<int> run_check(CheckOptions& o) {
  auto endpoint = parse_url(o.url);
  if (!endpoint) return tl::unexpected(endpoint.error());
  auto token = token_from(o.token_file, kShopToken);
  if (!token) return tl::unexpected(token.error());
  if (token->empty()) {
    return fail(Fault::invalid, fmt::format("reading purchases takes the shop's token: give "
                                            "--token-file or set {}",
                                            kShopToken));
  }
  auto record = read_record(o.record);
  if (!record) return tl::unexpected(record.error());
  o.audit.seed = record->info.seed;
  o.audit.patience_us = static_cast<std::int64_t>(o.patience_seconds * 1e6);
  const Requests requests(record->info, endpoint->authority, *token);
  auto pool =
      HttpPool::open(*endpoint, o.connections, static_cast<std::int64_t>(o.timeout_seconds * 1e6));
  if (!pool) return tl::unexpected(pool.error());
  Driver driver(std::move(*pool), record->info.seed);
  Violations violations;
  auto report = audit(driver, requests, record->info, record->claims, o.audit, violations);
  if (!report) return tl::unexpected(report.error());
  if (o.expect_sold >= 0) {
    violations.ran("expect_sold");
    if (report->sale.sold != o.expect_sold) {
      violations.add("expect_sold",
                     fmt::format("sold {} instead of {}", report->sale.sold, o.expect_sold));
    }
  }
  if (o.json) {
    fmt::print(R"({{"sku":{},"read":{},"repeated":{},"listed":{},"sale":{},"checks":{}}})"
               "\n",
               json_string(record->info.sku), report->read, report->repeated, report->listed,
               sale_json(report->sale), violations_json(violations));
  } else {
    fmt::print(
        "read {} purchases, repeated {} attempts, listed {} customers\nsale now   {}"
        "checks     {}\n{}",
        grouped(report->read), grouped(report->repeated), grouped(report->listed),
        sale_text(report->sale), violations.none() ? "passed" : "FAILED",
        violations_text(violations));
  }
  return violations.none() ? kOk : kCheckFailed;
}

}  // namespace

void add_rush(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<RushOptions>();
  CLI::App* c = app.add_subcommand(
      "rush",
      "A crowd at the opening of a sale, over HTTP; then checks from the outside that the "
      "sale was fair and complete");
  c->footer(
      "The crowd acts with the shop's token (--token-file or FAIRSALE_SHOP_TOKEN). A run with the\n"
      "same --seed makes the same attempts with the same keys, so against the same sale it gets\n"
      "the same answers again.\n"
      "Exit codes: 0 all checks hold; 1 a check failed; 2 usage; 3 the server or a file failed.\n"
      "Example: fairsale rush http://127.0.0.1:8080 --sku rush --create stock=1000,hold=2 \\\n"
      "           --until-settled --expect-sold 1000");
  c->add_option("url", o->url, "Base URL of the server")->required();
  c->add_option("--sku", o->sku, "The sale")->capture_default_str();
  c->add_option("--attempts", o->crowd.attempts, "Attempts to buy")
      ->check(CLI::Range(std::size_t{1}, std::size_t{10'000'000}))
      ->capture_default_str();
  c->add_option("--customers", o->crowd.customers, "Customers who make them")
      ->check(CLI::Range(1U, 10'000'000U))
      ->capture_default_str();
  c->add_option("--connections", o->connections, "Connections, shared by the customers")
      ->check(CLI::Range(std::size_t{1}, std::size_t{20'000}))
      ->capture_default_str();
  c->add_option("--units-per-attempt", o->units,
                "Units an attempt asks for; a list is a mix (1,1,2)")
      ->capture_default_str();
  CurveOptions& curve = o->crowd.curve;
  c->add_option("--baseline", curve.baseline,
                "Attempts/s before and after the spike [what makes all attempts fit]");
  c->add_option("--spike", curve.spike, "The spike is this many times the baseline")
      ->capture_default_str();
  c->add_option("--spike-seconds", curve.spike_seconds,
                "Length of the spike [10, or what makes all attempts fit]");
  c->add_option("--lead-seconds", curve.lead_seconds, "Baseline before the spike")
      ->capture_default_str();
  c->add_option("--tail-seconds", curve.tail_seconds, "Baseline after it")->capture_default_str();
  auto* rate = c->add_option("--rate", curve.flat_rate, "No spike: this many attempts/s throughout")
                   ->check(CLI::PositiveNumber);
  auto* closed = c->add_flag("--closed-loop", o->crowd.closed_loop,
                             "No plan: every connection sends as soon as it is free");
  rate->excludes(closed);
  c->add_option("--duration", o->crowd.duration_seconds,
                "Attempts planned for later than this many seconds do not come");
  const CLI::Range share(0.0, 1.0);
  c->add_option("--pay", o->crowd.pay, "Share of those who hold units that pay")
      ->check(share)
      ->capture_default_str();
  c->add_option("--abandon", o->abandon, "Share that leaves without a word")
      ->check(share)
      ->capture_default_str();
  c->add_option("--cancel", o->crowd.cancel, "Share that gives the units up")
      ->check(share)
      ->capture_default_str();
  c->add_option("--pay-delay", o->pay_delay, "Seconds until they do, FROM:TO")
      ->capture_default_str();
  c->add_option("--retry", o->crowd.retry, "Share of attempts repeated later, with the same key")
      ->check(share)
      ->capture_default_str();
  c->add_option("--retry-within", o->crowd.retry_within_seconds,
                "At most this many seconds after their answer")
      ->capture_default_str();
  c->add_option("--duplicate", o->crowd.duplicate,
                "Share of attempts sent twice at once, with the same key")
      ->check(share)
      ->capture_default_str();
  c->add_option("--seed", o->seed, "Chooses everything that is random [at random, and printed]");
  c->add_flag("--until-settled", o->crowd.until_settled,
              "Go on until nothing is held and nobody waits");
  c->add_option("--settle-seconds", o->crowd.settle_seconds, "The most that may take")
      ->capture_default_str();
  c->add_option("--timeout", o->timeout_seconds, "Seconds until a request is given up and repeated")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("--patience", o->patience_seconds,
                "Seconds without any answer until the run is given up (a restart takes some)")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("--token-file", o->token_file, "File with the shop's token");
  c->add_option(
      "--create", o->create,
      "Open the sale first: stock=1000,hold=120,price=4900,currency=EUR,grace=…,limit=…,"
      "units=…,line=…,policy=…,opens_in=…,ends_in=… (seconds); takes the operator's token");
  c->add_option("--operator-token-file", o->operator_token_file,
                "File with the operator's token [FAIRSALE_OPERATOR_TOKEN]");
  c->add_option("--customer-prefix", o->customer_prefix, "Customers are named this and a number")
      ->capture_default_str();
  c->add_option("--record", o->record, "Write every acknowledged answer to this file (JSON Lines)");
  c->add_flag(
      "--alone", o->alone,
      "Nobody else buys in this sale: check what can only be proven then (as after --create)");
  c->add_flag("--no-check", o->no_check, "Do not read back what was acknowledged");
  c->add_option("--repeats", o->audit.repeats, "Attempts that the check repeats with their key")
      ->capture_default_str();
  c->add_option("--listings", o->audit.listings, "Customers whose listing the check reads")
      ->capture_default_str();
  c->add_option("--expect-sold", o->expect_sold, "Fail unless exactly this many units are sold");
  c->add_flag("--json", o->json, "The summary as one JSON object");
  c->add_flag("-q,--quiet", o->quiet, "No progress on stderr");
  c->callback([o, &exit_code] {
    const auto result = run_rush(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

void add_check(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<CheckOptions>();
  CLI::App* c = app.add_subcommand(
      "check", "Checks what a recorded rush was told against a running (say, restarted) server");
  c->footer(
      "Exit codes: 0 all checks hold; 1 a check failed; 2 usage; 3 the server or a file failed.");
  c->add_option("url", o->url, "Base URL of the server")->required();
  c->add_option("--record", o->record, "The record that fairsale rush --record wrote")->required();
  c->add_option("--token-file", o->token_file, "File with the shop's token [FAIRSALE_SHOP_TOKEN]");
  c->add_option("--connections", o->connections, "Connections")
      ->check(CLI::Range(std::size_t{1}, std::size_t{20'000}))
      ->capture_default_str();
  c->add_option("--repeats", o->audit.repeats, "Attempts that are repeated with their key")
      ->capture_default_str();
  c->add_option("--listings", o->audit.listings, "Customers whose listing is read")
      ->capture_default_str();
  c->add_option("--timeout", o->timeout_seconds, "Seconds until a request is repeated")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("--patience", o->patience_seconds, "Seconds without any answer until giving up")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("--expect-sold", o->expect_sold, "Fail unless exactly this many units are sold");
  c->add_flag("--json", o->json, "The outcome as one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_check(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
