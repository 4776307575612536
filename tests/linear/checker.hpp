// Decides whether a concurrent history could have happened one operation at a time, each at a
// moment between its call and its answer (M. Herlihy, J. Wing, "Linearizability", 1990).
//
// The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993): it takes any
// operation that nothing unfinished has to precede, asks the sequential specification whether its
// answer fits, and goes back when nothing fits any more. Lowe's memory ("Testing for
// linearizability", 2017) keeps it from looking twice at the same operations in the same state.
// Exponential at worst, so histories are to be small, and those of independent objects apart.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace fairsale::linear {

inline constexpr std::int64_t kNoAnswer = std::numeric_limits<std::int64_t>::max();

// When an operation was under way, on one clock. One without an answer may take effect at any time
// after its call, or never.
struct Interval {
  std::int64_t call = 0;
  std::int64_t answer = kNoAnswer;
  std::optional<std::size_t> after;  // another operation that has to come before this one
};

enum class Verdict { linearizable, not_linearizable, undecided };

struct Search {
  Verdict verdict = Verdict::undecided;
  std::size_t steps = 0;             // of the specification
  std::vector<std::size_t> longest;  // the order that went furthest
};

// `step(state, i)` gives the state after operation i, or nothing when its answer does not fit.
// `pure(i)` says that operation i leaves every state as it is in which its answer fits; it is taken
// as soon as it may, since that can be of no harm. `key(state)` is a text that is equal for states
// that no further answer can tell apart. Gives up after `most_steps`.
template <class State, class Step, class Pure, class Key>
Search search(std::span<const Interval> operations, State state, Step&& step, Pure&& pure,
              Key&& key, std::size_t most_steps = 2'000'000) {
  // Calls and answers in the order of their times, as a doubly linked list around entry 0.
  struct Entry {
    std::size_t operation = 0;
    std::int64_t time = 0;
    bool call = false;
    std::size_t previous = 0;
    std::size_t next = 0;
    std::size_t answer = 0;  // of a call: where its answer stands
  };
  std::vector<Entry> entries(1);
  for (std::size_t i = 0; i < operations.size(); ++i) {
    entries.push_back({.operation = i, .time = operations[i].call, .call = true});
    entries.push_back({.operation = i, .time = operations[i].answer});
  }
  // At equal times the calls come first: whether one was before the other is not known.
  std::sort(entries.begin() + 1, entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.time, !a.call) < std::pair(b.time, !b.call);
  });
  std::vector<std::size_t> call_of(operations.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    entries[i].previous = i == 0 ? entries.size() - 1 : i - 1;
    entries[i].next = i + 1 == entries.size() ? 0 : i + 1;
    if (i == 0) continue;
    if (entries[i].call) {
      call_of[entries[i].operation] = i;
    } else {
      entries[call_of[entries[i].operation]].answer = i;
    }
  }
  const auto unlink = [&](std::size_t i) {
    entries[entries[i].previous].next = entries[i].next;
    entries[entries[i].next].previous = entries[i].previous;
  };
  const auto relink = [&](std::size_t i) {
    entries[entries[i].previous].next = i;
    entries[entries[i].next].previous = i;
  };

  Search result;
  struct Taken {
    std::size_t call = 0;
    State before;
    bool pure = false;
  };
  std::vector<Taken> taken;
  std::string done(operations.size(), '0');
  std::unordered_set<std::string> seen;

  // Takes the call at `at` if its answer fits and what follows from it has not been looked at.
  const auto take = [&](std::size_t at, bool is_pure) {
    const std::size_t i = entries[at].operation;
    if (operations[i].after && done[*operations[i].after] == '0') return false;
    ++result.steps;
    auto next = step(std::as_const(state), i);
    if (!next) return false;
    done[i] = '1';
    if (!is_pure && !seen.insert(done + key(*next)).second) {
      done[i] = '0';
      return false;
    }
    taken.push_back({at, std::exchange(state, std::move(*next)), is_pure});
    unlink(at);
    unlink(entries[at].answer);
    if (taken.size() > result.longest.size()) {
      result.longest.clear();
      for (const Taken& t : taken) result.longest.push_back(entries[t.call].operation);
    }
    return true;
  };
  // One that was taken may be what others have to come after.
  const auto take_pure = [&] {
    for (std::size_t at = entries[0].next; at != 0 && entries[at].call;) {
      const bool taken_now = pure(entries[at].operation) && take(at, true);
      at = taken_now ? entries[0].next : entries[at].next;
    }
  };
  take_pure();
  for (std::size_t at = entries[0].next;;) {
    if (result.steps > most_steps) return result;
    // Nothing is left, or only what was never answered.
    if (at == 0 || (!entries[at].call && entries[at].time == kNoAnswer)) {
      result.verdict = Verdict::linearizable;
      return result;
    }
    if (entries[at].call) {
      if (!pure(entries[at].operation) && take(at, false)) {
        take_pure();
        at = entries[0].next;
      } else {
        at = entries[at].next;
      }
      continue;
    }
    // This answer was given, and nothing leads to it: take back the latest choice, with what was
    // taken since because it could be of no harm.
    for (bool choice = false; !choice;) {
      if (taken.empty()) {
        result.verdict = Verdict::not_linearizable;
        return result;
      }
      Taken& last = taken.back();
      choice = !last.pure;
      at = last.call;
      state = std::move(last.before);
      taken.pop_back();
      done[entries[at].operation] = '0';
      relink(entries[at].answer);
      relink(at);
    }
    at = entries[at].next;
  }
}

}  // namespace fairsale::linear
