#include "tests/linear/clients.hpp"

#include <fmt/format.h>

#include <map>
#include <mutex>
#include <random>

#include "api/http/problem.hpp"
#include "tests/server/running_server.hpp"

namespace fairsale::linear {

namespace {

using bhttp = test::bhttp::verb;
using test::Client;
using test::Got;
using test::kOperator;
using test::kShop;

constexpr std::int64_t kPrice = 100;

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

Terms terms_of(const Plan& plan) {
  return {.stock = Quantity{plan.stock},
          .price = {MinorUnits{kPrice}, Currency{{'E', 'U', 'R'}}},
          .hold = Duration{3'600'000},
          .limit_per_customer = Quantity{3},
          .units_per_purchase = Quantity{2},
          .line_limit = 3,
          .line_policy = plan.line_policy};
}

std::string sku_of(const Plan& plan, std::size_t sale) {
  return fmt::format("{}-{}", plan.name, sale);
}

void open_sales(Host& host, const Plan& plan) {
  Client client(host.port);
  for (std::size_t i = 0; i < plan.sales; ++i) {
    const Got got = client.send(
        bhttp::put, "/v1/sales/" + sku_of(plan, i), kOperator,
        fmt::format(R"({{"stock":{},"price":{{"amount":{},"currency":"EUR"}},"hold_seconds":3600,)"
                    R"("limit_per_customer":3,"units_per_purchase":2,"line_limit":3,)"
                    R"("line_policy":"{}"}})",
                    plan.stock, kPrice, name_of(plan.line_policy)));
    ASSERT_EQ(got.status, 201U) << got.body;
  }
}

// What was bought, by whom does not matter: every client may pay for it or give it up.
struct Bought {
  std::string id;
  std::size_t sale = 0;
  std::uint32_t key = 0;
  std::uint32_t quantity = 0;
};

class Noticeboard {
 public:
  void add(Bought b) {
    const std::scoped_lock lock(mutex_);
    bought_.push_back(std::move(b));
  }
  std::optional<Bought> pick(std::uint64_t random) const {
    const std::scoped_lock lock(mutex_);
    if (bought_.empty()) return std::nullopt;
    // The newest are those that may still be undecided.
    const std::size_t n = std::min<std::size_t>(bought_.size(), 8);
    return bought_[bought_.size() - 1 - random % n];
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Bought> bought_;
};

std::uint64_t number_in(const Got& got, std::string_view member) {
  return http::parse_number(got.member(member)).value_or(0);
}

Reason reason_named(std::string_view name) {
  for (int i = 1; i <= static_cast<int>(Reason::event_unsupported); ++i) {
    if (name_of(static_cast<Reason>(i)) == name) return static_cast<Reason>(i);
  }
  return Reason::none;
}

std::optional<DecisionKind> kind_named(std::string_view name) {
  for (const DecisionKind k :
       {DecisionKind::reserved, DecisionKind::waiting, DecisionKind::cancelled,
        DecisionKind::declined, DecisionKind::ordered, DecisionKind::refund_due}) {
    if (name_of(k) == name) return k;
  }
  return std::nullopt;
}

class Shopper {
 public:
  Shopper(Host& host, const Plan& plan, Noticeboard& board, std::size_t number)
      : host_(host), plan_(plan), board_(board), number_(number), random_(plan.seed + number) {}

  void run() {
    for (std::size_t i = 0; i < plan_.operations; ++i) {
      Request r = choose();
      while (!perform(r)) {
      }
    }
  }

  std::vector<Operation> operations;

 private:
  struct Request {
    Operation operation;
    bhttp verb = bhttp::get;
    std::string target;
    std::string body;
    std::string key;
  };

  Request choose() {
    Request r;
    Operation& o = r.operation;
    o.client = number_;
    o.sale = random_() % plan_.sales;
    const std::uint64_t die = random_() % 100;
    const auto bought = die < 30 ? board_.pick(random_()) : std::nullopt;
    if (bought) {
      o.sale = bought->sale;
      o.key = bought->key;
      r.target = "/v1/purchases/" + bought->id;
      if (die < 15) {
        o.kind = Kind::give_up;
        r.verb = bhttp::delete_;
        return r;
      }
      o.kind = Kind::pay;
      o.payment = static_cast<std::uint32_t>(random_() % 2);
      o.amount = kPrice * bought->quantity + (random_() % 8 == 0 ? 1 : 0);
      r.verb = bhttp::post;
      r.target += "/payment";
      r.body = fmt::format(R"({{"reference":"pay-{}","amount":{},"currency":"EUR"}})", o.payment,
                           o.amount);
      return r;
    }
    r.target = "/v1/sales/" + sku_of(plan_, o.sale);
    if (die >= 70) {
      o.kind = Kind::read;
      const auto last = latest_.find(o.sale);
      if (die % 2 == 0 && last != latest_.end()) {
        o.when.after = last->second;
        o.min_seq = operations[last->second].position;
        r.target += fmt::format("?min_seq={}", o.min_seq);
      }
      return r;
    }
    o.kind = Kind::attempt;
    o.key = static_cast<std::uint32_t>(random_() % plan_.keys);
    o.quantity = 1 + o.key % 2;
    if (random_() % 20 == 0) o.quantity = 3 - o.quantity;
    r.verb = bhttp::post;
    r.target += "/purchases";
    r.key = fmt::format("key-{}", o.key);
    r.body = fmt::format(R"({{"customer":"{}","quantity":{}}})", customer_of(o.key), o.quantity);
    return r;
  }

  // Returns false when the answer was lost with the server.
  bool perform(const Request& r) {
    Operation o = r.operation;
    o.when.call = now();
    try {
      if (!client_) {
        life_ = host_.lives.load();
        client_.emplace(host_.port);
        o.when.call = now();
      }
      const Got got = client_->send(r.verb, r.target, kShop, r.body, r.key);
      o.when.answer = now();
      ++host_.answers;
      read(got, o);
      learn(o, got);
      operations.push_back(o);
      return true;
    } catch (const std::exception&) {
      // A connection that could not be opened carried nothing.
      if (client_) operations.push_back(o);
      client_.reset();
      host_.lives.wait(life_);
      return false;
    }
  }

  void read(const Got& got, Operation& o) const {
    o.body = got.body;
    o.position = number_in(got, "position");
    o.repeated = got.header("Idempotent-Replayed") == "true";
    const auto kind = kind_named(got.member("status"));
    if (o.kind == Kind::read && got.status == 200) {
      o.counters.available = Quantity{static_cast<std::uint32_t>(number_in(got, "available"))};
      o.counters.held = Quantity{static_cast<std::uint32_t>(number_in(got, "held"))};
      o.counters.sold = Quantity{static_cast<std::uint32_t>(number_in(got, "sold"))};
      o.counters.waiting = static_cast<std::uint32_t>(number_in(got, "waiting"));
    } else if (got.status < 300 && kind) {
      o.told = *kind;
      o.reason = reason_named(got.member("reason"));
      o.place = static_cast<std::uint32_t>(number_in(got, "place"));
    } else {
      o.told = DecisionKind::refused;
      o.reason = reason_named(got.member("reason"));
      EXPECT_NE(o.reason, Reason::none) << got.status << ' ' << got.body;
    }
    EXPECT_NE(o.position, 0U) << got.status << ' ' << got.body;
  }

  void learn(const Operation& o, const Got& got) {
    // A repeated attempt states the position of the first, which another client may have made.
    if (!o.repeated) {
      const auto known = latest_.find(o.sale);
      if (known == latest_.end() || operations[known->second].position < o.position) {
        latest_[o.sale] = operations.size();
      }
    }
    if (o.kind != Kind::attempt || o.told == DecisionKind::refused) return;
    board_.add({got.member("purchase"), o.sale, o.key,
                static_cast<std::uint32_t>(number_in(got, "quantity"))});
  }

  Host& host_;
  const Plan& plan_;
  Noticeboard& board_;
  std::size_t number_;
  std::mt19937_64 random_;
  std::optional<Client> client_;
  std::uint32_t life_ = 0;
  std::map<std::size_t, std::size_t> latest_;  // by sale: which operation told the highest position
};

}  // namespace

History record(Host& host, const Plan& plan) {
  History history;
  history.sales.assign(plan.sales, terms_of(plan));
  open_sales(host, plan);
  if (::testing::Test::HasFatalFailure()) return history;
  const std::uint32_t lives = host.lives;
  Noticeboard board;
  std::vector<std::unique_ptr<Shopper>> shoppers;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < plan.clients; ++i) {
    shoppers.push_back(std::make_unique<Shopper>(host, plan, board, i));
    threads.emplace_back([&shopper = *shoppers.back()] { shopper.run(); });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& shopper : shoppers) {
    const std::size_t before = history.operations.size();
    for (Operation o : shopper->operations) {
      if (o.when.after) *o.when.after += before;
      history.operations.push_back(std::move(o));
    }
  }
  history.whole = host.lives == lives;
  return history;
}

}  // namespace fairsale::linear
