// The canonical form of a sale's state, and the recount that checks it.
//
// Little-endian, fixed order: version, header, customers in order of appearance, purchases in log
// order, payments in log order, then the purchases that hold units in the order the holds began.
// Index chains, the line and counts that follow from these are rebuilt, not stored.

#include <algorithm>
#include <array>
#include <bit>

#include "core/domain/sale_index.hpp"

namespace fairsale {

namespace {

constexpr std::uint32_t kMagic = 0x54535346;  // "FSST"
constexpr std::uint16_t kStateVersion = 1;

template <class T>
void swap_unless_little(T& v) {
  if constexpr (std::endian::native != std::endian::little) {
    auto* bytes = reinterpret_cast<std::byte*>(&v);
    std::reverse(bytes, bytes + sizeof v);
  }
}

class Writer {
 public:
  explicit Writer(ByteSink& sink) : sink_(sink) {}

  template <class T>
  void number(T v) {
    if (used_ + sizeof v > buffer_.size()) flush();
    swap_unless_little(v);
    std::memcpy(&buffer_[used_], &v, sizeof v);
    used_ += sizeof v;
  }

  void bytes(const void* data, std::size_t n) {
    if (used_ + n > buffer_.size()) flush();
    std::memcpy(buffer_.data() + used_, data, n);
    used_ += n;
  }

  void text(std::string_view s) {
    number(static_cast<std::uint8_t>(s.size()));
    bytes(s.data(), s.size());
  }

  void flush() {
    sink_.write({buffer_.data(), used_});
    used_ = 0;
  }

 private:
  ByteSink& sink_;
  std::array<std::byte, std::size_t{16} * 1024> buffer_;
  std::size_t used_ = 0;
};

// After the first failed read everything reads as zero and ok() is false.
class Reader {
 public:
  explicit Reader(ByteSource& source) : source_(source) {}

  bool ok() const { return ok_; }

  template <class T>
  T number() {
    T v{};
    bytes(&v, sizeof v);
    swap_unless_little(v);
    return v;
  }

  void bytes(void* out, std::size_t n) {
    if (n <= chunk_.size()) [[likely]] {
      std::memcpy(out, chunk_.data(), n);
      chunk_ = chunk_.subspan(n);
    } else {
      gather(static_cast<std::byte*>(out), n);
    }
  }

  // True when all has been read.
  bool at_end() {
    if (ok_ && chunk_.empty()) chunk_ = source_.next();
    return ok_ && chunk_.empty();
  }

  template <std::size_t N>
  Text<N> text() {
    Text<N> t;
    const auto n = number<std::uint8_t>();
    if (n > N) ok_ = false;
    if (ok_) bytes(t.resize(n), n);
    return t;
  }

  template <class S>
  void strong(S& out) {
    out = S{number<typename S::rep>()};
  }

 private:
  // What begins in one chunk and ends in another.
  void gather(std::byte* out, std::size_t n) {
    while (n > 0) {
      if (chunk_.empty() && ok_) chunk_ = source_.next();
      if (chunk_.empty()) {
        ok_ = false;
        std::memset(out, 0, n);
        return;
      }
      const std::size_t part = std::min(n, chunk_.size());
      std::memcpy(out, chunk_.data(), part);
      chunk_ = chunk_.subspan(part);
      out += part;
      n -= part;
    }
  }

  ByteSource& source_;
  std::span<const std::byte> chunk_;
  bool ok_ = true;
};

void write_terms(Writer& w, const Terms& t) {
  w.number(t.stock.value);
  w.number(t.price.amount.value);
  w.bytes(t.price.currency.code.data(), 3);
  w.number(t.starts_at.value);
  w.number(t.ends_at.value);
  w.number(t.hold.value);
  w.number(t.grace.value);
  w.number(t.limit_per_customer.value);
  w.number(t.units_per_purchase.value);
  w.number(t.line_limit);
  w.number(static_cast<std::uint8_t>(t.line_policy));
  w.number(static_cast<std::uint8_t>(t.opening));
}

Terms read_terms(Reader& r) {
  Terms t;
  r.strong(t.stock);
  r.strong(t.price.amount);
  r.bytes(t.price.currency.code.data(), 3);
  r.strong(t.starts_at);
  r.strong(t.ends_at);
  r.strong(t.hold);
  r.strong(t.grace);
  r.strong(t.limit_per_customer);
  r.strong(t.units_per_purchase);
  t.line_limit = r.number<std::uint32_t>();
  t.line_policy = static_cast<LinePolicy>(r.number<std::uint8_t>());
  t.opening = static_cast<Opening>(r.number<std::uint8_t>());
  return t;
}

constexpr std::size_t kPurchaseSize = 44;

// There may be millions: their bytes are asked for once each.
Purchase read_purchase(Reader& r) {
  std::array<std::byte, kPurchaseSize> raw;
  r.bytes(raw.data(), raw.size());
  const std::byte* at = raw.data();
  const auto take = [&at]<class T>(T v) {
    std::memcpy(&v, at, sizeof v);
    at += sizeof v;
    swap_unless_little(v);
    return v;
  };
  Purchase p;
  std::memcpy(p.key.bytes.data(), at, p.key.bytes.size());
  at += p.key.bytes.size();
  p.seq = Seq{take(std::uint64_t{})};
  p.until = Timestamp{take(std::int64_t{})};
  p.customer = take(std::uint32_t{});
  p.place = take(std::uint32_t{});
  p.quantity = take(std::uint16_t{});
  p.status = static_cast<PurchaseStatus>(take(std::uint8_t{}));
  p.reason = static_cast<Reason>(take(std::uint8_t{}));
  return p;
}

bool takes_units(PurchaseStatus s) {
  return s == PurchaseStatus::waiting || holds_units(s) || s == PurchaseStatus::ordered;
}

// Whether the parts of a purchase go together: what was refused never waited nor held, what was
// offered waited, and so on. No hold can end after `latest`.
bool coherent(const Purchase& p, Timestamp latest) {
  if (p.reason > Reason::event_unsupported) return false;
  const bool has_reason =
      p.status == PurchaseStatus::refused || p.status == PurchaseStatus::released;
  if (has_reason != (p.reason != Reason::none)) return false;
  const bool waited = p.place != 0;
  const bool held = p.until != Timestamp{0};
  if (p.until.value < 0 || p.until > latest) return false;
  switch (p.status) {
    case PurchaseStatus::refused: return !waited && !held;
    case PurchaseStatus::reserved: return !waited && held;
    case PurchaseStatus::waiting:
    case PurchaseStatus::released: return waited && !held;
    case PurchaseStatus::offered:
    case PurchaseStatus::declined: return waited && held;
    case PurchaseStatus::cancelled: return waited || held;
    case PurchaseStatus::ordered:
    case PurchaseStatus::expired:
    case PurchaseStatus::refunded: return held;
  }
  return false;
}

}  // namespace

void Sale::serialize(ByteSink& sink) const {
  Writer w(sink);
  w.number(kMagic);
  w.number(kStateVersion);
  w.number(rules_.value);
  w.number(seq_.value);
  w.number(time_.value);
  if (exists()) {
    w.text(sku_.view());
    write_terms(w, terms_);
    w.number(counters_.stocked.value);
    w.number(counters_.available.value);
    w.number(counters_.held.value);
    w.number(counters_.sold.value);
    w.number(static_cast<std::uint8_t>(opened_ | ended_ << 1 | closed_ << 2 | paused_ << 3 |
                                       sold_out_ << 4));
    w.number(static_cast<std::uint32_t>(customers_.size()));
    for (std::size_t i = 0; i < customers_.size(); ++i) {
      w.text(customer_name(CustomerIndex{static_cast<std::uint32_t>(i)}));
    }
    w.number(static_cast<std::uint32_t>(purchases_.size()));
    for (std::size_t i = 0; i < purchases_.size(); ++i) {
      const Purchase& p = purchases_[i];
      w.bytes(p.key.bytes.data(), p.key.bytes.size());
      w.number(p.seq.value);
      w.number(p.until.value);
      w.number(p.customer);
      w.number(p.place);
      w.number(p.quantity);
      w.number(static_cast<std::uint8_t>(p.status));
      w.number(static_cast<std::uint8_t>(p.reason));
    }
    w.number(static_cast<std::uint32_t>(payments_.size()));
    for (std::size_t i = 0; i < payments_.size(); ++i) {
      const Payment& p = payments_[i];
      w.number(p.purchase);
      w.text(p.reference.view());
      w.number(p.amount.amount.value);
      w.bytes(p.amount.currency.code.data(), 3);
      w.number(p.until.value);
      w.number(static_cast<std::uint8_t>(p.kind));
      w.number(static_cast<std::uint8_t>(p.reason));
    }
    for (std::uint32_t i = holds_.head; i != kNoIndex; i = purchases_[i].link) {
      if (holds_units(purchases_[i].status)) w.number(i);
    }
    w.number(kNoIndex);
  }
  w.flush();
}

std::optional<Sale> Sale::restore(ByteSource& source) {
  Reader r(source);
  Sale s;
  if (r.number<std::uint32_t>() != kMagic) return std::nullopt;
  if (r.number<std::uint16_t>() != kStateVersion) return std::nullopt;
  r.strong(s.rules_);
  r.strong(s.seq_);
  r.strong(s.time_);
  if (!r.ok() || s.time_.value < 0 || s.time_.value > kMaxTimestampMs) return std::nullopt;
  if (!s.exists()) return r.at_end() ? std::optional(std::move(s)) : std::nullopt;
  if (!supports(s.rules_)) return std::nullopt;

  s.sku_ = r.text<64>();
  s.terms_ = read_terms(r);
  r.strong(s.counters_.stocked);
  r.strong(s.counters_.available);
  r.strong(s.counters_.held);
  r.strong(s.counters_.sold);
  const auto flags = r.number<std::uint8_t>();
  s.opened_ = flags & 1;
  s.ended_ = flags & 2;
  s.closed_ = flags & 4;
  s.paused_ = flags & 8;
  s.sold_out_ = flags & 16;
  if (!r.ok() || s.sku_.empty() || flags > 31 || check_terms(s.terms_) != TermsFault::none ||
      s.counters_.stocked.value > kMaxStock) {
    return std::nullopt;
  }
  s.line_.assign(s.terms_.units_per_purchase.value, Fifo{});

  // The index comes after the names: entering one at a time would wait for memory each time.
  const auto customers = r.number<std::uint32_t>();
  for (std::uint32_t i = 0; i < customers; ++i) {
    const auto name = r.text<CustomerId::capacity>();
    if (!r.ok() || s.names_.size() >= kMaxNameBytes) return std::nullopt;
    s.append_customer(name.view(), hash_of(name.view()));
  }
  s.customer_index_.presize(customers);
  for (std::uint32_t i = 0; i < customers; ++i) {
    constexpr std::uint32_t kAhead = 16;
    if (i + kAhead < customers) s.customer_index_.prefetch(s.customers_[i + kAhead].hash);
    s.customer_index_.insert(CustomerLinks<Sale>{s}, s.customers_[i].hash, i);
  }

  const auto purchases = r.number<std::uint32_t>();
  const Timestamp latest = s.time_ + s.terms_.hold;
  std::uint32_t appeared = 0;
  for (std::uint32_t i = 0; i < purchases; ++i) {
    const Purchase p = read_purchase(r);
    if (!r.ok() || p.customer >= customers || p.customer > appeared || !coherent(p, latest)) {
      return std::nullopt;
    }
    if (p.customer == appeared) ++appeared;
    const Seq before = i > 0 ? s.purchases_.back().seq : Seq{0};
    if (p.seq <= before || p.seq > s.seq_) return std::nullopt;
    if (p.status != PurchaseStatus::refused && (p.quantity == 0 || p.quantity > s.line_.size())) {
      return std::nullopt;
    }
    s.enter_purchase(p);
    if (p.status != PurchaseStatus::refused) s.accept_purchase(i);
    if (takes_units(p.status)) s.customers_[p.customer].units += p.quantity;
    if (p.status == PurchaseStatus::waiting) {
      s.enqueue(s.line_[p.quantity - 1u], i);
      ++s.counters_.waiting;
    }
  }

  if (appeared != customers) return std::nullopt;

  const auto payments = r.number<std::uint32_t>();
  for (std::uint32_t i = 0; i < payments; ++i) {
    Payment p;
    p.purchase = r.number<std::uint32_t>();
    p.reference = r.text<64>();
    r.strong(p.amount.amount);
    r.bytes(p.amount.currency.code.data(), 3);
    r.strong(p.until);
    p.kind = static_cast<DecisionKind>(r.number<std::uint8_t>());
    p.reason = static_cast<Reason>(r.number<std::uint8_t>());
    if (!r.ok() || p.purchase >= purchases || p.reason > Reason::event_unsupported) {
      return std::nullopt;
    }
    const bool due = p.kind == DecisionKind::refund_due && p.reason != Reason::none;
    const bool paid = p.kind == DecisionKind::ordered && p.reason == Reason::none;
    if (!due && !paid) return std::nullopt;
    p.next = s.purchases_[p.purchase].payments;
    s.purchases_[p.purchase].payments = i;
    s.payments_.push_back(p);
  }

  std::uint32_t held = 0;
  for (std::uint32_t i = r.number<std::uint32_t>(); i != kNoIndex; i = r.number<std::uint32_t>()) {
    if (!r.ok() || i >= purchases || !holds_units(s.purchases_[i].status)) return std::nullopt;
    if (++held > purchases) return std::nullopt;
    // A purchase named twice would make a loop of links.
    if (s.purchases_[i].link != kNoIndex || s.holds_.tail == i) return std::nullopt;
    s.enqueue(s.holds_, i);
  }
  if (!r.at_end() || s.recount()) return std::nullopt;
  return s;
}

std::optional<std::string_view> Sale::check() const {
  constexpr std::uint32_t kAhead = 8;
  const CustomerLinks<const Sale> links{*this};
  for (std::uint32_t i = 0; i < customers_.size(); ++i) {
    if (i + 2 * kAhead < customers_.size()) {
      customer_index_.prefetch(customers_[i + 2 * kAhead].hash);
      customer_index_.prefetch_record(links, customers_[i + kAhead].hash, 0);
    }
    const Customer& c = customers_[i];
    const auto found = find_customer(customer_name(CustomerIndex{i}), c.hash);
    if (!found || found->value != i) return "a customer is there twice, or cannot be found";
    if (c.first == kNoIndex || purchases_[c.first].customer != i) {
      return "a customer's first purchase is another's";
    }
  }
  std::vector<std::uint32_t> latest(customers_.size(), kNoIndex);
  for (std::uint32_t i = 0; i < purchases_.size(); ++i) {
    const Purchase& p = purchases_[i];
    if (p.status != PurchaseStatus::refused) {
      const bool first = customers_[p.customer].first == i;
      if (!first && p.previous != latest[p.customer]) return "a customer's purchases are unlinked";
      latest[p.customer] = i;
    }
    if (find_attempt(purchases_[i].customer, purchases_[i].key) != i) {
      return "a key is there twice, or cannot be found";
    }
  }
  for (std::uint32_t i = 0; i < customers_.size(); ++i) {
    if (purchases_[customers_[i].first].previous != latest[i]) {
      return "a customer's latest purchase is not known as such";
    }
  }
  return recount();
}

// All that check() does but looking everything up.
std::optional<std::string_view> Sale::recount() const {
  if (!exists()) return std::nullopt;
  std::uint64_t held = 0;
  std::uint64_t sold = 0;
  std::uint64_t holds = 0;
  std::uint32_t waiting = 0;
  std::uint32_t first_in_line = kNoIndex;
  std::uint32_t smallest_waiting = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::uint64_t> units(customers_.size());
  for (std::size_t i = 0; i < purchases_.size(); ++i) {
    const Purchase& p = purchases_[i];
    if (holds_units(p.status)) held += p.quantity, ++holds;
    if (p.status == PurchaseStatus::ordered) sold += p.quantity;
    if (p.status == PurchaseStatus::waiting) {
      ++waiting;
      if (first_in_line == kNoIndex) first_in_line = static_cast<std::uint32_t>(i);
      smallest_waiting = std::min<std::uint32_t>(smallest_waiting, p.quantity);
      if (p.quantity > remaining()) return "somebody waits for units that cannot come";
    }
    if (takes_units(p.status)) units[p.customer] += p.quantity;
  }
  if (held != counters_.held.value) return "held differs from the sum of the holds";
  if (sold != counters_.sold.value) return "sold differs from the sum of the orders";
  if (waiting != counters_.waiting) return "waiting differs from the count of the line";
  if (counters_.available.value + held + sold != counters_.stocked.value) {
    return "available + held + sold differs from stocked";
  }
  for (std::size_t i = 0; i < customers_.size(); ++i) {
    if (units[i] != customers_[i].units) return "a customer's units differ from their purchases";
    if (units[i] > terms_.limit_per_customer.value) return "a customer is over the limit";
  }
  if (!closed_ && opened_ != (time_ >= terms_.starts_at)) return "the sale did not open on time";
  if (!closed_ && ended_ != (time_ >= terms_.ends_at)) return "the sale did not end on time";
  if (sold_out_ != (remaining() == 0)) return "sold out is not said, or said wrongly";
  if (over() && waiting != 0) return "somebody waits after the end of the sale";
  if (!opened_ && (held != 0 || sold != 0 || waiting != 0)) {
    return "units were taken before the sale opened";
  }
  if (!paused_ && !over() && waiting != 0) {
    const std::uint32_t wants = terms_.line_policy == LinePolicy::skip_if_unfit
                                    ? smallest_waiting
                                    : purchases_[first_in_line].quantity;
    if (wants <= counters_.available.value) return "units are free while the line waits for them";
  }
  std::uint64_t queued = 0;
  Timestamp previous{0};
  for (std::uint32_t i = holds_.head; i != kNoIndex; i = purchases_[i].link) {
    if (!holds_units(purchases_[i].status)) continue;
    if (purchases_[i].until < previous) return "the holds are out of the order of their deadlines";
    previous = purchases_[i].until;
    if (previous + terms_.grace <= time_) return "a hold stands past its deadline";
    ++queued;
  }
  if (queued != holds) return "a hold is missing from the expiry queue";
  return std::nullopt;
}

}  // namespace fairsale
