// Logs as each released version of the format and the rules wrote them, byte for byte, with the
// states that they led to. What was sold under old rules must always replay as it was sold, so a
// file is added here with each version and none is ever changed.
#include <fstream>
#include <sstream>

#include "core/engine/recovery.hpp"
#include "core/log/digest.hpp"
#include "tests/engine/shop.hpp"
#include "tests/log/support.hpp"

namespace fairsale::test {
namespace {

struct GoldenSale {
  std::string sku;
  Seq position;
  std::string head;
  std::string state;
  std::vector<testing::Bytes> blocks;
};

// "sale SKU POSITION HEAD STATE" begins a sale, and "block HEX" lines follow.
std::vector<GoldenSale> read_golden(const std::string& name) {
  std::vector<GoldenSale> sales;
  std::ifstream in(std::string(FAIRSALE_GOLDEN_DIR) + "/" + name);
  EXPECT_TRUE(in) << name;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string kind;
    words >> kind;
    if (kind == "sale") {
      GoldenSale& s = sales.emplace_back();
      words >> s.sku >> s.position.value >> s.head >> s.state;
    } else if (kind == "block") {
      std::string hex;
      words >> hex;
      sales.back().blocks.push_back(testing::from_hex(hex));
    }
  }
  return sales;
}

PaymentReceived payment(Seq purchase, std::string_view reference, std::int64_t amount) {
  return {.purchase = purchase,
          .reference = *PaymentReference::from(reference),
          .amount = {MinorUnits{amount}, Currency{{'E', 'U', 'R'}}}};
}

// Something of everything that the rules of version 1 know.
void trade_v1(Shop& shop) {
  const auto ops = *Actor::from("ops");
  const auto later = [&](std::int64_t ms) { shop.clock.advance(Duration{ms}); };
  SaleScheduled strict = scheduled("strict", 4);
  strict.terms.grace = Duration{2'000};
  strict.terms.starts_at = kOpening + Duration{1'000};
  shop.now("strict", strict);
  shop.now("strict", attempt("early", "1"));
  later(1'000);
  const Seq anna = shop.now("strict", attempt("anna", "1", 2)).purchase;
  shop.now("strict", attempt("anna", "1", 2));
  shop.now("strict", attempt("anna", "1", 1));
  shop.now("strict", attempt("anna", "2", 1));
  const Seq ben = shop.now("strict", attempt("ben", "1", 1)).purchase;
  const Seq cleo = shop.now("strict", attempt("cleo", "1", 2)).purchase;
  const Seq dora = shop.now("strict", attempt("dora", "1", 1)).purchase;
  const Seq emil = shop.now("strict", attempt("emil", "1", 2)).purchase;
  shop.now("strict", attempt("greedy", "1", 9));
  later(5);
  shop.now("strict", payment(anna, "a-1", 2000));
  shop.now("strict", payment(anna, "a-1", 2000));
  shop.now("strict", payment(ben, "b-1", 999));
  shop.now("strict", PaymentFailed{ben, *PaymentReference::from("b-2")});
  shop.now("strict", PurchaseCancelled{ben, Role::customer});
  shop.now("strict", OfferDeclined{cleo, Role::shop});
  later(61'000);
  shop.now("strict", payment(dora, "d-1", 1000));
  shop.now("strict", SalePaused{ops, *Why::from("a look")});
  shop.now("strict", attempt("fred", "1"));
  shop.now("strict", StockAdjusted{Quantity{6}, ops, *Why::from("found two")});
  shop.now("strict", SaleResumed{ops, *Why::from("go on")});
  shop.now("strict", OrderRefunded{anna, true, ops, *Why::from("returned")});
  later(63'000);
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  shop.now("strict", payment(emil, "e-1", 2000));
  Terms changed = shop.sequencer.find(sku_id("strict"))->terms();
  changed.stock = shop.sequencer.find(sku_id("strict"))->counters().stocked;
  changed.limit_per_customer = Quantity{5};
  shop.now("strict", SaleChanged{changed, ops, *Why::from("more each")});
  shop.now("strict", attempt("anna", "3", 1));
  shop.now("strict", SaleClosed{ops, *Why::from("done")});
  shop.now("strict", attempt("late", "1"));

  SaleScheduled skip = scheduled("skipping", 3);
  skip.terms.line_policy = LinePolicy::skip_if_unfit;
  skip.terms.ends_at = shop.clock.now().wall + Duration{90'000};
  shop.now("skipping", skip);
  for (int i = 0; i < 8; ++i) {
    shop.submit("skipping", attempt(fmt::format("c{}", i), "k", i % 3 == 0 ? 2 : 1));
  }
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  later(60'000);
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  later(40'000);
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
}

void expect_replays(const std::string& name) {
  const auto sales = read_golden(name);
  ASSERT_FALSE(sales.empty());
  for (const GoldenSale& golden : sales) {
    MemoryLog log;
    const SkuId sku = sku_id(golden.sku);
    for (const testing::Bytes& bytes : golden.blocks) {
      const auto view = BlockView::parse(bytes);
      ASSERT_TRUE(view) << view.error().message;
      const BlockWrite write{.sku = sku,
                             .first = view->header().first,
                             .after = {view->last(), view->header().time, view->digest()},
                             .bytes = bytes};
      const auto ok = log.append({&write, 1});
      ASSERT_TRUE(ok) << ok.error().message;
    }
    const auto folded = fold(log, log.heads()->front(), FoldFrom::start, nullptr);
    ASSERT_TRUE(folded) << folded.error().message;
    EXPECT_EQ(folded->sale.sku(), golden.sku);
    EXPECT_EQ(folded->sale.seq(), golden.position);
    EXPECT_EQ(to_hex(folded->head.digest), golden.head);
    EXPECT_EQ(to_hex(state_digest(folded->sale)), golden.state);
  }
}

TEST(GoldenLog, OfVersionOneLeadsToTheSameStateForEver) { expect_replays("sales_v1.txt"); }

// As long as version 1 is what is written, it is written as it always was.
TEST(GoldenLog, OfVersionOneIsStillWrittenByteForByte) {
  MemoryLog log;
  Shop shop(log);
  trade_v1(shop);
  std::string text;
  for (const std::string sku : {"strict", "skipping"}) {
    text += fmt::format("sale {} {} {} {}\n", sku, shop.sequencer.find(sku_id(sku))->seq().value,
                        to_hex(shop.sequencer.head(sku_id(sku))->digest),
                        to_hex(state_digest(*shop.sequencer.find(sku_id(sku)))));
    for (const testing::Bytes& block : testing::read_all(log, sku_id(sku))) {
      text += fmt::format("block {}\n", testing::to_hex(block));
    }
  }
  std::ifstream in(std::string(FAIRSALE_GOLDEN_DIR) + "/sales_v1.txt");
  std::stringstream stored;
  stored << in.rdbuf();
  if (text != stored.str()) {
    // For the next version: the file to look at and keep.
    const std::string now = ::testing::TempDir() + "sales.txt";
    std::ofstream(now) << text;
    ADD_FAILURE() << "the log is written in another way; what is written now is in " << now;
  }
}

}  // namespace
}  // namespace fairsale::test
