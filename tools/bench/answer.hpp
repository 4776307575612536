// Reads just enough of an answer to know where it ends and of what kind it is.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "core/log/result.hpp"

namespace fairsale::bench {

// The kind of an answer, in at most 15 characters: an HTTP status, with " replayed" when the server
// says so; the text of a RESP string up to the first ':' or space, or an error with its '-'.
class Label {
 public:
  Label() = default;
  explicit Label(std::string_view text);

  // Appends; what does not fit is cut off.
  void add(std::string_view text);
  std::string_view view() const { return {text_.data(), size_}; }

  friend bool operator==(const Label&, const Label&) = default;

 private:
  std::array<char, 15> text_{};
  unsigned char size_ = 0;
};

struct Answer {
  std::size_t size = 0;  // bytes it takes; 0: not all of it is there yet
  Label label;
};

// Reads the first answer in `bytes`. Fails on what is not an answer of this protocol, or has no
// stated length.
using ReadAnswer = Result<Answer> (*)(std::string_view bytes);
Result<Answer> read_http_answer(std::string_view bytes);
Result<Answer> read_resp_answer(std::string_view bytes);

}  // namespace fairsale::bench
