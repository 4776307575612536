#include "tools/events/event_json.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "core/log/event_codec.hpp"

namespace fairsale::cli {

namespace dom = simdjson::dom;

namespace {

constexpr std::string_view kFormat = "fairsale-log";
constexpr std::uint64_t kBlockVersion = 1;

// The fields of every event, in the order in which they are written. A field has the same name and
// the same type in every event that has it.
static_assert(std::variant_size_v<Event> == 13, "a new event brings its fields along");

template <class E, class Visit>
void each_field(E& e, Visit&& visit) {
  if constexpr (requires { e.sku; }) visit("sku", e.sku);
  if constexpr (requires { e.rules; }) visit("rules", e.rules);
  if constexpr (requires { e.terms; }) visit("terms", e.terms);
  if constexpr (requires { e.stock; }) visit("stock", e.stock);
  if constexpr (requires { e.customer; }) visit("customer", e.customer);
  if constexpr (requires { e.purchase; }) visit("purchase", e.purchase);
  if constexpr (requires { e.quantity; }) visit("quantity", e.quantity);
  if constexpr (requires { e.reference; }) visit("reference", e.reference);
  if constexpr (requires { e.amount; }) visit("amount", e.amount);
  if constexpr (requires { e.restock; }) visit("restock", e.restock);
  if constexpr (requires { e.by; }) visit("by", e.by);
  if constexpr (requires { e.actor; }) visit("actor", e.actor);
  if constexpr (requires { e.why; }) visit("why", e.why);
  if constexpr (requires { e.key; }) visit("key", e.key);
}

template <class T, class Visit>
void each_term(T& t, Visit&& visit) {
  visit("stock", t.stock);
  visit("price", t.price);
  visit("starts_at", t.starts_at);
  visit("ends_at", t.ends_at);
  visit("hold_ms", t.hold);
  visit("grace_ms", t.grace);
  visit("limit_per_customer", t.limit_per_customer);
  visit("units_per_purchase", t.units_per_purchase);
  visit("line_limit", t.line_limit);
  visit("line_policy", t.line_policy);
  visit("opening", t.opening);
}

// The names of an enum's values.
template <class E>
struct Names;

template <>
struct Names<Role> {
  static constexpr std::array<std::pair<Role, std::string_view>, 3> all{
      {{Role::customer, "customer"}, {Role::shop, "shop"}, {Role::op, "operator"}}};
  static constexpr std::string_view choice = R"("customer", "shop" or "operator")";
};

template <>
struct Names<LinePolicy> {
  static constexpr std::array<std::pair<LinePolicy, std::string_view>, 2> all{
      {{LinePolicy::strict, "strict"}, {LinePolicy::skip_if_unfit, "skip_if_unfit"}}};
  static constexpr std::string_view choice = R"("strict" or "skip_if_unfit")";
};

template <>
struct Names<Opening> {
  static constexpr std::array<std::pair<Opening, std::string_view>, 2> all{
      {{Opening::fifo, "fifo"}, {Opening::draw, "draw"}}};
  static constexpr std::string_view choice = R"("fifo" or "draw")";
};

template <class E>
std::string_view name_of_value(E e) {
  for (const auto& [value, name] : Names<E>::all) {
    if (value == e) return name;
  }
  return "unknown";
}

// One event of every type, as a start for reading one.
template <std::size_t... I>
std::array<Event, sizeof...(I)> blank_events(std::index_sequence<I...>) {
  return {Event(std::in_place_index<I>)...};
}
const auto kBlank = blank_events(std::make_index_sequence<std::variant_size_v<Event>>{});

bool has_text_form(Timestamp t) { return t.value >= 0 && t.value <= kMaxTimestampMs; }

std::string hex_of(std::string_view bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    fmt::format_to(std::back_inserter(hex), "{:02x}", static_cast<unsigned char>(c));
  }
  return hex;
}

template <std::size_t N>
std::string hex_of(const std::array<std::uint8_t, N>& bytes) {
  return hex_of(std::string_view(reinterpret_cast<const char*>(bytes.data()), N));
}

std::string_view code_of(const Currency& c) { return {c.code.data(), c.code.size()}; }

// Writes values as JSON.
class Writer {
 public:
  explicit Writer(JsonWriter& json) : json_(json) {}

  template <class T>
  void operator()(std::string_view name, const T& value) {
    json_.key(name);
    put(value);
  }

 private:
  // Bytes that are no text would not survive as a string.
  void put_text(std::string_view s) {
    if (simdjson::validate_utf8(s.data(), s.size())) {
      json_.value(s);
    } else {
      json_.begin_object().member("hex", hex_of(s)).end_object();
    }
  }
  template <std::size_t N>
  void put(const Text<N>& t) {
    put_text(t.view());
  }
  template <class Tag, std::integral Rep>
  void put(Strong<Tag, Rep> n) {
    json_.value(n.value);
  }
  void put(std::uint32_t n) { json_.value(n); }
  void put(bool b) { json_.value(b); }
  void put(Timestamp t) {
    if (t == kNever) {
      json_.null();
    } else if (has_text_form(t)) {
      json_.value(t);
    } else {
      json_.value(t.value);
    }
  }
  void put(const Money& m) {
    json_.begin_object().member("amount", m.amount.value).key("currency");
    put_text(code_of(m.currency));
    json_.end_object();
  }
  void put(const IdempotencyKey& k) { json_.value(hex_of(k.bytes)); }
  void put(const Terms& t) {
    json_.begin_object();
    each_term(t, *this);
    json_.end_object();
  }
  template <class E>
  requires std::is_enum_v<E>
  void put(E e) { json_.value(name_of_value(e)); }

  JsonWriter& json_;
};

// Writes values as words.
class Words {
 public:
  explicit Words(std::string& out) : out_(out) {}

  template <class T>
  void operator()(std::string_view name, const T& value) {
    if constexpr (std::is_same_v<T, Terms>) {
      each_term(value, *this);
    } else {
      out_ += ' ';
      out_ += name;
      out_ += '=';
      put(value);
    }
  }

 private:
  void put_text(std::string_view s) { append_word(out_, s); }
  template <std::size_t N>
  void put(const Text<N>& t) {
    put_text(t.view());
  }
  template <class Tag, std::integral Rep>
  void put(Strong<Tag, Rep> n) {
    out_ += fmt::format_int(n.value).str();
  }
  void put(std::uint32_t n) { out_ += fmt::format_int(n).str(); }
  void put(bool b) { out_ += b ? "true" : "false"; }
  void put(Timestamp t) {
    if (t == kNever) {
      out_ += "never";
    } else if (has_text_form(t)) {
      append_rfc3339(out_, t);
    } else {
      put(Duration{t.value});
    }
  }
  void put(const Money& m) {
    put(m.amount);
    put_text(code_of(m.currency));
  }
  void put(const IdempotencyKey& k) { out_ += hex_of(k.bytes); }
  template <class E>
  requires std::is_enum_v<E>
  void put(E e) { out_ += name_of_value(e); }

  std::string& out_;
};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Fills `out` from exactly twice as many lower-case hexadecimal digits.
bool from_hex(std::string_view hex, char* out, std::size_t size) {
  if (hex.size() != size * 2) return false;
  for (std::size_t i = 0; i < size; ++i) {
    const int high = hex_digit(hex[2 * i]);
    const int low = hex_digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<char>(high * 16 + low);
  }
  return true;
}

// Reads the members of one object into values. The first thing that is wrong is kept; after it,
// nothing is read. finish() adds what only the whole object shows.
class Reader {
 public:
  explicit Reader(dom::object object, std::string within = {})
      : object_(object), within_(std::move(within)) {}

  template <class T>
  void operator()(std::string_view name, T& value) {
    if (const auto element = member(name)) take(*element, name, value);
  }

  bool has(std::string_view name) const { return !object_[name].error(); }

  void fail(std::string message, Fault fault = Fault::damaged) {
    if (!error_) error_ = Error{fault, std::move(message)};
  }
  void wrong(std::string_view name, std::string_view right) {
    fail(fmt::format("\"{}{}\" must be {}", within_, name, right));
  }

  bool ok() const { return !error_; }

  std::optional<Error> finish() {
    if (!error_ && read_ != object_.size()) {
      for (const auto field : object_) {
        if (std::find(names_.begin(), names_.end(), field.key) != names_.end()) continue;
        fail(fmt::format("{} is no member of such a line; remove it",
                         quoted(within_ + std::string(field.key))));
        break;
      }
    }
    return std::move(error_);
  }

  // The text of a member, as it came.
  std::optional<std::string_view> text(std::string_view name, std::string_view right) {
    const auto element = member(name);
    if (!element) return std::nullopt;
    std::string_view s;
    if (element->get_string().get(s) == simdjson::SUCCESS) return s;
    wrong(name, right);
    return std::nullopt;
  }

 private:
  static std::string quoted(std::string_view s) {
    std::string out;
    append_json_string(out, s);
    return out;
  }

  std::optional<dom::element> member(std::string_view name) {
    if (error_) return std::nullopt;
    std::optional<dom::element> found;
    for (const auto field : object_) {
      if (field.key != name) continue;
      if (found) {
        fail(fmt::format("\"{}{}\" is given twice; keep one", within_, name));
        return std::nullopt;
      }
      found = field.value;
    }
    if (!found) {
      fail(fmt::format("\"{}{}\" is missing", within_, name));
      return std::nullopt;
    }
    names_.push_back(name);
    ++read_;
    return found;
  }

  template <std::integral T>
  void take(dom::element e, std::string_view name, T& out) {
    if constexpr (std::is_same_v<T, bool>) {
      if (e.get_bool().get(out) != simdjson::SUCCESS) wrong(name, "true or false");
    } else {
      using Wide = std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>;
      Wide n = 0;
      if (e.get<Wide>().get(n) != simdjson::SUCCESS || n < std::numeric_limits<T>::min() ||
          n > std::numeric_limits<T>::max()) {
        wrong(name, fmt::format("a whole number from {} to {}", std::numeric_limits<T>::min(),
                                std::numeric_limits<T>::max()));
        return;
      }
      out = static_cast<T>(n);
    }
  }
  template <class Tag, std::integral Rep>
  void take(dom::element e, std::string_view name, Strong<Tag, Rep>& out) {
    take(e, name, out.value);
  }

  // A text of at most `size` bytes, into `out`; returns its length.
  std::optional<std::size_t> take_text(dom::element e, std::string_view name, char* out,
                                       std::size_t size) {
    const auto right =
        fmt::format(R"(a text of at most {} bytes, or {{"hex":"…"}} for what is no text)", size);
    std::string_view s;
    if (e.get_string().get(s) == simdjson::SUCCESS && s.size() <= size) {
      std::copy(s.begin(), s.end(), out);
      return s.size();
    }
    dom::object object;
    if (e.get_object().get(object) == simdjson::SUCCESS && object.size() == 1 &&
        object["hex"].get_string().get(s) == simdjson::SUCCESS && s.size() <= size * 2 &&
        from_hex(s, out, s.size() / 2)) {
      return s.size() / 2;
    }
    wrong(name, right);
    return std::nullopt;
  }
  template <std::size_t N>
  void take(dom::element e, std::string_view name, Text<N>& out) {
    std::array<char, N> bytes;
    const auto size = take_text(e, name, bytes.data(), N);
    if (size) out = *Text<N>::from({bytes.data(), *size});
  }

  void take(dom::element e, std::string_view name, Timestamp& out) {
    std::string_view s;
    std::int64_t n = 0;
    if (e.is_null()) {
      out = kNever;
    } else if (e.get_int64().get(n) == simdjson::SUCCESS) {
      out = Timestamp{n};
    } else if (const auto t =
                   e.get_string().get(s) == simdjson::SUCCESS ? parse_rfc3339(s) : std::nullopt) {
      out = *t;
    } else {
      wrong(name, R"(a time like "2026-11-27T08:00:00.000Z", milliseconds since 1970, or null)");
    }
  }

  void take(dom::element e, std::string_view name, Money& out) {
    dom::object object;
    if (e.get_object().get(object) != simdjson::SUCCESS) {
      wrong(name, R"(an object like {"amount":4900,"currency":"EUR"})");
      return;
    }
    Reader inner(object, fmt::format("{}{}.", within_, name));
    inner("amount", out.amount);
    if (const auto code = inner.member("currency")) {
      const auto size = inner.take_text(*code, "currency", out.currency.code.data(), 3);
      if (size && *size != 3) inner.wrong("currency", R"(three characters like "EUR")");
    }
    adopt(inner);
  }

  void take(dom::element e, std::string_view name, IdempotencyKey& out) {
    std::string_view s;
    std::array<char, 16> bytes;
    if (e.get_string().get(s) != simdjson::SUCCESS || !from_hex(s, bytes.data(), bytes.size())) {
      wrong(name, "32 lower-case hexadecimal digits");
      return;
    }
    std::copy(bytes.begin(), bytes.end(), out.bytes.begin());
  }

  void take(dom::element e, std::string_view name, Digest& out) {
    std::string_view s;
    if (e.get_string().get(s) != simdjson::SUCCESS ||
        !from_hex(s, reinterpret_cast<char*>(out.bytes.data()), out.bytes.size())) {
      wrong(name, "64 lower-case hexadecimal digits");
    }
  }

  void take(dom::element e, std::string_view name, SkuId& out) {
    std::string_view s;
    std::array<char, 8> bytes;
    if (e.get_string().get(s) != simdjson::SUCCESS || !from_hex(s, bytes.data(), bytes.size())) {
      wrong(name, "16 lower-case hexadecimal digits");
      return;
    }
    out.value = 0;
    for (const char b : bytes) out.value = out.value << 8 | static_cast<unsigned char>(b);
  }

  void take(dom::element e, std::string_view name, Terms& out) {
    dom::object object;
    if (e.get_object().get(object) != simdjson::SUCCESS) {
      wrong(name, "an object with the terms of the sale");
      return;
    }
    Reader inner(object, fmt::format("{}{}.", within_, name));
    each_term(out, inner);
    adopt(inner);
  }

  template <class E>
  requires std::is_enum_v<E>
  void take(dom::element e, std::string_view name, E& out) {
    std::string_view s;
    if (e.get_string().get(s) == simdjson::SUCCESS) {
      for (const auto& [value, text] : Names<E>::all) {
        if (text != s) continue;
        out = value;
        return;
      }
    }
    wrong(name, Names<E>::choice);
  }

  void adopt(Reader& inner) {
    if (auto e = inner.finish()) fail(std::move(e->message), e->fault);
  }

  dom::object object_;
  std::string within_;  // "terms.price."
  std::optional<Error> error_;
  std::size_t read_ = 0;
  std::vector<std::string_view> names_;
};

// What this version reads, by the member that says it.
void demand_version(Reader& r, std::string_view name, std::uint64_t known) {
  std::uint64_t version = 0;
  r(name, version);
  if (r.ok() && version != known) {
    r.fail(fmt::format("\"{}\" is {}, and this fairsale reads {}; use the newer one that wrote it",
                       name, version, known),
           Fault::unsupported);
  }
}

FileStart read_start(Reader& r) {
  const auto format = r.text("format", "\"fairsale-log\"");
  if (format && *format != kFormat) r.wrong("format", "\"fairsale-log\"");
  demand_version(r, "version", kLinesVersion);
  demand_version(r, "block_version", kBlockVersion);
  return {};
}

SaleStart read_sale(Reader& r) {
  SaleStart s;
  SkuName name;
  r("sale", name);
  s.name = name.view();
  r("id", s.id);
  r("seq", s.seq);
  r("head", s.head);
  if (r.ok() && !s.name.empty() && sku_id(s.name) != s.id) {
    r.wrong("id", fmt::format("{}, which is that of \"{}\"", id_text(sku_id(s.name)), s.name));
  }
  if (r.ok() && s.seq.value == 0) r.wrong("seq", "the position of the sale's last event, from 1");
  return s;
}

BlockStart read_block(Reader& r) {
  BlockStart b;
  r("block", b.first);
  r("events", b.events);
  r("time", b.time);
  r("epoch", b.epoch);
  r("head", b.head);
  if (r.ok() && (b.events == 0 || b.events > kMaxBlockEvents)) {
    r.wrong("events", fmt::format("from 1 to {}", kMaxBlockEvents));
  }
  if (r.ok() && !has_text_form(b.time)) r.wrong("time", "from 1970 to 9999");
  return b;
}

EventLine read_event(Reader& r) {
  EventLine line;
  r("seq", line.seq);
  const auto kind = r.text("event", "the name of an event, like \"PurchaseAttempted\"");
  if (!kind) return line;
  const auto blank = std::find_if(kBlank.begin(), kBlank.end(),
                                  [&](const Event& e) { return name_of(e) == *kind; });
  if (blank == kBlank.end()) {
    std::string name;
    append_json_string(name, *kind);
    r.fail(fmt::format("this fairsale knows no event {}; mend the name, or use the newer fairsale "
                       "that wrote it",
                       name),
           Fault::unsupported);
    return line;
  }
  line.event = *blank;
  std::visit(
      [&](auto& e) {
        each_field(e, r);
        if constexpr (requires { e.rules; }) {
          if (r.ok() && !supports(e.rules)) {
            r.fail(fmt::format("\"rules\" is {}, and this fairsale knows {}; use the newer one "
                               "that wrote it",
                               e.rules.value, kRulesV1.value),
                   Fault::unsupported);
          }
        }
      },
      line.event);
  if (r.ok() && !well_formed(line.event)) {
    if (std::holds_alternative<PurchaseAttempted>(line.event)) {
      r.wrong("customer", "a text of at least 1 byte");
    } else {
      r.wrong("sku", "1 to 64 of the characters A-Z a-z 0-9 . _ -");
    }
  }
  return line;
}

FileEnd read_end(Reader& r) {
  FileEnd e;
  const auto format = r.text("end", "\"fairsale-log\"");
  if (format && *format != kFormat) r.wrong("end", "\"fairsale-log\"");
  r("sales", e.sales);
  r("blocks", e.blocks);
  r("events", e.events);
  return e;
}

}  // namespace

void append_event(JsonWriter& json, const Event& event) {
  json.member("event", name_of(event));
  std::visit([&](const auto& e) { each_field(e, Writer(json)); }, event);
}

void append_event_text(std::string& out, const Event& event) {
  out += name_of(event);
  std::visit([&](const auto& e) { each_field(e, Words(out)); }, event);
}

std::string id_text(SkuId id) { return fmt::format("{:016x}", id.value); }

void append_line(std::string& out, const FileStart&) {
  JsonWriter(out)
      .begin_object()
      .member("format", kFormat)
      .member("version", kLinesVersion)
      .member("block_version", kBlockVersion)
      .end_object();
  out += '\n';
}

void append_line(std::string& out, const SaleStart& s) {
  JsonWriter(out)
      .begin_object()
      .member("sale", s.name)
      .member("id", id_text(s.id))
      .member("seq", s.seq.value)
      .member("head", to_hex(s.head))
      .end_object();
  out += '\n';
}

void append_line(std::string& out, const BlockStart& b) {
  JsonWriter(out)
      .begin_object()
      .member("block", b.first.value)
      .member("events", b.events)
      .member("time", b.time)
      .member("epoch", b.epoch.value)
      .member("head", to_hex(b.head))
      .end_object();
  out += '\n';
}

void append_line(std::string& out, Seq seq, const Event& event) {
  JsonWriter json(out);
  json.begin_object().member("seq", seq.value);
  append_event(json, event);
  json.end_object();
  out += '\n';
}

void append_line(std::string& out, const FileEnd& e) {
  JsonWriter(out)
      .begin_object()
      .member("end", kFormat)
      .member("sales", e.sales)
      .member("blocks", e.blocks)
      .member("events", e.events)
      .end_object();
  out += '\n';
}

struct LineReader::Parser {
  dom::parser parser;
};

LineReader::LineReader() : parser_(std::make_unique<Parser>()) {}
LineReader::~LineReader() = default;

Result<Line> LineReader::read(std::string_view line) {
  if (line.size() > kMaxLineBytes) {
    return fail(Fault::damaged, fmt::format("a line of {} bytes; none has more than {}",
                                            line.size(), kMaxLineBytes));
  }
  dom::element document;
  if (const auto code = parser_->parser.parse(line.data(), line.size()).get(document);
      code != simdjson::SUCCESS) {
    return fail(Fault::damaged, fmt::format("this is not JSON ({}); it must be one JSON object",
                                            simdjson::error_message(code)));
  }
  dom::object object;
  if (document.get_object().get(object) != simdjson::SUCCESS) {
    return fail(Fault::damaged, "this must be one JSON object");
  }
  Reader r(object);
  Line read;
  if (r.has("format")) {
    read = read_start(r);
  } else if (r.has("sale")) {
    read = read_sale(r);
  } else if (r.has("block")) {
    read = read_block(r);
  } else if (r.has("event")) {
    read = read_event(r);
  } else if (r.has("end")) {
    read = read_end(r);
  } else {
    return fail(Fault::damaged,
                R"(a line must have a member "format", "sale", "block", "event" or "end")");
  }
  if (auto e = r.finish()) return tl::unexpected(std::move(*e));
  return read;
}

}  // namespace fairsale::cli
