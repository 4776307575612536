#include "projections/delivery/nats_client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace fairsale {

tl::unexpected<Error> nats_failure(std::string_view what, natsStatus s) {
  return fail(Fault::io, fmt::format("NATS: {}: {}", what, natsStatus_GetText(s)));
}

natsStatus set_nats_servers(natsOptions* options, std::string_view url) {
  std::vector<std::string> urls;
  while (!url.empty()) {
    const std::size_t comma = std::min(url.find(','), url.size());
    urls.emplace_back(url.substr(0, comma));
    url.remove_prefix(std::min(comma + 1, url.size()));
  }
  std::vector<const char*> servers;
  for (const auto& one : urls) servers.push_back(one.c_str());
  return natsOptions_SetServers(options, servers.data(), static_cast<int>(servers.size()));
}

natsStatus set_nats_credentials(natsOptions* options, const std::string& credentials,
                                const std::string& creds_file) {
  if (!creds_file.empty()) {
    return natsOptions_SetUserCredentialsFromFiles(options, creds_file.c_str(), nullptr);
  }
  if (credentials.empty()) return NATS_OK;
  const std::size_t colon = credentials.find(':');
  if (colon == std::string::npos) return natsOptions_SetToken(options, credentials.c_str());
  return natsOptions_SetUserInfo(options, credentials.substr(0, colon).c_str(),
                                 credentials.substr(colon + 1).c_str());
}

}  // namespace fairsale
