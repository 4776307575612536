#include "core/cluster/agreement.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

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

}  // namespace
}  // namespace fairsale::cluster
