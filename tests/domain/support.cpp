#include "tests/domain/support.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <type_traits>

namespace fairsale::test {

namespace {

class VectorSink final : public ByteSink {
 public:
  void write(std::span<const std::byte> part) override {
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  Bytes bytes;
};

class SpanSource final : public ByteSource {
 public:
  explicit SpanSource(std::span<const std::byte> bytes) : left_(bytes) {}
  // In small parts, so that what is read lies across their edges.
  std::span<const std::byte> next() override {
    const auto part = left_.first(std::min<std::size_t>(left_.size(), 37));
    left_ = left_.subspan(part.size());
    return part;
  }

 private:
  std::span<const std::byte> left_;
};

}  // namespace

Said said_by(const Sale& sale, const Decision& d) {
  Said s{.kind = d.kind,
         .reason = d.reason,
         .repeated = d.repeated,
         .quantity = d.quantity.value,
         .place = d.place,
         .customer = {},
         .purchase = d.purchase.value,
         .until = d.until.value};
  if (d.customer.value != kNoIndex) s.customer = sale.customer_name(d.customer);
  return s;
}

Bytes bytes_of(const Sale& sale) {
  VectorSink sink;
  sale.serialize(sink);
  return std::move(sink.bytes);
}

std::optional<Sale> sale_from(std::span<const std::byte> bytes) {
  SpanSource source(bytes);
  return Sale::restore(source);
}

Sale copy_of(const Sale& sale) {
  auto copy = sale_from(bytes_of(sale));
  if (!copy) throw std::runtime_error("a sale does not restore from its own bytes");
  return std::move(*copy);
}

IdempotencyKey key_named(std::string_view name) {
  IdempotencyKey key;
  std::memcpy(key.bytes.data(), name.data(), std::min(name.size(), key.bytes.size()));
  return key;
}

std::string describe(const Terms& t) {
  std::ostringstream out;
  out << "stock=" << t.stock.value << " price=" << t.price.amount.value
      << std::string_view(t.price.currency.code.data(), 3) << " starts=" << t.starts_at.value
      << "ms ends=";
  if (t.ends_at == kNever) {
    out << "never";
  } else {
    out << t.ends_at.value << "ms";
  }
  out << " hold=" << t.hold.value << "ms grace=" << t.grace.value
      << "ms limit=" << t.limit_per_customer.value << " units=" << t.units_per_purchase.value
      << " line=" << t.line_limit
      << " policy=" << (t.line_policy == LinePolicy::strict ? "strict" : "skip");
  return out.str();
}

std::string describe(const Event& event) {
  std::ostringstream out;
  std::visit(
      [&](const auto& e) {
        using E = std::decay_t<decltype(e)>;
        out << name_of(event);
        if constexpr (std::is_same_v<E, SaleScheduled> || std::is_same_v<E, SaleChanged>) {
          out << ' ' << describe(e.terms);
        } else if constexpr (std::is_same_v<E, StockAdjusted>) {
          out << ' ' << e.stock.value;
        } else if constexpr (std::is_same_v<E, PurchaseAttempted>) {
          out << ' ' << e.customer.view() << ' ' << e.quantity.value << " key="
              << std::string_view(reinterpret_cast<const char*>(e.key.bytes.data()),
                                  strnlen(reinterpret_cast<const char*>(e.key.bytes.data()), 16));
        } else if constexpr (std::is_same_v<E, PurchaseCancelled> ||
                             std::is_same_v<E, OfferDeclined>) {
          out << " #" << e.purchase.value;
        } else if constexpr (std::is_same_v<E, PaymentReceived>) {
          out << " #" << e.purchase.value << ' ' << e.reference.view()
              << " amount=" << e.amount.amount.value
              << std::string_view(e.amount.currency.code.data(), 3);
        } else if constexpr (std::is_same_v<E, PaymentFailed>) {
          out << " #" << e.purchase.value << ' ' << e.reference.view();
        } else if constexpr (std::is_same_v<E, OrderRefunded>) {
          out << " #" << e.purchase.value << (e.restock ? " restock" : " writeoff");
        }
      },
      event);
  return out.str();
}

std::string describe(const Said& s) {
  std::ostringstream out;
  if (s.repeated) out << "again ";
  out << name_of(s.kind);
  if (!s.customer.empty()) out << ' ' << s.customer;
  if (s.purchase != 0) out << " #" << s.purchase;
  out << " x" << s.quantity;
  if (s.place != 0) out << " place " << s.place;
  if (s.until != 0) out << " until " << s.until << "ms";
  if (s.reason != Reason::none) out << ' ' << name_of(s.reason);
  return out.str();
}

}  // namespace fairsale::test
