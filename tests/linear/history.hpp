// What clients did to some sales and what they were told, and the two ways to judge it: as a
// linearizable object that knows no positions, and by the positions that the answers state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/linear/checker.hpp"

#include "core/domain/sale.hpp"

namespace fairsale::linear {

enum class Kind : std::uint8_t { attempt, give_up, pay, read };

// A purchase is known by its key: whose it is and how often it was tried differs from try to try.
struct Operation {
  Kind kind = Kind::read;
  std::size_t client = 0;
  std::size_t sale = 0;

  // What was asked for.
  std::uint32_t key = 0;       // attempt, give_up, pay: which purchase
  std::uint32_t quantity = 0;  // attempt
  std::uint32_t payment = 0;   // pay: which reference
  std::int64_t amount = 0;     // pay
  std::uint64_t min_seq = 0;   // read; 0: none

  // What was told; nothing without an answer.
  DecisionKind told = DecisionKind::noted;
  Reason reason = Reason::none;
  std::uint32_t place = 0;
  bool repeated = false;
  std::uint64_t position = 0;
  Counters counters;  // read
  std::string body;

  Interval when;  // in nanoseconds

  bool answered() const { return when.answer != kNoAnswer; }
};

struct History {
  std::vector<Terms> sales;
  std::vector<Operation> operations;
  // Every answer of a write is here, but those of a server that was killed may be missing.
  bool whole = true;
};

// Whose purchase a key names.
std::string customer_of(std::uint32_t key);

// A read is promised to be a second old at most.
inline constexpr std::int64_t kReadMayBeOld = 1'000'000'000;

// What is wrong with the history of any of its sales, or nothing. Each sale is judged apart.
std::optional<std::string> judge_linearizable(const History&);

// The log's order is a linearization, if its positions say the truth:
//   - no two writes have the same position, and one that ended before another began is before it;
//   - told in the order of their positions, the answers are those of the rules, and a read's
//     counters are those at its position;
//   - a read with min_seq shows that position or a later one, one without what was a second ago;
//   - a repeated attempt gets the first answer again, byte for byte.
std::optional<std::string> judge_positions(const History&);

// One line each, in the order of the calls.
std::string describe(const History&);

}  // namespace fairsale::linear
