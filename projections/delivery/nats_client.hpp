// What all clients of NATS have in common.
#pragma once

#include <nats/nats.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"
#include "projections/delivery/nats_watch.hpp"

namespace fairsale {

template <class T, void (*destroy)(T*)>
struct NatsDestroy {
  void operator()(T* it) const { destroy(it); }
};
template <class T, void (*destroy)(T*)>
using NatsPtr = std::unique_ptr<T, NatsDestroy<T, destroy>>;
using NatsOptionsPtr = NatsPtr<natsOptions, natsOptions_Destroy>;
using NatsConnectionPtr = NatsPtr<natsConnection, natsConnection_Destroy>;
using NatsContextPtr = NatsPtr<jsCtx, jsCtx_Destroy>;
using NatsSubscriptionPtr = NatsPtr<natsSubscription, natsSubscription_Destroy>;
using NatsMessagePtr = NatsPtr<natsMsg, natsMsg_Destroy>;
using NatsStreamInfoPtr = NatsPtr<jsStreamInfo, jsStreamInfo_Destroy>;

// `what` could not be done.
tl::unexpected<Error> nats_failure(std::string_view what, natsStatus);

// What the library may call back into after natsConnection_Close(), which does not say when it is
// done. A process has few connections, so it stays until the process ends. Any thread.
template <class T>
T& for_ever() {
  static std::mutex mutex;
  static std::vector<std::unique_ptr<T>> all;
  const std::scoped_lock lock(mutex);
  return *all.emplace_back(std::make_unique<T>());
}

// A connection, and JetStream over it. They go in the order in which they need each other, which an
// assignment would not keep to.
struct NatsClient {
  NatsClient() = default;
  NatsClient(NatsClient&&) = default;

  NatsConnectionPtr connection;
  NatsContextPtr context;
  std::unique_ptr<NatsWatch> watch;
};

// `url` is nats://host:port or tls://host:port, several with commas between; with a tls:// among
// them no server is spoken to without TLS. `credentials` is "user:password" or a token;
// `creds_file` a .creds file of NATS, which is read at each connect and goes first. Either may be
// empty. `timeout` is that of the connect to one server; `set` sets what else the client wants of
// its connection. Returns after so long for each server, or up to 3 s more for one that falls
// silent; how long their names take to resolve is up to the system.
Result<NatsClient> connect_nats_client(std::string_view url, const std::string& credentials,
                                       const std::string& creds_file,
                                       std::chrono::milliseconds timeout,
                                       const std::function<natsStatus(natsOptions*)>& set,
                                       jsOptions jet_stream);

}  // namespace fairsale
