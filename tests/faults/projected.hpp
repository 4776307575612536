// The stored projections of a store, as a server keeps them.
#pragma once

#include <filesystem>
#include <string>

#include "core/log/event_log.hpp"

namespace fairsale::faults {

struct Projected {
  std::string told;   // what the operator was told last, if anything
  std::string wrong;  // in what they are not what the log says, once there is nothing left to do
};

// Opens them, brings them up to date and compares every row with the log. What a read finds damaged
// is made anew, as when a server reads it.
Projected project(EventLog& log, const std::filesystem::path& data);

}  // namespace fairsale::faults
