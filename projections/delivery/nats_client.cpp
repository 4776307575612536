#include "projections/delivery/nats_client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace fairsale {

namespace {

// A server that has been silent for so long, and for so much longer than the timeout, says nothing
// any more.
constexpr std::chrono::milliseconds kLeastPatience{2'000};
constexpr std::chrono::milliseconds kBeyondTimeout{500};
// The library loses one in 256 signatures of a .creds file, and is refused then.
constexpr int kTries = 3;

natsStatus set_servers(natsOptions* options, std::string_view url) {
  std::vector<std::string> urls;
  while (!url.empty()) {
    const std::size_t comma = std::min(url.find(','), url.size());
    urls.emplace_back(url.substr(0, comma));
    url.remove_prefix(std::min(comma + 1, url.size()));
  }
  std::vector<const char*> servers;
  servers.reserve(urls.size());
  for (const auto& one : urls) servers.push_back(one.c_str());
  // libnats itself encrypts only where the server demands it, and does not look at the scheme.
  const bool tls = std::any_of(urls.begin(), urls.end(),
                               [](const std::string& one) { return one.starts_with("tls://"); });
  if (tls) {
    if (const natsStatus s = natsOptions_SetSecure(options, true); s != NATS_OK) return s;
  }
  return natsOptions_SetServers(options, servers.data(), static_cast<int>(servers.size()));
}

natsStatus set_credentials(natsOptions* options, const std::string& credentials,
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

}  // namespace

tl::unexpected<Error> nats_failure(std::string_view what, natsStatus s) {
  return fail(Fault::io, fmt::format("NATS: {}: {}", what, natsStatus_GetText(s)));
}

Result<NatsClient> connect_nats_client(std::string_view url, const std::string& credentials,
                                       const std::string& creds_file,
                                       std::chrono::milliseconds timeout,
                                       const std::function<natsStatus(natsOptions*)>& set,
                                       jsOptions jet_stream) {
  natsOptions* made = nullptr;
  natsStatus s = natsOptions_Create(&made);
  const NatsOptionsPtr options(made);
  if (s == NATS_OK) s = set_servers(made, url);
  if (s == NATS_OK) s = set_credentials(made, credentials, creds_file);
  if (s == NATS_OK) s = natsOptions_SetTimeout(made, timeout.count());
  if (s == NATS_OK) s = natsOptions_SetWriteDeadline(made, timeout.count());
  if (s == NATS_OK) s = set(made);
  NatsClient client;
  if (s == NATS_OK) {
    client.watch = std::make_unique<NatsWatch>(std::max(kLeastPatience, timeout + kBeyondTimeout));
    natsConnection* connection = nullptr;
    int tries = creds_file.empty() ? 1 : kTries;
    do {
      s = natsConnection_Connect(&connection, made);
    } while (s == NATS_CONNECTION_AUTH_FAILED && --tries > 0);
    client.connection.reset(connection);
  }
  if (s != NATS_OK) return nats_failure("cannot connect", s);
  client.watch->connected(client.connection.get());
  jsCtx* context = nullptr;
  s = natsConnection_JetStream(&context, client.connection.get(), &jet_stream);
  client.context.reset(context);
  if (s != NATS_OK) return nats_failure("JetStream cannot be used", s);
  return client;
}

}  // namespace fairsale
