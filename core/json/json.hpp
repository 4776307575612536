// How the domain's values look in JSON and as text. Everything is appended to a std::string, so
// that a warm buffer makes no allocation.
#pragma once

#include <fmt/format.h>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/domain/types.hpp"

namespace fairsale {

// Appends `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. What
// would steer a terminal or turn the direction of the text is escaped, so that the string can be
// shown as it is: control characters (C0, DEL, C1) and bidirectional controls.
void append_json_string(std::string& out, std::string_view text);

// The same when `text` is empty or has anything but plain ASCII in it, a space, a quote, a
// backslash or '='; else `text` as it is. For lines that people read: nobody's name can pass for
// another word or begin a line.
void append_word(std::string& out, std::string_view text);

// The length of the well-formed UTF-8 sequence at the start of `s`, which is not empty; 0 when it
// is malformed (overlong, a surrogate, beyond U+10FFFF or cut off).
std::size_t utf8_length(std::string_view s);

// "2026-11-24T06:00:00.000Z": 24 characters, for the years 0000 to 9999.
using Rfc3339 = std::array<char, 24>;
Rfc3339 rfc3339(Timestamp);
void append_rfc3339(std::string& out, Timestamp);

// RFC 3339 with any offset and up to nine fractional digits (beyond milliseconds cut off). Nothing
// for any other text, a date that does not exist or a leap second.
std::optional<Timestamp> parse_rfc3339(std::string_view text);

// Writes JSON; puts the commas itself. Keys are taken as they are: literals without escapes.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out), start_(out.size()) {}

  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }

  JsonWriter& key(std::string_view name) {
    comma();
    out_ += '"';
    out_ += name;
    out_ += "\":";
    return *this;
  }

  JsonWriter& value(std::string_view text) {
    comma();
    append_json_string(out_, text);
    return *this;
  }
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  template <std::same_as<bool> B>
  JsonWriter& value(B b) {
    return raw(b ? "true" : "false");
  }
  template <std::integral I>
  requires(!std::same_as<I, bool>) JsonWriter& value(I number) {
    const fmt::format_int digits(number);
    return raw({digits.data(), digits.size()});
  }
  JsonWriter& value(Timestamp t) {
    const Rfc3339 text = rfc3339(t);
    comma();
    out_ += '"';
    out_.append(text.data(), text.size());
    out_ += '"';
    return *this;
  }
  JsonWriter& value(const Money& money) {
    begin_object().key("amount").value(money.amount.value).key("currency");
    return value(std::string_view(money.currency.code.data(), money.currency.code.size()))
        .end_object();
  }
  // Seconds with up to three decimals, none when whole: 120, 0.5.
  JsonWriter& seconds(Duration);
  JsonWriter& null() { return raw("null"); }
  // Text that is JSON already.
  JsonWriter& raw(std::string_view json) {
    comma();
    out_ += json;
    return *this;
  }

  template <class T>
  JsonWriter& member(std::string_view name, const T& v) {
    key(name);
    return value(v);
  }

 private:
  JsonWriter& open(char c) {
    comma();
    out_ += c;
    return *this;
  }
  JsonWriter& close(char c) {
    out_ += c;
    return *this;
  }
  // A comma is due unless something has just been opened or named.
  void comma() {
    if (out_.size() == start_) return;
    const char last = out_.back();
    if (last != '{' && last != '[' && last != ':') out_ += ',';
  }

  std::string& out_;
  std::size_t start_;
};

}  // namespace fairsale
