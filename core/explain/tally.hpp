// A number of purchases and of their units.
#pragma once

#include <cstdint>
#include <string_view>

namespace fairsale {

class JsonWriter;

struct Tally {
  std::uint64_t purchases = 0;
  std::uint64_t units = 0;

  void add(std::uint32_t quantity) { ++purchases, units += quantity; }
  friend bool operator==(const Tally&, const Tally&) = default;
};

// As a member of the object that is open: {"purchases":…,"units":…}.
void append_tally(JsonWriter&, std::string_view name, const Tally&);

}  // namespace fairsale
