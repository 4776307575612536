#include "tools/orders/fulfilment.hpp"

#include <array>

namespace fairsale::orders {

namespace {

constexpr std::array kStates{State::placed,     State::captured, State::handed_over,
                             State::failed,     State::returned, State::compensated,
                             State::refund_due, State::refunded};

}  // namespace

std::string_view name_of(State s) {
  switch (s) {
    case State::placed: return "placed";
    case State::captured: return "captured";
    case State::handed_over: return "handed_over";
    case State::failed: return "failed";
    case State::returned: return "returned";
    case State::compensated: return "compensated";
    case State::refund_due: return "refund_due";
    case State::refunded: return "refunded";
  }
  return "?";
}

std::string_view name_of(Action a) {
  switch (a) {
    case Action::none: return "none";
    case Action::capture: return "capture";
    case Action::hand_over: return "hand_over";
    case Action::refund: return "refund";
    case Action::record: return "record";
  }
  return "?";
}

std::optional<State> state_of(std::uint8_t number) {
  for (const State s : kStates) {
    if (static_cast<std::uint8_t>(s) == number) return s;
  }
  return std::nullopt;
}

std::optional<State> state_named(std::string_view name) {
  for (const State s : kStates) {
    if (name_of(s) == name) return s;
  }
  return std::nullopt;
}

Action due(State s) {
  switch (s) {
    case State::placed: return Action::capture;
    case State::captured: return Action::hand_over;
    case State::failed:
    case State::refund_due: return Action::refund;
    case State::returned: return Action::record;
    case State::handed_over:
    case State::compensated:
    case State::refunded: break;
  }
  return Action::none;
}

State after(State s, Answer answer) {
  const bool done = answer == Answer::done;
  const bool declined = answer == Answer::declined;
  switch (s) {
    case State::placed: return done ? State::captured : declined ? State::failed : s;
    case State::captured: return done ? State::handed_over : declined ? State::failed : s;
    case State::failed: return done ? State::returned : s;
    case State::returned: return done ? State::compensated : s;
    case State::refund_due: return done ? State::refunded : s;
    case State::handed_over:
    case State::compensated:
    case State::refunded: break;
  }
  return s;
}

std::string idempotency_key(const Case& c, Action action) {
  std::string key = c.purchase;
  key += '/';
  key += name_of(action);
  if (action == Action::refund) {
    key += '/';
    key += c.reference;
  }
  return key;
}

}  // namespace fairsale::orders
