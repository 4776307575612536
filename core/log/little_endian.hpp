// Fixed-width integers in the byte order of the log's files. Keys are big-endian, so that their
// byte order is their numeric order; everything else is little-endian.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace fairsale {

// The reading and writing of integers below is a copy of memory.
static_assert(std::endian::native == std::endian::little, "port put_le and get_le");

template <std::integral T>
std::byte* put_le(std::byte* out, T v) {
  std::memcpy(out, &v, sizeof v);
  return out + sizeof v;
}

template <std::integral T>
T get_le(const std::byte* in) {
  T v;
  std::memcpy(&v, in, sizeof v);
  return v;
}

inline void put_be64(void* out, std::uint64_t v) {
  v = __builtin_bswap64(v);
  std::memcpy(out, &v, sizeof v);
}

template <std::unsigned_integral T>
void append_be(std::string& out, T v) {
  for (int shift = 8 * (static_cast<int>(sizeof v) - 1); shift >= 0; shift -= 8) {
    out += static_cast<char>(v >> shift & 0xff);
  }
}

inline std::uint32_t get_be32(const void* in) {
  std::uint32_t v;
  std::memcpy(&v, in, sizeof v);
  return __builtin_bswap32(v);
}

inline std::uint64_t get_be64(const void* in) {
  std::uint64_t v;
  std::memcpy(&v, in, sizeof v);
  return __builtin_bswap64(v);
}

}  // namespace fairsale
