// A server of the edge alone, to measure it: every request is answered at the end of its turn, as a
// purchase is. See edge_bench.sh.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "api/http/problem.hpp"
#include "api/http/worker.hpp"

namespace {

using namespace fairsale;

class Purchases final : public http::Service {
 public:
  http::Worker* worker = nullptr;

  void on_request(const http::Request& r, http::Ticket ticket) override {
    if (r.path == "/raw") {
      worker->respond_raw(ticket,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"17\"\r\n"
                          "Content-Length: 17\r\n\r\n{\"available\":1000}");
      return;
    }
    waiting_.push_back(ticket);
  }

  std::chrono::steady_clock::time_point on_turn() override {
    for (const auto ticket : waiting_) {
      body_.clear();
      JsonWriter json(body_);
      json.begin_object()
          .member("purchase", "demo:17")
          .member("sku", "demo")
          .member("customer", "alice")
          .member("quantity", 1)
          .member("status", "reserved")
          .member("until", Timestamp{1'795'500'000'000})
          .member("amount", Money{MinorUnits{4900}, Currency{{'E', 'U', 'R'}}})
          .member("position", 17)
          .end_object();
      worker->respond(ticket, {201, http::kJson, "Location: /v1/purchases/demo:17\r\n", body_});
    }
    waiting_.clear();
    return std::chrono::steady_clock::time_point::max();
  }

 private:
  std::vector<http::Ticket> waiting_;
  std::string body_;
};

}  // namespace

// Arguments: port (0: any), workers. Serves until SIGINT or SIGTERM, then prints what it used.
int main(int argc, char** argv) {
  const auto port = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0);
  const auto count = static_cast<std::size_t>(argc > 2 ? std::atoi(argv[2]) : 1);
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);

  auto listening = http::listen("127.0.0.1", port, count);
  if (!listening) {
    std::fprintf(stderr, "%s\n", listening.error().message.c_str());
    return 1;
  }
  std::printf("%u\n", listening->port);
  std::fflush(stdout);
  std::vector<std::unique_ptr<http::Worker>> workers;
  std::vector<std::thread> threads;
  std::vector<Purchases> services(count);
  for (std::size_t i = 0; i < count; ++i) {
    workers.push_back(
        std::make_unique<http::Worker>(std::move(listening->listeners[i]), http::Limits{}));
    services[i].worker = workers[i].get();
    threads.emplace_back([&, i] { workers[i]->run(services[i]); });
  }
  int signal = 0;
  sigwait(&stop, &signal);
  std::uint64_t requests = 0;
  std::uint64_t turns = 0;
  for (std::size_t i = 0; i < count; ++i) {
    workers[i]->drain(std::chrono::seconds(1));
    threads[i].join();
    requests += workers[i]->stats().requests;
    turns += workers[i]->stats().turns;
  }
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const double cpu = static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
                     static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
  const double user =
      static_cast<double>(used.ru_utime.tv_sec) * 1e6 + static_cast<double>(used.ru_utime.tv_usec);
  std::printf("%llu requests, %.2f us CPU each (%.2f user), %.1f a turn\n",
              static_cast<unsigned long long>(requests), cpu / static_cast<double>(requests),
              user / static_cast<double>(requests),
              static_cast<double>(requests) / static_cast<double>(turns));
  return 0;
}
