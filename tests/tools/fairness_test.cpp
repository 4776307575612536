#include "projections/audit/fairness.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "projections/audit/line.hpp"
#include "tests/domain/histories.hpp"

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

// Whether such a decision is the event's own outcome; the others follow from it or from time.
bool is_outcome(DecisionKind k) {
  switch (k) {
    case DecisionKind::opened:
    case DecisionKind::ended:
    case DecisionKind::expired:
    case DecisionKind::offered:
    case DecisionKind::released:
    case DecisionKind::line_released:
    case DecisionKind::sold_out: return false;
    default: return true;
  }
}

// The counts are not looked at: the check alone must see that something is wrong.
bool finds(const std::vector<Decided>& all) {
  FairnessCheck check;
  for (const Decided& step : all) tell(check, step);
  return !check.finish().fair();
}

RC_GTEST_PROP(Fairness, OneDecisionChangedIsFound, (const test::History& history)) {
  Sale sale;
  std::vector<Decided> all;
  for (const Arrival& a : test::arrivals_of(history)) all.push_back(decide(sale, a));
  std::vector<std::pair<std::size_t, std::size_t>> places;
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = 0; j < all[i].decisions.size(); ++j) places.emplace_back(i, j);
  }
  RC_PRE(!places.empty());
  const auto [i, j] = *rc::gen::elementOf(places);
  auto& decisions = all[i].decisions;
  const Decision was = decisions[j];
  switch (*rc::gen::inRange(0, 4)) {
    case 0:
      RC_TAG("left out");
      decisions.erase(decisions.begin() + static_cast<long>(j));
      break;
    case 1:
      RC_TAG("said twice");
      decisions.insert(decisions.begin() + static_cast<long>(j), was);
      break;
    case 2: {
      RC_TAG("another outcome");
      RC_PRE(is_outcome(was.kind));
      Decision& d = decisions[j];
      d.kind = *rc::gen::element(DecisionKind::refused, DecisionKind::noted,
                                 DecisionKind::refund_due, DecisionKind::payment_failure_noted,
                                 DecisionKind::cancelled, DecisionKind::declined);
      d.reason = d.kind == DecisionKind::refused || d.kind == DecisionKind::refund_due
                     ? static_cast<Reason>(*rc::gen::inRange(1, 29))
                     : Reason::none;
      RC_PRE(d != was);
      // Several reasons can be true of an attempt at once.
      RC_PRE(was.kind != DecisionKind::refused || d.kind != DecisionKind::refused ||
             std::get_if<PurchaseAttempted>(&all[i].arrival.event) == nullptr);
      if (all[i].answer == was) all[i].answer = d;
      break;
    }
    case 3:
      RC_TAG("another place or deadline");
      RC_PRE(was.kind == DecisionKind::reserved || was.kind == DecisionKind::waiting ||
             was.kind == DecisionKind::offered);
      if (was.kind == DecisionKind::waiting) {
        ++decisions[j].place;
      } else {
        decisions[j].until.value += 1;
      }
      if (all[i].answer == was) all[i].answer = decisions[j];
      break;
  }
  RC_ASSERT(finds(all));
}

RC_GTEST_PROP(Fairness, OneRepeatedAnswerChangedIsFound, (const test::History& history)) {
  Sale sale;
  std::vector<Decided> all;
  std::vector<std::size_t> repeated;
  for (const Arrival& a : test::arrivals_of(history)) {
    all.push_back(decide(sale, a));
    if (all.back().answer.repeated) repeated.push_back(all.size() - 1);
  }
  RC_PRE(!repeated.empty());
  Decided& d = all[*rc::gen::elementOf(repeated)];
  const bool of_an_attempt = std::get_if<PurchaseAttempted>(&d.arrival.event) != nullptr;
  switch (*rc::gen::inRange(0, 5)) {
    case 0: d.answer.repeated = false; break;
    case 1: d.answer.purchase.value += 1; break;
    case 2: d.answer.reason = Reason::unknown_sale; break;
    case 3:
      RC_PRE(of_an_attempt);
      ++d.answer.place;
      break;
    case 4:
      RC_PRE(of_an_attempt || std::get_if<PaymentReceived>(&d.arrival.event) != nullptr);
      ++d.answer.until.value;
      break;
  }
  RC_ASSERT(finds(all));
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
    Decision answer;
    for (const Decision& d : decisions) {
      if (is_outcome(d.kind)) answer = d;
    }
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

// The hold stands and is paid to the cent: whatever comes in place of the order is a breach, then
// and there.
TEST_F(Story, PaymentThatIsAnsweredWronglyIsNamed) {
  const auto refused_about = [this](Reason why, Seq purchase) {
    Decision d = about(DecisionKind::refused, purchase);
    d.reason = why;
    return d;
  };
  for (int variant = 0; variant < 4; ++variant) {
    SCOPED_TRACE(variant);
    sale = Sale();
    check = FairnessCheck();
    at(1000);
    open();
    const Seq anna = rules(attempt("anna"));
    std::vector<Decision> said;
    switch (variant) {
      case 0: said = {refused_about(Reason::unknown_purchase, anna)}; break;
      case 1: said = {refused_about(Reason::reference_reused, anna)}; break;
      case 2: said = {about(DecisionKind::noted, anna)}; break;
      default: break;  // nothing at all
    }
    const Decision answer = said.empty() ? Decision{} : said.back();
    tell(check, {{next(), now, payment(anna)}, said, answer, {}});
    // It expires as if nobody had paid.
    const Seq later{next().value + 1};
    at(66'000);
    tell(check, {{later, now, TimePassed{}}, {about(DecisionKind::expired, anna)}, {}, {}});
    const FairnessReport r = check.finish();
    expect_broken(r, variant == 3 ? Promise::answered : Promise::hold_kept, Seq{3});
    if (HasFatalFailure()) return;
    EXPECT_EQ(r.breaches[0].purchase, anna);
    EXPECT_EQ(r.breaches[0].expected, "ordered");
  }
}

TEST_F(Story, SamePaymentWithAnotherAnswerIsNamed) {
  open();
  const Seq anna = rules(attempt("anna"));
  rules(payment(anna, 9));  // too little, to be refunded
  Decision other = about(DecisionKind::ordered, anna);
  other.repeated = true;
  tell(check, {{next(), now, payment(anna, 9)}, {}, other, {}});
  expect_broken(check.finish(), Promise::same_answer, Seq{4});
}

TEST_F(Story, RequestsThatAreRefusedWronglyAreNamed) {
  const auto ops = *Actor::from("ops");
  struct Case {
    Event event;
    Reason why;
  };
  const Seq anna{2};
  const Seq bob{4};
  for (const Case& c :
       {Case{PurchaseCancelled{.purchase = anna}, Reason::not_held},
        Case{OfferDeclined{.purchase = bob}, Reason::not_offered},
        Case{StockAdjusted{.stock = Quantity{9}, .actor = ops, .why = {}}, Reason::stock_committed},
        Case{SaleClosed{.actor = ops, .why = {}}, Reason::closed},
        Case{SalePaused{.actor = ops, .why = {}}, Reason::ended},
        Case{SaleResumed{.actor = ops, .why = {}}, Reason::closed}}) {
    SCOPED_TRACE(name_of(c.event));
    sale = Sale();
    check = FairnessCheck();
    open();
    rules(attempt("anna"));
    const Seq carl = rules(attempt("carl", 2));
    rules(attempt("bob"));
    rules(PurchaseCancelled{.purchase = carl});  // bob is offered a unit
    if (std::get_if<SaleResumed>(&c.event)) rules(SalePaused{.actor = ops, .why = {}});
    const Seq at_seq = next();
    Decision no{.kind = DecisionKind::refused, .reason = c.why};
    if (std::get_if<PurchaseCancelled>(&c.event)) no.purchase = anna;
    if (std::get_if<OfferDeclined>(&c.event)) no.purchase = bob;
    expect_broken(instead(c.event, {no}), Promise::refused_rightly, at_seq);
  }
}

TEST_F(Story, WhatTheShopAndTheOperatorGiveUpIsTold) {
  open();
  const Seq anna = rules(attempt("anna", 2));
  const Seq bob = rules(attempt("bob"));
  const Seq carl = rules(attempt("carl"));
  const Seq dora = rules(attempt("dora"));
  rules(PurchaseCancelled{.purchase = anna, .by = Role::shop});  // carl and dora are offered units
  rules(OfferDeclined{.purchase = carl, .by = Role::op});
  rules(OfferDeclined{.purchase = dora, .by = Role::shop});
  rules(PurchaseCancelled{.purchase = bob, .by = Role::op});
  const FairnessReport r = check.finish();
  EXPECT_TRUE(r.fair()) << describe(r);
  EXPECT_EQ(r.given_up, 4U);
  EXPECT_EQ(r.given_up_by_shop, 2U);
  EXPECT_EQ(r.given_up_by_operator, 2U);
  ASSERT_EQ(r.interventions.size(), 2U);
  EXPECT_EQ(r.interventions[0].what, "offer declined by the operator");
  EXPECT_EQ(r.interventions[0].effect, fmt::format("purchase {}, 1 units", carl.value));
  EXPECT_EQ(r.interventions[1].what, "purchase cancelled by the operator");
}

TEST_F(Story, EveryBreachIsCountedUnderItsPromise) {
  open();
  rules(attempt("anna"));
  at(66'000);  // the hold should have expired
  for (std::uint64_t i = 0; i < 300; ++i) {
    tell(check, {{Seq{3 + i}, now, TimePassed{}}, {}, {}, {}});
  }
  const FairnessReport r = check.finish();
  EXPECT_EQ(r.breaches.size(), FairnessReport::kMostBreaches);
  EXPECT_EQ(r.breaches_found, 300U);
  EXPECT_EQ(r.broken[static_cast<std::size_t>(Promise::hold_kept)], 300U);
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

TEST_F(Story, AnotherPlaceOrDeadlineInARepeatedAnswerIsNamed) {
  open();
  const Seq anna = rules(attempt("anna", 2));
  const Seq bob = rules(attempt("bob", 2));  // waits
  Decision place = about(DecisionKind::waiting, bob);
  place.quantity = Quantity{2};
  place.until = {};
  place.place = 2;  // it was 1
  place.repeated = true;
  Decision until = about(DecisionKind::reserved, anna);
  until.quantity = Quantity{2};
  until.until.value += 5;
  until.repeated = true;
  tell(check, {{Seq{4}, now, attempt("bob", 2)}, {}, place, {}});
  tell(check, {{Seq{5}, now, attempt("anna", 2)}, {}, until, {}});
  const FairnessReport r = check.finish();
  expect_broken(r, Promise::same_answer, Seq{4});
  if (HasFatalFailure()) return;
  EXPECT_EQ(r.breaches[0].expected, "waiting, place 1 again, as at position 3");
  EXPECT_EQ(r.breaches[0].found, "waiting, place 2");
  ASSERT_EQ(r.breaches_found, 2U);
  EXPECT_EQ(r.breaches[1].seq, Seq{5});
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
