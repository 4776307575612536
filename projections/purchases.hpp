// Where each purchase stands, whose purchases they are, and who stands where in line. Three
// projections over purchases that got a hold or a place; a refused attempt is not a purchase.
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "core/domain/segmented.hpp"
#include "projections/projection.hpp"

namespace fairsale {

// Where a purchase stands, for its status page.
struct PurchaseView {
  Seq purchase;
  Timestamp until;  // of its latest hold
  CustomerIndex customer{kNoIndex};
  Quantity quantity;
  PurchaseStatus status = PurchaseStatus::refused;
  Reason reason = Reason::none;  // of a release
};

class PurchasesProjection final : public Projection {
 public:
  std::string_view name() const override { return "purchases"; }
  std::uint32_t version() const override { return 1; }
  Seq cursor(SkuId sku) const override;
  Digest digest(SkuId sku) const override;

  // O(log n).
  std::optional<PurchaseView> find(SkuId sku, Seq purchase) const;

  void seed(SkuId sku, const Sale& sale) override;
  void on_decision(SkuId sku, const Sale& sale, const Decision& d) override;
  void on_commit(SkuId sku, const Sale& sale) override;

 private:
  struct Entry {
    Seq purchase;
    Timestamp until;
    std::uint32_t customer = kNoIndex;
    std::uint16_t quantity = 0;
    PurchaseStatus status = PurchaseStatus::refused;
    Reason reason = Reason::none;
  };
  struct PerSku {
    Segmented<Entry> entries;  // by position
    Seq cursor;
  };
  static Entry* find(PerSku& sku, Seq purchase);

  std::unordered_map<std::uint64_t, PerSku> skus_;
};

class CustomersProjection final : public Projection {
 public:
  std::string_view name() const override { return "customers"; }
  std::uint32_t version() const override { return 1; }
  Seq cursor(SkuId sku) const override;
  Digest digest(SkuId sku) const override;

  // The positions of a customer's purchases, newest first, at most `limit`.
  std::vector<Seq> find(SkuId sku, CustomerIndex customer, std::size_t limit) const;

  void seed(SkuId sku, const Sale& sale) override;
  void on_decision(SkuId sku, const Sale& sale, const Decision& d) override;
  void on_commit(SkuId sku, const Sale& sale) override;

 private:
  struct Entry {
    Seq purchase;
    std::uint32_t previous = kNoIndex;  // the same customer's purchase before this one
  };
  struct PerSku {
    Segmented<std::uint32_t> latest;  // by customer index
    Segmented<Entry> entries;
    Seq cursor;
  };
  static void enter(PerSku& sku, std::uint32_t customer, Seq purchase);

  std::unordered_map<std::uint64_t, PerSku> skus_;
};

// The place of each who waits, counted over those who still do. A Fenwick tree over the order of
// joining (P. Fenwick, "A new data structure for cumulative frequency tables", 1994): joining,
// leaving and asking for a place cost O(log n).
class LineProjection final : public Projection {
 public:
  std::string_view name() const override { return "line"; }
  std::uint32_t version() const override { return 1; }
  Seq cursor(SkuId sku) const override;
  Digest digest(SkuId sku) const override;

  // The place in line from 1, or nothing when the purchase does not wait.
  std::optional<std::uint32_t> place(SkuId sku, Seq purchase) const;
  // The first `limit` who wait, in order.
  std::vector<Seq> head(SkuId sku, std::size_t limit) const;

  void seed(SkuId sku, const Sale& sale) override;
  void on_decision(SkuId sku, const Sale& sale, const Decision& d) override;
  void on_commit(SkuId sku, const Sale& sale) override;

 private:
  struct PerSku {
    Segmented<Seq> joined;           // by order of joining
    Segmented<std::uint32_t> count;  // the Fenwick tree, from index 1; [0] is unused
    std::uint32_t waiting = 0;
    std::size_t first = 0;  // nobody before this one waits
    Seq cursor;
  };
  static void join(PerSku& sku, Seq purchase);
  static void leave(PerSku& sku, Seq purchase);
  static std::optional<std::size_t> index_of(const PerSku& sku, Seq purchase);
  static std::uint32_t count_to(const PerSku& sku, std::size_t n);
  static bool waits(const PerSku& sku, std::size_t index);

  std::unordered_map<std::uint64_t, PerSku> skus_;
};

}  // namespace fairsale
