#include <fmt/format.h>
#include <simdjson.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <set>
#include <thread>

#include "projections/delivery/nats_client.hpp"
#include "tools/orders/message.hpp"
#include "tools/orders/source.hpp"

namespace fairsale::orders {

namespace {

using std::chrono::milliseconds;

constexpr const char* kStream = "FAIRSALE_ORDERS";
constexpr const char* kSubjects = "fairsale.orders.>";
constexpr const char* kConsumer = "fairsale-orders";         // and the queue group
constexpr const char* kDeliver = "fairsale.deliver.orders";  // no subject of the stream
// Where JetStream's notes on what it delivered in vain are kept.
constexpr const char* kDeadStream = "FAIRSALE_ORDERS_DEAD";
constexpr const char* kDeadSubject =
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.FAIRSALE_ORDERS.fairsale-orders";
constexpr std::int64_t kMaxDead = 100'000;
constexpr std::int64_t kMaxAckPending = 4'096;  // of all processes together
constexpr std::size_t kMaxBatch = 512;          // messages of one write
constexpr std::int64_t kNanos = 1'000'000;      // of a millisecond
constexpr milliseconds kTimeout{3'000};
constexpr milliseconds kPatience{200};  // in which stop() is noticed
constexpr milliseconds kRetry{1'000};

std::string_view data_of(const natsMsg* m) {
  return {natsMsg_GetData(m), static_cast<std::size_t>(natsMsg_GetDataLength(m))};
}

// libnats connects again by itself.
Result<NatsClient> connect(const NatsSourceOptions& o) {
  const auto set = [](natsOptions* made) {
    natsStatus s = natsOptions_SetName(made, "fairsale-orders");
    if (s == NATS_OK) s = natsOptions_SetMaxReconnect(made, -1);
    if (s == NATS_OK) s = natsOptions_SetReconnectWait(made, kRetry.count());
    return s;
  };
  jsOptions js;
  jsOptions_Init(&js);
  js.Wait = kTimeout.count();
  return connect_nats_client(o.url, o.credentials, o.creds_file, kTimeout, set, js);
}

Result<void> ensure_stream(const NatsClient& nats, const char* name, const char* subject,
                           jsRetentionPolicy retention, std::int64_t most) {
  jsErrCode code{};
  jsStreamInfo* found = nullptr;
  natsStatus s = js_GetStreamInfo(&found, nats.context.get(), name, nullptr, &code);
  jsStreamInfo_Destroy(found);
  if (s == NATS_NOT_FOUND) {
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = name;
    config.Subjects = &subject;
    config.SubjectsLen = 1;
    config.Retention = retention;
    if (most > 0) config.MaxMsgs = most;
    s = js_AddStream(nullptr, nats.context.get(), &config, nullptr, &code);
  }
  if (s != NATS_OK) return nats_failure(fmt::format("the stream {} cannot be used", name), s);
  return {};
}

// The consumer that all processes share; made where it is not there.
Result<NatsSubscriptionPtr> subscribe(const NatsClient& nats, const NatsSourceOptions& o) {
  if (auto ok = ensure_stream(nats, kStream, kSubjects, js_WorkQueuePolicy, 0); !ok) {
    return tl::unexpected(ok.error());
  }
  if (auto ok = ensure_stream(nats, kDeadStream, kDeadSubject, js_LimitsPolicy, kMaxDead); !ok) {
    return tl::unexpected(ok.error());
  }
  jsConsumerConfig config;
  jsConsumerConfig_Init(&config);
  config.Durable = kConsumer;
  config.DeliverSubject = kDeliver;
  config.DeliverGroup = kConsumer;
  config.FilterSubject = kSubjects;
  config.AckPolicy = js_AckExplicit;
  config.AckWait = o.ack_wait.count() * kNanos;
  config.MaxDeliver = o.max_deliver;
  config.MaxAckPending = kMaxAckPending;
  jsErrCode code{};
  natsStatus s = js_AddConsumer(nullptr, nats.context.get(), kStream, &config, nullptr, &code);
  if (s != NATS_OK)
    return nats_failure(fmt::format("the consumer {} cannot be used", kConsumer), s);
  jsSubOptions how;
  jsSubOptions_Init(&how);
  how.Stream = kStream;
  how.Consumer = kConsumer;
  how.Queue = kConsumer;
  how.ManualAck = true;
  natsSubscription* subscription = nullptr;
  s = js_SubscribeSync(&subscription, nats.context.get(), kSubjects, nullptr, &how, &code);
  if (s != NATS_OK) return nats_failure("the queue of orders cannot be subscribed to", s);
  return NatsSubscriptionPtr(subscription);
}

class NatsSource final : public OrderSource {
 public:
  explicit NatsSource(NatsSourceOptions o) : options_(std::move(o)) {}

  void stop() override { stopping_ = true; }

  Result<void> run(Intake& intake) override {
    bool told = false;
    while (!stopping_) {
      // What was delivered and not taken would count as delivered in vain: without room there is
      // no subscription.
      if (!intake.room()) {
        std::this_thread::sleep_for(kPatience);
        continue;
      }
      auto nats = connect(options_);
      auto subscription = nats ? subscribe(*nats, options_)
                               : Result<NatsSubscriptionPtr>(tl::unexpected(nats.error()));
      if (!subscription) {
        if (!told) spdlog::warn("{}; it is tried again", subscription.error().message);
        told = true;
        std::this_thread::sleep_for(kRetry);
        continue;
      }
      told = false;
      spdlog::info("Orders come from the stream {}", kStream);
      auto ok = receive(**subscription, intake);
      natsSubscription_Unsubscribe(subscription->get());
      natsConnection_FlushTimeout(nats->connection.get(), kTimeout.count());
      // The library may be about to deliver to the subscription, without a hold on it.
      natsConnection_Close(nats->connection.get());
      if (!ok) return ok;
    }
    return {};
  }

 private:
  // Until there is no room, the connection is of no use any more, or stop().
  Result<void> receive(natsSubscription& subscription, Intake& intake) {
    std::vector<NatsMessagePtr> messages;
    while (!stopping_ && intake.room()) {
      messages.clear();
      natsStatus s = NATS_OK;
      while (messages.size() < kMaxBatch) {
        natsMsg* m = nullptr;
        s = natsSubscription_NextMsg(&m, &subscription, messages.empty() ? kPatience.count() : 0);
        if (s != NATS_OK) break;
        messages.emplace_back(m);
      }
      if (!messages.empty()) {
        Batch batch;
        for (const auto& m : messages) read(*m, batch);
        if (auto ok = intake.take(batch); !ok) return ok;
        // An acknowledgement that is lost only brings the message again.
        for (const auto& m : messages) natsMsg_Ack(m.get(), nullptr);
      }
      if (s != NATS_OK && s != NATS_TIMEOUT) {
        spdlog::warn("NATS: the queue of orders is interrupted: {}", natsStatus_GetText(s));
        break;
      }
    }
    return {};
  }

  static void read(natsMsg& m, Batch& batch) {
    auto c = read_cloud_event(data_of(&m));
    if (c) {
      if (*c) batch.cases.push_back(std::move(**c));
      return;
    }
    std::string id = "unknown";
    const char* header = nullptr;
    jsMsgMetaData* meta = nullptr;
    if (natsMsg_GetMetaData(&meta, &m) == NATS_OK) {
      id = fmt::format("{} {}", kStream, meta->Sequence.Stream);
      jsMsgMetaData_Destroy(meta);
    }
    if (natsMsgHeader_Get(&m, "Nats-Msg-Id", &header) == NATS_OK) id += fmt::format(" {}", header);
    batch.dead.push_back({id, c.error().message, std::string(data_of(&m))});
  }

  const NatsSourceOptions options_;
  std::atomic<bool> stopping_{false};
};

// Calls visit(sequence of the note, message, its sequence) for each that is still in the stream.
template <class Visit>
Result<void> each_undelivered(const NatsClient& nats, Visit&& visit) {
  jsErrCode code{};
  jsStreamInfo* made = nullptr;
  natsStatus s = js_GetStreamInfo(&made, nats.context.get(), kDeadStream, nullptr, &code);
  const NatsStreamInfoPtr info(made);
  if (s == NATS_NOT_FOUND) return {};
  if (s != NATS_OK)
    return nats_failure(fmt::format("the stream {} cannot be read", kDeadStream), s);
  std::set<std::uint64_t> seen;
  simdjson::dom::parser parser;
  const std::uint64_t last = info->State.LastSeq;
  for (std::uint64_t n = info->State.FirstSeq; n != 0 && n <= last; ++n) {
    natsMsg* note_made = nullptr;
    s = js_GetMsg(&note_made, nats.context.get(), kDeadStream, n, nullptr, &code);
    const NatsMessagePtr note(note_made);
    if (s == NATS_NOT_FOUND) continue;  // removed
    if (s != NATS_OK)
      return nats_failure(fmt::format("the stream {} cannot be read", kDeadStream), s);
    const std::string text(data_of(note.get()));
    simdjson::dom::element document;
    std::uint64_t sequence = 0;
    if (parser.parse(text).get(document) != simdjson::SUCCESS ||
        document["stream_seq"].get(sequence) != simdjson::SUCCESS ||
        !seen.insert(sequence).second) {
      continue;
    }
    natsMsg* message_made = nullptr;
    s = js_GetMsg(&message_made, nats.context.get(), kStream, sequence, nullptr, &code);
    const NatsMessagePtr message(message_made);
    if (s == NATS_NOT_FOUND) continue;  // acknowledged after all
    if (s != NATS_OK) return nats_failure(fmt::format("the stream {} cannot be read", kStream), s);
    auto more = visit(n, *message, sequence);
    if (!more) return tl::unexpected(more.error());
    if (!*more) break;
  }
  return {};
}

}  // namespace

std::unique_ptr<OrderSource> nats_source(NatsSourceOptions o) {
  return std::make_unique<NatsSource>(std::move(o));
}

Result<std::vector<Undelivered>> undelivered(const NatsSourceOptions& o, std::size_t most) {
  auto nats = connect(o);
  if (!nats) return tl::unexpected(nats.error());
  std::vector<Undelivered> out;
  auto ok = each_undelivered(
      *nats, [&](std::uint64_t, natsMsg& m, std::uint64_t sequence) -> Result<bool> {
        const char* id = nullptr;
        natsMsgHeader_Get(&m, "Nats-Msg-Id", &id);
        out.push_back({sequence, id != nullptr ? id : "", std::string(data_of(&m))});
        return out.size() < most;
      });
  if (!ok) return tl::unexpected(ok.error());
  return out;
}

Result<std::size_t> deliver_again(const NatsSourceOptions& o, std::size_t most) {
  auto nats = connect(o);
  if (!nats) return tl::unexpected(nats.error());
  std::size_t count = 0;
  auto ok = each_undelivered(
      *nats, [&](std::uint64_t note, natsMsg& m, std::uint64_t sequence) -> Result<bool> {
        // Published before the old one goes: a processor knows a message that comes twice. Without
        // Nats-Msg-Id, by which JetStream would drop it as a repeat.
        jsErrCode code{};
        const std::string_view data = data_of(&m);
        natsStatus s = js_Publish(nullptr, nats->context.get(), natsMsg_GetSubject(&m), data.data(),
                                  static_cast<int>(data.size()), nullptr, &code);
        if (s != NATS_OK) return nats_failure("cannot publish", s);
        s = js_DeleteMsg(nats->context.get(), kStream, sequence, nullptr, &code);
        if (s == NATS_OK) s = js_DeleteMsg(nats->context.get(), kDeadStream, note, nullptr, &code);
        if (s != NATS_OK) return nats_failure("cannot delete what was delivered again", s);
        return ++count < most;
      });
  if (!ok) return tl::unexpected(ok.error());
  return count;
}

}  // namespace fairsale::orders
