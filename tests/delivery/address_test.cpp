#include "projections/delivery/address.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>

namespace fairsale {
namespace {

bool public_address(const std::string& text) {
  sockaddr_storage storage{};
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  socklen_t size = 0;
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    storage.ss_family = AF_INET;
    size = sizeof *v4;
  } else {
    EXPECT_EQ(::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr), 1) << text;
    storage.ss_family = AF_INET6;
    size = sizeof *v6;
  }
  const auto& address = reinterpret_cast<const sockaddr&>(storage);
  EXPECT_EQ(text_of(address, size), text);
  return is_public(address, size);
}

TEST(PublicAddress, HostsOfTheInternet) {
  for (const char* a :
       {"1.1.1.1",          "8.8.8.8",         "9.255.255.255",     "11.0.0.0",
        "100.63.255.255",   "100.128.0.0",     "126.255.255.255",   "128.0.0.0",
        "169.253.0.1",      "169.255.0.1",     "172.15.255.255",    "172.32.0.0",
        "192.167.255.255",  "192.169.0.0",     "198.17.255.255",    "198.20.0.0",
        "223.255.255.255",  "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8",
        "64:ff9b::808:808", "2002:808:808::1"}) {
    EXPECT_TRUE(public_address(a)) << a;
  }
}

TEST(PublicAddress, NotWhatOnlyMeansSomethingHere) {
  for (const char* a :
       {"0.0.0.0",         "0.1.2.3",         "10.0.0.1",       "10.255.255.255",  "100.64.0.0",
        "100.100.100.200", "100.127.255.255", "127.0.0.1",      "127.255.255.254", "168.63.129.16",
        "169.254.169.254", "172.16.0.1",      "172.31.255.255", "192.0.0.192",     "192.0.2.1",
        "192.168.0.1",     "198.18.0.1",      "198.19.255.255", "198.51.100.7",    "203.0.113.9",
        "224.0.0.1",       "239.255.255.250", "240.0.0.1",      "255.255.255.255"}) {
    EXPECT_FALSE(public_address(a)) << a;
  }
}

TEST(PublicAddress, NotThoseOfIPv6EitherNorIPv4InDisguise) {
  for (const char* a : {"::",
                        "::1",
                        "::127.0.0.1",
                        "::ffff:127.0.0.1",
                        "::ffff:10.0.0.1",
                        "::ffff:169.254.169.254",
                        "64:ff9b::7f00:1",
                        "64:ff9b::a9fe:a9fe",
                        "64:ff9b:1::1",
                        "2002:7f00:1::1",
                        "2002:a00:1::",
                        "2001::1",
                        "2001:db8::1",
                        "fc00::1",
                        "fd00:ec2::254",
                        "fe80::1",
                        "fec0::1",
                        "ff02::1",
                        "100::1",
                        "3fff::1"}) {
    EXPECT_FALSE(public_address(a)) << a;
  }
}

TEST(PublicAddress, NotOfAnotherFamily) {
  sockaddr_storage local{};
  local.ss_family = AF_UNIX;
  EXPECT_FALSE(is_public(reinterpret_cast<const sockaddr&>(local), sizeof local));
}

}  // namespace
}  // namespace fairsale
