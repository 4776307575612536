#include "core/cluster/agreement.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace fairsale::cluster {
namespace {

// A log as a word: each letter is a block, as many events long as the letter's place in the
// alphabet asks for. Equal beginnings are equal logs.
struct Word {
  std::string text;

  static std::uint64_t events(char c) { return static_cast<std::uint64_t>(c - 'a') % 3 + 1; }
  Head head(std::size_t letters) const {
    Head h;
    const std::string part = text.substr(0, letters);
    for (const char c : part) h.seq.value += events(c);
    if (!part.empty()) h.digest = sha256(std::as_bytes(std::span(part)));
    return h;
  }
  Copy copy() const {
    return {head(text.size()), [*this](Seq seq) -> Result<std::optional<Head>> {
              for (std::size_t n = 0; n <= text.size(); ++n) {
                if (head(n).seq == seq) return head(n);
              }
              return std::nullopt;
            }};
  }
};

Result<Agreement> agreed(std::initializer_list<const char*> words, std::size_t of = 3,
                         std::size_t durable_on = 2) {
  std::vector<Copy> copies;
  for (const char* w : words) copies.push_back(Word{w}.copy());
  return agree(copies, of, durable_on);
}

TEST(Agreement, OfLogsThatAreBeginningsOfEachOtherIsTheLongest) {
  const auto a = agreed({"abc", "abcde", "ab"});
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->from, 1u);
  EXPECT_TRUE(a->apart.empty());
}

TEST(Agreement, NeedsSoManyThatOneOfThemHasWhatWasAcknowledged) {
  EXPECT_TRUE(agreed({"abc", "ab"}));
  const auto one = agreed({"abc"});
  ASSERT_FALSE(one);
  EXPECT_NE(one.error().message.find("bring at least 2"), std::string::npos) << one.error().message;
}

TEST(Agreement, OfLogsThatHavePartedIsTheSideThatTwoHave) {
  const auto a = agreed({"abxyz", "abcd", "abc"});
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->from, 1u);
  EXPECT_EQ(a->apart, std::vector<std::size_t>{0});
  EXPECT_EQ(a->head, Word{"abcd"}.copy().head);
}

TEST(Agreement, OfLogsThatHavePartedWhereNothingWasAcknowledgedIsAnyTheLongest) {
  const auto a = agreed({"abx", "abcd", "ab"});
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->from, 1u);
}

TEST(Agreement, OfLogsThatHavePartedNeedsAll) { EXPECT_FALSE(agreed({"abx", "abc"})); }

// Blocks are acknowledged when two of three have them, and a log only ever gets longer.
RC_GTEST_PROP(Agreement, HasWhatWasAcknowledged, ()) {
  const auto common = *rc::gen::container<std::string>(rc::gen::inRange('a', 'g'));
  const auto two = *rc::gen::container<std::string>(rc::gen::inRange('a', 'g'));
  const auto longer = *rc::gen::container<std::string>(rc::gen::inRange('a', 'g'));
  const auto third = *rc::gen::container<std::string>(rc::gen::inRange('a', 'g'));
  std::vector<std::string> words{common + two, common + two + longer, common + third};
  const std::string acknowledged = words[0];
  // The third may be on either side of the fork as well.
  const auto order = *rc::gen::inRange<std::size_t>(0, 3);
  std::rotate(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(order), words.end());
  std::vector<Copy> copies;
  for (const auto& w : words) copies.push_back(Word{w}.copy());
  const auto a = agree(copies, 3, 2);
  RC_ASSERT(a.has_value());
  RC_ASSERT(words[a->from].substr(0, acknowledged.size()) == acknowledged);
}

using Cuts = std::map<std::uint16_t, std::uint64_t>;

TEST(AgreedUntil, IsWhatTwoHaveWhoeverTheyAre) {
  const Has own{.name = "p0", .position = {2, 90}};
  EXPECT_EQ(agreed_until(own, {}, 2), (Position{2, 0}));
  const std::vector<Has> others{{.name = "p1", .position = {2, 70}},
                                {.name = "p2", .position = {2, 80}}};
  EXPECT_EQ(agreed_until(own, others, 2), (Position{2, 80}));
  EXPECT_EQ(agreed_until(own, others, 3), (Position{2, 70}));
  EXPECT_EQ(agreed_until({.name = "p0", .position = {2, 10}}, others, 2), (Position{2, 70}));
  EXPECT_EQ(agreed_until(own, others, 1), (Position{2, 90}));
}

TEST(AgreedUntil, NobodyCountsTwice) {
  const Has own{.name = "p0", .position = {2, 90}};
  const std::vector<Has> itself{{.name = "p0", .position = {2, 95}}};
  EXPECT_EQ(agreed_until(own, itself, 2), (Position{2, 0}));
  // One that was started again, as it said before and after.
  const std::vector<Has> again{{.name = "p1", .position = {2, 40}},
                               {.name = "p1", .position = {2, 60}}};
  EXPECT_EQ(agreed_until(own, again, 2), (Position{2, 60}));
  EXPECT_EQ(agreed_until(own, again, 3), (Position{2, 0}));
}

TEST(AgreedUntil, WhoHasLeftAGenerationHadWhatComesBeforeItsCut) {
  const Has own{.name = "p0", .position = {2, 90}};
  const Cuts left{{1, 500}, {2, 85}};
  const Cuts before{{1, 500}};
  const std::vector<Has> further{{.name = "p1", .position = {3, 7000}, .cuts = &left}};
  EXPECT_EQ(agreed_until(own, further, 2), (Position{2, 85}));
  const std::vector<Has> unknown{{.name = "p1", .position = {3, 7000}, .cuts = &before}};
  EXPECT_EQ(agreed_until(own, unknown, 2), (Position{2, 0}));
  const std::vector<Has> behind{{.name = "p1", .position = {1, 7000}, .cuts = &left}};
  EXPECT_EQ(agreed_until(own, behind, 2), (Position{2, 0}));
}

// Of processors that each have all up to where they say, enough have what is agreed.
RC_GTEST_PROP(AgreedUntil, IsHadByEnough, ()) {
  const auto durable_on = *rc::gen::inRange<std::size_t>(1, 4);
  const auto sequences =
      *rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange<std::uint64_t>(0, 9));
  const std::vector<std::string> names{"p0", "p1", "p2", "p3"};
  const auto name = rc::gen::elementOf(names);
  const Has own{.name = names[0], .position = {1, *rc::gen::inRange<std::uint64_t>(0, 9)}};
  std::vector<std::string> of;
  for (std::size_t i = 0; i < sequences.size(); ++i) of.push_back(*name);
  std::vector<Has> others;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    others.push_back({.name = of[i], .position = {1, sequences[i]}});
  }
  const std::uint64_t agreed = agreed_until(own, others, durable_on).sequence;
  const auto having = [&](std::uint64_t sequence) {
    std::set<std::string_view> who;
    if (own.position.sequence >= sequence) who.insert(own.name);
    for (const Has& h : others) {
      if (h.name != own.name && h.position.sequence >= sequence) who.insert(h.name);
    }
    return who.size();
  };
  RC_ASSERT(agreed == 0 || having(agreed) >= durable_on);
  RC_ASSERT(having(agreed + 1) < durable_on);
}

}  // namespace
}  // namespace fairsale::cluster
