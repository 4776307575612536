// The process's log: asynchronous, bounded, as text or as one JSON object a line.
#pragma once

#include <string>

#include <spdlog/spdlog.h>

#include "core/log/result.hpp"

namespace fairsale::api {

struct LogConfig {
  std::string level = "info";   // trace, debug, info, warn, error, off
  std::string format = "text";  // text or json
  std::string file;             // empty: standard error
};

// Makes spdlog's default logger. Callers never wait for the disk: when the queue (8,192 lines) is
// full its oldest line is overwritten.
Result<void> start_logging(const LogConfig&);

// Writes out what is queued. Call before exit.
void stop_logging();

}  // namespace fairsale::api
