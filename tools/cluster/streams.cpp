// The streams at NATS.
#include "tools/cluster/reseed.hpp"

namespace fairsale::cli {

namespace {

constexpr std::int64_t kTimeoutMs = 10'000;  // of one request; a stream with replicas takes a while

class NatsLogStreams final : public LogStreams {
 public:
  explicit NatsLogStreams(api::LogStreamSettings settings) : settings_(settings) {}

  Result<void> connect(const NatsAt& at) {
    natsOptions* made = nullptr;
    natsStatus s = natsOptions_Create(&made);
    const NatsOptionsPtr options(made);
    if (s == NATS_OK) s = set_nats_servers(made, at.url);
    if (s == NATS_OK) s = set_nats_credentials(made, at.credentials, at.creds_file);
    if (s == NATS_OK) s = natsOptions_SetName(made, "fairsale cluster reseed");
    if (s == NATS_OK) s = natsOptions_SetTimeout(made, kTimeoutMs);
    if (s == NATS_OK) s = natsOptions_SetAllowReconnect(made, false);
    natsConnection* connection = nullptr;
    if (s == NATS_OK) s = natsConnection_Connect(&connection, made);
    connection_.reset(connection);
    if (s != NATS_OK) return nats_failure("cannot connect", s);
    jsOptions js;
    jsOptions_Init(&js);
    js.Wait = kTimeoutMs;
    jsCtx* context = nullptr;
    s = natsConnection_JetStream(&context, connection, &js);
    context_.reset(context);
    if (s != NATS_OK) return nats_failure("JetStream cannot be used", s);
    return {};
  }

  Result<void> ensure(const api::LogStream& stream) override {
    return api::ensure_log_stream(context_.get(), stream, settings_);
  }
  Result<std::optional<api::LogStreamBounds>> bounds(const api::LogStream& stream) override {
    return api::log_stream_bounds(context_.get(), stream);
  }
  Result<std::optional<std::vector<std::byte>>> message(const api::LogStream& stream,
                                                        std::uint64_t sequence) override {
    return api::log_stream_message(context_.get(), stream, sequence);
  }
  Result<void> open(const api::LogStream& stream, std::span<const std::byte> first) override {
    return api::open_log_stream(context_.get(), stream, first);
  }

 private:
  const api::LogStreamSettings settings_;
  NatsConnectionPtr connection_;
  NatsContextPtr context_;
};

}  // namespace

Result<std::unique_ptr<LogStreams>> connect_log_streams(const NatsAt& at) {
  auto streams = std::make_unique<NatsLogStreams>(at.streams);
  if (auto ok = streams->connect(at); !ok) return tl::unexpected(ok.error());
  return streams;
}

}  // namespace fairsale::cli
