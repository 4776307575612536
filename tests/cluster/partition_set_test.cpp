#include "core/cluster/partition_set.hpp"

#include <gtest/gtest.h>

namespace fairsale::cluster {
namespace {

std::vector<std::uint32_t> named(std::string_view text, std::uint32_t count) {
  const auto set = PartitionSet::parse(text, {count});
  EXPECT_TRUE(set) << set.error().message;
  std::vector<std::uint32_t> out;
  for (std::uint32_t p = 0; set && p < count; ++p) {
    if (set->contains(PartitionId{p})) out.push_back(p);
  }
  return out;
}

TEST(PartitionSet, isNamedByNumbersAndRangesAndIsAllWhenNothingIsNamed) {
  using All = std::vector<std::uint32_t>;
  EXPECT_EQ(named("", 3), (All{0, 1, 2}));
  EXPECT_EQ(named("all", 3), (All{0, 1, 2}));
  EXPECT_EQ(named("2", 4), (All{2}));
  EXPECT_EQ(named("0-2,5", 8), (All{0, 1, 2, 5}));
  EXPECT_EQ(named("3,1,1-1", 4), (All{1, 3}));
}

TEST(PartitionSet, isRefusedWithAReasonWhenItIsNoSetOrNamesWhatThereIsNot) {
  for (const char* text : {"a", "1-", "-1", "3-1", "1,,2", "1,", "1 2", "99999999999"}) {
    const auto set = PartitionSet::parse(text, {8});
    ASSERT_FALSE(set) << text;
    EXPECT_NE(set.error().message.find("0-3,8"), std::string::npos) << set.error().message;
  }
  const auto beyond = PartitionSet::parse("2-4", {4});
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().message, "there is no partition 4: the cluster has 4, from 0 to 3");
}

}  // namespace
}  // namespace fairsale::cluster
