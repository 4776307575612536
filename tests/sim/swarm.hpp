// What is varied from one simulation to the next: which things happen at all, how often, and the
// sizes of everything. Leaving features out reaches states that a mix of all of them does not (A.
// Groce et al., "Swarm testing", 2012).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/engine/sequencer.hpp"
#include "tests/sim/chance.hpp"

namespace fairsale::sim {

// What one step of a simulation does.
enum class Deed : std::uint8_t {
  // A client, the shop or an operator sends something.
  attempt,
  repeat,
  cancel,
  decline,
  pay,
  payment_failed,
  refund,
  pause,
  resume,
  close,
  restock,
  change,
  schedule,
  // What was sent arrives.
  deliver,
  // The process works.
  turn,
  // Time passes.
  tick,
  wait,
  to_deadline,
  set_wall,
  // The process ends, by itself or by force, at rest or at work.
  stop,
  kill,
  power_cut,
  fail_append,
  die_in_append,
  die_in_turn,
  die_in_recovery,
  // The disk.
  rot,
  lose_acked,
  flush,
  // Snapshots and stored projections.
  snapshot,
  fail_snapshot,
  spoil_snapshot,
  project,
  lose_rows,
  // Everything is compared with everything.
  look,
};
inline constexpr std::size_t kDeeds = static_cast<std::size_t>(Deed::look) + 1;

std::string_view name_of(Deed);

struct Swarm {
  explicit Swarm(std::uint64_t seed);

  Deed next(Chance&) const;

  unsigned steps = 0;
  unsigned shards = 1;
  std::vector<std::string> skus;
  std::vector<Terms> terms;  // as first scheduled
  unsigned customers = 1;
  unsigned keys = 1;
  SequencerOptions options;
  bool network = false;     // what is sent arrives later, in any order
  bool duplicates = false;  // and more than once
  bool lossy = false;       // answers get lost
  bool impatient = false;   // who hears nothing may give up
  bool astray = false;      // writes may land elsewhere
  bool futures = false;     // snapshots of what a crash has taken back may remain
  bool model = false;       // decisions are compared with the rules written a second time
  std::array<std::uint32_t, kDeeds> upto{};  // weights, summed up
};

inline constexpr Timestamp kOpening{1'700'000'000'000};

}  // namespace fairsale::sim
