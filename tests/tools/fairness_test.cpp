#include "tools/audit/fairness.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/domain/histories.hpp"
#include "tools/audit/line.hpp"

namespace fairsale::audit {
namespace {

using test::Arrival;

// An event with what was decided about it.
struct Decided {
  Arrival arrival;
  std::vector<Decision> decisions;
  Decision answer;
  Counters after;
};

struct Hear final : DecisionSink {
  void on(const Decision& d) override { decisions.push_back(d); }
  std::vector<Decision> decisions;
};

Decided decide(Sale& sale, const Arrival& a) {
  Hear hear;
  const Decision answer = sale.apply(a.seq, a.at, a.event, hear);
  return {a, std::move(hear.decisions), answer, sale.counters()};
}

void tell(FairnessCheck& check, const Decided& d) {
  check.before(d.arrival.seq, d.arrival.at, d.arrival.event);
  for (const Decision& decision : d.decisions) check.on(decision);
  check.after(d.answer);
}

std::string describe(const FairnessReport& r) {
  std::string s;
  for (const Breach& b : r.breaches) {
    s += fmt::format("seq {} {}: expected {}; found {}\n", b.seq.value, name_of(b.promise),
                     b.expected, b.found);
  }
  return s;
}

RC_GTEST_PROP(Fairness, WhatTheRulesDecideIsFair, (const test::History& history)) {
  Sale sale;
  FairnessCheck check;
  for (const Arrival& a : test::arrivals_of(history)) {
    const Decided d = decide(sale, a);
    tell(check, d);
    RC_ASSERT(check.counters() == sale.counters());
  }
  const FairnessReport r = check.finish();
  if (!r.fair()) RC_LOG() << describe(r);
  RC_ASSERT(r.fair());
  RC_ASSERT(r.by_position.size() <= Timeline::kMost);
}

// Whether a decision of this kind changes who has what.
bool matters(DecisionKind k) {
  switch (k) {
    case DecisionKind::reserved:
    case DecisionKind::waiting:
    case DecisionKind::offered:
    case DecisionKind::expired:
    case DecisionKind::cancelled:
    case DecisionKind::declined:
    case DecisionKind::ordered:
    case DecisionKind::refunded:
    case DecisionKind::released:
    case DecisionKind::stock_adjusted: return true;
    default: return false;
  }
}

RC_GTEST_PROP(Fairness, OneDecisionChangedIsFound, (const test::History& history)) {
  Sale sale;
  std::vector<Decided> all;
  for (const Arrival& a : test::arrivals_of(history)) all.push_back(decide(sale, a));
  std::vector<std::pair<std::size_t, std::size_t>> places;
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = 0; j < all[i].decisions.size(); ++j) {
      if (matters(all[i].decisions[j].kind)) places.emplace_back(i, j);
    }
  }
  RC_PRE(!places.empty());
  const auto [i, j] = *rc::gen::elementOf(places);
  auto& decisions = all[i].decisions;
  Decision& d = decisions[j];
  switch (*rc::gen::inRange(0, 4)) {
    case 0:
      RC_TAG("left out");
      decisions.erase(decisions.begin() + static_cast<long>(j));
      break;
    case 1:
      RC_TAG("said twice");
      RC_PRE(d.kind != DecisionKind::stock_adjusted);
      decisions.insert(decisions.begin() + static_cast<long>(j), Decision(d));
      break;
    case 2:
      RC_TAG("refused instead");
      RC_PRE(d.kind == DecisionKind::reserved || d.kind == DecisionKind::waiting);
      d.reason = d.kind == DecisionKind::reserved ? Reason::sold_out : Reason::line_full;
      d.kind = DecisionKind::refused;
      break;
    case 3:
      RC_TAG("another place or deadline");
      RC_PRE(d.kind == DecisionKind::reserved || d.kind == DecisionKind::waiting ||
             d.kind == DecisionKind::offered);
      if (d.kind == DecisionKind::waiting) {
        ++d.place;
      } else {
        d.until.value += 1;
      }
      break;
  }
  FairnessCheck check;
  bool counts_differ = false;
  for (const Decided& step : all) {
    tell(check, step);
    counts_differ |= check.counters() != step.after;
  }
  RC_ASSERT(counts_differ || !check.finish().fair());
}

// A sale of 3 units, two a customer at most, at 10 cents, held for a minute and 5 s of grace, with
// 3 places in line; decided by the rules, or as a test says.
struct Story : ::testing::Test {
  static Terms terms() {
    return {.stock = Quantity{3},
            .price = {MinorUnits{10}, Currency{{'E', 'U', 'R'}}},
            .starts_at = Timestamp{1000},
            .hold = Duration{60'000},
            .grace = Duration{5'000},
            .limit_per_customer = Quantity{2},
            .units_per_purchase = Quantity{2},
            .line_limit = 3};
  }

  void open(const Terms& t = terms()) {
    at(1000).rules(
        SaleScheduled{.sku = *SkuName::from("demo"), .terms = t, .actor = *Actor::from("ops")});
  }

  Story& at(std::int64_t ms) {
    now = Timestamp{ms};
    return *this;
  }

  static PurchaseAttempted attempt(std::string_view who, std::uint32_t quantity = 1) {
    return {.customer = *CustomerId::from(who), .key = {{{1}}}, .quantity = Quantity{quantity}};
  }
  static PaymentReceived payment(Seq purchase, std::int64_t amount = 10) {
    return {.purchase = purchase,
            .reference = *PaymentReference::from("ref"),
            .amount = {MinorUnits{amount}, Currency{{'E', 'U', 'R'}}}};
  }

  // The next event, decided by the rules. Returns its position.
  Seq rules(const Event& event) {
    const Decided d = decide(sale, {Seq{sale.seq().value + 1}, now, event});
    tell(check, d);
    return d.arrival.seq;
  }

  // The next event, decided like this; the story ends with it.
  FairnessReport instead(const Event& event, std::vector<Decision> decisions) {
    const Decision answer = decisions.empty() ? Decision{} : decisions.back();
    tell(check, {{next(), now, event}, std::move(decisions), answer, {}});
    return check.finish();
  }

  Seq next() const { return Seq{sale.seq().value + 1}; }
  Decision reserved(std::uint32_t quantity = 1) const {
    return {.kind = DecisionKind::reserved,
            .quantity = Quantity{quantity},
            .purchase = next(),
            .until = now + Duration{60'000}};
  }
  Decision refused(Reason why) const {
    return {
        .kind = DecisionKind::refused, .reason = why, .quantity = Quantity{1}, .purchase = next()};
  }
  Decision waiting(std::uint32_t place) const {
    return {
        .kind = DecisionKind::waiting, .quantity = Quantity{1}, .place = place, .purchase = next()};
  }
  Decision about(DecisionKind kind, Seq purchase) const {
    return {.kind = kind,
            .quantity = Quantity{1},
            .purchase = purchase,
            .until = now + Duration{60'000}};
  }

  static void expect_broken(const FairnessReport& r, Promise p, Seq seq) {
    ASSERT_FALSE(r.fair());
    EXPECT_EQ(r.breaches[0].promise, p) << describe(r);
    EXPECT_EQ(r.breaches[0].seq, seq);
  }

  Sale sale;
  FairnessCheck check;
  Timestamp now{1000};
};

TEST_F(Story, OfferToTheSecondInLineIsNamed) {
  open();
  const Seq anna = rules(attempt("anna", 2));
  rules(attempt("bob"));
  const Seq carl = rules(attempt("carl"));
  const Seq dora = rules(attempt("dora"));
  const FairnessReport r =
      instead(PurchaseCancelled{.purchase = anna},
              {about(DecisionKind::cancelled, anna), about(DecisionKind::offered, dora),
               about(DecisionKind::offered, carl)});
  expect_broken(r, Promise::served_in_order, Seq{6});
  EXPECT_EQ(r.breaches[0].purchase, dora);
  EXPECT_EQ(r.breaches_found, 1U) << describe(r);
  EXPECT_EQ(r.breaches[0].expected,
            fmt::format("an offer to purchase {}, first in line for 1 units (2 free)", carl.value));
}

TEST_F(Story, UnitKeptFromTheLineIsNamed) {
  open();
  const Seq anna = rules(attempt("anna", 2));
  rules(attempt("bob"));
  const Seq carl = rules(attempt("carl"));
  const FairnessReport r =
      instead(PurchaseCancelled{.purchase = anna}, {about(DecisionKind::cancelled, anna)});
  expect_broken(r, Promise::served_in_order, Seq{5});
  EXPECT_EQ(r.breaches[0].purchase, carl);
}

TEST_F(Story, NewcomerServedBeforeTheLineIsNamed) {
  open();
  rules(attempt("anna", 2));
  const Seq bob = rules(attempt("bob", 2));  // wants 2, 1 is free
  const FairnessReport r = instead(attempt("carl"), {reserved()});
  expect_broken(r, Promise::not_overtaken, Seq{4});
  EXPECT_NE(r.breaches[0].expected.find(fmt::format("purchase {}", bob.value)), std::string::npos);
}

TEST_F(Story, SkippingWhoWantsTooMuchIsPolicyWhenTheTermsSaySo) {
  Terms t = terms();
  t.line_policy = LinePolicy::skip_if_unfit;
  open(t);
  rules(attempt("anna", 2));
  rules(attempt("bob", 2));  // wants 2, 1 is free
  rules(attempt("carl"));
  const FairnessReport r = check.finish();
  EXPECT_TRUE(r.fair()) << describe(r);
  EXPECT_EQ(r.passed_by_size, 1U);
}

TEST_F(Story, FalseRefusalsAreNamed) {
  for (const Reason why : {Reason::sold_out, Reason::insufficient_stock, Reason::line_full,
                           Reason::over_limit, Reason::paused, Reason::not_started, Reason::ended,
                           Reason::closed, Reason::quantity_invalid, Reason::key_reused}) {
    SCOPED_TRACE(name_of(why));
    sale = Sale();
    check = FairnessCheck();
    open();
    expect_broken(instead(attempt("anna"), {refused(why)}), Promise::refused_rightly, Seq{2});
  }
}

TEST_F(Story, LineFullWithAPlaceFreeIsNamed) {
  open();
  rules(attempt("anna", 2));
  rules(attempt("bob"));
  rules(attempt("carl"));
  rules(attempt("dora"));
  expect_broken(instead(attempt("emil"), {refused(Reason::line_full)}), Promise::refused_rightly,
                Seq{6});
}

TEST_F(Story, PlaceOutOfOrderIsNamed) {
  open();
  rules(attempt("anna", 2));
  rules(attempt("bob"));
  rules(attempt("carl"));
  expect_broken(instead(attempt("dora"), {waiting(1)}), Promise::place_in_order, Seq{5});
}

TEST_F(Story, HoldCutShortIsNamed) {
  open();
  const Seq anna = rules(attempt("anna"));
  at(65'999);  // the deadline is 1000 + 60,000 + 5,000
  expect_broken(instead(TimePassed{}, {about(DecisionKind::expired, anna)}), Promise::hold_kept,
                Seq{3});
}

TEST_F(Story, HoldPastItsDeadlineIsNamed) {
  open();
  rules(attempt("anna"));
  at(66'000);
  expect_broken(instead(TimePassed{}, {}), Promise::hold_kept, Seq{3});
}

TEST_F(Story, PaymentInTimeThatDoesNotCountIsNamed) {
  open();
  const Seq anna = rules(attempt("anna"));
  Decision due = about(DecisionKind::refund_due, anna);
  due.reason = Reason::hold_expired;
  expect_broken(instead(payment(anna), {due}), Promise::hold_kept, Seq{3});
}

TEST_F(Story, MoreThanTheLimitIsNamed) {
  open();
  rules(attempt("anna", 2));
  PurchaseAttempted again = attempt("anna");
  again.key.bytes[0] = 2;
  expect_broken(instead(again, {reserved()}), Promise::limit_kept, Seq{3});
}

TEST_F(Story, MoreThanThereIsIsNamed) {
  open();
  rules(attempt("anna", 2));
  expect_broken(instead(attempt("bob", 2), {reserved(2)}), Promise::never_oversold, Seq{3});
}

TEST_F(Story, AnotherAnswerToTheSameAttemptIsNamed) {
  open();
  const Seq anna = rules(attempt("anna"));
  Decision other = about(DecisionKind::waiting, anna);
  other.repeated = true;
  tell(check, {{next(), now, attempt("anna")}, {}, other, {}});
  expect_broken(check.finish(), Promise::same_answer, Seq{3});
}

TEST_F(Story, SaleThatOpensLateIsNamed) {
  Terms t = terms();
  t.starts_at = Timestamp{2000};
  open(t);
  at(2000);
  expect_broken(instead(attempt("anna"), {refused(Reason::not_started)}), Promise::opened_and_ended,
                Seq{2});
}

TEST_F(Story, EveryInterventionIsListedWithActorAndReason) {
  open();
  const auto ops = *Actor::from("ops@shop");
  const auto boss = *Actor::from("boss");
  const Seq anna = rules(attempt("anna", 2));
  rules(attempt("bob"));
  rules(attempt("carl"));
  at(2000).rules(SalePaused{.actor = ops, .why = *Why::from("printer on fire")});
  rules(SaleResumed{.actor = ops, .why = {}});
  at(3000).rules(payment(anna, 20));
  rules(OrderRefunded{
      .purchase = anna, .restock = false, .actor = boss, .why = *Why::from("broken")});
  rules(StockAdjusted{.stock = Quantity{1}, .actor = boss, .why = *Why::from("stolen")});
  const FairnessReport r = check.finish();
  EXPECT_TRUE(r.fair()) << describe(r);
  std::string all;
  for (const Intervention& v : r.interventions) {
    all += fmt::format("{} {}|{}|{}|{}|{}\n", v.seq.value, v.at.value, v.what, v.effect,
                       v.actor.view(), v.why.view());
  }
  EXPECT_EQ(all,
            "5 2000|sale paused|0 free, 3 held, 0 sold, 1 waiting|ops@shop|printer on fire\n"
            "6 2000|sale resumed|0 free, 3 held, 0 sold, 1 waiting|ops@shop|\n"
            "8 3000|order refunded|purchase 2: 2 units written off|boss|broken\n");
  EXPECT_EQ(r.interventions_found, 3U);
}

TEST_F(Story, LineReleasedByACloseIsTheActors) {
  open();
  rules(attempt("anna", 2));
  rules(attempt("bob"));
  rules(attempt("carl"));
  rules(SaleClosed{.actor = *Actor::from("boss"), .why = *Why::from("rain")});
  const FairnessReport r = check.finish();
  EXPECT_TRUE(r.fair()) << describe(r);
  ASSERT_EQ(r.interventions.size(), 2U);
  EXPECT_EQ(r.interventions[0].what, "sale closed");
  EXPECT_EQ(r.interventions[1].what, "line released");
  EXPECT_EQ(r.interventions[1].effect, "1 waiting purchases released: closed");
  EXPECT_EQ(r.interventions[1].actor.view(), "boss");
  EXPECT_EQ(r.interventions[1].why.view(), "rain");
}

RC_GTEST_PROP(Line, FindsWhomASearchFromTheFrontFinds, ()) {
  struct Waiting {
    std::uint32_t who;
    std::uint32_t ticket;
    std::uint32_t quantity;
  };
  Line line;
  std::vector<Waiting> waiting;
  std::uint32_t who = 1000;
  const auto steps = *rc::gen::container<std::vector<unsigned>>(200, rc::gen::inRange(0U, 400U));
  for (const unsigned step : steps) {
    if (step % 4 == 0 && !waiting.empty()) {
      const auto at = waiting.begin() + static_cast<long>(step % waiting.size());
      line.leave(at->ticket);
      waiting.erase(at);
    } else {
      const std::uint32_t quantity = 1 + step % 9;
      const std::uint32_t ticket = line.join(++who, static_cast<std::uint8_t>(quantity));
      waiting.push_back({who, ticket, quantity});
    }
    RC_ASSERT(line.size() == waiting.size());
    std::uint32_t largest = 0;
    for (const Waiting& w : waiting) largest = std::max(largest, w.quantity);
    RC_ASSERT(line.largest() == largest);
    for (const std::uint32_t q : {0U, 1U, 2U, 4U, 8U, 9U, 10U, 254U, 255U, 100'000U}) {
      const auto first = std::find_if(waiting.begin(), waiting.end(),
                                      [q](const Waiting& w) { return w.quantity <= q; });
      RC_ASSERT(line.first_within(q) == (first == waiting.end() ? Line::kNobody : first->who));
    }
  }
}

TEST(TimelineTest, KeepsTheEndsAndIsBounded) {
  Timeline t;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    t.add(7 + i * i, {Seq{i + 1}, Timestamp{static_cast<std::int64_t>(i)}, {}});
  }
  const auto all = t.moments();
  EXPECT_LE(all.size(), Timeline::kMost);
  EXPECT_GE(all.size(), Timeline::kMost / 8);
  EXPECT_EQ(all.back().seq, Seq{100'000});
  for (std::size_t i = 1; i < all.size(); ++i) EXPECT_LT(all[i - 1].seq, all[i].seq);
}

}  // namespace
}  // namespace fairsale::audit
