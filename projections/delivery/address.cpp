#include "projections/delivery/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace fairsale {

namespace {

using Bytes = std::span<const std::uint8_t>;

struct Network {
  std::array<std::uint8_t, 16> address;
  unsigned bits;
};

bool within(Bytes address, const Network& n) {
  unsigned left = n.bits;
  for (std::size_t i = 0; left > 0; ++i) {
    const unsigned take = std::min(left, 8U);
    const auto mask = static_cast<std::uint8_t>(0xff << (8 - take));
    if ((address[i] & mask) != (n.address[i] & mask)) return false;
    left -= take;
  }
  return true;
}

// The IANA special-purpose registries of IPv4, and one address of a cloud's own.
constexpr std::array kNotPublic4{
    Network{{0}, 8},
    Network{{10}, 8},
    Network{{100, 64}, 10},
    Network{{127}, 8},
    Network{{169, 254}, 16},
    Network{{172, 16}, 12},
    Network{{192, 0, 0}, 24},
    Network{{192, 0, 2}, 24},
    Network{{192, 88, 99}, 24},
    Network{{192, 168}, 16},
    Network{{198, 18}, 15},
    Network{{198, 51, 100}, 24},
    Network{{203, 0, 113}, 24},
    Network{{224}, 4},
    Network{{240}, 4},
    Network{{168, 63, 129, 16}, 32},  // Azure's host services
};

constexpr Network kMapped{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96};
constexpr Network kNat64{{0, 0x64, 0xff, 0x9b}, 96};
constexpr Network k6to4{{0x20, 0x02}, 16};
constexpr Network kGlobal{{0x20}, 3};

// Of the global unicast addresses.
constexpr std::array kNotPublic6{
    Network{{0x20, 0x01, 0x00}, 23},        // protocols: Teredo, ORCHID and others
    Network{{0x20, 0x01, 0x0d, 0xb8}, 32},  // documentation
    Network{{0x3f, 0xff}, 20},              // documentation
};

bool is_public4(Bytes a) {
  return std::none_of(kNotPublic4.begin(), kNotPublic4.end(),
                      [&](const Network& n) { return within(a, n); });
}

bool is_public6(Bytes a) {
  if (within(a, kMapped) || within(a, kNat64)) return is_public4(a.subspan(12));
  if (within(a, k6to4)) return is_public4(a.subspan(2));
  return within(a, kGlobal) && std::none_of(kNotPublic6.begin(), kNotPublic6.end(),
                                            [&](const Network& n) { return within(a, n); });
}

}  // namespace

bool is_public(const sockaddr& address, socklen_t size) {
  if (address.sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &v4.sin_addr, bytes.size());
    return is_public4(bytes);
  }
  if (address.sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof v6);
    return is_public6(v6.sin6_addr.s6_addr);
  }
  return false;
}

std::string text_of(const sockaddr& address, socklen_t size) {
  char text[INET6_ADDRSTRLEN] = "an unknown address";
  if (address.sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
  } else if (address.sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof v6);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  }
  return text;
}

}  // namespace fairsale
