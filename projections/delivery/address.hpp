// Which addresses of the Internet are anybody's, and which only mean something here: what a webhook
// must not reach unless the operator allows it.
#pragma once

#include <sys/socket.h>

#include <string>

namespace fairsale {

// Whether this is the address of a host on the public Internet. Loopback, link-local (where clouds
// keep their metadata), private, shared (CGNAT) and unique-local ones, those of documentation and
// tests, multicast and all but IPv4 and IPv6 are not; nor is an IPv6 address that stands for such
// an IPv4 address (mapped, NAT64, 6to4).
bool is_public(const sockaddr&, socklen_t size);

// "127.0.0.1", "::1".
std::string text_of(const sockaddr&, socklen_t size);

}  // namespace fairsale
