// The server: everything put together, from a configuration to a graceful stop.
#pragma once

#include <functional>
#include <string>

#include "api/config.hpp"
#include "core/log/result.hpp"

namespace fairsale::api {

inline constexpr std::string_view kVersion = FAIRSALE_VERSION;

// Serves until `wait_for_stop` returns, then stops in stages: no new connections or writes, what
// was admitted is committed and answered, snapshots are taken, the store is closed. `on_ready` is
// called with the bound port once requests are answered. Fails before that if anything cannot be
// opened. When the log fails later the process ends at once with kLogFailedExit: whatever was not
// durable is not acknowledged. `begin_anew` is called by some thread, perhaps again, when the
// process should stop and start again: it has to make `wait_for_stop` return.
Result<void> serve(const ServerConfig& config,
                   const std::function<void(std::uint16_t port, const Secrets&)>& on_ready,
                   const std::function<void()>& wait_for_stop,
                   const std::function<void()>& begin_anew = {});

inline constexpr int kLogFailedExit = 3;

// The OpenAPI document as served.
std::string_view openapi_json();

}  // namespace fairsale::api
