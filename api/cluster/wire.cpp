#include "api/cluster/wire.hpp"

#include <lz4.h>

#include <algorithm>
#include <cstring>

#include "api/http/problem.hpp"
#include "core/log/event_codec.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale::api {

namespace {

constexpr std::uint8_t kVersion = 1;
// In the place of a version.
constexpr std::uint8_t kAllShown = 0xff;
constexpr std::uint8_t kNoSale = 0xfe;
constexpr std::size_t kMaxText = 1 << 20;

class Writer {
 public:
  explicit Writer(Bytes& out) : out_(out) {}

  template <std::integral T>
  Writer& number(T v) {
    const std::size_t at = out_.size();
    out_.resize(at + sizeof v);
    put_le(out_.data() + at, v);
    return *this;
  }
  Writer& text(std::string_view s) {
    number(static_cast<std::uint32_t>(s.size()));
    const auto bytes = std::as_bytes(std::span(s));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Writer& event(const Event& e) {
    EventEncoder encoder;
    std::array<std::byte, kLargestEventBytes> bytes;
    const std::size_t n = encoder.encode(e, bytes.data());
    return text({reinterpret_cast<const char*>(bytes.data()), n});
  }

 private:
  Bytes& out_;
};

// Once something was missing, all that follows is empty and ok() is false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <std::integral T>
  T number() {
    if (left_.size() < sizeof(T)) {
      ok_ = false;
      left_ = {};
      return T{};
    }
    const T v = get_le<T>(left_.data());
    left_ = left_.subspan(sizeof v);
    return v;
  }
  std::string_view text() {
    const auto n = number<std::uint32_t>();
    if (n > kMaxText || n > left_.size()) {
      ok_ = false;
      left_ = {};
      return {};
    }
    const std::string_view s(reinterpret_cast<const char*>(left_.data()), n);
    left_ = left_.subspan(n);
    return s;
  }
  // The only event in a text.
  std::optional<Event> event() {
    const std::string_view s = text();
    EventDecoder decoder(std::as_bytes(std::span(s)));
    Event e;
    if (decoder.next(e) != DecodeFault::none || decoder.left() != 0) {
      ok_ = false;
      return std::nullopt;
    }
    return e;
  }
  bool ok() const { return ok_; }
  bool done() const { return ok_ && left_.empty(); }
  std::span<const std::byte> left() const { return left_; }

 private:
  std::span<const std::byte> left_;
  bool ok_ = true;
};

bool of_this_version(Reader& r) { return r.number<std::uint8_t>() == kVersion; }

}  // namespace

void pack(Bytes& out, std::span<const std::byte> bytes) {
  const int size = static_cast<int>(bytes.size());
  const int bound = LZ4_compressBound(size);
  out.resize(4 + static_cast<std::size_t>(bound));
  put_le(out.data(), static_cast<std::uint32_t>(size));
  const int n = LZ4_compress_default(reinterpret_cast<const char*>(bytes.data()),
                                     reinterpret_cast<char*>(out.data() + 4), size, bound);
  out.resize(4 + static_cast<std::size_t>(n));
}

bool unpack(Bytes& out, std::span<const std::byte> bytes) {
  out.clear();
  Reader r(bytes);
  const auto size = r.number<std::uint32_t>();
  if (!r.ok() || size > cluster::kMaxAnswersBytes) return false;
  out.resize(size);
  return LZ4_decompress_safe(reinterpret_cast<const char*>(r.left().data()),
                             reinterpret_cast<char*>(out.data()), static_cast<int>(r.left().size()),
                             static_cast<int>(size)) == static_cast<int>(size);
}

void append_rendered(Bytes& out, const Rendered& a) {
  const std::uint8_t type = a.content_type.empty() ? 0 : a.content_type == http::kJson ? 1 : 2;
  Writer(out)
      .number(static_cast<std::uint16_t>(a.status))
      .number(type)
      .text(a.headers)
      .text(a.body);
}

std::optional<Rendered> take_rendered(std::span<const std::byte>& bytes) {
  Reader r(bytes);
  Rendered a;
  a.status = r.number<std::uint16_t>();
  const auto type = r.number<std::uint8_t>();
  a.content_type = type == 1 ? http::kJson : type == 2 ? http::kProblemJson : std::string_view{};
  a.headers = r.text();
  a.body = r.text();
  if (!r.ok() || type > 2 || a.status < 200 || a.status > 599) return std::nullopt;
  bytes = r.left();
  return a;
}

void append_query(Bytes& out, const Query& q) {
  Writer w(out);
  w.number(kVersion)
      .number(static_cast<std::uint8_t>(q.kind))
      .text(q.sku.view())
      .number(q.purchase.value)
      .text(q.customer.view())
      .number(q.limit)
      .number(q.min_seq.value)
      .number(static_cast<std::uint8_t>(q.who.role))
      .text(q.who.customer.view())
      .event(q.event);
}

std::optional<Query> parse_query(std::span<const std::byte> bytes) {
  Reader r(bytes);
  if (!of_this_version(r)) return std::nullopt;
  Query q;
  const auto kind = r.number<std::uint8_t>();
  const auto sku = SkuName::from(r.text());
  q.purchase = Seq{r.number<std::uint64_t>()};
  const auto customer = CustomerId::from(r.text());
  q.limit = r.number<std::uint32_t>();
  q.min_seq = Seq{r.number<std::uint64_t>()};
  const auto role = r.number<std::uint8_t>();
  const auto who = CustomerId::from(r.text());
  auto event = r.event();
  if (!r.done() || kind > static_cast<std::uint8_t>(Query::Kind::refund) || !sku || !customer ||
      !who || role < static_cast<std::uint8_t>(Role::customer) ||
      role > static_cast<std::uint8_t>(Role::op)) {
    return std::nullopt;
  }
  q.kind = static_cast<Query::Kind>(kind);
  q.sku = *sku;
  q.customer = *customer;
  q.who = {static_cast<Role>(role), *who};
  q.event = *event;
  switch (q.kind) {  // whose event is taken for what it must be
    case Query::Kind::payment:
      if (!std::holds_alternative<PaymentReceived>(q.event) &&
          !std::holds_alternative<PaymentFailed>(q.event)) {
        return std::nullopt;
      }
      break;
    case Query::Kind::demo_payment:
      if (!std::holds_alternative<PaymentReceived>(q.event)) return std::nullopt;
      break;
    case Query::Kind::refund:
      if (!std::holds_alternative<OrderRefunded>(q.event)) return std::nullopt;
      break;
    default: break;
  }
  return q;
}

void append_shown(Bytes& out, std::uint16_t generation, const Availability& a) {
  Writer(out)
      .number(kVersion)
      .number(generation)
      .number(a.position.value)
      .number(a.previous.value)
      .event(SaleScheduled{.sku = a.name, .terms = a.terms, .actor = {}})
      .number(static_cast<std::uint32_t>(a.header_size))
      .text(a.response);
}

std::optional<Shown> parse_shown(std::span<const std::byte> bytes) {
  Reader r(bytes);
  if (!of_this_version(r)) return std::nullopt;
  Shown shown;
  shown.generation = r.number<std::uint16_t>();
  Availability& s = shown.look;
  s.position = Seq{r.number<std::uint64_t>()};
  s.previous = Seq{r.number<std::uint64_t>()};
  const auto event = r.event();
  s.header_size = r.number<std::uint32_t>();
  s.response = r.text();
  const auto* scheduled = event ? std::get_if<SaleScheduled>(&*event) : nullptr;
  if (!r.done() || scheduled == nullptr || s.header_size > s.response.size()) {
    return std::nullopt;
  }
  s.name = scheduled->sku;
  s.sku = sku_id(scheduled->sku.view());
  s.terms = scheduled->terms;
  return shown;
}

void append_no_sale(Bytes& out, const NoSale& s) {
  Writer(out).number(kNoSale).number(s.generation).number(s.sku.value);
}

std::optional<NoSale> parse_no_sale(std::span<const std::byte> bytes) {
  Reader r(bytes);
  if (r.number<std::uint8_t>() != kNoSale) return std::nullopt;
  NoSale s;
  s.generation = r.number<std::uint16_t>();
  s.sku = SkuId{r.number<std::uint64_t>()};
  if (!r.done()) return std::nullopt;
  return s;
}

void append_all_shown(Bytes& out, const std::vector<cluster::PartitionId>& partitions) {
  Writer w(out);
  w.number(kAllShown).number(static_cast<std::uint32_t>(partitions.size()));
  for (const auto p : partitions) w.number(p.value);
}

std::optional<std::vector<cluster::PartitionId>> parse_all_shown(std::span<const std::byte> bytes) {
  Reader r(bytes);
  if (r.number<std::uint8_t>() != kAllShown) return std::nullopt;
  const auto n = r.number<std::uint32_t>();
  std::vector<cluster::PartitionId> out;
  for (std::uint32_t i = 0; i < n && r.ok(); ++i) {
    out.push_back(cluster::PartitionId{r.number<std::uint32_t>()});
  }
  if (!r.done()) return std::nullopt;
  return out;
}

void append_lacks(Bytes& out, const Lacks& l) {
  Writer(out)
      .number(kVersion)
      .number(l.partition.value)
      .number(l.from.epoch().value)
      .number(l.node.value);
}

std::optional<Lacks> parse_lacks(std::span<const std::byte> bytes) {
  Reader r(bytes);
  if (!of_this_version(r)) return std::nullopt;
  Lacks l;
  l.partition = cluster::PartitionId{r.number<std::uint32_t>()};
  l.from = cluster::Position::of(Epoch{r.number<std::uint64_t>()});
  l.node = cluster::NodeId{r.number<std::uint64_t>()};
  if (!r.done()) return std::nullopt;
  return l;
}

void append_has(Bytes& out, const cluster::Delivered& m) {
  Writer(out)
      .number(kVersion)
      .number(m.partition.value)
      .number(m.position.epoch().value)
      .number(m.time.value)
      .text({reinterpret_cast<const char*>(m.bytes.data()), m.bytes.size()});
}

std::optional<cluster::Delivered> parse_has(std::span<const std::byte> bytes) {
  Reader r(bytes);
  if (!of_this_version(r)) return std::nullopt;
  cluster::Delivered m;
  m.partition = cluster::PartitionId{r.number<std::uint32_t>()};
  m.position = cluster::Position::of(Epoch{r.number<std::uint64_t>()});
  m.time = Timestamp{r.number<std::int64_t>()};
  m.bytes = std::as_bytes(std::span(r.text()));
  if (!r.done()) return std::nullopt;
  return m;
}

const Heartbeat::OfPartition* Heartbeat::of(cluster::PartitionId p) const {
  const auto it = std::find_if(partitions.begin(), partitions.end(),
                               [&](const OfPartition& said) { return said.id == p; });
  return it == partitions.end() ? nullptr : &*it;
}

void append_heartbeat(Bytes& out, const Heartbeat& h) {
  Writer w(out);
  w.number(kVersion)
      .number(h.node.value)
      .number(static_cast<std::uint8_t>(h.processor))
      .text(h.name)
      .number(static_cast<std::uint32_t>(h.partitions.size()));
  for (const auto& p : h.partitions) {
    w.number(p.id.value)
        .number(p.position.epoch().value)
        .number(static_cast<std::uint8_t>((p.stopped ? 1 : 0) | (p.waits ? 2 : 0)))
        .number(static_cast<std::uint8_t>(p.cuts.size()));
    for (const auto& [generation, cut] : p.cuts) w.number(generation).number(cut);
  }
  w.number(static_cast<std::uint32_t>(h.hears.size()));
  for (const cluster::NodeId node : h.hears) w.number(node.value);
}

std::optional<Heartbeat> parse_heartbeat(std::span<const std::byte> bytes) {
  Reader r(bytes);
  if (!of_this_version(r)) return std::nullopt;
  Heartbeat h;
  h.node = cluster::NodeId{r.number<std::uint64_t>()};
  h.processor = r.number<std::uint8_t>() != 0;
  h.name = r.text();
  const auto n = r.number<std::uint32_t>();
  for (std::uint32_t i = 0; i < n && r.ok(); ++i) {
    const cluster::PartitionId id{r.number<std::uint32_t>()};
    const auto position = cluster::Position::of(Epoch{r.number<std::uint64_t>()});
    const auto flags = r.number<std::uint8_t>();
    Heartbeat::OfPartition of{id, position, (flags & 1) != 0, (flags & 2) != 0};
    const auto cuts = r.number<std::uint8_t>();
    for (std::uint8_t c = 0; c < cuts && r.ok(); ++c) {
      const auto generation = r.number<std::uint16_t>();
      of.cuts[generation] = r.number<std::uint64_t>();
    }
    h.partitions.push_back(std::move(of));
  }
  const auto hears = r.number<std::uint32_t>();
  for (std::uint32_t i = 0; i < hears && r.ok(); ++i) {
    h.hears.emplace_back(r.number<std::uint64_t>());
  }
  if (!r.done()) return std::nullopt;
  return h;
}

}  // namespace fairsale::api
