#include <fmt/format.h>

#include "tests/server/running_server.hpp"

namespace fairsale::test {
namespace {

using bhttp::verb;

std::string sale_body(int stock, double hold = 600, std::string_view more = "") {
  return fmt::format(
      R"({{"stock":{},"price":{{"amount":4900,"currency":"EUR"}},"hold_seconds":{}{}}})", stock,
      hold, more);
}

Got buy(Client& c, std::string_view sku, std::string_view customer, std::string_view key,
        int quantity = 1) {
  return c.send(verb::post, fmt::format("/v1/sales/{}/purchases", sku), kShop,
                fmt::format(R"({{"customer":"{}","quantity":{}}})", customer, quantity), key);
}

Got pay(Client& c, std::string_view id, std::string_view reference, int amount = 4900) {
  return c.send(
      verb::post, fmt::format("/v1/purchases/{}/payment", id), kShop,
      fmt::format(R"({{"reference":"{}","amount":{},"currency":"EUR"}})", reference, amount));
}

TEST(Server, ASaleFromStartToSoldOut) {
  RunningServer server;
  Client c(server.port());
  EXPECT_EQ(c.send(verb::put, "/v1/sales/a", kOperator, sale_body(1)).status, 201u);
  EXPECT_EQ(c.send(verb::put, "/v1/sales/a", kOperator, sale_body(1)).status, 200u) << "unchanged";

  const Got anna = buy(c, "a", "anna", "k1");
  EXPECT_EQ(anna.status, 201u) << anna.body;
  EXPECT_EQ(anna.header("Location"), "/v1/purchases/a:" + anna.member("position"));
  const Got ben = buy(c, "a", "ben", "k1");
  EXPECT_EQ(ben.status, 202u) << ben.body;
  EXPECT_EQ(ben.member("place"), "1");

  const Got gone = c.send(verb::delete_, anna.header("Location"), kShop);
  EXPECT_EQ(gone.status, 200u) << gone.body;
  EXPECT_EQ(gone.member("status"), "cancelled");
  const Got offered = c.send(verb::get, ben.header("Location"), kShop);
  EXPECT_EQ(offered.member("status"), "offered") << offered.body;

  const Got paid = pay(c, ben.member("purchase"), "p1");
  EXPECT_EQ(paid.status, 200u) << paid.body;
  EXPECT_EQ(paid.member("status"), "ordered");
  const Got again = pay(c, ben.member("purchase"), "p1");
  EXPECT_EQ(again.header("Idempotent-Replayed"), "true");
  EXPECT_EQ(again.member("status"), "ordered");

  const Got late = buy(c, "a", "cleo", "k1");
  EXPECT_EQ(late.status, 409u);
  EXPECT_EQ(late.member("type"), "urn:fairsale:problem:sold_out");
  EXPECT_EQ(late.header("Content-Type"), "application/problem+json");

  const Got refund = c.send(verb::post, ben.header("Location") + "/refund", kShop,
                            R"({"restock":true,"actor":"eve","reason":"broken"})");
  EXPECT_EQ(refund.status, 200u) << refund.body;
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a").member("available"), "1");
}

TEST(Server, ARetryGetsTheFirstAnswerByteForByteAlsoAfterARestart) {
  std::string pattern = (std::filesystem::temp_directory_path() / "fairsale-retry-XXXXXX").string();
  const std::string directory = mkdtemp(pattern.data());
  Got first;
  Got waiting;
  Got refused;
  {
    RunningServer server(1, {0, 1}, directory);
    Client c(server.port());
    c.send(verb::put, "/v1/sales/a", kOperator, sale_body(1));
    first = buy(c, "a", "anna", "k");
    waiting = buy(c, "a", "ben", "k");
    refused = buy(c, "a", "cleo", "k", 5);
    EXPECT_EQ(buy(c, "a", "anna", "k").body, first.body);
  }
  RunningServer server(2, {0, 1}, directory);
  Client c(server.port());
  for (const auto& [customer, quantity, was] :
       {std::tuple{"anna", 1, &first}, {"ben", 1, &waiting}, {"cleo", 5, &refused}}) {
    const Got again = buy(c, "a", customer, "k", quantity);
    EXPECT_EQ(again.status, was->status);
    EXPECT_EQ(again.body, was->body);
    EXPECT_EQ(again.header("Idempotent-Replayed"), "true");
  }
  EXPECT_EQ(buy(c, "a", "anna", "k", 0).member("reason"), "key_reused");
  server.stop();
  std::filesystem::remove_all(directory);
}

TEST(Server, SkusOfEveryShardAreServedThroughEveryWorker) {
  RunningServer server(3);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 12; ++i) clients.push_back(std::make_unique<Client>(server.port()));
  for (int s = 0; s < 8; ++s) {
    const auto sku = fmt::format("sku-{}", s);
    EXPECT_EQ(clients[0]->send(verb::put, "/v1/sales/" + sku, kOperator, sale_body(6)).status,
              201u);
    // Connections are spread over the workers by the kernel; whichever it is, it must answer.
    for (std::size_t i = 0; i < clients.size(); ++i) {
      const Got got = buy(*clients[i], sku, fmt::format("c{}", i), "k");
      EXPECT_EQ(got.status, i < 6 ? 201u : 202u) << got.body;
      const Got look = clients[(i + 1) % clients.size()]->send(
          verb::get, got.header("Location") + "?min_seq=" + got.member("position"), kShop);
      EXPECT_EQ(look.status, 200u) << look.body;
      EXPECT_EQ(look.member("status"), i < 6 ? "reserved" : "waiting");
    }
    const Got line = clients[5]->send(verb::get, "/v1/sales/" + sku + "/line", kShop);
    EXPECT_EQ(line.member("waiting"), "6") << line.body;
  }
  const Got list = clients[3]->send(verb::get, "/v1/sales?limit=5");
  EXPECT_EQ(list.member("next"), "sku-4") << list.body;
}

TEST(Server, AvailabilityCarriesItsPositionAndCanBeWaitedFor) {
  RunningServer server(2);
  Client c(server.port());
  c.send(verb::put, "/v1/sales/a", kOperator, sale_body(5));
  const Got bought = buy(c, "a", "anna", "k");
  const Got sale = c.send(verb::get, "/v1/sales/a?min_seq=" + bought.member("position"));
  EXPECT_EQ(sale.member("held"), "1");
  EXPECT_EQ(sale.header("ETag"), "\"" + bought.member("position") + "\"");
  EXPECT_EQ(sale.header("Cache-Control"), "public, max-age=1");
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a", {}, {}, {}, sale.header("ETag")).status, 304u);
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a", {}, {}, {}, "\"99\"").status, 200u);
  EXPECT_EQ(c.send(verb::head, "/v1/sales/a").status, 200u);

  const Got never = c.send(verb::get, "/v1/sales/a?min_seq=99");
  EXPECT_EQ(never.status, 503u);
  EXPECT_EQ(never.member("type"), "urn:fairsale:problem:position_not_reached");
  EXPECT_EQ(never.header("Retry-After"), "1");
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a?min_seq=x").status, 400u);

  const Got bought_later = c.send(verb::get, bought.header("Location") + "?min_seq=99999", kShop);
  EXPECT_EQ(bought_later.status, 503u) << bought_later.body;
}

TEST(Server, RolesAreKeptApart) {
  RunningServer server;
  Client c(server.port());
  c.send(verb::put, "/v1/sales/a", kOperator, sale_body(9));
  EXPECT_EQ(c.send(verb::put, "/v1/sales/b", {}, sale_body(1)).status, 401u);
  EXPECT_EQ(c.send(verb::put, "/v1/sales/b", kShop, sale_body(1)).status, 403u);
  EXPECT_EQ(c.send(verb::put, "/v1/sales/b", "no-such-secret-at-all-000", sale_body(1)).status,
            401u);

  const Got minted =
      c.send(verb::post, "/v1/tokens", kShop, R"({"customer":"anna","ttl_seconds":60})");
  ASSERT_EQ(minted.status, 201u) << minted.body;
  const std::string anna = minted.member("token");
  EXPECT_EQ(c.send(verb::post, "/v1/tokens", anna, R"({"customer":"ben"})").status, 403u);

  const Got hers = c.send(verb::post, "/v1/sales/a/purchases", anna, "{}", "k");
  EXPECT_EQ(hers.status, 201u) << hers.body;
  EXPECT_EQ(hers.member("customer"), "anna");
  EXPECT_EQ(c.send(verb::post, "/v1/sales/a/purchases", anna, R"({"customer":"ben"})", "k").status,
            403u);
  const Got bens = buy(c, "a", "ben", "k");
  EXPECT_EQ(c.send(verb::get, bens.header("Location"), anna).status, 404u)
      << "whether it exists is none of her business";
  EXPECT_EQ(c.send(verb::delete_, bens.header("Location"), anna).status, 404u);
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a/purchases", anna).status, 200u);
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a/purchases?customer=ben", anna).status, 403u);
  EXPECT_EQ(c.send(verb::post, hers.header("Location") + "/payment", anna,
                   R"({"reference":"r","amount":4900,"currency":"EUR"})")
                .status,
            403u);
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a/line", anna).status, 403u);
  EXPECT_EQ(c.send(verb::get, "/metrics", anna).status, 403u);
  EXPECT_EQ(c.send(verb::get, "/metrics", kShop).status, 200u);
  EXPECT_EQ(c.send(verb::delete_, hers.header("Location"), anna).status, 200u);
}

TEST(Server, OneNoisyCustomerIsSlowedDownAndNobodyElse) {
  RunningServer server(1, {0.001, 3});
  Client c(server.port());
  c.send(verb::put, "/v1/sales/a", kOperator, sale_body(9));
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(buy(c, "a", "noisy", fmt::format("k{}", i)).status / 100, i == 0 ? 2u : 4u);
  const Got limited = buy(c, "a", "noisy", "k9");
  EXPECT_EQ(limited.status, 429u);
  EXPECT_FALSE(limited.header("Retry-After").empty());
  EXPECT_FALSE(limited.header("RateLimit").empty());
  EXPECT_EQ(buy(c, "a", "quiet", "k").status, 201u);
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a").member("position"), "5") << "a 429 is not in the log";
}

TEST(Server, OperatorsPauseResumeCloseAndSetTheStock) {
  RunningServer server;
  Client c(server.port());
  c.send(verb::put, "/v1/sales/a", kOperator, sale_body(1));
  const auto patch = [&](std::string_view what) {
    return c.send(verb::patch, "/v1/sales/a", kOperator,
                  fmt::format(R"({{{},"actor":"eve","reason":"test"}})", what));
  };
  EXPECT_EQ(patch(R"("action":"pause")").member("state"), "paused");
  EXPECT_EQ(buy(c, "a", "anna", "1").member("reason"), "paused");
  EXPECT_EQ(patch(R"("action":"resume")").member("state"), "open");
  EXPECT_EQ(buy(c, "a", "anna", "2").status, 201u);
  EXPECT_EQ(patch(R"("stock":0)").member("reason"), "stock_committed");
  EXPECT_EQ(patch(R"("stock":3)").member("available"), "2");
  EXPECT_EQ(patch(R"("action":"close")").member("state"), "closed");
  EXPECT_EQ(buy(c, "a", "ben", "1").member("reason"), "closed");
  EXPECT_EQ(c.send(verb::patch, "/v1/sales/none", kOperator,
                   R"({"action":"close","actor":"a","reason":"b"})")
                .status,
            404u);
}

TEST(Server, BadRequestsAreToldHowToMendThem) {
  RunningServer server;
  Client c(server.port());
  c.send(verb::put, "/v1/sales/a", kOperator, sale_body(1));
  const Got no_key = c.send(verb::post, "/v1/sales/a/purchases", kShop, R"({"customer":"a"})");
  EXPECT_EQ(no_key.status, 400u);
  EXPECT_EQ(no_key.member("type"), "urn:fairsale:problem:idempotency_key_missing");
  EXPECT_EQ(c.send(verb::post, "/v1/sales/a/purchases", kShop, "{}", "k").status, 400u);
  EXPECT_EQ(
      c.send(verb::post, "/v1/sales/nope/purchases", kShop, R"({"customer":"a"})", "k").status,
      404u);
  EXPECT_EQ(c.send(verb::post, "/v1/sales/a", kShop).status, 405u);
  EXPECT_EQ(c.send(verb::post, "/v1/sales/a", kShop).header("Allow"), "GET, HEAD, PUT, PATCH");
  EXPECT_EQ(c.send(verb::get, "/v1/nothing").status, 404u);
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a/b/c").status, 404u);
  EXPECT_EQ(c.send(verb::get, "/v1/purchases/a:x", kShop).status, 404u);
  EXPECT_EQ(pay(c, "a:99", "r").status, 404u);
  EXPECT_EQ(c.send(verb::get, "/v1/sales/a").member("position"), "1") << "none of it is in the log";
}

}  // namespace
}  // namespace fairsale::test
