// The containers and small types of the domain against the standard library's.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/domain/sale.hpp"
#include "core/domain/segmented.hpp"
#include "tests/domain/support.hpp"

namespace fairsale::test {
namespace {

TEST(Segmented, KeepsWhatWasPushedAndNeverMovesIt) {
  Segmented<std::uint32_t> s;
  std::vector<const std::uint32_t*> places;
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    s.push_back(i * 7);
    places.push_back(&s[i]);
  }
  ASSERT_EQ(s.size(), 100'000u);
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    ASSERT_EQ(s[i], i * 7);
    ASSERT_EQ(&s[i], places[i]);
  }
  EXPECT_EQ(s.back(), 99'999u * 7);
}

TEST(Segmented, FirstSegmentOfOneOrTwo) {
  Segmented<int, 0> one;
  Segmented<int, 1> two;
  for (int i = 0; i < 1000; ++i) {
    one.push_back(i);
    two.push_back(-i);
  }
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(one[static_cast<std::size_t>(i)], i);
    EXPECT_EQ(two[static_cast<std::size_t>(i)], -i);
  }
}

RC_GTEST_PROP(Segmented, NamesLieSideBySide, (const std::vector<std::uint8_t>& sizes)) {
  Segmented<char, 6> names;
  std::vector<std::pair<std::size_t, std::string>> entered;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::string name(sizes[i] % 65u, static_cast<char>('a' + i % 26));
    entered.emplace_back(names.append_contiguous(name.data(), name.size()), name);
  }
  for (const auto& [offset, name] : entered) {
    RC_ASSERT(offset + name.size() <= names.size());
    if (!name.empty()) RC_ASSERT(std::string(&names[offset], name.size()) == name);
  }
}

// Few buckets' worth of hashes, so that chains are long and splits matter.
struct Record {
  std::uint32_t hash = 0;
  std::uint32_t link = 0;
};

struct RecordLinks {
  std::vector<Record>& records;
  std::uint32_t& link(std::uint32_t i) { return records[i].link; }
  std::uint32_t hash(std::uint32_t i) const { return records[i].hash; }
};

RC_GTEST_PROP(LinearIndex, FindsExactlyWhatWasInserted,
              (const std::vector<std::uint16_t>& keys, std::uint8_t presized)) {
  std::vector<Record> records;
  std::unordered_map<std::uint32_t, std::uint32_t> known;
  LinearIndex index;
  index.presize(presized);
  const auto find = [&](std::uint32_t hash) {
    return index.find(RecordLinks{records}, hash,
                      [&](std::uint32_t i) { return records[i].hash == hash; });
  };
  for (const std::uint32_t key : keys) {
    const auto found = known.find(key);
    RC_ASSERT(find(key) == (found == known.end() ? LinearIndex::kNone : found->second));
    if (found != known.end()) continue;
    const auto i = static_cast<std::uint32_t>(records.size());
    records.push_back({key, 0});
    index.insert(RecordLinks{records}, key, i);
    known[key] = i;
  }
  for (const auto& [key, i] : known) RC_ASSERT(find(key) == i);
}

TEST(LinearIndex, FindsAllWhenEveryHashIsTheSame) {
  std::vector<Record> records(300, Record{42, 0});
  LinearIndex index;
  for (std::uint32_t i = 0; i < records.size(); ++i) index.insert(RecordLinks{records}, 42, i);
  for (std::uint32_t wanted = 0; wanted < records.size(); ++wanted) {
    EXPECT_EQ(index.find(RecordLinks{records}, 42, [&](std::uint32_t i) { return i == wanted; }),
              wanted);
  }
}

TEST(Text, HoldsUpToItsCapacity) {
  EXPECT_EQ(Text<4>::from("abcd")->view(), "abcd");
  EXPECT_FALSE(Text<4>::from("abcde"));
  EXPECT_TRUE(Text<4>::from("")->empty());
  EXPECT_EQ(Text<255>::from(std::string(255, 'x'))->size(), 255u);
  Text<4> t = text<Text<4>>("abcd");
  t.resize(9);
  EXPECT_EQ(t.size(), 4u);
  EXPECT_EQ(text<Text<8>>("ab"), text<Text<8>>("ab"));
}

TEST(Names, AreUniqueAndLowerCase) {
  std::set<std::string_view> names;
  const auto enter = [&](std::string_view name) {
    EXPECT_NE(name, "unknown");
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string_view::npos);
  };
  for (int r = 0; r <= static_cast<int>(Reason::event_unsupported); ++r) {
    enter(name_of(static_cast<Reason>(r)));
  }
  names.clear();
  for (int k = 1; k <= static_cast<int>(DecisionKind::noted); ++k) {
    enter(name_of(static_cast<DecisionKind>(k)));
  }
  names.clear();
  for (int s = 0; s <= static_cast<int>(PurchaseStatus::refunded); ++s) {
    enter(name_of(static_cast<PurchaseStatus>(s)));
  }
  names.clear();
  for (int p = 0; p <= static_cast<int>(Phase::closed); ++p) enter(name_of(static_cast<Phase>(p)));
}

TEST(Names, EventsHaveTheirNumbersForEver) {
  const std::vector<std::pair<Event, std::string>> events = {
      {SaleScheduled{}, "1 SaleScheduled"},
      {SaleChanged{}, "2 SaleChanged"},
      {SalePaused{}, "3 SalePaused"},
      {SaleResumed{}, "4 SaleResumed"},
      {SaleClosed{}, "5 SaleClosed"},
      {StockAdjusted{}, "6 StockAdjusted"},
      {PurchaseAttempted{}, "7 PurchaseAttempted"},
      {PurchaseCancelled{}, "8 PurchaseCancelled"},
      {OfferDeclined{}, "9 OfferDeclined"},
      {PaymentReceived{}, "10 PaymentReceived"},
      {PaymentFailed{}, "11 PaymentFailed"},
      {OrderRefunded{}, "12 OrderRefunded"},
      {TimePassed{}, "14 TimePassed"}};
  for (const auto& [event, name] : events) {
    EXPECT_EQ(std::to_string(number_of(event)) + " " + std::string(name_of(event)), name);
  }
}

// Each mistake is named for what it is, so that an answer can name the field.
TEST(CheckTerms, NamesTheFault) {
  const Terms good{.stock = Quantity{1},
                   .price = Money{MinorUnits{0}, Currency{{'E', 'U', 'R'}}},
                   .starts_at = Timestamp{0},
                   .hold = Duration{1},
                   .limit_per_customer = Quantity{1},
                   .units_per_purchase = Quantity{1}};
  EXPECT_EQ(check_terms(good), TermsFault::none);
  const auto fault = [&](auto&& spoil) {
    Terms t = good;
    spoil(t);
    return check_terms(t);
  };
  EXPECT_EQ(fault([](Terms& t) { t.stock.value = kMaxStock + 1; }), TermsFault::stock);
  EXPECT_EQ(fault([](Terms& t) { t.price.amount.value = -1; }), TermsFault::price);
  EXPECT_EQ(fault([](Terms& t) { t.price.currency.code[2] = 'r'; }), TermsFault::currency);
  EXPECT_EQ(fault([](Terms& t) { t.ends_at = t.starts_at; }), TermsFault::times);
  EXPECT_EQ(fault([](Terms& t) { t.starts_at.value = -1; }), TermsFault::times);
  EXPECT_EQ(fault([](Terms& t) { t.ends_at.value = kMaxTimestampMs + 1; }), TermsFault::times);
  EXPECT_EQ(fault([](Terms& t) { t.starts_at.value = kMaxTimestampMs + 1; }), TermsFault::times);
  EXPECT_EQ(fault([](Terms& t) { t.hold.value = 0; }), TermsFault::hold);
  EXPECT_EQ(fault([](Terms& t) { t.grace.value = -1; }), TermsFault::grace);
  EXPECT_EQ(fault([](Terms& t) { t.limit_per_customer.value = 0; }),
            TermsFault::limit_per_customer);
  EXPECT_EQ(fault([](Terms& t) { t.units_per_purchase.value = 101; }),
            TermsFault::units_per_purchase);
  EXPECT_EQ(fault([](Terms& t) { t.line_limit = kMaxLine + 1; }), TermsFault::line_limit);
  EXPECT_EQ(fault([](Terms& t) { t.line_policy = static_cast<LinePolicy>(2); }),
            TermsFault::line_policy);
  EXPECT_EQ(fault([](Terms& t) { t.opening = Opening::draw; }), TermsFault::opening);
}

// What the log promises is not taken on trust.
TEST(ApplyDeathTest, ABrokenLogAborts) {
  Sale sale;
  Deaf deaf;
  sale.apply(Seq{1}, Timestamp{5}, TimePassed{}, deaf);
  EXPECT_DEATH(sale.apply(Seq{1}, Timestamp{5}, TimePassed{}, deaf), "gap-free");
  EXPECT_DEATH(sale.apply(Seq{3}, Timestamp{5}, TimePassed{}, deaf), "gap-free");
  EXPECT_DEATH(sale.apply(Seq{2}, Timestamp{4}, TimePassed{}, deaf), "never decreases");
  EXPECT_DEATH(sale.apply(Seq{2}, Timestamp{kMaxTimestampMs + 1}, TimePassed{}, deaf), "a time");
  EXPECT_DEATH(sale.apply(Seq{2}, Timestamp{5}, SaleScheduled{.rules = RulesVersion{2}}, deaf),
               "rules");
}

}  // namespace
}  // namespace fairsale::test
