#include "tools/orders/monitor.hpp"

#include <fmt/format.h>

#include "api/http/problem.hpp"

namespace fairsale::orders {

namespace {

void counter(std::string& out, std::string_view name, std::string_view kind, std::string_view help,
             std::uint64_t value) {
  fmt::format_to(std::back_inserter(out), "# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help,
                 kind, value);
}

std::string render(const ProcessorCounts& c) {
  std::string out;
  counter(out, "fairsale_orders_taken_total", "counter", "Orders and refunds due that were taken.",
          c.taken);
  counter(out, "fairsale_orders_repeated_total", "counter", "Messages that were known already.",
          c.repeated);
  counter(out, "fairsale_orders_set_aside_total", "counter", "Messages that were set aside.",
          c.dead);
  counter(out, "fairsale_orders_unanswered_calls_total", "counter",
          "Calls whose outcome is unknown; they are made again.", c.unknown);
  counter(out, "fairsale_orders_open", "gauge", "Orders and refunds not at an end.", c.open);
  counter(out, "fairsale_orders_stuck", "gauge", "Of them, those that somebody should look at.",
          c.stuck);
  out +=
      "# HELP fairsale_orders_reached_total Times that a state was reached.\n"
      "# TYPE fairsale_orders_reached_total counter\n";
  for (std::size_t i = 0; i < c.reached.size(); ++i) {
    const auto state = state_of(static_cast<std::uint8_t>(i));
    if (!state) continue;
    fmt::format_to(std::back_inserter(out), "fairsale_orders_reached_total{{state=\"{}\"}} {}\n",
                   name_of(*state), c.reached[i]);
  }
  return out;
}

}  // namespace

class Monitor::Service final : public http::Service {
 public:
  explicit Service(const Processor& p) : processor_(p) {}
  void serve_on(http::Worker& w) { worker_ = &w; }

  void on_request(const http::Request& r, http::Ticket t) override {
    const bool read = r.method == http::Method::get || r.method == http::Method::head;
    if (read && r.path == "/livez") {
      worker_->respond(t, {200, "text/plain", {}, "ok\n"});
    } else if (read && r.path == "/metrics") {
      const std::string text = render(processor_.counts());
      worker_->respond(t, {200, "text/plain; version=0.0.4; charset=utf-8", {}, text});
    } else {
      std::string body;
      http::append_problem(body, {404, "not_found", {}, "GET /metrics or /livez."});
      worker_->respond(t, {404, http::kProblemJson, {}, body});
    }
  }

  std::chrono::steady_clock::time_point on_turn() override {
    return std::chrono::steady_clock::time_point::max();
  }

 private:
  const Processor& processor_;
  http::Worker* worker_ = nullptr;
};

Result<std::unique_ptr<Monitor>> Monitor::start(const std::string& where, const Processor& p) {
  if (where.empty()) return nullptr;
  const std::size_t colon = where.rfind(':');
  const auto port =
      colon == std::string::npos ? std::nullopt : http::parse_number(where.substr(colon + 1));
  if (!port || *port > 65'535 || colon == 0) {
    return fail(Fault::invalid, "--metrics must be ADDRESS:PORT, such as 127.0.0.1:9090");
  }
  auto listening = http::listen(where.substr(0, colon), static_cast<std::uint16_t>(*port), 1);
  if (!listening) return tl::unexpected(listening.error());
  return std::unique_ptr<Monitor>(
      new Monitor(std::move(listening->listeners[0]), listening->port, p));
}

Monitor::Monitor(http::Listener listener, std::uint16_t port, const Processor& p)
    : port_(port), service_(std::make_unique<Service>(p)) {
  http::Limits limits;
  limits.connections = 64;
  worker_ = std::make_unique<http::Worker>(std::move(listener), limits);
  service_->serve_on(*worker_);
  thread_ = std::thread([this] { worker_->run(*service_); });
}

Monitor::~Monitor() {
  worker_->drain(std::chrono::milliseconds(500));
  thread_.join();
}

}  // namespace fairsale::orders
