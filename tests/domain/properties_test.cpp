// Laws that hold for every history of every sale.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "tests/domain/histories.hpp"
#include "tests/domain/model.hpp"
#include "tests/domain/watcher.hpp"

namespace fairsale::test {
namespace {

// Histories long enough to get anywhere. RC_PARAMS in the environment overrules this.
[[maybe_unused]] const int configured = setenv("RC_PARAMS", "max_success=1000 max_size=200", 0);

// The canonical bytes without the header's position and time, which every event changes.
Bytes lasting(const Sale& sale) {
  Bytes bytes = bytes_of(sale);
  bytes.erase(bytes.begin() + 8, bytes.begin() + 24);
  return bytes;
}

void expect_same(const std::vector<Said>& expected, const std::vector<Said>& actual,
                 const Arrival& arrival) {
  if (expected == actual) return;
  std::string message = describe(arrival) + "\nexpected:";
  for (const Said& s : expected) message += "\n  " + describe(s);
  message += "\nactual:";
  for (const Said& s : actual) message += "\n  " + describe(s);
  RC_FAIL(message);
}

RC_GTEST_PROP(Properties, TheModelPredictsEveryDecision, (const History& h)) {
  Sale sale;
  Model model;
  for (const Action& action : h.actions) {
    const Arrival a = arrival_of(action, h.terms, sale);
    Recorder heard(sale);
    const Said answer = said_by(sale, sale.apply(a.seq, a.at, a.event, heard));
    std::vector<Said> predicted;
    const Said predicted_answer = model.apply(a.seq, a.at, a.event, predicted);

    expect_same(predicted, heard.said, a);
    expect_same({predicted_answer}, {answer}, a);
    RC_ASSERT(model.phase() == sale.phase());
    RC_ASSERT(model.counters() == sale.counters());
    RC_ASSERT(model.next_deadline() == sale.next_deadline());
    if (const auto wrong = sale.check()) RC_FAIL(describe(a) + ": " + std::string(*wrong));
  }
  RC_ASSERT(model.buys().size() == sale.purchases());
  for (const auto& [seq, b] : model.buys()) {
    const auto index = sale.find_purchase(Seq{seq});
    RC_ASSERT(index.has_value());
    RC_ASSERT(sale.purchase(*index).status == b.status);
    RC_ASSERT(sale.purchase(*index).until.value == b.until);
    const auto customer = sale.find_customer(b.customer);
    RC_ASSERT(customer.has_value());
    RC_ASSERT(sale.customer_units(*customer).value == model.units_of(b.customer));
  }

  std::map<std::string, std::vector<Seq>> newest_first;
  for (const auto& [seq, b] : model.buys()) {
    auto& theirs = newest_first[b.customer];
    if (b.status != PurchaseStatus::refused) theirs.insert(theirs.begin(), Seq{seq});
  }
  for (const auto& [name, expected] : newest_first) {
    std::vector<Seq> listed;
    for (const PurchaseIndex p : sale.purchases_of(*sale.find_customer(name), h.actions.size())) {
      listed.push_back(sale.purchase(p).seq);
    }
    RC_ASSERT(listed == expected);
  }
}

RC_GTEST_PROP(Properties, NoPromiseIsBroken, (const History& h)) {
  Sale sale;
  Watcher watcher;
  for (const Action& action : h.actions) {
    const Arrival a = arrival_of(action, h.terms, sale);
    try {
      watcher.before(sale, a.at, a.event);
      Recorder heard(sale);
      const Said answer = said_by(sale, sale.apply(a.seq, a.at, a.event, heard));
      for (const Said& s : heard.said) watcher.heard(s);
      watcher.after(sale, answer);
    } catch (const Broken& e) {
      RC_FAIL(describe(a) + ": " + e.what());
    }
  }
}

// The same key gets the same answer for ever and changes nothing but the position; the same key
// with another quantity is refused and changes nothing either.
RC_GTEST_PROP(Properties, TheSameKeyGetsTheSameAnswerForEver, (const History& h)) {
  struct First {
    PurchaseAttempted attempt;
    Said answer;
  };
  Sale sale;
  std::map<std::uint64_t, First> firsts;
  for (const Action& action : h.actions) {
    const Arrival a = arrival_of(action, h.terms, sale);
    Deaf deaf;
    const Said answer = said_by(sale, sale.apply(a.seq, a.at, a.event, deaf));
    if (const auto* e = std::get_if<PurchaseAttempted>(&a.event);
        e != nullptr && answer.purchase == a.seq.value) {
      firsts[a.seq.value] = {*e, answer};
    }
  }
  RC_ASSERT(firsts.size() == sale.purchases());
  const Bytes before = lasting(sale);
  for (const auto& [seq, first] : firsts) {
    Recorder heard(sale);
    Said again =
        said_by(sale, sale.apply(Seq{sale.seq().value + 1}, sale.time(), first.attempt, heard));
    RC_ASSERT(heard.said.empty());
    RC_ASSERT(again.repeated);
    again.repeated = false;
    expect_same({first.answer}, {again}, {Seq{seq}, sale.time(), first.attempt});

    PurchaseAttempted other = first.attempt;
    other.quantity.value = other.quantity.value == 1 ? 2 : 1;
    const Decision conflict = sale.apply(Seq{sale.seq().value + 1}, sale.time(), other, heard);
    RC_ASSERT(conflict.kind == DecisionKind::refused);
    RC_ASSERT(conflict.reason == Reason::key_reused);
    RC_ASSERT(heard.said.size() == 1u);
  }
  RC_ASSERT(lasting(sale) == before);
}

RC_GTEST_PROP(Properties, ARestoredSaleGoesOnAsIfNothingHadHappened, (const History& h)) {
  const auto arrivals = arrivals_of(h);
  const auto cut = *rc::gen::inRange<std::size_t>(0, arrivals.size() + 1);
  const std::vector<Arrival> first(arrivals.begin(),
                                   arrivals.begin() + static_cast<std::ptrdiff_t>(cut));
  Sale straight;
  fold(straight, first);
  const Bytes snapshot = bytes_of(straight);
  auto restored = sale_from(snapshot);
  RC_ASSERT(restored.has_value());
  RC_ASSERT(bytes_of(*restored) == snapshot);
  RC_ASSERT(restored->next_deadline() == straight.next_deadline());
  RC_ASSERT(fold(straight, arrivals, cut) == fold(*restored, arrivals, cut));
  RC_ASSERT(bytes_of(straight) == bytes_of(*restored));
}

// Room that was made beforehand, or a sale that was moved, leaves no trace.
RC_GTEST_PROP(Properties, TwoFoldsGiveTheSameBytes, (const History& h)) {
  const auto arrivals = arrivals_of(h);
  Sale one;
  Sale other;
  other.reserve(1000);
  const auto said = fold(one, arrivals);
  RC_ASSERT(fold(other, arrivals) == said);
  const Sale moved = std::move(other);
  RC_ASSERT(bytes_of(one) == bytes_of(moved));
}

// Between two events nothing happens by time alone before next_deadline(), and something does at
// it. After an event it is never in the past.
RC_GTEST_PROP(Properties, TheNextDeadlineIsHonest, (const History& h)) {
  Sale sale;
  for (const Action& action : h.actions) {
    const Timestamp next = sale.next_deadline();
    if (sale.exists()) {
      RC_ASSERT(next > sale.time());
      const std::int64_t far = next == kNever ? sale.time().value + 1'000'000 : next.value;
      Sale early = copy_of(sale);
      Recorder heard(early);
      early.apply(Seq{sale.seq().value + 1}, Timestamp{far - 1}, TimePassed{}, heard);
      RC_ASSERT(heard.said.empty());
      RC_ASSERT(lasting(early) == lasting(sale));
      if (next != kNever) {
        early.apply(Seq{sale.seq().value + 2}, next, TimePassed{}, heard);
        RC_ASSERT(!heard.said.empty());
        RC_ASSERT(early.next_deadline() > next);
      }
    }
    Deaf deaf;
    const Arrival a = arrival_of(action, h.terms, sale);
    sale.apply(a.seq, a.at, a.event, deaf);
  }
}

// A law that is never put to the test proves nothing: the histories reach every decision and every
// reason that there is, in any thousand of them.
TEST(Histories, ReachEverything) {
  std::set<DecisionKind> kinds;
  std::set<Reason> reasons;
  const auto histories = any_history();
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    Sale sale;
    const History h = histories(rc::Random(seed), 100).value();
    for (const Said& s : fold(sale, arrivals_of(h))) {
      kinds.insert(s.kind);
      reasons.insert(s.reason);
    }
  }
  for (int k = 1; k <= static_cast<int>(DecisionKind::noted); ++k) {
    const auto kind = static_cast<DecisionKind>(k);
    EXPECT_TRUE(kinds.contains(kind)) << name_of(kind);
  }
  for (int r = 0; r <= static_cast<int>(Reason::event_unsupported); ++r) {
    const auto reason = static_cast<Reason>(r);
    // Two billion attempts fill a sale; rules version 1 knows every event.
    if (reason == Reason::sale_full || reason == Reason::event_unsupported) continue;
    EXPECT_TRUE(reasons.contains(reason)) << name_of(reason);
  }
}

// Damaged bytes are refused, or give a sale that is sound, has exactly those bytes, and can go on.
// A name or key that is there twice is let pass by restore() and found by check().
void expect_sound(const Bytes& damaged) {
  auto restored = sale_from(damaged);
  if (!restored) return;
  const auto wrong = restored->check();
  const bool twice = wrong && wrong->find("is there twice") != std::string_view::npos;
  RC_ASSERT(!wrong || twice);
  const Bytes again = bytes_of(*restored);
  RC_ASSERT(again.size() <= damaged.size());
  RC_ASSERT(std::equal(again.begin(), again.end(), damaged.begin()));
  if (restored->exists()) RC_ASSERT(check_terms(restored->terms()) == TermsFault::none);
  if (twice) return;
  Deaf deaf;
  const auto next = [&](std::int64_t ahead, const Event& event) {
    if (restored->seq().value == std::numeric_limits<std::uint64_t>::max()) return;
    if (restored->time().value > kMaxTimestampMs - ahead) return;
    restored->apply(Seq{restored->seq().value + 1}, Timestamp{restored->time().value + ahead},
                    event, deaf);
    RC_ASSERT(!restored->check());
  };
  const std::size_t purchases = restored->purchases();
  const Seq last = restored->seq();
  for (std::uint32_t i = 0; i < purchases; ++i) {
    const Purchase p = restored->purchase(PurchaseIndex{i});
    const Seq purchase = p.seq;
    RC_ASSERT(purchase > Seq{0} && purchase <= last);
    if (restored->seq().value < std::numeric_limits<std::uint64_t>::max()) {
      const PurchaseAttempted retry{
          text<CustomerId>(restored->customer_name(CustomerIndex{p.customer})), p.key,
          Quantity{p.quantity}};
      const Decision answer =
          restored->apply(Seq{restored->seq().value + 1}, restored->time(), retry, deaf);
      RC_ASSERT(answer.repeated && answer.purchase == purchase);
    }
    next(1, PaymentReceived{purchase, text<PaymentReference>("ref-x"), restored->terms().price});
    next(1, OfferDeclined{purchase});
    next(1,
         PurchaseAttempted{text<CustomerId>("A"), key_named("x" + std::to_string(i)), Quantity{1}});
    next(0, OrderRefunded{purchase, i % 2 == 0, {}, {}});
    next(0, PurchaseCancelled{purchase});
  }
  next(100, TimePassed{});
  next(0, SaleResumed{});
  next(1, StockAdjusted{Quantity{restored->counters().stocked.value + 3}, {}, {}});
  next(100'000, TimePassed{});
  next(1, SaleClosed{});
}

RC_GTEST_PROP(Properties, DamagedBytesNeverCrash, (const History& h)) {
  Sale sale;
  fold(sale, arrivals_of(h));
  const Bytes bytes = bytes_of(sale);
  for (int round = 0; round < 20; ++round) {
    Bytes damaged = bytes;
    const auto flips = *rc::gen::inRange(0, 4);
    for (int i = 0; i < flips; ++i) {
      const auto bit = *rc::gen::inRange<std::size_t>(0, bytes.size() * 8);
      damaged[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    }
    if (flips == 0) {
      damaged.resize(*rc::gen::inRange<std::size_t>(0, bytes.size()));
      RC_ASSERT(!sale_from(damaged));
    }
    expect_sound(damaged);
  }
}

// One sale with something of everything in it, for damage to every single byte.
Bytes busy_sale() {
  const auto customer = [](const char* name) { return text<CustomerId>(name); };
  const Terms terms{.stock = Quantity{6},
                    .price = Money{MinorUnits{100}, Currency{{'E', 'U', 'R'}}},
                    .starts_at = Timestamp{1000},
                    .ends_at = Timestamp{90'000},
                    .hold = Duration{500},
                    .grace = Duration{50},
                    .limit_per_customer = Quantity{4},
                    .units_per_purchase = Quantity{4},
                    .line_limit = 5};
  const Money due{MinorUnits{200}, Currency{{'E', 'U', 'R'}}};
  const auto ref = text<PaymentReference>("ref-1");
  std::vector<std::pair<std::int64_t, Event>> events = {
      {900, SaleScheduled{text<SkuName>("demo"), kRulesV1, terms, {}}},
      {1000, PurchaseAttempted{customer("A"), key_named("a"), Quantity{2}}},
      {1010, PurchaseAttempted{customer("B"), key_named("b"), Quantity{2}}},
      {1020, PurchaseAttempted{customer("C"), key_named("c"), Quantity{2}}},
      {1030, PurchaseAttempted{customer("D"), key_named("d"), Quantity{1}}},
      {1040, PurchaseAttempted{customer("E"), key_named("e"), Quantity{3}}},
      {1050, PurchaseAttempted{customer("F"), key_named("f"), Quantity{9}}},
      {1100, PaymentReceived{Seq{2}, ref, due}},
      {1560, TimePassed{}},
      {1561, PaymentReceived{Seq{3}, ref, due}},
      {1562, PurchaseCancelled{Seq{4}}},
      {1563, PurchaseAttempted{customer("A"), key_named("a2"), Quantity{1}}},
      {1564, PurchaseAttempted{customer("G"), key_named("g"), Quantity{1}}},
      {1565, StockAdjusted{Quantity{8}, {}, {}}},
  };
  Sale sale;
  Deaf deaf;
  std::uint64_t seq = 0;
  for (const auto& [at, event] : events) sale.apply(Seq{++seq}, Timestamp{at}, event, deaf);
  return bytes_of(sale);
}

// The bytes end with the purchases that hold units, in order, and an end mark.
TEST(DamagedBytes, EveryHoldIsNamedOnceAndInOrder) {
  Bytes bytes = busy_sale();
  const auto sale = sale_from(bytes);
  const std::size_t holds = 3;
  const auto word = [](Bytes& b, std::size_t from_end) {
    return b.end() - static_cast<std::ptrdiff_t>(4 * (from_end + 1));
  };
  const auto until = [&](std::size_t from_end) {
    std::uint32_t index = 0;
    std::memcpy(&index, &*word(bytes, from_end), sizeof index);
    return sale->purchase(PurchaseIndex{index}).until;
  };
  int swapped = 0;
  for (std::size_t i = 1; i <= holds; ++i) {
    for (std::size_t j = 1; j <= holds; ++j) {
      Bytes damaged = bytes;
      if (i == j) {
        damaged.erase(word(damaged, i), word(damaged, i) + 4);
        EXPECT_FALSE(sale_from(damaged)) << i << " left out";
        continue;
      }
      std::copy_n(word(damaged, i), 4, word(damaged, j));
      EXPECT_FALSE(sale_from(damaged)) << i << " named again for " << j;
      if (until(i) == until(j)) continue;  // which of them began first can't be told
      ++swapped;
      damaged = bytes;
      std::swap_ranges(word(damaged, i), word(damaged, i) + 4, word(damaged, j));
      EXPECT_FALSE(sale_from(damaged)) << i << " and " << j << " swapped";
    }
  }
  EXPECT_GE(swapped, 4);
}

TEST(DamagedBytes, EveryTruncationIsRefused) {
  const Bytes bytes = busy_sale();
  ASSERT_TRUE(sale_from(bytes));
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(sale_from(std::span(bytes).first(n))) << n << " of " << bytes.size();
  }
}

TEST(DamagedBytes, EveryFlippedBitIsRefusedOrSound) {
  const Bytes bytes = busy_sale();
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes damaged = bytes;
    damaged[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    try {
      expect_sound(damaged);
    } catch (const rc::detail::CaseResult& r) {
      ADD_FAILURE() << "bit " << bit << ": " << r.description;
    }
  }
}

TEST(DamagedBytes, EveryByteAtItsExtremesIsRefusedOrSound) {
  const Bytes bytes = busy_sale();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const unsigned value : {0x00u, 0x7fu, 0x80u, 0xffu}) {
      for (const std::size_t width : {1u, 4u, 8u}) {
        Bytes damaged = bytes;
        for (std::size_t j = i; j < std::min(i + width, bytes.size()); ++j) {
          damaged[j] = static_cast<std::byte>(value);
        }
        try {
          expect_sound(damaged);
        } catch (const rc::detail::CaseResult& r) {
          ADD_FAILURE() << width << " bytes " << value << " at " << i << ": " << r.description;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fairsale::test
