// A log out of a store and into a new one.
#include "tools/events/log_file.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/engine/recovery.hpp"
#include "core/log/memory_log.hpp"
#include "tests/engine/shop.hpp"
#include "tests/log/any_event.hpp"
#include "tests/log/support.hpp"
#include "tests/tools/event_log_support.hpp"
#include "tools/cli.hpp"

namespace fairsale::cli {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

// Two sales, with a block of several events among those of one.
struct Sold {
  Sold() : shop(log) {
    shop.now("b-sale", test::scheduled("b-sale", 2));
    shop.now("a-sale", test::scheduled("a-sale", 1));
    for (int i = 0; i < 3; ++i) {
      shop.submit("a-sale", test::attempt(fmt::format("c{}", i), "k"));
    }
    shop.now("b-sale", test::attempt("anna", "k", 2));
    shop.clock.advance(Duration{61'000});
    shop.now("b-sale", test::attempt("ben", "k", 1));
    shop.now("a-sale", SalePaused{*Actor::from("ops"), *Why::from("\xff")});
  }
  MemoryLog log;
  test::Shop shop;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t at = 0;
  for (std::size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    lines.push_back(text.substr(at, end - at));
  }
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& l : lines) text += l + "\n";
  return text;
}

void expect_same_logs(const EventLog& a, const EventLog& b) {
  const auto heads = a.heads();
  const auto others = b.heads();
  ASSERT_TRUE(heads && others);
  ASSERT_EQ(heads->size(), others->size());
  for (std::size_t i = 0; i < heads->size(); ++i) {
    EXPECT_EQ((*heads)[i].sku, (*others)[i].sku);
    EXPECT_EQ((*heads)[i].head, (*others)[i].head);
    EXPECT_EQ(testing::read_all(a, (*heads)[i].sku), testing::read_all(b, (*heads)[i].sku));
    const auto left = fold(a, (*heads)[i], FoldFrom::start, nullptr);
    const auto right = fold(b, (*others)[i], FoldFrom::start, nullptr);
    ASSERT_TRUE(left && right);
    EXPECT_EQ(state_digest(left->sale), state_digest(right->sale));
  }
}

TEST(LogFile, an_import_has_the_same_blocks_byte_for_byte) {
  Sold sold;
  TempDir dir;
  const std::string text = exported(sold.log);
  const auto sales = imported(text, dir / "new");
  ASSERT_TRUE(sales) << sales.error().message;
  ASSERT_EQ(sales->size(), 2U);
  {
    const auto log = opened(dir / "new");
    expect_same_logs(sold.log, *log);
    EXPECT_EQ(exported(*log), text);
    const auto durable = log->durable_heads();
    ASSERT_TRUE(durable);
    ASSERT_EQ(durable->size(), 2U);
    for (const SkuHead& h : *durable) EXPECT_GT(h.head.seq, Seq{0});
  }
  for (const ImportedSale& s : *sales) EXPECT_TRUE(s.sku == "a-sale" || s.sku == "b-sale");
  // Nothing is left beside it, and a server may go on in it.
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);
  EXPECT_NE(testing::open_log(dir / "new"), nullptr);
}

// All that the format allows, in one store, since making one takes its time.
TEST(LogFile, logs_of_any_events_survive) {
  MemoryLog log;
  const auto any = rc::gen::exec(testing::any_event);
  std::mt19937_64 random(1);
  for (int sale = 0; sale < 50; ++sale) {
    const std::string name = fmt::format("sale-{}", sale);
    Head head;
    std::int64_t time = static_cast<std::int64_t>(random() >> 24);
    const std::uint64_t blocks = 1 + random() % 4;
    for (std::uint64_t i = 0; i < blocks; ++i) {
      std::vector<Event> events;
      if (i == 0) events.push_back(testing::scheduled(name));
      for (std::uint64_t n = 1 + random() % 20; n > 0; --n) {
        events.push_back(any(rc::Random(random()), 100).value());
      }
      time += static_cast<std::int64_t>(random() % 1000);
      append_block(log, sku_id(name), head, Timestamp{time}, Epoch{random()}, events);
    }
  }
  TempDir dir;
  const auto sales = imported(exported(log), dir / "new");
  ASSERT_TRUE(sales) << sales.error().message;
  EXPECT_EQ(sales->size(), 50U);
  expect_same_logs(log, *opened(dir / "new"));
}

TEST(LogFile, many_blocks_are_committed_in_several_batches) {
  MemoryLog log;
  Head head;
  append_block(log, sku_id("sneaker-1"), head, Timestamp{1}, Epoch{1},
               {testing::scheduled("sneaker-1")});
  for (unsigned i = 0; i < 2500; ++i) {
    append_block(log, sku_id("sneaker-1"), head, Timestamp{1}, Epoch{1}, {testing::attempt(i)});
  }
  TempDir dir;
  const auto sales = imported(exported(log), dir / "new");
  ASSERT_TRUE(sales) << sales.error().message;
  EXPECT_EQ((*sales)[0].head, head);
  EXPECT_EQ((*opened(dir / "new")->durable_heads())[0].head, head);
}

TEST(LogFile, only_an_empty_or_a_new_directory_is_imported_into) {
  Sold sold;
  TempDir dir;
  const std::string text = exported(sold.log);
  fs::create_directory(dir / "empty");
  EXPECT_TRUE(imported(text, (dir / "empty").string() + "/"));
  const auto again = imported(text, dir / "empty");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().fault, Fault::invalid);
  expect_same_logs(sold.log, *opened(dir / "empty"));
  EXPECT_FALSE(imported(text, dir / "empty" / "VERSION"));
}

TEST(LogFile, a_file_that_does_not_check_out_is_refused_by_line_and_leaves_nothing) {
  Sold sold;
  const auto good = lines_of(exported(sold.log));
  const auto find = [&](const std::string& what, std::size_t from = 0) {
    for (std::size_t i = from; i < good.size(); ++i) {
      if (good[i].find(what) != std::string::npos) return i;
    }
    ADD_FAILURE() << what;
    return std::size_t{0};
  };
  const std::size_t sale = find("\"sale\"");
  const std::size_t other_sale = find("\"sale\"", sale + 1);
  const std::size_t attempt = find("PurchaseAttempted");
  const std::size_t block = find("\"block\"", sale + 2);
  using Lines = std::vector<std::string>;
  const auto erase = [](Lines l, std::size_t at) {
    l.erase(l.begin() + static_cast<std::ptrdiff_t>(at));
    return l;
  };
  const auto insert = [](Lines l, std::size_t at, std::string line) {
    l.insert(l.begin() + static_cast<std::ptrdiff_t>(at), std::move(line));
    return l;
  };
  const auto change = [](Lines l, std::size_t at, const std::string& from, const std::string& to) {
    const std::size_t found = l[at].find(from);
    EXPECT_NE(found, std::string::npos) << l[at];
    l[at].replace(found, from.size(), to);
    return l;
  };
  Lines swapped = good;
  std::swap(swapped[attempt], swapped[attempt + 1]);

  struct Case {
    const char* what;
    Lines lines;
    std::size_t line;  // that is named, from 0; beyond the file when the whole is wrong
    const char* message;
  };
  const std::size_t end = good.size() - 1;
  const std::vector<Case> cases{
      {"no format", erase(good, 0), 0, "must begin with its \"format\" line"},
      {"format twice", insert(good, 1, good[0]), 1, "second \"format\" line"},
      {"cut off", erase(good, end), end, "its \"end\" line is missing"},
      {"cut off in a block", Lines(good.begin(), good.begin() + 4), 4, "\"end\" line is missing"},
      {"no sale", erase(good, sale), sale, "a \"sale\" or the \"end\" line should come here"},
      {"no block", erase(good, block), block, "should come here"},
      {"no event", erase(good, attempt), attempt, "should come here"},
      {"an event twice", insert(good, attempt, good[attempt]), attempt + 1, "should come here"},
      {"events swapped", swapped, attempt, "should come here"},
      {"another quantity", change(good, attempt, "\"quantity\":1", "\"quantity\":2"), 0,
       "something in it was changed"},
      {"another epoch", change(good, block, "\"epoch\":1", "\"epoch\":2"), 0,
       "something in it was changed"},
      {"another head of the sale", change(good, sale, "\"head\":\"", "\"head\":\"0"), sale,
       "\"head\" must be 64"},
      {"a longer sale", change(good, sale, "\"seq\":", "\"seq\":9"), other_sale,
       "should come here: the sale is stated to go on"},
      {"a time before", change(good, block, "\"time\":\"202", "\"time\":\"200"), block,
       "before that of the block before"},
      {"a sale twice",
       [&] {
         Lines l = good;
         l.insert(l.begin() + static_cast<std::ptrdiff_t>(end),
                  good.begin() + static_cast<std::ptrdiff_t>(sale),
                  good.begin() + static_cast<std::ptrdiff_t>(other_sale));
         return l;
       }(),
       end, "is given twice"},
      {"another count of events", change(good, end, "\"events\":", "\"events\":9"), end,
       "lines are missing or were added"},
      {"a sale left out",
       [&] {
         Lines l = good;
         l.erase(l.begin() + static_cast<std::ptrdiff_t>(sale),
                 l.begin() + static_cast<std::ptrdiff_t>(other_sale));
         return l;
       }(),
       0, "lines are missing or were added"},
      {"more after the end", insert(good, end + 1, good[0]), end + 1, "nothing may follow"},
      {"an empty line", insert(good, 2, ""), 2, "not JSON"},
      {"a long line", insert(good, 2, std::string(100'000, ' ')), 2, "none has more than"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    TempDir dir;
    fs::create_directory(dir / "data");
    const auto result = imported(joined(c.lines), dir / "data");
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().fault, Fault::damaged);
    const std::string& message = result.error().message;
    EXPECT_NE(message.find(c.message), std::string::npos) << message;
    if (c.line != 0 || c.lines.size() < good.size()) {
      EXPECT_NE(message.find("file, line "), std::string::npos) << message;
    }
    if (c.line != 0) {
      EXPECT_NE(message.find(fmt::format("line {}:", c.line + 1)), std::string::npos) << message;
    }
    EXPECT_TRUE(fs::is_empty(dir / "data"));
    EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);
  }
}

TEST(LogFile, a_log_under_the_id_of_another_sku_is_refused) {
  MemoryLog log;
  Head head;
  append_block(log, sku_id("other"), head, Timestamp{1}, Epoch{1},
               {testing::scheduled("sneaker-1")});
  TempDir dir;
  const auto result = imported(exported(log), dir / "new");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("under another SKU's id"), std::string::npos)
      << result.error().message;
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(LogFile, an_interrupted_import_leaves_nothing) {
  Sold sold;
  TempDir dir;
  interrupted = 1;
  const auto result = imported(exported(sold.log), dir / "new");
  interrupted = 0;
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().fault, Fault::io);
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(LogFile, an_export_goes_as_far_as_it_is_told) {
  MemoryLog log;
  const SkuId sku = sku_id("sneaker-1");
  Head head;
  append_block(log, sku, head, Timestamp{1}, Epoch{1}, {testing::scheduled("sneaker-1")});
  append_block(log, sku, head, Timestamp{2}, Epoch{1}, {testing::attempt(1), testing::attempt(2)});
  const std::vector<SkuHead> then{{sku, head}};
  append_block(log, sku, head, Timestamp{3}, Epoch{2}, {testing::attempt(3)});
  TempDir dir;
  const std::string text = written([&](Output& out) { ASSERT_TRUE(export_logs(log, then, out)); });
  const auto sales = imported(text, dir / "new");
  ASSERT_TRUE(sales) << sales.error().message;
  EXPECT_EQ((*sales)[0].head, then[0].head);
  // A head that is none of the log's is not passed over.
  std::vector<SkuHead> wrong = then;
  wrong[0].head.digest = {};
  written([&](Output& out) { EXPECT_FALSE(export_logs(log, wrong, out)); });
}

}  // namespace
}  // namespace fairsale::cli
