// What the commands on a store have in common.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/log/memory_log.hpp"
#include "tests/engine/shop.hpp"
#include "tests/log/support.hpp"
#include "tools/cli.hpp"
#include "tools/store/fold_progress.hpp"
#include "tools/store/fresh_directory.hpp"
#include "tools/store/purchase_id.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

TEST(DirectoryPath, HasNoSlashAtItsEndHoweverItIsNamed) {
  const fs::path here = fs::current_path();
  for (const char* named : {"data", "data/", "./data", "data//", "x/../data/", "data/."}) {
    EXPECT_EQ(directory_path(named), here / "data") << named;
  }
  EXPECT_EQ(directory_path("."), here);
  EXPECT_EQ(directory_path("/a/b/"), "/a/b");
}

struct FreshDirectories : ::testing::Test {
  testing::TempDir dir;
  const fs::path target = fs::path(dir.path()) / "data";
};

TEST_F(FreshDirectories, TakeTheTargetsPlaceOrAreRemoved) {
  fs::path was;
  {
    auto fresh = FreshDirectory::beside(target, "restoring");
    ASSERT_TRUE(fresh);
    was = fresh->path();
    EXPECT_EQ(was.parent_path(), target.parent_path());
    fs::create_directories(was / "log");
  }
  EXPECT_FALSE(fs::exists(was));
  {
    auto fresh = FreshDirectory::beside(target, "restoring");
    fs::create_directories(fresh->path() / "log");
    fs::create_directory(target);
    const auto ok = fresh->move_to(target);
    EXPECT_TRUE(ok) << ok.error().message;
  }
  EXPECT_TRUE(fs::exists(target / "log"));
  EXPECT_FALSE(fs::exists(was));
}

TEST_F(FreshDirectories, AreNotMovedOntoAnythingAndThenRemoved) {
  fs::create_directories(target / "precious");
  fs::path was;
  {
    auto fresh = FreshDirectory::beside(target, "restoring");
    was = fresh->path();
    fs::create_directory(was);
    EXPECT_FALSE(fresh->move_to(target));
  }
  EXPECT_TRUE(fs::exists(target / "precious"));
  EXPECT_FALSE(fs::exists(was));
}

TEST_F(FreshDirectories, LeaveAloneWhatIsNotTheirs) {
  const fs::path theirs = FreshDirectory::beside(target, "repaired")->path();
  fs::create_directories(theirs / "precious");
  const auto refused = FreshDirectory::beside(target, "repaired");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().fault, Fault::invalid);
  EXPECT_NE(refused.error().message.find(theirs.string()), std::string::npos);
  EXPECT_TRUE(fs::exists(theirs / "precious"));
}

TEST(ProgressText, TellsHowFarAndHowLong) {
  EXPECT_EQ(progress_text("events", 1000, 4000, seconds(2)),
            " 25 %  1,000 of 4,000 events, 500/s, 6 s left");
  EXPECT_EQ(progress_text("events", 5000, 4000, seconds(2)),
            "100 %  5,000 of 4,000 events, 2,500/s, 0 s left");
}

TEST(ProgressText, HasNoPercentageOfWhatIsNotKnown) {
  EXPECT_EQ(progress_text("events kept", 1000, 0, seconds(2)), "1,000 events kept, 500/s");
}

TEST(ExitCodes, DamageOutweighsAllElse) {
  EXPECT_EQ(worse(kOk, kOk), kOk);
  EXPECT_EQ(worse(kOk, kIo), kIo);
  EXPECT_EQ(worse(kIo, kCheckFailed), kCheckFailed);
  EXPECT_EQ(worse(kCheckFailed, kIo), kCheckFailed);
  EXPECT_EQ(worse(kUsage, kIo), kIo);
  EXPECT_EQ(worse(kUsage, kOk), kUsage);
}

// A log that says how often it was asked what is durable, and that the last event of each is not.
struct HalfDurable final : MemoryLog {
  Result<std::vector<SkuHead>> durable_heads() const override {
    ++asked;
    auto all = heads();
    for (SkuHead& h : *all) h.head.seq.value -= 1;
    return all;
  }
  mutable int asked = 0;
};

struct Stores : ::testing::Test {
  Stores() {
    auto owned = std::make_unique<HalfDurable>();
    log = owned.get();
    test::Shop shop{*log};
    for (const char* sku : {"a", "b", "c"}) shop.now(sku, test::scheduled(sku, 1));
    shop.now("b", test::attempt("anna", "k"));
    store.log = std::move(owned);
    store.heads = *log->heads();
  }
  HalfDurable* log = nullptr;
  Store store;
};

TEST_F(Stores, FindTheSalesThatAreNamed) {
  const auto chosen = choose(store, {"c", "a"});
  ASSERT_TRUE(chosen);
  ASSERT_EQ(chosen->size(), 2u);
  EXPECT_EQ(chosen->at(0).sku, sku_id("c"));
  EXPECT_EQ(chosen->at(1).sku, sku_id("a"));
  EXPECT_EQ(choose(store, {})->size(), 3u);
  const auto none = choose(store, {"a", "nothing"});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().fault, Fault::not_found);
  EXPECT_EQ(*sale_name(*log, sku_id("b")), "b");
}

TEST_F(Stores, LookUpWhatIsDurableOnceAndOnlyWhenAsked) {
  ASSERT_TRUE(choose(store, {"a"}));
  EXPECT_EQ(log->asked, 0);
  EXPECT_EQ(*durable_seq(store, sku_id("b")), Seq{1});
  EXPECT_EQ(*durable_seq(store, sku_id("nothing")), Seq{0});
  // Of a and c nothing is durable; what was chosen twice is there once.
  const auto durable = as_far_as_durable(store, *choose(store, {"c", "b", "a", "b"}));
  ASSERT_TRUE(durable);
  ASSERT_EQ(durable->size(), 1u);
  EXPECT_EQ(durable->at(0).sku, sku_id("b"));
  EXPECT_EQ(durable->at(0).head.seq, Seq{1});
  EXPECT_EQ(log->asked, 1);
}

TEST(PurchaseIds, AreASkuAndAPosition) {
  const auto id = parse_purchase_id("a.b-c:17");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->sku, "a.b-c");
  EXPECT_EQ(id->seq, Seq{17});
  for (const char* wrong : {"", ":", "a:", ":1", "a:0", "a:01", "a:1x", "a:-1", "a", "a:1 ",
                            "a:99999999999999999999"}) {
    EXPECT_FALSE(parse_purchase_id(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace fairsale::cli
