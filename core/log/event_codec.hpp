// Events as bytes: one byte for the type's number, then the fields (docs/log-format.md).
//
// Canonical: decode(encode(e)) == e, and bytes that decode() accepts are the only bytes of that
// event.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "core/domain/event.hpp"

namespace fairsale {

// True when the event can be in a log: its enums are in range, its rules version is supported, its
// SKU name is of [A-Za-z0-9._-]{1,64}, its customer is not empty. Whoever takes events from
// outside checks this before they come near a block.
bool well_formed(const Event&);

// The most bytes that any event takes. kMaxEventBytes of block.hpp leaves room for newer ones.
inline constexpr std::size_t kLargestEventBytes = 288;

// Not thread-safe. Encodes without allocating.
class EventEncoder {
 public:
  EventEncoder();
  ~EventEncoder();
  EventEncoder(EventEncoder&&) noexcept;
  EventEncoder& operator=(EventEncoder&&) noexcept;

  // Writes the event to `out`, which has room for kLargestEventBytes, and returns how many bytes
  // it took. The event must be well formed; anything else aborts.
  std::size_t encode(const Event&, std::byte* out);

 private:
  struct Archive;
  std::unique_ptr<Archive> archive_;
};

enum class DecodeFault : std::uint8_t {
  none,
  cut_short,          // the bytes end inside the event
  malformed,          // a field has a value that no encoder writes
  unknown_type,       // a type number that this version does not know
  unsupported_rules,  // a rules version that this version does not know
};

std::string_view describe(DecodeFault);

// Takes events one by one off a span of bytes, which must outlive the decoder. Not thread-safe.
class EventDecoder {
 public:
  explicit EventDecoder(std::span<const std::byte>);
  ~EventDecoder();
  EventDecoder(EventDecoder&&) noexcept;
  EventDecoder& operator=(EventDecoder&&) noexcept;

  // Decodes the next event into `event`. After a fault the decoder is of no more use.
  DecodeFault next(Event& event);

  // Bytes not decoded yet.
  std::size_t left() const;

 private:
  struct Archive;
  std::unique_ptr<Archive> archive_;
};

}  // namespace fairsale
