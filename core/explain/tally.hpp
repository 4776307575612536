// A number of purchases and of their units.
#pragma once

#include <cstdint>

namespace fairsale {

struct Tally {
  std::uint64_t purchases = 0;
  std::uint64_t units = 0;

  void add(std::uint32_t quantity) { ++purchases, units += quantity; }
  friend bool operator==(const Tally&, const Tally&) = default;
};

}  // namespace fairsale
