#include "tools/store/output.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace fairsale::cli {

Result<void> Output::flush() {
  const bool written = std::fwrite(text_.data(), 1, text_.size(), file_) == text_.size();
  if (!written || std::fflush(file_) != 0) {
    const int reason = errno;
    return fail(reason == ENOSPC ? Fault::full : Fault::io,
                fmt::format("cannot write the output: {}; what was written is not whole",
                            std::strerror(reason)));
  }
  text_.clear();
  return {};
}

}  // namespace fairsale::cli
