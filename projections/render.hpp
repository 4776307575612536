// How values of the domain look in JSON.
#pragma once

#include <string>
#include <string_view>

#include "core/domain/types.hpp"

namespace fairsale {

// "2026-11-24T06:00:00.000Z". The time must be within 0 .. kMaxTimestampMs.
std::string rfc3339(Timestamp t);

// Milliseconds as decimal seconds without trailing zeros: 120000 -> "120", 1500 -> "1.5".
std::string seconds_of(Duration d);

inline std::string_view text_of(const Currency& c) { return {c.code.data(), c.code.size()}; }

}  // namespace fairsale
