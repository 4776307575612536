// The streams at NATS.
#include "tools/cluster/reseed.hpp"

namespace fairsale::cli {

namespace {

// Of one request; a stream with replicas takes a while.
constexpr std::chrono::milliseconds kTimeout{10'000};

class NatsLogStreams final : public LogStreams {
 public:
  explicit NatsLogStreams(api::LogStreamSettings settings) : settings_(settings) {}

  Result<void> connect(const NatsAt& at) {
    const auto set = [](natsOptions* made) {
      natsStatus s = natsOptions_SetName(made, "fairsale cluster reseed");
      if (s == NATS_OK) s = natsOptions_SetAllowReconnect(made, false);
      return s;
    };
    jsOptions js;
    jsOptions_Init(&js);
    js.Wait = kTimeout.count();
    auto client = connect_nats_client(at.url, at.credentials, at.creds_file, kTimeout, set, js);
    if (!client) return tl::unexpected(client.error());
    client_.emplace(std::move(*client));
    return {};
  }

  Result<void> ensure(const api::LogStream& stream) override {
    return api::ensure_log_stream(client_->context.get(), stream, settings_);
  }
  Result<std::optional<api::LogStreamBounds>> bounds(const api::LogStream& stream) override {
    return api::log_stream_bounds(client_->context.get(), stream);
  }
  Result<std::optional<std::vector<std::byte>>> message(const api::LogStream& stream,
                                                        std::uint64_t sequence) override {
    auto found = api::log_stream_message(client_->context.get(), stream, sequence);
    if (!found) return tl::unexpected(found.error());
    if (!*found) return std::optional<std::vector<std::byte>>{};
    return std::optional(std::move((*found)->bytes));
  }
  Result<void> open(const api::LogStream& stream, std::span<const std::byte> first) override {
    return api::open_log_stream(client_->context.get(), stream, first);
  }

 private:
  const api::LogStreamSettings settings_;
  std::optional<NatsClient> client_;
};

}  // namespace

Result<std::unique_ptr<LogStreams>> connect_log_streams(const NatsAt& at) {
  auto streams = std::make_unique<NatsLogStreams>(at.streams);
  if (auto ok = streams->connect(at); !ok) return tl::unexpected(ok.error());
  return streams;
}

}  // namespace fairsale::cli
