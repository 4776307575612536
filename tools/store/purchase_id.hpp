// A purchase's public id: "<SKU>:<position of its attempt>".
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "core/domain/types.hpp"

namespace fairsale::cli {

struct PurchaseId {
  std::string sku;
  Seq seq;
};

// Nothing unless both parts are there and the position has no leading zero.
inline std::optional<PurchaseId> parse_purchase_id(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || colon > SkuName::capacity) return {};
  const std::string_view digits = text.substr(colon + 1);
  PurchaseId id{std::string(text.substr(0, colon)), {}};
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), id.seq.value);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.front() == '0') {
    return {};
  }
  return id;
}

}  // namespace fairsale::cli
