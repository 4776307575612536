// Several processors carry the same payments through, against a gateway that remembers its answers
// by key and loses some of them; processors are killed and messages come again. Whatever happens,
// the gateway's ledger says that each payment was dealt with once.
#include "tools/orders/fulfilment.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

namespace fairsale::orders {
namespace {

// What a gateway and fairsaled know between them: the referee.
struct Ledger {
  std::map<std::string, Answer> answered;                      // by key
  std::map<std::string, int> captures, handovers, records;     // by purchase
  std::map<std::pair<std::string, std::string>, int> refunds;  // by purchase and reference

  // As a gateway does it: once for each key.
  Answer carry_out(const Case& c, Action a, bool declines) {
    const std::string key = idempotency_key(c, a);
    if (const auto it = answered.find(key); it != answered.end()) return it->second;
    const bool refusable = a == Action::capture || a == Action::hand_over;
    const Answer answer = refusable && declines ? Answer::declined : Answer::done;
    answered[key] = answer;
    if (answer == Answer::done) {
      if (a == Action::capture) ++captures[c.purchase];
      if (a == Action::hand_over) ++handovers[c.purchase];
      if (a == Action::refund) ++refunds[{c.purchase, c.reference}];
      if (a == Action::record) ++records[c.purchase];
    }
    return answer;
  }
};

struct Step {
  std::size_t processor, payment;
  int kind;  // 0: message comes, 1-5: a call, 6: no answer, nothing done, 7: done, no answer,
             // 8: killed before what was answered is durable
  bool declines;
};

std::vector<Case> payments() {
  std::vector<Case> out;
  for (int i = 0; i < 3; ++i) {
    Case order;
    order.purchase = "demo:" + std::to_string(i + 2);
    order.id = "demo:" + std::to_string(10 + i) + ":0";
    order.reference = "pay-" + std::to_string(i);
    order.amount = 4900;
    order.state = State::placed;
    Case second = order;  // the same purchase, paid twice
    second.id = "demo:" + std::to_string(20 + i) + ":0";
    second.reference = "again-" + std::to_string(i);
    second.state = State::refund_due;
    out.push_back(order);
    out.push_back(second);
  }
  return out;
}

constexpr std::size_t kProcessors = 3;

RC_GTEST_PROP(Fulfilment, EachPaymentIsDealtWithOnceWhateverIsLostAndWhoeverIsKilled, ()) {
  const auto all = payments();
  Ledger ledger;
  std::vector<std::map<std::string, Case>> stores(kProcessors);  // what is durable
  const auto steps = *rc::gen::container<std::vector<Step>>(rc::gen::construct<Step>(
      rc::gen::inRange<std::size_t>(0, kProcessors), rc::gen::inRange<std::size_t>(0, all.size()),
      rc::gen::inRange(0, 9), rc::gen::arbitrary<bool>()));
  for (const Step& s : steps) {
    auto& store = stores[s.processor];
    const Case& payment = all[s.payment];
    if (s.kind == 0) {
      store.emplace(payment.id, payment);
      continue;
    }
    const auto it = store.find(payment.id);
    if (it == store.end() || at_end(it->second.state)) continue;
    Case& c = it->second;
    Answer answer = Answer::unknown;
    if (s.kind != 6) answer = ledger.carry_out(c, due(c.state), s.declines);
    if (s.kind == 7) answer = Answer::unknown;
    if (s.kind != 8) c.state = after(c.state, answer);
  }
  // Every message was taken by somebody in the end, and the faults are over.
  for (const Case& payment : all) {
    bool taken = false;
    for (auto& store : stores) taken = taken || store.contains(payment.id);
    if (!taken) stores[0].emplace(payment.id, payment);
  }
  for (auto& store : stores) {
    for (auto& [id, c] : store) {
      for (int i = 0; !at_end(c.state) && i < 10; ++i) {
        c.state = after(c.state, ledger.carry_out(c, due(c.state), false));
      }
      RC_ASSERT(at_end(c.state));
    }
  }
  for (const Case& c : all) {
    const int refunds = ledger.refunds[{c.purchase, c.reference}];
    if (c.state == State::refund_due) {
      RC_ASSERT(refunds == 1);
      continue;
    }
    const int handovers = ledger.handovers[c.purchase];
    RC_ASSERT(ledger.captures[c.purchase] <= 1);
    RC_ASSERT(handovers + refunds == 1);
    RC_ASSERT(handovers == 0 || ledger.captures[c.purchase] == 1);
    RC_ASSERT(ledger.records[c.purchase] == refunds);
    // Those who dealt with it agree.
    std::set<State> ends;
    for (const auto& store : stores) {
      if (const auto it = store.find(c.id); it != store.end()) ends.insert(it->second.state);
    }
    RC_ASSERT(ends.size() == 1U);
  }
}

TEST(Fulfilment, GoesOnlyTheWaysThatThereAre) {
  const std::map<std::pair<State, Answer>, State> ways{
      {{State::placed, Answer::done}, State::captured},
      {{State::placed, Answer::declined}, State::failed},
      {{State::captured, Answer::done}, State::handed_over},
      {{State::captured, Answer::declined}, State::failed},
      {{State::failed, Answer::done}, State::returned},
      {{State::returned, Answer::done}, State::compensated},
      {{State::refund_due, Answer::done}, State::refunded},
  };
  for (std::uint8_t n = 0; n < 20; ++n) {
    const auto s = state_of(n);
    ASSERT_EQ(s.has_value(), n >= 1 && n <= 8) << int{n};
    if (!s) continue;
    EXPECT_EQ(state_named(name_of(*s)), *s);
    for (const Answer a : {Answer::done, Answer::declined, Answer::unknown}) {
      const auto way = ways.find({*s, a});
      EXPECT_EQ(after(*s, a), way == ways.end() ? *s : way->second) << name_of(*s);
    }
  }
}

TEST(Fulfilment, APaymentHasOneKeyForItsRefundWhateverLedThere) {
  Case c;
  c.purchase = "demo:17";
  c.reference = "pay-1";
  c.state = State::failed;
  Case d = c;
  d.id = "demo:30:0";
  d.state = State::refund_due;
  EXPECT_EQ(idempotency_key(c, Action::refund), idempotency_key(d, Action::refund));
  EXPECT_NE(idempotency_key(c, Action::capture), idempotency_key(c, Action::hand_over));
}

}  // namespace
}  // namespace fairsale::orders
