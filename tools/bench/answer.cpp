#include "tools/bench/answer.hpp"

#include <strings.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>

namespace fairsale::bench {

namespace {

constexpr std::size_t kMaxHead = 65'536;
constexpr std::size_t kMaxBody = 1 << 24;
constexpr long kMaxElements = 1024;

tl::unexpected<Error> not_understood(std::string_view what, std::string_view bytes) {
  return fail(Fault::invalid, std::string(what) + ": " + std::string(bytes.substr(0, 80)));
}

// The value of the header `line` if it is named `name` ("content-length:").
bool is_header(std::string_view line, std::string_view name, std::string_view& value) {
  if (line.size() < name.size() || strncasecmp(line.data(), name.data(), name.size()) != 0) {
    return false;
  }
  value = line.substr(name.size());
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return true;
}

template <class Number>
bool parse(std::string_view text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

Label::Label(std::string_view text) { add(text); }

void Label::add(std::string_view text) {
  const std::size_t n = std::min(text.size(), text_.size() - size_);
  std::memcpy(text_.data() + size_, text.data(), n);
  size_ = static_cast<unsigned char>(size_ + n);
}

Result<Answer> read_http_answer(std::string_view bytes) {
  if (bytes.size() < 12) return Answer{};
  if (!bytes.starts_with("HTTP/1.")) return not_understood("not HTTP", bytes);
  const std::string_view status = bytes.substr(9, 3);

  std::size_t length = 0;
  bool has_length = status == "204" || status == "304";
  bool replayed = false;
  std::size_t at = 0;
  while (true) {
    const std::size_t end = bytes.find('\n', at);
    if (end == std::string_view::npos) {
      if (bytes.size() > kMaxHead) return not_understood("an endless header", bytes);
      return Answer{};
    }
    const std::string_view line = bytes.substr(at, end - at - (end > at ? 1 : 0));
    at = end + 1;
    if (line.empty()) break;
    std::string_view value;
    switch (line[0]) {
      case 'C':
      case 'c':
        if (!is_header(line, "content-length:", value)) break;
        if (!parse(value, length) || length > kMaxBody) return not_understood("a length", line);
        has_length = true;
        break;
      case 'I':
      case 'i': replayed = replayed || is_header(line, "idempotent-replayed:", value); break;
      default: break;
    }
  }
  if (!has_length) return not_understood("an answer without Content-Length", bytes);
  if (bytes.size() < at + length) return Answer{};
  Answer answer{.size = at + length, .label = Label(status)};
  if (replayed) answer.label.add(" replayed");
  return answer;
}

Result<Answer> read_resp_answer(std::string_view bytes) {
  Answer answer;
  std::size_t at = 0;
  for (long left = 1, seen = 0; left > 0; --left, ++seen) {
    const std::size_t end = bytes.find("\r\n", at);
    if (end == std::string_view::npos) return Answer{};
    const char type = bytes[at];
    std::string_view text = bytes.substr(at + 1, end - at - 1);
    at = end + 2;
    long number = 0;
    switch (type) {
      case '+': break;
      case '-': text = std::string_view(text.data() - 1, text.size() + 1); break;
      case ':': text = "integer"; break;
      case '$':
        if (!parse(text, number) || number > long{kMaxBody}) return not_understood("RESP", text);
        if (number < 0) {
          text = "nil";
        } else {
          const auto size = static_cast<std::size_t>(number);
          if (bytes.size() < at + size + 2) return Answer{};
          text = bytes.substr(at, size);
          at += size + 2;
        }
        break;
      case '*':
        if (!parse(text, number) || number > kMaxElements) return not_understood("RESP", text);
        left += std::max(number, 0L);
        text = "array";
        break;
      default: return not_understood("not RESP", bytes);
    }
    if (seen == 0) answer.label = Label(text.substr(0, text.find_first_of(": ")));
  }
  answer.size = at;
  return answer;
}

}  // namespace fairsale::bench
