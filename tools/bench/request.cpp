#include "tools/bench/request.hpp"

#include <cstring>
#include <utility>

namespace fairsale::bench {

RequestTemplate::RequestTemplate(std::string text) : text_(std::move(text)) {
  const auto number_of = [](char c) -> std::uint64_t Numbers::* {
    switch (c) {
      case '@': return &Numbers::customer;
      case '~': return &Numbers::key;
      case '#': return &Numbers::sku;
      default: return nullptr;
    }
  };
  for (std::size_t i = 0; i < text_.size();) {
    const auto end = std::min(text_.find_first_not_of(text_[i], i), text_.size());
    if (const auto number = number_of(text_[i])) fields_.push_back({i, end, number});
    i = end;
  }
}

char* RequestTemplate::render(const Numbers& numbers, char* out) const {
  std::memcpy(out, text_.data(), text_.size());
  for (const Field& field : fields_) {
    std::uint64_t rest = numbers.*field.number;
    for (std::size_t i = field.end; i-- > field.begin; rest /= 10) {
      out[i] = static_cast<char>('0' + rest % 10);
    }
  }
  return out + text_.size();
}

}  // namespace fairsale::bench
