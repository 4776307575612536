// fairsale-load: loads one server on 127.0.0.1 with pre-rendered requests and prints what came
// back as one JSON object.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <sstream>

#include "tools/bench/load_client.hpp"

namespace fairsale::bench {
namespace {

// "ROLE:WEIGHT:FILE" into the plan; what is wrong with it, or nothing.
std::string add_request(const std::string& text, LoadPlan& plan) {
  const std::size_t first = text.find(':');
  const std::size_t second = text.find(':', first + 1);
  if (second == std::string::npos) return "--request takes ROLE:WEIGHT:FILE, not " + text;
  for (std::size_t i = 0; i < kRoles; ++i) {
    if (text.substr(0, first) != name_of(static_cast<Role>(i))) continue;
    unsigned weight = 0;
    std::istringstream number(text.substr(first + 1, second - first - 1));
    if (!(number >> weight) || !number.eof() || weight < 1 || weight > 1000) {
      return "a weight is from 1 to 1000: " + text;
    }
    std::ifstream file(text.substr(second + 1), std::ios::binary);
    if (!file) return "cannot read " + text.substr(second + 1);
    plan.requests[i].assign(std::istreambuf_iterator<char>(file), {});
    plan.weights[i] = weight;
    return plan.requests[i].empty() ? "empty: " + text.substr(second + 1) : "";
  }
  return "a role is fresh, retry, over or read: " + text;
}

std::string json_of_kinds(const Tally& tally) {
  std::string out;
  for (std::size_t i = 0; i < kRoles; ++i) {
    const auto role = static_cast<Role>(i);
    if (tally.kinds(role).empty()) continue;
    std::string kinds;
    for (const auto& [label, n] : tally.kinds(role)) {
      kinds += fmt::format(R"({}"{}":{})", kinds.empty() ? "" : ",", label.view(), n);
    }
    out += fmt::format(R"({}"{}":{{{}}})", out.empty() ? "" : ",", name_of(role), kinds);
  }
  return "{" + out + "}";
}

std::string json_of(const LoadReport& r) {
  const rush::Histogram& l = r.measured.latency();
  const double answers = static_cast<double>(r.measured.answers());
  return fmt::format(
      R"({{"seconds":{:.6f},"answers":{},"per_second":{:.1f},"latency_us":{{"p50":{},"p90":{},)"
      R"("p99":{},"p99.9":{},"max":{}}},"pushed_back_p99":{},"measured":{},"whole":{},"sent":{},"due":{},)"
      R"("abandoned":{},"lost":{},"unanswered":{},"client_cpu_seconds":{:.3f},"next":{}}})",
      r.seconds, r.measured.answers(), r.seconds > 0 ? answers / r.seconds : 0, l.percentile(50),
      l.percentile(90), l.percentile(99), l.percentile(99.9), l.max(),
      r.measured.pushed_back().percentile(99), json_of_kinds(r.measured), json_of_kinds(r.whole),
      r.sent, r.due, r.abandoned, r.lost, r.unanswered, r.cpu_seconds, r.next_number);
}

int main_of(int argc, char** argv) {
  LoadPlan plan;
  std::vector<std::string> requests;
  std::string protocol = "http";
  CLI::App app("Loads one server on 127.0.0.1 and prints the answers, counted, as JSON.");
  app.add_option("--port", plan.port)->required()->check(CLI::Range(1, 65535));
  app.add_option("--protocol", protocol)->check(CLI::IsMember({"http", "resp"}));
  app.add_option("--request", requests,
                 "ROLE:WEIGHT:FILE; roles are fresh, retry, over and read. In the file, runs of @, "
                 "~ and # are the numbers of customer, key and SKU")
      ->required();
  app.add_option("--connections", plan.connections)->check(CLI::Range(1, 20'000));
  app.add_option("--depth", plan.depth, "Outstanding requests of a connection")
      ->check(CLI::Range(1, 1024));
  app.add_option("--rate", plan.rate, "Open loop: requests a second")->check(CLI::Range(0.0, 1e8));
  app.add_option("--seconds", plan.seconds)->check(CLI::Range(0.01, 86'400.0));
  app.add_option("--warmup", plan.warmup_seconds)->check(CLI::Range(0.0, 600.0));
  app.add_option("--requests-at-most", plan.requests_at_most);
  app.add_option("--give-up", plan.give_up_seconds,
                 "Open loop: seconds after which what could not be sent is not sent");
  app.add_option("--first", plan.first, "Number of the first customer");
  app.add_option("--skus", plan.skus)->check(CLI::Range(1, 1'000'000));
  CLI11_PARSE(app, argc, argv);

  plan.protocol = protocol == "resp" ? read_resp_answer : read_http_answer;
  for (const std::string& request : requests) {
    if (const std::string wrong = add_request(request, plan); !wrong.empty()) {
      fmt::print(stderr, "fairsale-load: {}\n", wrong);
      return 2;
    }
  }
  // A repeat comes as a first attempt while there is nothing to repeat.
  const auto has = [&plan](Role role) { return plan.weights[static_cast<std::size_t>(role)] > 0; };
  if ((has(Role::retry) || has(Role::over)) && !has(Role::fresh)) {
    fmt::print(stderr, "fairsale-load: repeats need first attempts\n");
    return 2;
  }
  const auto report = run_load(plan);
  if (!report) {
    fmt::print(stderr, "fairsale-load: {}\n", report.error().message);
    return 1;
  }
  fmt::print("{}\n", json_of(*report));
  return 0;
}

}  // namespace
}  // namespace fairsale::bench

int main(int argc, char** argv) { return fairsale::bench::main_of(argc, argv); }
