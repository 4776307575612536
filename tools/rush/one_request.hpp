// A single request, for what is done before and after a crowd.
#pragma once

#include <cstdint>
#include <string>

#include "core/log/result.hpp"
#include "tools/rush/http.hpp"

namespace fairsale::rush {

struct Reply {
  int status = 0;
  std::string bytes;  // the body and, past it, kJsonPadding more to read
  std::string_view body() const { return {bytes.data(), bytes.size() - kJsonPadding}; }
};

// Sends the request (again after 429, 503 or a broken connection) and waits for the answer.
Result<Reply> ask(const Endpoint&, const std::string& request, std::int64_t patience_us);

}  // namespace fairsale::rush
