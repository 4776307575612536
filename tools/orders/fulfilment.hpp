// What becomes of a payment that fairsale has decided on: a state machine without I/O or clock.
//
//   an order:         placed -> captured -> handed_over
//                     a step that is declined for good: failed -> returned -> compensated
//   a refund due:     refund_due -> refunded
//
// Which way a case goes is decided by what the gateway answers under an idempotency key, and by
// nothing that one processor knows alone (how often it tried, how long it waited). So processors
// that work on the same case, because one was killed and a message came again, go the same way.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fairsale::orders {

// Numbers are part of the store's format: never reused.
enum class State : std::uint8_t {
  placed = 1,       // ordered and paid; the money is to be captured
  captured = 2,     // the money is there; the goods are to be handed over
  handed_over = 3,  // an end
  failed = 4,       // a step was declined; the money is to be given back, captured or not
  returned = 5,     // given back; fairsaled is to be told
  compensated = 6,  // an end
  refund_due = 7,   // paid for nothing; the money is to be given back
  refunded = 8,     // an end
};

// What a state asks for. `refund` also releases money that was not captured.
enum class Action : std::uint8_t { none = 0, capture = 1, hand_over = 2, refund = 3, record = 4 };

enum class Answer : std::uint8_t {
  done = 1,
  declined = 2,  // for good: asking again gives the same answer
  unknown = 3,   // it may or may not have happened: ask again, under the same key
};

std::string_view name_of(State);
std::string_view name_of(Action);
std::optional<State> state_of(std::uint8_t number);
std::optional<State> state_named(std::string_view);

// none when the case is at an end.
Action due(State);
inline bool at_end(State s) { return due(s) == Action::none; }

// The state after `answer` to what is due in `s`. A refund and its record cannot be declined out of
// the world: they stay due. So does everything that got no answer.
State after(State s, Answer answer);

// One payment and what has become of it.
struct Case {
  std::string id;        // of the message that brought it, "sku:position:number"
  std::string purchase;  // "sku:seq"
  std::string reference;
  std::int64_t amount = 0;  // minor units
  std::string currency;
  std::uint32_t quantity = 0;
  State state = State::placed;
  std::string why;          // refund_due: fairsale's reason; failed: what was declined
  std::string trouble;      // the last answer that left it where it is, once that is worth a look
  std::uint32_t tries = 0;  // of what is due, as of when that was last written
  bool refused = false;     // what is due was declined: somebody should look, it is tried on

  friend bool operator==(const Case&, const Case&) = default;
};

// The same for every try of every processor: "demo:17/capture", "demo:17/refund/REFERENCE". A
// payment is refunded under one key whatever the way that led there.
std::string idempotency_key(const Case&, Action);

}  // namespace fairsale::orders
