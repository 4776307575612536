// How a sale's indexes see its records. Internal to the sale.
#pragma once

#include <cstring>
#include <functional>

#include "core/domain/sale.hpp"

namespace fairsale {

// The finaliser of splitmix64 (S. Vigna, public domain): spreads every input bit.
constexpr std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

inline std::uint32_t hash_of(const IdempotencyKey& key, std::uint32_t customer) {
  std::uint64_t low = 0;
  std::memcpy(&low, key.bytes.data(), sizeof low);
  return static_cast<std::uint32_t>(mix(low + 0x9e3779b97f4a7c15ULL * (customer + 1ULL)));
}

inline std::uint32_t hash_of(std::string_view name) {
  return static_cast<std::uint32_t>(mix(std::hash<std::string_view>{}(name)));
}

// S is Sale or const Sale.
template <class S>
struct Sale::LaterLinks {
  S& sale;
  auto& link(std::uint32_t i) const { return sale.later_[i].chain; }
  std::uint32_t hash(std::uint32_t i) const { return sale.later_[i].hash; }
};

template <class S>
struct Sale::CustomerLinks {
  S& sale;
  auto& link(std::uint32_t i) const { return sale.customers_[i].chain; }
  std::uint32_t hash(std::uint32_t i) const { return sale.customers_[i].hash; }
};

}  // namespace fairsale
