#include "api/cluster/partition_records.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/log/support.hpp"

namespace fairsale::api {
namespace {

using cluster::PartitionId;
using cluster::Position;

TEST(PartitionRecords, WhatWasPutIsThereAfterARestart) {
  const testing::TempDir dir;
  const auto file = partition_records_file(dir.path());
  {
    auto records = PartitionRecords::open(file);
    ASSERT_TRUE(records) << records.error().message;
    EXPECT_EQ(records->of(PartitionId{3}).promised, 0);
    ASSERT_TRUE(records->put(PartitionId{3}, {.promised = 7, .began = {6, 12}}));
    ASSERT_TRUE(records->put(PartitionId{0}, {.promised = 0, .began = {65'535, 1ULL << 47}}));
    ASSERT_TRUE(records->put(PartitionId{3}, {.promised = 0, .began = {7, 4}}));
    ASSERT_TRUE(records->put(PartitionId{1}, {.promised = 1, .began = {}, .end = Position{}}));
    ASSERT_TRUE(records->put(PartitionId{5}, {.began = {3, 1}, .cuts = {{1, 17}, {2, 4}}}));
  }
  const auto again = PartitionRecords::open(file);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->all().size(), 4u);
  EXPECT_EQ(again->of(PartitionId{5}).cuts,
            (std::map<std::uint16_t, std::uint64_t>{{1, 17}, {2, 4}}));
  EXPECT_EQ(again->of(PartitionId{3}).promised, 0);
  EXPECT_EQ(again->of(PartitionId{3}).began, (Position{7, 4}));
  EXPECT_FALSE(again->of(PartitionId{3}).end);
  EXPECT_EQ(again->of(PartitionId{1}).end, Position{});
  EXPECT_EQ(again->of(PartitionId{0}).began, (Position{65'535, 1ULL << 47}));
}

TEST(PartitionRecords, ACopyOfTheLogGetsWherePartitionsBeganButNoPromise) {
  const testing::TempDir from;
  const testing::TempDir to;
  auto records = PartitionRecords::open(partition_records_file(from.path()));
  ASSERT_TRUE(records);
  ASSERT_TRUE(put_beside_copy(*records, to.path()));
  EXPECT_FALSE(std::filesystem::exists(partition_records_file(to.path()))) << "nothing to tell";
  ASSERT_TRUE(records->put(PartitionId{1}, {.promised = 4, .began = {3, 17}}));
  ASSERT_TRUE(put_beside_copy(*records, to.path()));
  // Again, when it has gone on.
  ASSERT_TRUE(
      records->put(PartitionId{1}, {.promised = 5, .began = {4, 2}, .end = Position{4, 9}}));
  ASSERT_TRUE(put_beside_copy(*records, to.path()));
  const auto copy = PartitionRecords::open(partition_records_file(to.path()));
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->all().size(), 1u);
  EXPECT_EQ(copy->of(PartitionId{1}).began, (Position{4, 2}));
  EXPECT_EQ(copy->of(PartitionId{1}).end, (Position{4, 9}));
  EXPECT_EQ(copy->of(PartitionId{1}).promised, 0);
}

TEST(PartitionRecords, AFileOfTheVersionBeforeIsRead) {
  const testing::TempDir dir;
  const auto file = partition_records_file(dir.path());
  std::ofstream(file) << "fairsale partitions 1\n0 1 0 17\n2 4 3 9\n";
  const auto records = PartitionRecords::open(file);
  ASSERT_TRUE(records) << records.error().message;
  EXPECT_EQ(records->of(PartitionId{0}).began, (Position{0, 17}));
  EXPECT_EQ(records->of(PartitionId{2}).promised, 4);
}

TEST(PartitionRecords, WhatCannotBeUnderstoodIsNotTakenForNothing) {
  const testing::TempDir dir;
  const auto file = partition_records_file(dir.path());
  for (const char* text :
       {"", "fairsale partitions 3\n0 1 0 1\n", "fairsale partitions 1\n0 1 0\n",
        "fairsale partitions 2\n0 1 0 1 2\n", "fairsale partitions 2\n0 1 0 1 cut 2\n",
        "fairsale partitions 2\n0 1 0 1 end 2\n", "fairsale partitions 1\n0 1 0 x\n",
        "fairsale partitions 1\n0 1 0 1\nz\n", "fairsale partitions 1\n0 70000 0 1\n"}) {
    std::ofstream(file) << text;
    const auto records = PartitionRecords::open(file);
    ASSERT_FALSE(records) << text;
    EXPECT_EQ(records.error().fault, Fault::damaged);
    EXPECT_NE(records.error().message.find("backup of another"), std::string::npos);
  }
}

}  // namespace
}  // namespace fairsale::api
