// fairsaled: the server.

#include <fmt/format.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "api/server.hpp"
#include "core/log/rocks_log.hpp"

namespace {

using namespace fairsale;

// Connections need descriptors; take as many as the system lets us.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

// What is large comes from the system and goes back to it when freed. Left to itself the allocator
// would keep the memory of a snapshot's fold for good.
void return_large_memory() {
  constexpr int kLarge = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, kLarge);
}

void print_demo(const std::string& url, const api::Secrets& secrets) {
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  const std::string alice =
      api::Authenticator(secrets).mint("alice", now + std::int64_t{24} * 3600);
  fmt::print(
      "\n"
      "  A sale is open: 1,000 units of \"demo\" at 49.00 EUR, 2 a customer, held for 120 s.\n"
      "\n"
      "  In a browser: a shopper's page is {0}/s/demo, the operator's {0}/console\n"
      "\n"
      "  Is there any left?\n"
      "    curl -s {0}/v1/sales/demo\n"
      "\n"
      "  Buy one as alice (her token is good for a day):\n"
      "    curl -s -X POST {0}/v1/sales/demo/purchases -H 'Idempotency-Key: first-try' \\\n"
      "      -H 'Authorization: Bearer {1}' -d '{{\"quantity\":1}}'\n"
      "\n"
      "  Pay for it as the shop, with the id that came back (demo:2 at first):\n"
      "    curl -s -X POST {0}/v1/purchases/demo:2/payment \\\n"
      "      -H 'Authorization: Bearer {2}' \\\n"
      "      -d '{{\"reference\":\"pay-1\",\"amount\":4900,\"currency\":\"EUR\"}}'\n"
      "\n"
      "  The operator's token: {3}\n"
      "  Ctrl-C stops the server; what was acknowledged stays.\n\n",
      url, alice, secrets.shop_token, secrets.operator_token);
}

}  // namespace

int main(int argc, char** argv) {
  auto parsed = api::parse_config(argc, argv, api::kVersion);
  if (const auto* exit = std::get_if<api::Exit>(&parsed)) {
    std::fputs(exit->text.c_str(), exit->code == 0 ? stdout : stderr);
    return exit->code;
  }
  const auto& config = std::get<api::ServerConfig>(parsed);
  advise_on_abort();

  // Signals are waited for, not handled: every thread inherits this mask.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  return_large_memory();

  if (auto ok = api::start_logging(config.log); !ok) {
    fmt::print(stderr, "fairsaled: {}\n", ok.error().message);
    return 1;
  }
  std::atomic<bool> anew{false};
  const auto served = api::serve(
      config,
      [&](std::uint16_t port, const api::Secrets& secrets) {
        const bool v6 = config.address.find(':') != std::string::npos;
        const std::string url =
            fmt::format("http://{}{}{}:{}", v6 ? "[" : "", config.address, v6 ? "]" : "", port);
        fmt::print("fairsaled {} listens on {}\n", api::kVersion, url);
        if (config.demo) print_demo(url, secrets);
        std::fflush(stdout);
      },
      [&] {
        int signal = 0;
        sigwait(&signals, &signal);
        // A second one ends the process at once; the log survives that.
        pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
        std::signal(SIGINT, SIG_DFL);
        std::signal(SIGTERM, SIG_DFL);
      },
      [&] {
        // A second signal would end it at once.
        if (!anew.exchange(true)) ::kill(::getpid(), SIGTERM);
      });
  api::stop_logging();
  if (!served) {
    fmt::print(stderr, "fairsaled: {}\n", served.error().message);
    return 1;
  }
  if (anew) {
    // The same process to whoever looks after it.
    ::execv("/proc/self/exe", argv);
    std::perror("fairsaled: cannot start again");
    return 1;
  }
  return 0;
}
