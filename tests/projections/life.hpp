// A server's life without the server: a shard over a log and the projector behind it, for tests of
// what is stored.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/engine/sequencer.hpp"
#include "core/log/event_log.hpp"
#include "projections/availability.hpp"
#include "projections/stored/projector.hpp"
#include "projections/stored/sale_fold.hpp"
#include "tests/domain/histories.hpp"

namespace fairsale::test {

inline const SkuId kDemo = sku_id("demo");

// A server's life: shards over a log, and a projector that works when it is told to.
struct Life {
  Life(EventLog& event_log, const std::filesystem::path& directory, ManualClock& the_clock,
       std::uint64_t piece = 8192, rocksdb::Env* env = nullptr)
      : log(event_log),
        clock(the_clock),
        projector(event_log, 1,
                  {.directory = directory,
                   .piece = piece,
                   .outbox_grew =
                       [this](SkuId sku) {
                         if (grew) grew(sku);
                       },
                   .report = [this](const Error& e) { said.push_back(e.message); },
                   .retry_after = std::chrono::milliseconds(0),
                   .env = env}),
        follower(availability, projector.queue(0)) {
    const auto heads = log.heads();
    for (const SkuHead& head : *heads) {
      auto folded = fold(log, head, FoldFrom::snapshot, &observers);
      EXPECT_TRUE(folded.has_value());
      sequencer.adopt(head.sku, std::move(*folded));
    }
    EXPECT_TRUE(projector.begin());
    follower.begin();
  }

  // One event, one turn.
  Decision now(std::string_view sku, const Event& event) {
    submit(sku, event);
    turn();
    return answers.last;
  }
  void submit(std::string_view sku, const Event& event) {
    EXPECT_EQ(sequencer.submit(sku_id(sku), event, {}), Admission::accepted);
  }
  void turn(bool hand_over = true) {
    EXPECT_TRUE(sequencer.turn(answers));
    if (hand_over) follower.hand_over();
  }
  // Until there is nothing left to do.
  void settle() {
    for (int i = 0; i < 100'000 && projector.work(); ++i) {
    }
  }
  ProjectionStatus status(StoredProjection p) const {
    return projector.status()[static_cast<std::size_t>(p) - 1];
  }
  GenerationId current(StoredProjection p) const {
    return {p, (*projector.store()->catalog(p))->current()};
  }

  struct Last final : Answers {
    void on_decided(const Ticket&, SkuId, Seq, const Event&, const Decision& d,
                    const Sale&) override {
      last = d;
    }
    Decision last;
  };

  EventLog& log;
  ManualClock& clock;
  std::vector<std::string> said;
  std::function<void(SkuId)> grew;
  AvailabilityBoard board;
  AvailabilityProjection availability{board};
  Projector projector;
  ProjectionFollower follower;
  Observers observers{{&availability, &follower}};
  Sequencer sequencer{log, clock, observers, {}};
  Last answers;
};

// All messages of a sale by now, made from the log alone.
inline std::vector<MessageRow> said(const EventLog& log, SkuId sku) {
  SaleFold fold(sku);
  std::vector<MessageRow> all;
  for (;;) {
    const auto piece = fold.next(log, 1'000'000, Seq{0});
    EXPECT_TRUE(piece);
    all.insert(all.end(), piece->stretch.messages.begin(), piece->stretch.messages.end());
    if (piece->at_end) return all;
  }
}

inline constexpr Timestamp kStart{1'700'000'000'000};

inline SaleScheduled scheduled(std::string_view sku, std::uint32_t stock) {
  return {.sku = *SkuName::from(sku),
          .terms = {.stock = Quantity{stock},
                    .price = {MinorUnits{1000}, Currency{{'E', 'U', 'R'}}},
                    .starts_at = kStart,
                    .hold = Duration{60'000},
                    .grace = Duration{0},
                    .limit_per_customer = Quantity{2},
                    .units_per_purchase = Quantity{2},
                    .line_limit = 1000},
          .actor = *Actor::from("test")};
}

inline PurchaseAttempted attempt(int customer) {
  return {.customer = *CustomerId::from(fmt::format("c{}", customer)),
          .key = idempotency_key("k"),
          .quantity = Quantity{1}};
}

inline PaymentReceived payment(Seq purchase) {
  return {.purchase = purchase,
          .reference = *PaymentReference::from(fmt::format("pay-{}", purchase.value)),
          .amount = {MinorUnits{1000}, Currency{{'E', 'U', 'R'}}}};
}

}  // namespace fairsale::test
