// The client side of a measurement: one thread, epoll, many connections to one server on loopback.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>

#include "core/log/result.hpp"
#include "tools/bench/answer.hpp"
#include "tools/bench/tally.hpp"

namespace fairsale::bench {

// How requests are sent. Closed loop (rate 0): each connection sends `depth` requests at once, and
// the next ones when all of them are answered, as wrk and redis-benchmark do. Open loop: requests
// fall due at a fixed rate, whatever the server does, and take the next connection that has fewer
// than `depth` outstanding; their latency counts from when they fell due.
struct LoadPlan {
  std::uint16_t port = 0;  // on 127.0.0.1
  ReadAnswer protocol = read_http_answer;
  std::array<std::string, kRoles> requests;  // templates by role, see RequestTemplate
  std::array<unsigned, kRoles> weights{};
  std::uint64_t first = 0;  // the first customer's number
  std::uint64_t skus = 1;
  unsigned connections = 50;  // 1 to 20,000
  unsigned depth = 1;         // 1 to 1,024
  double rate = 0;            // requests a second; 0: closed loop
  double warmup_seconds = 0.5;
  double seconds = 4;  // measured, after the warm-up
  std::uint64_t requests_at_most = ~std::uint64_t{0};
  double give_up_seconds = 3600;  // open loop: what could not be sent by then is not sent
};

struct LoadReport {
  Tally measured;          // answered within the measured time
  Tally whole;             // warm-up and the last answers included; without latencies
  double seconds = 0;      // of the measured time, up to its last answer when requests ran out
  double cpu_seconds = 0;  // the client's own, of the measured time
  std::uint64_t sent = 0;
  std::uint64_t due = 0;         // open loop: fell due within the measured time
  std::uint64_t abandoned = 0;   // open loop: never sent
  std::uint64_t lost = 0;        // sent, but the server closed the connection
  std::uint64_t unanswered = 0;  // sent, and no answer within 10 s after the end
  std::uint64_t next_number = 0;
};

// Runs to the end of the plan. Fails when the server cannot be reached or does not speak the
// protocol.
Result<LoadReport> run_load(const LoadPlan&);

}  // namespace fairsale::bench
