// Choosing events and showing them.
#include "tools/events/walk.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/engine/shop.hpp"

namespace fairsale::cli {
namespace {

using test::attempt;
using test::kOpening;

constexpr const char* kSku = "tour";

// One unit; anna holds it and lets it expire, ben waits and is offered it and pays, cleo is too
// late.
class Walk : public ::testing::Test {
 protected:
  Walk() : shop(log) {
    shop.now(kSku, test::scheduled(kSku, 1));  // 1
    shop.now(kSku, attempt("anna", "a"));      // 2
    shop.now(kSku, attempt("ben", "b"));       // 3
    shop.now(kSku, attempt("ben", "b"));       // 4
    shop.clock.advance(Duration{60'000});
    shop.now(kSku, TimePassed{});                                          // 5
    shop.now(kSku, PaymentFailed{Seq{3}, *PaymentReference::from("p0")});  // 6
    shop.now(kSku, PaymentReceived{Seq{3},
                                   *PaymentReference::from("p1"),
                                   {MinorUnits{1000}, Currency{{'E', 'U', 'R'}}}});  // 7
    shop.clock.advance(Duration{1'000});
    shop.now(kSku, attempt("cleo", "c"));   // 8
    shop.now(kSku, attempt("anna", "a2"));  // 9
    head = log.heads()->at(0);
  }

  std::vector<std::uint64_t> seqs(const EventFilter& filter) {
    std::vector<std::uint64_t> all;
    const auto ok = visit_events(log, head, head.head.seq, filter, [&](const SeenEvent& seen) {
      all.push_back(seen.seq.value);
      return true;
    });
    EXPECT_TRUE(ok) << ok.error().message;
    return all;
  }

  std::string text(const EventFilter& filter, Seq durable = Seq{100}) {
    std::string out;
    const auto ok = visit_events(log, head, durable, filter, [&](const SeenEvent& seen) {
      append_text(out, seen);
      return true;
    });
    EXPECT_TRUE(ok);
    return out;
  }

  MemoryLog log;
  test::Shop shop;
  SkuHead head;
};

using Seqs = std::vector<std::uint64_t>;

TEST_F(Walk, events_are_chosen_by_position_and_time) {
  EXPECT_EQ(seqs({}), (Seqs{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(seqs({.from = Seq{8}}), (Seqs{8, 9}));
  EXPECT_EQ(seqs({.from = Seq{3}, .to = Seq{4}}), (Seqs{3, 4}));
  EXPECT_EQ(seqs({.from = Seq{10}}), Seqs{});
  EXPECT_EQ(seqs({.from = Seq{5}, .to = Seq{4}}), Seqs{});
  const Timestamp later = kOpening + Duration{60'000};
  EXPECT_EQ(seqs({.since = later}), (Seqs{5, 6, 7, 8, 9}));
  EXPECT_EQ(seqs({.since = later + Duration{1}}), (Seqs{8, 9}));
  EXPECT_EQ(seqs({.until = later}), (Seqs{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(seqs({.until = later + Duration{-1}}), (Seqs{1, 2, 3, 4}));
  EXPECT_EQ(seqs({.since = later, .until = later}), (Seqs{5, 6, 7}));
  EXPECT_EQ(seqs({.since = kOpening + Duration{99'999'999}}), Seqs{});
}

TEST_F(Walk, every_time_is_found_whatever_the_blocks_are) {
  std::vector<std::int64_t> times;
  const auto read = log.read(head.sku, Seq{1}, [&](const BlockView& b) {
    for (std::uint32_t i = 0; i < b.header().count; ++i) times.push_back(b.header().time.value);
    return true;
  });
  ASSERT_TRUE(read);
  for (std::int64_t t = kOpening.value - 1; t < kOpening.value + 62'000; t += 250) {
    const auto later = std::count_if(times.begin(), times.end(), [t](auto x) { return x >= t; });
    EXPECT_EQ(seqs({.since = Timestamp{t}}).size(), static_cast<std::size_t>(later)) << t;
  }
}

TEST_F(Walk, a_purchase_has_its_attempt_its_repetition_and_what_befell_it) {
  EXPECT_EQ(seqs({.purchase = Seq{3}}), (Seqs{3, 4, 6, 7}));
  EXPECT_EQ(seqs({.purchase = Seq{2}}), Seqs{2});
  EXPECT_EQ(seqs({.purchase = Seq{2}, .decisions = true}), (Seqs{2, 5}));
  EXPECT_EQ(seqs({.purchase = Seq{3}, .decisions = true}), (Seqs{3, 4, 5, 6, 7}));
  EXPECT_EQ(seqs({.from = Seq{5}, .purchase = Seq{3}}), (Seqs{6, 7}));
  for (const std::uint64_t none : {0U, 1U, 5U, 10U}) {
    const auto ok = visit_events(log, head, Seq{100}, {.purchase = Seq{none}},
                                 [](const SeenEvent&) { return true; });
    ASSERT_FALSE(ok) << none;
    EXPECT_EQ(ok.error().fault, Fault::not_found);
    EXPECT_NE(ok.error().message.find(fmt::format("tour:{} is no purchase", none)),
              std::string::npos)
        << ok.error().message;
  }
}

TEST_F(Walk, a_customer_has_all_their_purchases) {
  EXPECT_EQ(seqs({.customer = "ben"}), (Seqs{3, 4, 6, 7}));
  EXPECT_EQ(seqs({.from = Seq{5}, .customer = "ben"}), (Seqs{6, 7}));
  EXPECT_EQ(seqs({.customer = "anna"}), (Seqs{2, 9}));
  EXPECT_EQ(seqs({.customer = "anna", .decisions = true}), (Seqs{2, 5, 9}));
  EXPECT_EQ(seqs({.customer = "nobody"}), Seqs{});
  EXPECT_EQ(seqs({.customer = "anna", .purchase = Seq{3}}), Seqs{});
}

TEST_F(Walk, it_starts_from_a_snapshot_and_says_the_same) {
  const std::string before = text({.from = Seq{6}, .decisions = true});
  auto then = fold(log, head, FoldFrom::start, nullptr, Seq{4});
  ASSERT_TRUE(then);
  ASSERT_TRUE(log.put_snapshot(head.sku, then->head, then->sale));
  EXPECT_EQ(text({.from = Seq{6}, .decisions = true}), before);
  EXPECT_EQ(seqs({.from = Seq{5}, .customer = "ben"}), (Seqs{6, 7}));
  EXPECT_EQ(seqs({.customer = "ben"}), (Seqs{3, 4, 6, 7}));
}

TEST_F(Walk, from_the_start_no_snapshot_is_believed) {
  const std::string truth = text({.from = Seq{6}, .decisions = true});
  MemoryLog elsewhere;
  test::Shop other(elsewhere);
  other.now(kSku, test::scheduled(kSku, 77));
  for (const char* customer : {"anna", "ben", "zoe"}) other.now(kSku, attempt(customer, "x"));
  const auto then = fold(log, head, FoldFrom::start, nullptr, Seq{4});
  ASSERT_TRUE(log.put_snapshot(head.sku, then->head, *other.sequencer.find(sku_id(kSku))));
  EXPECT_NE(text({.from = Seq{6}, .decisions = true}), truth);
  EXPECT_EQ(text({.from = Seq{6}, .decisions = true, .fold_from = FoldFrom::start}), truth);
}

TEST_F(Walk, what_is_read_is_counted) {
  std::uint64_t read = 0;
  const auto watch = [&read](std::uint64_t events) { read += events; };
  EXPECT_EQ(seqs({.to = Seq{4}, .watch = watch}).size(), 4u);
  EXPECT_EQ(read, 4u);
}

TEST_F(Walk, names_that_could_fake_a_line_are_quoted) {
  shop.now(kSku, attempt("eve\n    -> ordered\x1b[1A", "e"));
  head = log.heads()->at(0);
  const std::string shown = text({.from = Seq{10}, .decisions = true});
  EXPECT_EQ(std::count(shown.begin(), shown.end(), '\n'), 2) << shown;
  EXPECT_NE(shown.find(R"(-> refused sold_out tour:10 customer="eve\n    -> ordered\u001b[1A")"),
            std::string::npos)
      << shown;
}

TEST_F(Walk, decisions_stand_below_their_events) {
  EXPECT_EQ(text({.from = Seq{5}, .to = Seq{5}, .decisions = true}),
            "tour:5  2023-11-14T22:14:20.000Z  TimePassed\n"
            "    -> expired tour:2 customer=anna quantity=1 until=2023-11-14T22:14:20.000Z\n"
            "    -> offered tour:3 customer=ben quantity=1 until=2023-11-14T22:15:20.000Z\n");
  const std::string repeated = text({.from = Seq{4}, .to = Seq{4}, .decisions = true});
  EXPECT_NE(repeated.find("-> waiting tour:3 customer=ben quantity=1 place=1 (the first answer "
                          "again)\n"),
            std::string::npos)
      << repeated;
  const std::string refused = text({.from = Seq{8}, .to = Seq{8}, .decisions = true});
  EXPECT_NE(refused.find("-> refused sold_out tour:8 customer=cleo quantity=1\n"),
            std::string::npos)
      << refused;
  // Only what is about ben.
  EXPECT_EQ(text({.customer = "ben", .decisions = true}).find("anna"), std::string::npos);
}

TEST_F(Walk, what_is_not_known_to_be_durable_is_provisional) {
  const std::string all = text({.from = Seq{8}}, Seq{8});
  const auto split = all.find('\n') + 1;
  EXPECT_EQ(all.find("provisional"), all.find("provisional", split));
  EXPECT_TRUE(all.ends_with(" (provisional)\n")) << all;
  std::string json;
  const auto ok = visit_events(log, head, Seq{8}, {.from = Seq{8}, .decisions = true},
                               [&](const SeenEvent& seen) {
                                 JsonWriter writer(json);
                                 append_json(writer, seen);
                                 json += '\n';
                                 return true;
                               });
  ASSERT_TRUE(ok);
  EXPECT_TRUE(json.starts_with(
      R"({"sale":"tour","seq":8,"time":"2023-11-14T22:14:21.000Z","provisional":false,)"
      R"("event":"PurchaseAttempted","customer":"cleo","quantity":1,"key":")"))
      << json;
  EXPECT_NE(json.find(R"("decisions":[{"kind":"refused","reason":"sold_out","repeated":false,)"
                      R"("quantity":1,"purchase":8,"customer":"cleo"}]})"),
            std::string::npos)
      << json;
  EXPECT_NE(json.find(R"("seq":9,"time":"2023-11-14T22:14:21.000Z","provisional":true)"),
            std::string::npos)
      << json;
}

}  // namespace
}  // namespace fairsale::cli
