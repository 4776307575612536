#include "core/log/event_codec.hpp"

#include <cereal/cereal.hpp>
#include <concepts>
#include <cstring>
#include <utility>

#include "core/domain/invariant.hpp"
#include "core/log/block.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale {

static_assert(kLargestEventBytes <= kMaxEventBytes);

namespace {

// Writes into a buffer that is known to be large enough: no check for each field.
class Writer : public cereal::OutputArchive<Writer, cereal::AllowEmptyClassElision> {
 public:
  Writer() : OutputArchive(this) {}

  void start(std::byte* at) { at_ = at; }
  std::byte* at() const { return at_; }

  void raw(const void* data, std::size_t n) {
    std::memcpy(at_, data, n);
    at_ += n;
  }

 private:
  std::byte* at_ = nullptr;
};

// Reads from a span. After the first fault every field reads as zero.
class Reader : public cereal::InputArchive<Reader, cereal::AllowEmptyClassElision> {
 public:
  explicit Reader(std::span<const std::byte> bytes)
      : InputArchive(this), at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  DecodeFault fault() const { return fault_; }
  void fail(DecodeFault f) {
    if (fault_ == DecodeFault::none) fault_ = f;
  }

  bool raw(void* out, std::size_t n) {
    if (n > left() || fault_ != DecodeFault::none) {
      fail(DecodeFault::cut_short);
      std::memset(out, 0, n);
      return false;
    }
    std::memcpy(out, at_, n);
    at_ += n;
    return true;
  }

 private:
  const std::byte* at_;
  const std::byte* end_;
  DecodeFault fault_ = DecodeFault::none;
};

template <class T>
concept Number = std::integral<T> && !std::same_as<T, bool>;

template <Number T>
void CEREAL_SAVE_FUNCTION_NAME(Writer& w, const T& v) {
  w.raw(&v, sizeof v);
}

template <Number T>
void CEREAL_LOAD_FUNCTION_NAME(Reader& r, T& v) {
  r.raw(&v, sizeof v);
}

void CEREAL_SAVE_FUNCTION_NAME(Writer& w, const bool& v) {
  const auto byte = static_cast<std::uint8_t>(v);
  w.raw(&byte, 1);
}

void CEREAL_LOAD_FUNCTION_NAME(Reader& r, bool& v) {
  std::uint8_t byte = 0;
  r.raw(&byte, 1);
  if (byte > 1) r.fail(DecodeFault::malformed);
  v = byte == 1;
}

}  // namespace
}  // namespace fairsale

// cereal's own functions for enums ask which archives belong together. They take any value; check()
// judges it.
CEREAL_SETUP_ARCHIVE_TRAITS(fairsale::Reader, fairsale::Writer)

namespace fairsale {
namespace {

template <std::size_t N>
void CEREAL_SAVE_FUNCTION_NAME(Writer& w, const Text<N>& t) {
  const auto n = static_cast<std::uint8_t>(t.size());
  w.raw(&n, 1);
  w.raw(t.view().data(), n);
}

template <std::size_t N>
void CEREAL_LOAD_FUNCTION_NAME(Reader& r, Text<N>& t) {
  std::uint8_t n = 0;
  r.raw(&n, 1);
  if (n > N) {
    r.fail(DecodeFault::malformed);
    n = 0;
  }
  r.raw(t.resize(n), n);
}

// The fields of the types, in the order of the format.

template <class Archive, class Tag, class Rep>
void serialize(Archive& ar, Strong<Tag, Rep>& v) {
  ar(v.value);
}

template <class Archive>
void serialize(Archive& ar, Currency& c) {
  ar(c.code[0], c.code[1], c.code[2]);
}

template <class Archive>
void serialize(Archive& ar, Money& m) {
  ar(m.amount, m.currency);
}

template <class Archive>
void serialize(Archive& ar, IdempotencyKey& k) {
  ar.raw(k.bytes.data(), k.bytes.size());
}

template <class Archive>
void serialize(Archive& ar, Terms& t) {
  ar(t.stock, t.price, t.starts_at, t.ends_at, t.hold, t.grace, t.limit_per_customer,
     t.units_per_purchase, t.line_limit, t.line_policy, t.opening);
}

template <class Archive>
void serialize(Archive& ar, SaleScheduled& e) {
  ar(e.sku, e.rules);
  if constexpr (Archive::is_loading::value) {
    // Said before anything that follows is judged: newer rules may come with other fields.
    if (!supports(e.rules)) ar.fail(DecodeFault::unsupported_rules);
  }
  ar(e.terms, e.actor);
}

template <class Archive>
void serialize(Archive& ar, SaleChanged& e) {
  ar(e.terms, e.actor, e.why);
}

template <class Archive>
void serialize(Archive& ar, SalePaused& e) {
  ar(e.actor, e.why);
}

template <class Archive>
void serialize(Archive& ar, SaleResumed& e) {
  ar(e.actor, e.why);
}

template <class Archive>
void serialize(Archive& ar, SaleClosed& e) {
  ar(e.actor, e.why);
}

template <class Archive>
void serialize(Archive& ar, StockAdjusted& e) {
  ar(e.stock, e.actor, e.why);
}

template <class Archive>
void serialize(Archive& ar, PurchaseAttempted& e) {
  ar(e.customer, e.key, e.quantity);
}

template <class Archive>
void serialize(Archive& ar, PurchaseCancelled& e) {
  ar(e.purchase, e.by);
}

template <class Archive>
void serialize(Archive& ar, OfferDeclined& e) {
  ar(e.purchase, e.by);
}

template <class Archive>
void serialize(Archive& ar, PaymentReceived& e) {
  ar(e.purchase, e.reference, e.amount);
}

template <class Archive>
void serialize(Archive& ar, PaymentFailed& e) {
  ar(e.purchase, e.reference);
}

template <class Archive>
void serialize(Archive& ar, OrderRefunded& e) {
  ar(e.purchase, e.restock, e.actor, e.why);
}

template <class Archive>
void serialize(Archive&, TimePassed&) {}

bool is_sku_name(std::string_view s) {
  if (s.empty()) return false;
  for (const char c : s) {
    const bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '.' || c == '_' || c == '-';
    if (!ok) return false;
  }
  return true;
}

constexpr bool in_range(Role r) { return r >= Role::customer && r <= Role::op; }
constexpr bool in_range(LinePolicy p) { return p <= LinePolicy::skip_if_unfit; }
constexpr bool in_range(Opening o) { return o <= Opening::draw; }

// What the types alone do not promise. The same checks guard the way in and the way out, so that
// nothing can be written that would not be read.
DecodeFault check(const Terms& t) {
  return in_range(t.line_policy) && in_range(t.opening) ? DecodeFault::none
                                                        : DecodeFault::malformed;
}

DecodeFault check(const SaleScheduled& e) {
  if (!supports(e.rules)) return DecodeFault::unsupported_rules;
  if (!is_sku_name(e.sku.view())) return DecodeFault::malformed;
  return check(e.terms);
}

DecodeFault check(const SaleChanged& e) { return check(e.terms); }

DecodeFault check(const PurchaseAttempted& e) {
  return e.customer.empty() ? DecodeFault::malformed : DecodeFault::none;
}

template <class E>
DecodeFault check(const E& e) {
  if constexpr (requires { e.by; }) {
    return in_range(e.by) ? DecodeFault::none : DecodeFault::malformed;
  } else {
    return DecodeFault::none;
  }
}

// Decodes the fields into the alternative that the variant holds already, if it is the right one:
// filling it anew with zeros would cost more than the decoding.
template <class E>
DecodeFault decode_as(Reader& r, Event& event) {
  E* e = std::get_if<E>(&event);
  if (e == nullptr) e = &event.emplace<E>();
  r(*e);
  return r.fault() != DecodeFault::none ? r.fault() : check(*e);
}

}  // namespace

bool well_formed(const Event& event) {
  return std::visit([](const auto& e) { return check(e) == DecodeFault::none; }, event);
}

struct EventEncoder::Archive : Writer {};

EventEncoder::EventEncoder() : archive_(std::make_unique<Archive>()) {}
EventEncoder::~EventEncoder() = default;
EventEncoder::EventEncoder(EventEncoder&&) noexcept = default;
EventEncoder& EventEncoder::operator=(EventEncoder&&) noexcept = default;

std::size_t EventEncoder::encode(const Event& event, std::byte* out) {
  Writer& w = *archive_;
  w.start(out);
  std::visit(
      [&w](const auto& e) {
        FAIRSALE_INVARIANT(check(e) == DecodeFault::none, "an event is checked before it is kept");
        w(e.number, e);
      },
      event);
  return static_cast<std::size_t>(w.at() - out);
}

std::string_view describe(DecodeFault f) {
  switch (f) {
    case DecodeFault::none: return "well formed";
    case DecodeFault::cut_short: return "cut short";
    case DecodeFault::malformed: return "malformed";
    case DecodeFault::unknown_type: return "of a type that this version of fairsale does not know";
    case DecodeFault::unsupported_rules:
      return "of a rules version that this version of fairsale does not know";
  }
  return "unknown";
}

struct EventDecoder::Archive : Reader {
  using Reader::Reader;
};

EventDecoder::EventDecoder(std::span<const std::byte> bytes)
    : archive_(std::make_unique<Archive>(bytes)) {}
EventDecoder::~EventDecoder() = default;
EventDecoder::EventDecoder(EventDecoder&&) noexcept = default;
EventDecoder& EventDecoder::operator=(EventDecoder&&) noexcept = default;

std::size_t EventDecoder::left() const { return archive_->left(); }

DecodeFault EventDecoder::next(Event& event) {
  Reader& r = *archive_;
  std::uint8_t number = 0;
  r(number);
  if (r.fault() != DecodeFault::none) return r.fault();
  switch (number) {
    case SaleScheduled::number: return decode_as<SaleScheduled>(r, event);
    case SaleChanged::number: return decode_as<SaleChanged>(r, event);
    case SalePaused::number: return decode_as<SalePaused>(r, event);
    case SaleResumed::number: return decode_as<SaleResumed>(r, event);
    case SaleClosed::number: return decode_as<SaleClosed>(r, event);
    case StockAdjusted::number: return decode_as<StockAdjusted>(r, event);
    case PurchaseAttempted::number: return decode_as<PurchaseAttempted>(r, event);
    case PurchaseCancelled::number: return decode_as<PurchaseCancelled>(r, event);
    case OfferDeclined::number: return decode_as<OfferDeclined>(r, event);
    case PaymentReceived::number: return decode_as<PaymentReceived>(r, event);
    case PaymentFailed::number: return decode_as<PaymentFailed>(r, event);
    case OrderRefunded::number: return decode_as<OrderRefunded>(r, event);
    case TimePassed::number: return decode_as<TimePassed>(r, event);
    default: return DecodeFault::unknown_type;
  }
}

}  // namespace fairsale
