#include "core/json/json.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>

namespace fairsale {

namespace {

constexpr char kHex[] = "0123456789abcdef";

constexpr bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

// Of a well-formed sequence: whether it steers what shows it. U+0080 to U+009F are C1 controls;
// U+202A to U+202E and U+2066 to U+2069 turn the direction of the text around them.
constexpr bool is_steering(std::string_view utf8) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(utf8[i]); };
  if (utf8.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;
  if (utf8.size() != 3 || byte(0) != 0xe2) return false;
  return (byte(1) == 0x80 && byte(2) >= 0xaa && byte(2) <= 0xae) ||
         (byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9);
}

// Appends a character of two or three bytes of UTF-8 as an escape of four hexadecimal digits.
void append_escaped(std::string& out, std::string_view utf8) {
  unsigned code = static_cast<unsigned char>(utf8[0]) & (utf8.size() == 2 ? 0x1fu : 0xfu);
  for (const char c : utf8.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3fu);
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += kHex[code >> shift & 0xf];
}

void put_digits(char* at, unsigned value, std::size_t width) {
  for (std::size_t i = width; i-- > 0; value /= 10) at[i] = static_cast<char>('0' + value % 10);
}

// Reads exactly `width` digits; -1 when they are not all digits.
int get_digits(std::string_view s, std::size_t at, std::size_t width) {
  if (at + width > s.size()) return -1;
  int value = 0;
  for (std::size_t i = at; i < at + width; ++i) {
    if (s[i] < '0' || s[i] > '9') return -1;
    value = value * 10 + (s[i] - '0');
  }
  return value;
}

}  // namespace

std::size_t utf8_length(std::string_view s) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const auto continues = [&](std::size_t from, std::size_t to) {
    if (s.size() < to) return false;
    for (std::size_t i = from; i < to; ++i) {
      if ((byte(i) & 0xc0) != 0x80) return false;
    }
    return true;
  };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return continues(1, 2) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    if (!continues(1, 3)) return 0;
    if (lead == 0xe0 && byte(1) < 0xa0) return 0;
    if (lead == 0xed && byte(1) > 0x9f) return 0;
    return 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (!continues(1, 4)) return 0;
    if (lead == 0xf0 && byte(1) < 0x90) return 0;
    if (lead == 0xf4 && byte(1) > 0x8f) return 0;
    return 4;
  }
  return 0;
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  std::size_t plain = 0;  // start of the run not yet copied
  std::size_t i = 0;
  while (i < text.size()) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (is_plain(c)) {
      ++i;
      continue;
    }
    const std::size_t length = c < 0x80 ? 1 : utf8_length(text.substr(i));
    if (length > 1) {
      const std::string_view character = text.substr(i, length);
      if (is_steering(character)) {
        out.append(text, plain, i - plain);
        append_escaped(out, character);
        plain = i + length;
      }
      i += length;
      continue;
    }
    out.append(text, plain, i - plain);
    if (length == 0) {
      out += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += "\\u00";
      out += kHex[c >> 4];
      out += kHex[c & 0xf];
    }
    plain = ++i;
  }
  out.append(text, plain, text.size() - plain);
  out += '"';
}

void append_word(std::string& out, std::string_view text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
  });
  if (plain) {
    out += text;
  } else {
    append_json_string(out, text);
  }
}

Rfc3339 rfc3339(Timestamp t) {
  using namespace std::chrono;
  const sys_time<milliseconds> when{milliseconds{t.value}};
  const sys_days day = floor<days>(when);
  const year_month_day date{day};
  const auto ms = static_cast<unsigned>((when - day).count());
  Rfc3339 out;
  char* p = out.data();
  std::memcpy(p, "0000-00-00T00:00:00.000Z", out.size());
  put_digits(p, static_cast<unsigned>(static_cast<int>(date.year())), 4);
  put_digits(p + 5, static_cast<unsigned>(date.month()), 2);
  put_digits(p + 8, static_cast<unsigned>(date.day()), 2);
  put_digits(p + 11, ms / 3'600'000, 2);
  put_digits(p + 14, ms / 60'000 % 60, 2);
  put_digits(p + 17, ms / 1'000 % 60, 2);
  put_digits(p + 20, ms % 1'000, 3);
  return out;
}

void append_rfc3339(std::string& out, Timestamp t) {
  const Rfc3339 text = rfc3339(t);
  out.append(text.data(), text.size());
}

std::optional<Timestamp> parse_rfc3339(std::string_view s) {
  using namespace std::chrono;
  // 2026-11-24T06:00:00[.fraction](Z|+hh:mm|-hh:mm)
  if (s.size() < 20 || s.size() > 35) return std::nullopt;
  const int y = get_digits(s, 0, 4);
  const int mo = get_digits(s, 5, 2);
  const int d = get_digits(s, 8, 2);
  const int h = get_digits(s, 11, 2);
  const int mi = get_digits(s, 14, 2);
  const int sec = get_digits(s, 17, 2);
  if (y < 0 || mo < 0 || d < 0 || h < 0 || mi < 0 || sec < 0) return std::nullopt;
  if (s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != 't')) return std::nullopt;
  if (s[13] != ':' || s[16] != ':') return std::nullopt;
  if (h > 23 || mi > 59 || sec > 59) return std::nullopt;
  const year_month_day date{year{y}, month{static_cast<unsigned>(mo)},
                            day{static_cast<unsigned>(d)}};
  if (!date.ok()) return std::nullopt;

  std::size_t at = 19;
  int ms = 0;
  if (s[at] == '.') {
    ++at;
    const std::size_t first = at;
    int scale = 100;
    while (at < s.size() && s[at] >= '0' && s[at] <= '9') {
      ms += (s[at] - '0') * scale;
      scale /= 10;
      ++at;
    }
    if (at == first || at - first > 9) return std::nullopt;
  }
  if (at >= s.size()) return std::nullopt;
  minutes offset{0};
  if (s[at] == 'Z' || s[at] == 'z') {
    if (at + 1 != s.size()) return std::nullopt;
  } else if (s[at] == '+' || s[at] == '-') {
    if (at + 6 != s.size() || s[at + 3] != ':') return std::nullopt;
    const int oh = get_digits(s, at + 1, 2);
    const int om = get_digits(s, at + 4, 2);
    if (oh < 0 || oh > 23 || om < 0 || om > 59) return std::nullopt;
    offset = hours{oh} + minutes{om};
    if (s[at] == '-') offset = -offset;
  } else {
    return std::nullopt;
  }
  const sys_time<milliseconds> when =
      sys_days{date} + hours{h} + minutes{mi} + seconds{sec} + milliseconds{ms} - offset;
  return Timestamp{when.time_since_epoch().count()};
}

JsonWriter& JsonWriter::seconds(Duration d) {
  char text[32];
  const std::int64_t ms = d.value < 0 ? -d.value : d.value;
  const auto fraction = static_cast<unsigned>(ms % 1000);
  char* p = text;
  if (d.value < 0) *p++ = '-';
  p = std::to_chars(p, text + sizeof text, ms / 1000).ptr;
  if (fraction != 0) {
    *p++ = '.';
    put_digits(p, fraction, 3);
    p += 3;
    while (p[-1] == '0') --p;
  }
  return raw({text, static_cast<std::size_t>(p - text)});
}

}  // namespace fairsale
