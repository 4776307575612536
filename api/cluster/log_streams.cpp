#include "api/cluster/log_streams.hpp"

#include <fmt/format.h>

namespace fairsale::api {

namespace {

constexpr std::int64_t kNanosOfASecond = 1'000'000'000;

}  // namespace

std::string LogStream::name() const {
  return fmt::format("FAIRSALE_LOG_{}_{}", partition.value, generation);
}

std::string LogStream::subject() const {
  return fmt::format("fairsale.log.{}.{}", partition.value, generation);
}

Result<void> ensure_log_stream(jsCtx* js, const LogStream& stream,
                               const LogStreamSettings& settings) {
  const std::string name = stream.name();
  const std::string subject = stream.subject();
  const char* subjects[] = {subject.c_str()};
  jsStreamConfig config;
  jsStreamConfig_Init(&config);
  config.Name = name.c_str();
  config.Subjects = subjects;
  config.SubjectsLen = 1;
  config.Replicas = is_bridge(stream.generation) ? 1 : settings.replicas;
  config.MaxBytes = std::int64_t{settings.megabytes} << 20;
  config.DenyDelete = true;
  config.Duplicates = kNanosOfASecond;  // not used; its memory is not needed either
  jsErrCode code{};
  const natsStatus s = js_AddStream(nullptr, js, &config, nullptr, &code);
  if (s == NATS_OK || code == JSStreamNameExistErr) return {};
  return nats_failure(fmt::format("the stream {} cannot be made", name), s);
}

Result<std::optional<LogStreamBounds>> log_stream_bounds(jsCtx* js, const LogStream& stream) {
  jsStreamInfo* got = nullptr;
  jsErrCode code{};
  const natsStatus s = js_GetStreamInfo(&got, js, stream.name().c_str(), nullptr, &code);
  const NatsStreamInfoPtr info(got);
  if (s == NATS_NOT_FOUND) return std::optional<LogStreamBounds>{};
  if (s != NATS_OK) return nats_failure("streams cannot be looked at", s);
  // Without a leader any replica answers for itself, and may lack the end.
  if (info->Cluster != nullptr &&
      (info->Cluster->Leader == nullptr || *info->Cluster->Leader == 0)) {
    return fail(Fault::busy, fmt::format("the stream {} has no leader", stream.name()));
  }
  return std::optional(LogStreamBounds{info->State.FirstSeq, info->State.LastSeq});
}

Result<std::optional<LogStreamMessage>> log_stream_message(jsCtx* js, const LogStream& stream,
                                                           std::uint64_t sequence, jsOptions* how) {
  natsMsg* got = nullptr;
  jsErrCode code{};
  const natsStatus s = js_GetMsg(&got, js, stream.name().c_str(), sequence, how, &code);
  const NatsMessagePtr message(got);
  if (s == NATS_NOT_FOUND) return std::optional<LogStreamMessage>{};
  if (s != NATS_OK) return nats_failure("a message cannot be looked at", s);
  const auto* data = reinterpret_cast<const std::byte*>(natsMsg_GetData(got));
  return std::optional(LogStreamMessage{Timestamp{natsMsg_GetTime(got) / 1'000'000},
                                        {data, data + natsMsg_GetDataLength(got)}});
}

Result<void> open_log_stream(jsCtx* js, const LogStream& stream, std::span<const std::byte> first) {
  const std::string name = stream.name();
  jsPubOptions options;
  jsPubOptions_Init(&options);
  options.ExpectStream = name.c_str();
  options.ExpectNoMessage = true;
  jsErrCode code{};
  const natsStatus s = js_Publish(nullptr, js, stream.subject().c_str(), first.data(),
                                  static_cast<int>(first.size()), &options, &code);
  if (s == NATS_OK) return {};
  return nats_failure(fmt::format("the stream {} cannot be opened", name), s);
}

}  // namespace fairsale::api
