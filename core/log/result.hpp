// How I/O and input failures travel: as values with a message that says how to mend them.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace fairsale {

enum class Fault {
  invalid,  // bad input; the message says what would be right
  not_found,
  busy,         // somebody else has it (a locked data directory)
  damaged,      // stored bytes are not what was written
  unsupported,  // written by a newer version
  full,         // no space left
  io,           // the operating system or the disk failed
};

struct Error {
  Fault fault = Fault::io;
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Fault fault, std::string message) {
  return tl::unexpected<Error>(Error{fault, std::move(message)});
}

}  // namespace fairsale
