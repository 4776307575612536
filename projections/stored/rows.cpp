#include "projections/stored/rows.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/domain/invariant.hpp"
#include "core/json/json.hpp"
#include "core/log/little_endian.hpp"
#include "projections/projection.hpp"

namespace fairsale {

namespace {

constexpr std::int64_t kMillisPerSecond = 1000;

// Writes the fields of a row's value one after the other.
class Writer {
 public:
  template <std::integral T>
  Writer& number(T v) {
    std::byte raw[sizeof v];
    put_le(raw, v);
    out_.append(reinterpret_cast<const char*>(raw), sizeof v);
    return *this;
  }
  Writer& text(std::string_view s) {
    number(static_cast<std::uint8_t>(s.size()));
    out_ += s;
    return *this;
  }
  Writer& bytes(std::string_view s) {
    out_ += s;
    return *this;
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// Reads them back; after a read past the end everything is empty and whole() is false.
class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}

  template <std::integral T>
  T number() {
    const std::string_view raw = bytes(sizeof(T));
    return raw.size() == sizeof(T) ? get_le<T>(reinterpret_cast<const std::byte*>(raw.data())) : 0;
  }
  std::string_view text() { return bytes(number<std::uint8_t>()); }
  std::string_view bytes(std::size_t n) {
    if (n > in_.size()) {
      good_ = false;
      return {};
    }
    const std::string_view s = in_.substr(0, n);
    in_.remove_prefix(n);
    return s;
  }
  bool whole() const { return good_ && in_.empty(); }

 private:
  std::string_view in_;
  bool good_ = true;
};

std::string numbered_key(std::string_view prefix, std::uint64_t n) {
  std::string key(prefix);
  append_be(key, n);
  return key;
}

std::optional<std::uint64_t> number_of(std::string_view prefix, std::string_view key) {
  if (!key.starts_with(prefix) || key.size() != prefix.size() + 8) return std::nullopt;
  return get_be64(key.data() + prefix.size());
}

constexpr std::size_t kMessageKey = 12;  // position and number

// Of a log.
bool is_time(Timestamp t) { return t.value >= 0 && t.value <= kMaxTimestampMs; }

std::string_view text_of(const Rfc3339& t) { return {t.data(), t.size()}; }

}  // namespace

std::string_view name_of(StoredProjection p) {
  switch (p) {
    case StoredProjection::availability: return "availability";
    case StoredProjection::timeline: return "timeline";
    case StoredProjection::orders: return "orders";
    case StoredProjection::outbox: return "outbox";
  }
  return "unknown";
}

std::optional<StoredProjection> stored_projection(std::string_view name) {
  for (const StoredProjection p : kStoredProjections) {
    if (name_of(p) == name) return p;
  }
  return std::nullopt;
}

std::uint32_t version_of(StoredProjection) { return 1; }

// ---- Rows as bytes ----

std::string timeline_key(std::int64_t second) {
  return numbered_key({}, static_cast<std::uint64_t>(second));
}
std::string order_key(Seq position) { return numbered_key(kOrderKeys, position.value); }
std::string refund_key(Seq purchase) { return numbered_key(kRefundKeys, purchase.value); }

StoredRow encode(const TimelineRow& r) {
  Writer w;
  w.number(r.position.value)
      .number(r.purchases)
      .number(r.customers)
      .number(r.available.value)
      .number(r.held.value)
      .number(r.sold.value)
      .number(r.waiting)
      .number(static_cast<std::uint8_t>(r.phase));
  return {timeline_key(r.second), w.take()};
}

std::string message_key(Seq position, std::uint32_t number) {
  std::string key = numbered_key({}, position.value);
  append_be(key, number);
  return key;
}

StoredRow encode(const MessageRow& r) {
  Writer w;
  w.number(r.at.value)
      .number(static_cast<std::uint8_t>(r.kind))
      .number(static_cast<std::uint8_t>(r.reason))
      .number(r.quantity.value)
      .number(r.place)
      .number(r.until.value)
      .number(r.purchase.value)
      .text(r.customer.view())
      .text(r.reference.view());
  if (!r.reference.empty()) {
    w.number(r.amount.amount.value)
        .bytes({r.amount.currency.code.data(), r.amount.currency.code.size()});
  }
  return {message_key(r.position, r.number), w.take()};
}

StoredRow encode(const OrderRow& r) {
  Writer w;
  w.number(r.at.value)
      .number(r.purchase.value)
      .number(r.quantity.value)
      .number(r.amount.amount.value)
      .bytes({r.amount.currency.code.data(), r.amount.currency.code.size()})
      .text(r.customer.view())
      .text(r.reference.view());
  return {order_key(r.position), w.take()};
}

StoredRow encode(const RefundRow& r) {
  Writer w;
  w.number(r.position.value).number(r.at.value);
  return {refund_key(r.purchase), w.take()};
}

std::optional<TimelineRow> decode_timeline(std::string_view key, std::string_view value) {
  const auto second = number_of({}, key);
  if (!second || *second > kMaxTimestampMs / kMillisPerSecond) return std::nullopt;
  Reader in(value);
  TimelineRow r{.second = static_cast<std::int64_t>(*second)};
  r.position = Seq{in.number<std::uint64_t>()};
  r.purchases = in.number<std::uint64_t>();
  r.customers = in.number<std::uint64_t>();
  r.available = Quantity{in.number<std::uint32_t>()};
  r.held = Quantity{in.number<std::uint32_t>()};
  r.sold = Quantity{in.number<std::uint32_t>()};
  r.waiting = in.number<std::uint32_t>();
  r.phase = static_cast<Phase>(in.number<std::uint8_t>());
  if (!in.whole() || r.phase > Phase::closed) return std::nullopt;
  return r;
}

std::optional<OrderRow> decode_order(std::string_view key, std::string_view value) {
  const auto position = number_of(kOrderKeys, key);
  if (!position) return std::nullopt;
  Reader in(value);
  OrderRow r{.position = Seq{*position}};
  r.at = Timestamp{in.number<std::int64_t>()};
  r.purchase = Seq{in.number<std::uint64_t>()};
  r.quantity = Quantity{in.number<std::uint32_t>()};
  r.amount.amount = MinorUnits{in.number<std::int64_t>()};
  const std::string_view currency = in.bytes(3);
  if (currency.size() != 3) return std::nullopt;
  std::copy(currency.begin(), currency.end(), r.amount.currency.code.begin());
  const auto customer = CustomerId::from(in.text());
  const auto reference = PaymentReference::from(in.text());
  if (!in.whole() || !is_time(r.at) || !customer || !reference) return std::nullopt;
  r.customer = *customer;
  r.reference = *reference;
  return r;
}

std::optional<RefundRow> decode_refund(std::string_view key, std::string_view value) {
  const auto purchase = number_of(kRefundKeys, key);
  if (!purchase) return std::nullopt;
  Reader in(value);
  RefundRow r{.purchase = Seq{*purchase}};
  r.position = Seq{in.number<std::uint64_t>()};
  r.at = Timestamp{in.number<std::int64_t>()};
  if (!in.whole() || !is_time(r.at)) return std::nullopt;
  return r;
}

std::optional<MessageRow> decode_message(std::string_view key, std::string_view value) {
  if (key.size() != kMessageKey) return std::nullopt;
  MessageRow r{.position = Seq{get_be64(key.data())}, .number = get_be32(key.data() + 8)};
  Reader in(value);
  r.at = Timestamp{in.number<std::int64_t>()};
  r.kind = static_cast<DecisionKind>(in.number<std::uint8_t>());
  r.reason = static_cast<Reason>(in.number<std::uint8_t>());
  r.quantity = Quantity{in.number<std::uint32_t>()};
  r.place = in.number<std::uint32_t>();
  r.until = Timestamp{in.number<std::int64_t>()};
  r.purchase = Seq{in.number<std::uint64_t>()};
  const std::string_view customer = in.text();
  const std::string_view reference = in.text();
  if (!reference.empty()) {
    r.amount.amount = MinorUnits{in.number<std::int64_t>()};
    const std::string_view currency = in.bytes(3);
    if (currency.size() != 3) return std::nullopt;
    std::copy(currency.begin(), currency.end(), r.amount.currency.code.begin());
  }
  if (!in.whole() || !is_time(r.at) || !is_time(r.until) || r.kind < DecisionKind::scheduled ||
      r.kind > DecisionKind::noted || r.reason > Reason::event_unsupported) {
    return std::nullopt;
  }
  const auto whose = CustomerId::from(customer);
  const auto payment = PaymentReference::from(reference);
  if ((!customer.empty() && !whose) || (!reference.empty() && !payment)) return std::nullopt;
  if (whose) r.customer = *whose;
  if (payment) r.reference = *payment;
  return r;
}

// ---- For people ----

std::string describe_key(StoredProjection p, std::string_view key) {
  if (p == StoredProjection::availability && key.empty()) return "the sale document";
  if (p == StoredProjection::timeline) {
    if (const auto second = number_of({}, key);
        second && *second <= kMaxTimestampMs / kMillisPerSecond) {
      const auto at = static_cast<std::int64_t>(*second) * kMillisPerSecond;
      return fmt::format("second {}", text_of(rfc3339(Timestamp{at})));
    }
  }
  if (p == StoredProjection::orders) {
    if (const auto at = number_of(kOrderKeys, key)) {
      return fmt::format("order at position {}", *at);
    }
    if (const auto of = number_of(kRefundKeys, key)) {
      return fmt::format("refund of purchase {}", *of);
    }
  }
  if (p == StoredProjection::outbox && key.size() == kMessageKey) {
    return fmt::format("message {} of position {}", get_be32(key.data() + 8), get_be64(key.data()));
  }
  std::string hex;
  for (const char c : key) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return fmt::format("key {}", hex);
}

constexpr std::size_t kMostShown = 2000;  // bytes of a document

std::string describe_row(StoredProjection p, std::string_view key, std::string_view value) {
  switch (p) {
    case StoredProjection::availability: {
      // Whoever could write to the store may have put anything here.
      std::string text(value.substr(0, kMostShown));
      std::replace_if(
          text.begin(), text.end(), [](char c) { return c < ' ' || c == 0x7f; }, '?');
      return text;
    }
    case StoredProjection::timeline:
      if (const auto r = decode_timeline(key, value)) {
        return fmt::format(
            "position {}, {} purchases by {} customers, available {}, held {}, sold {}, waiting "
            "{}, {}",
            r->position.value, r->purchases, r->customers, r->available.value, r->held.value,
            r->sold.value, r->waiting, name_of(r->phase));
      }
      break;
    case StoredProjection::orders:
      if (const auto r = decode_order(key, value)) {
        return fmt::format(
            "purchase {} of {} by {}, {} {}, paid by {} at {}", r->purchase.value,
            r->quantity.value, r->customer.view(), r->amount.amount.value,
            std::string_view(r->amount.currency.code.data(), r->amount.currency.code.size()),
            r->reference.view(), text_of(rfc3339(r->at)));
      }
      if (const auto r = decode_refund(key, value)) {
        return fmt::format("refunded at position {}, {}", r->position.value,
                           text_of(rfc3339(r->at)));
      }
      break;
    case StoredProjection::outbox:
      if (const auto r = decode_message(key, value)) {
        return fmt::format("{}{}{}, {} units, purchase {} of {}, {}", name_of(r->kind),
                           r->reason == Reason::none ? "" : ": ",
                           r->reason == Reason::none ? "" : name_of(r->reason), r->quantity.value,
                           r->purchase.value, r->customer.view(), text_of(rfc3339(r->at)));
      }
      break;
  }
  return fmt::format("{} bytes that are no such row", value.size());
}

// ---- Digests ----

RowSum::RowSum(const Digest& d) {
  for (std::size_t i = 0; i < limbs_.size(); ++i) {
    limbs_[i] = get_le<std::uint64_t>(d.bytes.data() + i * 8);
  }
}

Digest RowSum::digest() const {
  Digest d;
  for (std::size_t i = 0; i < limbs_.size(); ++i) put_le(d.bytes.data() + i * 8, limbs_[i]);
  return d;
}

void RowSum::add(const Digest& row) {
  const RowSum other(row);
  std::uint64_t carry = 0;
  for (std::size_t i = 0; i < limbs_.size(); ++i) {
    const std::uint64_t with_carry = limbs_[i] + carry;
    carry = with_carry < carry ? 1 : 0;
    limbs_[i] = with_carry + other.limbs_[i];
    carry += limbs_[i] < with_carry ? 1 : 0;
  }
}

void RowSum::remove(const Digest& row) {
  const RowSum other(row);
  std::uint64_t borrow = 0;
  for (std::size_t i = 0; i < limbs_.size(); ++i) {
    const std::uint64_t less = limbs_[i] - other.limbs_[i];
    const std::uint64_t under = limbs_[i] < other.limbs_[i] ? 1 : 0;
    limbs_[i] = less - borrow;
    borrow = under + (less < borrow ? 1 : 0);
  }
}

Digest row_hash(StoredProjection p, SkuId sku, std::string_view key, std::string_view value) {
  DigestWriter w;
  w.number(static_cast<std::uint64_t>(p));
  w.number(version_of(p));
  w.number(sku.value);
  w.text(key);
  w.text(value);
  return w.finish();
}

// ---- From decisions to rows ----

void Stretch::join(Stretch&& next) {
  FAIRSALE_INVARIANT(next.sku == sku && next.from == to, "only what follows directly is joined");
  to = next.to;
  rendered = std::move(next.rendered);
  document = std::move(next.document);
  auto from_second = next.seconds.begin();
  if (!seconds.empty() && from_second != next.seconds.end() &&
      from_second->second == seconds.back().second) {
    seconds.back() = *from_second++;
  }
  seconds.insert(seconds.end(), from_second, next.seconds.end());
  orders.insert(orders.end(), next.orders.begin(), next.orders.end());
  refunds.insert(refunds.end(), next.refunds.begin(), next.refunds.end());
  messages.insert(messages.end(), next.messages.begin(), next.messages.end());
}

void collect(Stretch& out, const Sale& sale, const Decision& d) {
  switch (d.kind) {
    case DecisionKind::ordered: {
      const auto purchase = sale.find_purchase(d.purchase);
      const auto payment = purchase ? sale.order_payment(*purchase) : std::nullopt;
      FAIRSALE_INVARIANT(payment.has_value(), "an order was paid for");
      out.orders.push_back({.position = sale.seq(),
                            .at = sale.time(),
                            .purchase = d.purchase,
                            .customer = *CustomerId::from(sale.customer_name(d.customer)),
                            .quantity = d.quantity,
                            .amount = payment->amount,
                            .reference = payment->reference});
      return;
    }
    case DecisionKind::refunded:
      out.refunds.push_back({.purchase = d.purchase, .position = sale.seq(), .at = sale.time()});
      return;
    default: return;
  }
}

bool becomes_message(DecisionKind kind) {
  switch (kind) {
    case DecisionKind::refused:
    case DecisionKind::payment_failure_noted:
    case DecisionKind::noted: return false;
    default: return true;
  }
}

void collect_message(Stretch& out, const Sale& sale, const Decision& d) {
  if (!becomes_message(d.kind)) return;
  const bool another = !out.messages.empty() && out.messages.back().position == sale.seq();
  MessageRow& m = out.messages.emplace_back();
  m.position = sale.seq();
  if (another) m.number = out.messages[out.messages.size() - 2].number + 1;
  m.at = sale.time();
  m.kind = d.kind;
  m.reason = d.reason;
  m.quantity = d.quantity;
  m.place = d.place;
  m.until = d.until;
  m.purchase = d.purchase;
  if (d.customer.value != kNoIndex) m.customer = *CustomerId::from(sale.customer_name(d.customer));
  if (d.kind == DecisionKind::ordered || d.kind == DecisionKind::refund_due) {
    const auto payment = sale.latest_payment(*sale.find_purchase(d.purchase));
    FAIRSALE_INVARIANT(payment.has_value(), "what is said of a payment follows one");
    m.reference = payment->reference;
    m.amount = payment->amount;
  }
}

void collect_second(Stretch& out, const Sale& sale) {
  if (!sale.exists()) return;
  const Counters& c = sale.counters();
  const TimelineRow row{.second = sale.time().value / kMillisPerSecond,
                        .position = sale.seq(),
                        .purchases = sale.purchases(),
                        .customers = sale.customers(),
                        .available = c.available,
                        .held = c.held,
                        .sold = c.sold,
                        .waiting = c.waiting,
                        .phase = sale.phase()};
  if (!out.seconds.empty() && out.seconds.back().second == row.second) {
    out.seconds.back() = row;
  } else {
    out.seconds.push_back(row);
  }
}

}  // namespace fairsale
