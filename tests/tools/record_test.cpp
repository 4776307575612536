#include "tools/rush/record.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace fairsale::rush {
namespace {

class RecordTest : public ::testing::Test {
 protected:
  RecordTest() {
    const char* tmp = std::getenv("TMPDIR");
    std::string pattern = std::string(tmp == nullptr ? "/tmp" : tmp) + "/fairsale-record-XXXXXX";
    directory_ = mkdtemp(pattern.data());
    path_ = directory_ / "record.jsonl";
  }
  ~RecordTest() override { std::filesystem::remove_all(directory_); }

  void write_run() {
    auto w = RecordWriter::create(path_, info_);
    ASSERT_TRUE(w) << w.error().message;
    Claim reserved{.customer = 3,
                   .quantity = 2,
                   .first = First::reserved,
                   .status = 201,
                   .seq = 17,
                   .position = 17,
                   .digest = 0xfedcba9876543210,
                   .sent_ms = 5,
                   .answered_ms = 6};
    w->answer(2, reserved);
    reserved.payment = PaymentAnswer::sent;
    w->payment(2, reserved);
    reserved.payment = PaymentAnswer::ordered;
    w->payment(2, reserved);
    Claim waiting{.customer = 4,
                  .first = First::waiting,
                  .status = 202,
                  .place = 9,
                  .seq = 18,
                  .position = 18};
    w->answer(0, waiting);
    waiting.waiting_at = 30;
    waiting.offered_at = 31;
    w->seen(0, waiting);
    waiting.cancel = CancelAnswer::declined;
    w->cancel(0, waiting);
    w->answer(1, Claim{.customer = 3,
                       .first = First::refused,
                       .status = 403,
                       .reason = Reason::over_limit,
                       .seq = 19,
                       .position = 19});
    ASSERT_TRUE(w->close());
  }

  std::string text() const {
    std::ifstream in(path_);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void overwrite(const std::string& s) const { std::ofstream(path_) << s; }

  RunInfo info_{.url = "http://127.0.0.1:1",
                .sku = "demo",
                .seed = UINT64_MAX,
                .key_prefix = "k-",
                .customer_prefix = "c",
                .alone = true};
  std::filesystem::path directory_;
  std::filesystem::path path_;
};

TEST_F(RecordTest, ReadsBackWhatWasWritten) {
  write_run();
  const auto r = read_record(path_);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->info.sku, "demo");
  EXPECT_EQ(r->info.seed, UINT64_MAX);
  EXPECT_TRUE(r->info.alone);
  ASSERT_EQ(r->claims.size(), 3U);
  const Claim& reserved = r->claims[2];
  EXPECT_EQ(reserved.first, First::reserved);
  EXPECT_EQ(reserved.customer, 3U);
  EXPECT_EQ(reserved.quantity, 2U);
  EXPECT_EQ(reserved.seq, 17U);
  EXPECT_EQ(reserved.digest, 0xfedcba9876543210);
  EXPECT_EQ(reserved.payment, PaymentAnswer::ordered);
  const Claim& waiting = r->claims[0];
  EXPECT_EQ(waiting.place, 9U);
  EXPECT_EQ(waiting.waiting_at, 30U);
  EXPECT_EQ(waiting.offered_at, 31U);
  EXPECT_EQ(waiting.cancel, CancelAnswer::declined);
  EXPECT_EQ(r->claims[1].reason, Reason::over_limit);
  EXPECT_EQ(r->claims[1].status, 403);
}

TEST_F(RecordTest, LineThatWasCutOffByACrashIsLeftOut) {
  write_run();
  const std::string whole = text();
  overwrite(whole.substr(0, whole.size() - 10));
  const auto r = read_record(path_);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->claims[1].first, First::none);
  EXPECT_EQ(r->claims[2].first, First::reserved);
}

TEST_F(RecordTest, DamagedLineIsNamed) {
  write_run();
  std::string damaged = text();
  damaged.replace(damaged.find("\"reserved\""), 10, "\"recovered");
  overwrite(damaged);
  const auto r = read_record(path_);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find(":2:"), std::string::npos) << r.error().message;
}

TEST_F(RecordTest, OtherFilesAreRefused) {
  overwrite("");
  EXPECT_FALSE(read_record(path_));
  overwrite("{\"record\":2}\n");
  EXPECT_FALSE(read_record(path_));
  overwrite("{\"hello\":1}\n");
  EXPECT_FALSE(read_record(path_));
  EXPECT_FALSE(read_record(directory_ / "nowhere"));
}

}  // namespace
}  // namespace fairsale::rush
