// Clients that fight over a few units of a few sales at once, each on a connection of its own, and
// write down what they did and were told.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "tests/linear/history.hpp"

namespace fairsale::linear {

struct Plan {
  std::uint64_t seed = 1;  // of what clients choose; who comes first is chance
  std::string name;        // of the sales; must be new to the server
  std::size_t clients = 8;
  std::size_t operations = 30;  // of each client
  std::size_t sales = 3;
  std::uint32_t stock = 4;
  std::uint32_t keys = 24;  // of each sale; clients use them together
  LinePolicy line_policy = LinePolicy::strict;
};

// A server that may be killed and come back on the same port. `lives` counts its lives from 1; a
// client that lost its connection waits for the next life.
struct Host {
  std::uint16_t port = 0;
  std::atomic<std::uint32_t> lives{1};
  std::atomic<std::size_t> answers{0};
};

// Opens the sales and lets the clients loose. A client whose operation was lost with the server
// tries it again, so that a lost answer may still come to light. A failure to open the sales, or an
// answer that no client understands, is a failure of the test.
History record(Host&, const Plan&);

}  // namespace fairsale::linear
