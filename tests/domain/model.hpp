// The rules of a sale once more, written to be read instead of to be fast: maps and lists, every
// count recounted when it is asked for, every answer kept as it was given. It shares no code with
// the sale beyond the vocabulary and check_terms(), so the two agree only when both are right.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/domain/support.hpp"

namespace fairsale::test {

class Model {
 public:
  struct Buy {
    std::string customer;
    std::uint32_t quantity = 0;
    PurchaseStatus status = PurchaseStatus::refused;
    std::int64_t until = 0;
  };

  // Returns the answer; `said` gets what a sink would hear.
  Said apply(Seq, Timestamp, const Event&, std::vector<Said>& said);

  Phase phase() const;
  Counters counters() const;
  Timestamp next_deadline() const;
  std::uint32_t units_of(const std::string& customer) const;
  const std::map<std::uint64_t, Buy>& buys() const { return buys_; }
  const std::list<std::uint64_t>& line() const { return line_; }

 private:
  Said act(const SaleScheduled&);
  Said act(const SaleChanged&);
  Said act(const SalePaused&);
  Said act(const SaleResumed&);
  Said act(const SaleClosed&);
  Said act(const StockAdjusted&);
  Said act(const PurchaseAttempted&);
  Said act(const PurchaseCancelled&);
  Said act(const OfferDeclined&);
  Said act(const PaymentReceived&);
  Said act(const PaymentFailed&);
  Said act(const OrderRefunded&);
  Said act(const TimePassed&);

  void open_and_end();
  void expire();
  void serve_line();
  void release_all(Reason);

  Said say(Said);
  Said refuse(Reason why, std::uint64_t purchase = 0);
  Said about(std::uint64_t purchase, DecisionKind, Reason = Reason::none) const;
  Said give_up(std::uint64_t purchase, PurchaseStatus goal);
  bool stopped_for_good() const { return ended_ || closed_; }
  std::uint32_t sum(PurchaseStatus a, PurchaseStatus b) const;
  std::uint32_t held() const { return sum(PurchaseStatus::reserved, PurchaseStatus::offered); }
  std::uint32_t sold() const { return sum(PurchaseStatus::ordered, PurchaseStatus::ordered); }
  std::uint32_t free() const { return stocked_ - held() - sold(); }
  std::uint32_t left() const { return stocked_ - sold(); }

  std::optional<Terms> terms_;
  std::string sku_;
  std::uint32_t stocked_ = 0;
  bool opened_ = false;
  bool ended_ = false;
  bool closed_ = false;
  bool paused_ = false;
  bool sold_out_said_ = false;

  std::map<std::uint64_t, Buy> buys_;
  std::list<std::uint64_t> line_;
  std::list<std::uint64_t> holds_;
  std::map<std::pair<std::string, IdempotencyKey>, std::pair<std::uint32_t, Said>> answers_;
  std::map<std::uint64_t, std::map<std::string, std::pair<Money, Said>>> payments_;

  std::uint64_t seq_ = 0;
  std::int64_t now_ = 0;
  std::vector<Said>* said_ = nullptr;
};

}  // namespace fairsale::test
