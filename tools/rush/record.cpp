#include "tools/rush/record.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>

namespace fairsale::rush {

namespace {

constexpr std::size_t kMaxAttempts = 10'000'000;

template <class Enum>
bool enum_named(std::string_view name, Enum last, Enum& out) {
  for (unsigned i = 0; i <= static_cast<unsigned>(last); ++i) {
    if (name_of(static_cast<Enum>(i)) != name) continue;
    out = static_cast<Enum>(i);
    return true;
  }
  return false;
}

template <class Number>
bool parse_number(std::string_view s, Number& out, int base = 10) {
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), out, base);
  return error == std::errc{} && end == s.data() + s.size();
}

// Reads the members of one line that are there; a required one that is missing clears ok().
class Line {
 public:
  explicit Line(simdjson::dom::element e) : element_(e) {}

  bool has(std::string_view key) const { return element_[key].error() == simdjson::SUCCESS; }
  template <class Number>
  void number(std::string_view key, Number& out, bool required = true) {
    std::int64_t n = 0;
    const auto error = element_[key].get_int64().get(n);
    if (error == simdjson::SUCCESS && n >= 0) {
      out = static_cast<Number>(n);
    } else if (required || error != simdjson::NO_SUCH_FIELD) {
      ok_ = false;
    }
  }
  std::string_view text(std::string_view key, bool required = true) {
    std::string_view s;
    if (element_[key].get_string().get(s) != simdjson::SUCCESS && required) ok_ = false;
    return s;
  }
  bool flag(std::string_view key) {
    bool b = false;
    if (element_[key].get_bool().get(b) != simdjson::SUCCESS) ok_ = false;
    return b;
  }
  void require(bool condition) { ok_ = ok_ && condition; }
  bool ok() const { return ok_; }

 private:
  simdjson::dom::element element_;
  bool ok_ = true;
};

void read_info(Line& line, RunInfo& info) {
  std::uint32_t version = 0;
  line.number("record", version);
  line.require(version == 1);
  info.url = line.text("url");
  info.sku = line.text("sku");
  line.require(parse_number(line.text("seed"), info.seed));
  info.key_prefix = line.text("key_prefix");
  info.customer_prefix = line.text("customer_prefix");
  info.alone = line.flag("alone");
}

void read_answer(Line& line, const RunInfo& info, Claim& c) {
  line.number("quantity", c.quantity);
  line.number("status", c.status);
  line.number("position", c.position);
  line.number("place", c.place, false);
  line.number("sent_ms", c.sent_ms);
  line.number("answered_ms", c.answered_ms);
  line.require(enum_named(line.text("answer"), First::refused, c.first));
  line.require(parse_number(line.text("digest"), c.digest, 16));
  c.seq = purchase_seq(line.text("purchase", false), info.sku);
  const std::string_view customer = line.text("customer");
  line.require(customer.starts_with(info.customer_prefix) &&
               parse_number(customer.substr(info.customer_prefix.size()), c.customer));
  if (c.first == First::refused) {
    const auto reason = reason_named(line.text("reason"));
    line.require(reason.has_value());
    c.reason = reason.value_or(Reason::none);
  }
}

}  // namespace

std::string_view name_of(First f) {
  switch (f) {
    case First::none: return "none";
    case First::reserved: return "reserved";
    case First::waiting: return "waiting";
    case First::refused: return "refused";
  }
  return "unknown";
}

std::string_view name_of(PaymentAnswer p) {
  switch (p) {
    case PaymentAnswer::none: return "none";
    case PaymentAnswer::sent: return "sent";
    case PaymentAnswer::ordered: return "ordered";
    case PaymentAnswer::refund_due: return "refund_due";
    case PaymentAnswer::refused: return "refused";
  }
  return "unknown";
}

std::string_view name_of(CancelAnswer c) {
  switch (c) {
    case CancelAnswer::none: return "none";
    case CancelAnswer::sent: return "sent";
    case CancelAnswer::cancelled: return "cancelled";
    case CancelAnswer::declined: return "declined";
    case CancelAnswer::refused: return "refused";
  }
  return "unknown";
}

void append_key(const RunInfo& info, std::uint32_t attempt, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}{}", info.key_prefix, attempt);
}

void append_customer(const RunInfo& info, std::uint32_t customer, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}{}", info.customer_prefix, customer);
}

Result<RecordWriter> RecordWriter::create(const std::filesystem::path& path, const RunInfo& info) {
  std::FILE* f = std::fopen(path.c_str(), "w");
  if (f == nullptr) {
    return fail(Fault::io,
                "cannot write the record " + path.string() + ": " + std::strerror(errno));
  }
  RecordWriter w(f, info);
  // The seed is a string: it may be more than a JSON reader's integers hold.
  fmt::format_to(std::back_inserter(w.buffer_),
                 R"({{"record":1,"url":"{}","sku":"{}","seed":"{}","key_prefix":"{}",)"
                 R"("customer_prefix":"{}","alone":{}}})",
                 info.url, info.sku, info.seed, info.key_prefix, info.customer_prefix, info.alone);
  w.line();
  return w;
}

void RecordWriter::line() {
  buffer_ += '\n';
  if (std::fwrite(buffer_.data(), 1, buffer_.size(), file_.get()) != buffer_.size()) {
    failed_ = true;
  }
  buffer_.clear();
}

void RecordWriter::answer(std::uint32_t attempt, const Claim& c) {
  auto out = std::back_inserter(buffer_);
  fmt::format_to(out, R"({{"attempt":{},"key":"{}{}","customer":"{}{}","quantity":{},)", attempt,
                 info_.key_prefix, attempt, info_.customer_prefix, c.customer, c.quantity);
  fmt::format_to(out, R"("status":{},"answer":"{}",)", c.status, name_of(c.first));
  if (c.seq != 0) fmt::format_to(out, R"("purchase":"{}:{}",)", info_.sku, c.seq);
  if (c.place != 0) fmt::format_to(out, R"("place":{},)", c.place);
  if (c.first == First::refused) {
    fmt::format_to(out, R"("reason":"{}",)", fairsale::name_of(c.reason));
  }
  fmt::format_to(out, R"("position":{},"digest":"{:016x}","sent_ms":{},"answered_ms":{}}})",
                 c.position, c.digest, c.sent_ms, c.answered_ms);
  line();
}

void RecordWriter::payment(std::uint32_t attempt, const Claim& c) {
  fmt::format_to(std::back_inserter(buffer_), R"({{"payment":{},"answer":"{}"}})", attempt,
                 name_of(c.payment));
  line();
}

void RecordWriter::cancel(std::uint32_t attempt, const Claim& c) {
  fmt::format_to(std::back_inserter(buffer_), R"({{"cancel":{},"answer":"{}"}})", attempt,
                 name_of(c.cancel));
  line();
}

void RecordWriter::seen(std::uint32_t attempt, const Claim& c) {
  fmt::format_to(std::back_inserter(buffer_), R"({{"seen":{},"waiting_at":{},"offered_at":{}}})",
                 attempt, c.waiting_at, c.offered_at);
  line();
}

void RecordWriter::flush() {
  if (std::fflush(file_.get()) != 0) failed_ = true;
}

Result<void> RecordWriter::close() {
  flush();
  if (failed_) return fail(Fault::io, "the record could not be written whole: is the disk full?");
  return {};
}

Result<Record> read_record(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) {
    return fail(Fault::io, "cannot read the record " + path.string() + ": " + std::strerror(errno));
  }
  Record record;
  simdjson::dom::parser parser;
  std::string text;
  for (std::size_t number = 1; std::getline(in, text); ++number) {
    const bool cut_off = in.eof();
    simdjson::dom::element element;
    if (parser.parse(text).get(element) != simdjson::SUCCESS) {
      if (cut_off) break;
      return fail(Fault::invalid, fmt::format("{}:{}: not JSON", path.string(), number));
    }
    Line line(element);
    const auto claim = [&](std::string_view key) -> Claim& {
      std::size_t index = 0;
      line.number(key, index);
      line.require(index < kMaxAttempts);
      if (!line.ok()) index = 0;
      if (record.claims.size() <= index) record.claims.resize(index + 1);
      return record.claims[index];
    };
    if (number == 1) {
      read_info(line, record.info);
    } else if (line.has("attempt")) {
      read_answer(line, record.info, claim("attempt"));
    } else if (line.has("payment")) {
      line.require(
          enum_named(line.text("answer"), PaymentAnswer::refused, claim("payment").payment));
    } else if (line.has("cancel")) {
      line.require(enum_named(line.text("answer"), CancelAnswer::refused, claim("cancel").cancel));
    } else if (line.has("seen")) {
      Claim& c = claim("seen");
      line.number("waiting_at", c.waiting_at);
      line.number("offered_at", c.offered_at);
    } else {
      line.require(false);
    }
    if (!line.ok()) {
      return fail(Fault::invalid, fmt::format("{}:{}: not a line of a record of fairsale rush",
                                              path.string(), number));
    }
  }
  if (record.info.sku.empty()) {
    return fail(Fault::invalid, path.string() + ": empty; write one with fairsale rush --record");
  }
  return record;
}

}  // namespace fairsale::rush
