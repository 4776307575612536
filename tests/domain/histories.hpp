// Random sales: terms and sequences of events in which collisions are common (few customers, few
// keys, few units) and time likes to land on, just before and far past deadlines. Every part
// shrinks.
#pragma once

#include <rapidcheck.h>

#include <cstdint>
#include <iosfwd>
#include <vector>

#include "tests/domain/support.hpp"

namespace fairsale::test {

enum class Do : std::uint8_t {
  attempt,
  repeat,  // an attempt of before, word for word
  cancel,
  decline,
  pay,
  fail,
  refund,
  pause,
  resume,
  close,
  stock,
  change,
  schedule,
  nothing,
};

enum class Jump : std::uint8_t {
  none,
  little,
  before_deadline,
  to_deadline,
  past_deadline,
  past_several,
};

// What happens next, relative to how the sale stands then, so that it still makes sense when what
// came before it is shrunk away.
struct Action {
  Do what = Do::attempt;
  Jump jump = Jump::none;
  std::uint8_t who = 0;
  std::uint8_t key = 0;
  std::uint8_t target = 0;  // which purchase
  std::uint8_t variant = 0;
  std::uint32_t quantity = 0;
};

struct History {
  Terms terms;
  std::vector<Action> actions;
};

std::ostream& operator<<(std::ostream&, const Action&);
std::ostream& operator<<(std::ostream&, const History&);

rc::Gen<Terms> any_terms();
rc::Gen<Action> any_action();
rc::Gen<History> any_history();

// A history while it unfolds: resolves each action against the sale as it stands.
struct Arrival {
  Seq seq;
  Timestamp at;
  Event event;
};

Arrival arrival_of(const Action&, const Terms& first_terms, const Sale&);

// All of a history, resolved by folding it once.
std::vector<Arrival> arrivals_of(const History&);

// Folds from where the sale stands.
std::vector<Said> fold(Sale&, const std::vector<Arrival>&, std::size_t from = 0);

std::string describe(const Arrival&);

}  // namespace fairsale::test

namespace rc {

template <>
struct Arbitrary<fairsale::test::History> {
  static Gen<fairsale::test::History> arbitrary() { return fairsale::test::any_history(); }
};

}  // namespace rc
