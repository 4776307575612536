// One simulated life of a shop: clients, processes that come and go, a disk and a clock, all on one
// thread and all following from one seed.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace fairsale::sim {

struct SimulationOptions {
  bool check = true;          // hold all that happens against what was promised; changes no outcome
  std::FILE* text = nullptr;  // where to write the trace as text
  const std::vector<bool>* skip = nullptr;  // steps to leave out; the others stay as they were
};

// What a simulation came to.
struct Report {
  std::uint64_t hash = 0;  // of every step's inputs and outcomes
  unsigned steps = 0;
  std::uint64_t events = 0;  // folded
  std::int64_t simulated_ms = 0;
  unsigned restarts = 0;
  unsigned refusals = 0;  // damaged stores that were refused, as they should be
  unsigned commits_found = 0;
  unsigned commits_lost = 0;
  unsigned from_snapshot = 0;  // recoveries of a SKU that began at a snapshot
  std::uint64_t kinds = 0;     // of decisions that were met, as bits
  std::uint64_t reasons = 0;   // likewise
  std::optional<std::string> failure;
};

// As many steps as skip may name.
unsigned steps_of(std::uint64_t seed);

Report simulate(std::uint64_t seed, const SimulationOptions&);

}  // namespace fairsale::sim
