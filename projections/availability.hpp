// What everybody asks: is there any left? One small JSON document per SKU, rendered once per
// commit and handed out as finished bytes.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "projections/projection.hpp"

namespace fairsale {

// One rendering. Immutable once published.
struct Availability {
  SkuId sku;
  SkuName name;
  Seq position;
  Seq previous;          // position of the rendering before this one; 0 in the first
  Terms terms;           // with the stock as it is now
  std::string response;  // a complete HTTP/1.1 answer: header with ETag and Cache-Control, document
  std::size_t header_size = 0;

  std::string_view json() const { return std::string_view(response).substr(header_size); }
};

// The current rendering of every SKU. Thread-safe: one thread publishes a SKU, any thread reads.
// Readers see a rendering whole or the one before it, never less than they saw earlier, but for
// what was taken back: it is withdrawn, or another one is published in its place.
class AvailabilityBoard {
 public:
  // The newest rendering of a SKU, or nothing when no sale of that name exists.
  std::shared_ptr<const Availability> find(std::string_view sku) const;

  // Up to `limit` documents of SKUs whose names follow `after`, by name.
  std::vector<std::shared_ptr<const Availability>> list(std::string_view after,
                                                        std::size_t limit) const;

  void publish(std::string_view sku, std::shared_ptr<const Availability> next);
  // There is no such sale: what was published of it was wrong, or nothing was.
  void withdraw(std::string_view sku);

  // Moves on with each of these: what find() gave after reading a number is the newest for as long
  // as the number stays.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  struct Slot {
    std::shared_ptr<const Availability> current;  // under the slot's mutex; null when withdrawn
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };

  // False when the SKU has no slot. What was there is the caller's then, to let go without a lock.
  bool swap(std::string_view sku, std::shared_ptr<const Availability>& next);

  // Slots share some mutexes, since there may be a hundred thousand quiet ones.
  std::mutex& mutex_of(const Slot& slot) const {
    return slot_mutexes_[reinterpret_cast<std::uintptr_t>(&slot) / sizeof(Slot) % kSlotMutexes];
  }

  static constexpr std::size_t kSlotMutexes = 64;

  std::atomic<std::uint64_t> version_{0};
  mutable std::array<std::mutex, kSlotMutexes> slot_mutexes_;
  mutable std::shared_mutex mutex_;  // of the maps; slots are never removed nor moved
  std::unordered_map<std::string, Slot, Hash, std::equal_to<>> slots_;
  std::map<std::string_view, const Slot*> by_name_;
};

// The sale document, as GET /v1/sales/{sku} serves it.
std::string render_sale(const Sale& sale);

class AvailabilityProjection final : public Projection {
 public:
  explicit AvailabilityProjection(AvailabilityBoard& board) : board_(board) {}

  std::string_view name() const override { return "availability"; }
  std::uint32_t version() const override { return 1; }
  Seq cursor(SkuId sku) const override;
  Digest digest(SkuId sku) const override;

  // The SKU's newest rendering; nothing when there is no sale yet.
  std::shared_ptr<const Availability> latest(SkuId sku) const;

  void seed(SkuId sku, const Sale& sale) override;
  void on_decision(SkuId, const Sale&, const Decision&) override {}
  void on_commit(SkuId sku, const Sale& sale) override;

 private:
  AvailabilityBoard& board_;
  std::unordered_map<std::uint64_t, std::shared_ptr<const Availability>> latest_;
};

}  // namespace fairsale
