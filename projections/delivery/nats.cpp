#include "projections/delivery/nats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

#include "core/log/digest.hpp"
#include "projections/delivery/nats_client.hpp"
#include "projections/outbox/message.hpp"

namespace fairsale {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kConnectTimeout{2'000};
constexpr milliseconds kAckTimeout{5'000};
constexpr std::int64_t kNanosPerDay = 86'400'000'000'000;

struct Stream {
  const char* name;
  const char* subjects;
  jsRetentionPolicy retention;
  std::int64_t max_age;  // nanoseconds; 0: none
};

constexpr std::array kStreams{
    Stream{"FAIRSALE_ORDERS", "fairsale.orders.>", js_WorkQueuePolicy, 0},
    Stream{"FAIRSALE_NOTIFICATIONS", "fairsale.notifications.>", js_LimitsPolicy, 7 * kNanosPerDay},
};

// What JetStream has said of the messages of one consignment.
struct Acks {
  std::mutex mutex;
  std::condition_variable changed;
  std::unordered_map<std::string, std::size_t> awaited;  // by id
  std::vector<bool> stored;
  std::string trouble;
  bool interrupted = false;
};

void on_ack(jsCtx*, natsMsg* msg, jsPubAck*, jsPubAckErr* error, void* closure) {
  auto& acks = *static_cast<Acks*>(closure);
  const char* id = nullptr;
  if (natsMsgHeader_Get(msg, "Nats-Msg-Id", &id) == NATS_OK) {
    const std::scoped_lock lock(acks.mutex);
    if (const auto it = acks.awaited.find(id); it != acks.awaited.end()) {
      if (error == nullptr) {
        acks.stored[it->second] = true;
      } else if (acks.trouble.empty()) {
        acks.trouble = error->ErrText != nullptr && *error->ErrText != '\0'
                           ? error->ErrText
                           : natsStatus_GetText(error->Err);
      }
      acks.awaited.erase(it);
    }
    acks.changed.notify_one();
  }
  natsMsg_Destroy(msg);
}

// One message, as it is published.
struct Publication {
  std::string subject;
  std::string id;
  std::string traceparent;
  std::string body;
};

// Of a message or a reminder.
template <class M>
Publication publication(std::string_view sku, const M& m) {
  Publication p{.subject = nats_subject(sku, m), .traceparent = traceparent(sku, m)};
  append_cloud_event(p.body, sku, m);
  p.id = nats_message_id(message_id(sku, m), p.body);
  return p;
}

template <class M>
std::vector<Publication> publications(std::string_view sku, std::span<const M> all) {
  std::vector<Publication> out;
  out.reserve(all.size());
  for (const M& m : all) out.push_back(publication(sku, m));
  return out;
}

class NatsConsumer final : public Consumer {
 public:
  explicit NatsConsumer(NatsOptions options) : options_(std::move(options)) {}
  ~NatsConsumer() override { disconnect(); }

  std::string_view name() const override { return "nats"; }

  void interrupt() override {
    const std::scoped_lock lock(acks_.mutex);
    acks_.interrupted = true;
    acks_.changed.notify_one();
  }

  Taken take(const Consignment& c) override { return publish(publications(c.name, c.messages)); }

  Taken remind(std::string_view sku, std::span<const Reminder> reminders) override {
    return publish(publications(sku, reminders));
  }

 private:
  Taken publish(std::span<const Publication> messages) {
    {
      const std::scoped_lock lock(acks_.mutex);
      if (acks_.interrupted) return {};
      acks_.awaited.clear();
      acks_.stored.assign(messages.size(), false);
      acks_.trouble.clear();
    }
    if (!client_ || natsConnection_IsClosed(connection())) {
      disconnect();
      if (auto ok = connect(); !ok) {
        disconnect();
        return {0, ok.error()};
      }
    }
    std::optional<Error> trouble;
    for (std::size_t i = 0; i < messages.size() && !trouble; ++i) {
      if (auto ok = publish(messages[i], i); !ok) trouble = ok.error();
    }
    std::unique_lock lock(acks_.mutex);
    acks_.changed.wait_for(lock, kAckTimeout, [&] {
      return acks_.interrupted || acks_.awaited.empty() || natsConnection_IsClosed(connection());
    });
    const auto first = std::find(acks_.stored.begin(), acks_.stored.end(), false);
    const auto n = static_cast<std::size_t>(first - acks_.stored.begin());
    if (n < messages.size() && !trouble && !acks_.interrupted) {
      trouble = Error{Fault::io, "NATS: " + (acks_.trouble.empty()
                                                 ? std::string("messages were not acknowledged")
                                                 : acks_.trouble)};
    }
    acks_.awaited.clear();
    lock.unlock();
    // What is still under way must not arrive after what is published next.
    if (n < messages.size()) disconnect();
    return {n, trouble};
  }

  // Without libnats' own reconnecting, which would send what was published while it was away after
  // having lost what came before: then messages would not be in order.
  Result<void> connect() {
    const auto set = [](natsOptions* made) {
      natsStatus s = natsOptions_SetName(made, "fairsale");
      if (s == NATS_OK) s = natsOptions_SetAllowReconnect(made, false);
      return s;
    };
    jsOptions js;
    jsOptions_Init(&js);
    js.Wait = kConnectTimeout.count();
    js.PublishAsync.AckHandler = on_ack;
    js.PublishAsync.AckHandlerClosure = &acks_;
    auto client = connect_nats_client(options_.url, options_.credentials, options_.creds_file,
                                      kConnectTimeout, set, js);
    if (!client) return tl::unexpected(client.error());
    client_.emplace(std::move(*client));
    for (const Stream& stream : kStreams) {
      if (auto ok = ensure(stream); !ok) return ok;
    }
    return {};
  }

  Result<void> ensure(const Stream& stream) {
    jsErrCode code{};
    jsStreamInfo* made = nullptr;
    natsStatus s = js_GetStreamInfo(&made, context(), stream.name, nullptr, &code);
    if (s == NATS_NOT_FOUND) {
      jsStreamConfig config;
      jsStreamConfig_Init(&config);
      config.Name = stream.name;
      const char* subjects[] = {stream.subjects};
      config.Subjects = subjects;
      config.SubjectsLen = 1;
      config.Retention = stream.retention;
      config.MaxAge = stream.max_age;
      s = js_AddStream(&made, context(), &config, nullptr, &code);
    }
    const NatsStreamInfoPtr info(made);
    if (s != NATS_OK) {
      return nats_failure(fmt::format("the stream {} cannot be used", stream.name), s);
    }
    const jsStreamConfig& found = *info->Config;
    const bool as_it_should = found.Retention == stream.retention && found.SubjectsLen == 1 &&
                              std::string_view(found.Subjects[0]) == stream.subjects;
    if (!as_it_should && options_.warn) {
      options_.warn(
          fmt::format("The stream {} of NATS is not as fairsale would make it (subjects {}, {}), "
                      "and is used as it is",
                      stream.name, stream.subjects,
                      stream.retention == js_WorkQueuePolicy ? "a work queue" : "kept by limits"));
    }
    return {};
  }

  Result<void> publish(const Publication& p, std::size_t index) {
    natsMsg* message = nullptr;
    natsStatus s = natsMsg_Create(&message, p.subject.c_str(), nullptr, p.body.data(),
                                  static_cast<int>(p.body.size()));
    const auto header = [&](const char* name, const std::string& value) {
      if (s == NATS_OK) s = natsMsgHeader_Set(message, name, value.c_str());
    };
    header("Content-Type", "application/cloudevents+json; charset=utf-8");
    header("traceparent", p.traceparent);
    if (s == NATS_OK) {
      jsPubOptions how;
      jsPubOptions_Init(&how);
      how.MsgId = p.id.c_str();
      how.MaxWait = kAckTimeout.count();
      {
        const std::scoped_lock lock(acks_.mutex);
        acks_.awaited.emplace(p.id, index);
      }
      s = js_PublishMsgAsync(context(), &message, &how);
    }
    natsMsg_Destroy(message);  // taken, and null, when it was published
    if (s != NATS_OK) return nats_failure("cannot publish", s);
    return {};
  }

  natsConnection* connection() { return client_->connection.get(); }
  jsCtx* context() { return client_->context.get(); }

  void disconnect() {
    if (client_) natsConnection_Close(connection());
    client_.reset();
  }

  const NatsOptions options_;
  Acks& acks_ = for_ever<Acks>();
  std::optional<NatsClient> client_;
};

}  // namespace

std::unique_ptr<Consumer> nats_consumer(NatsOptions options) {
  return std::make_unique<NatsConsumer>(std::move(options));
}

std::string nats_message_id(std::string_view id, std::string_view body) {
  return fmt::format("{}/{:.16}", id, to_hex(sha256(std::as_bytes(std::span(body)))));
}

std::string nats_token(std::string_view sku) {
  std::string out;
  for (const char c : sku) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_';
    if (plain) {
      out += c;
    } else {
      fmt::format_to(std::back_inserter(out), "%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string nats_subject(std::string_view sku, const MessageRow& m) {
  const std::string token = nats_token(sku);
  if (m.kind == DecisionKind::ordered || m.kind == DecisionKind::refund_due) {
    return "fairsale.orders." + token;
  }
  return fmt::format("fairsale.notifications.{}.{}", token, name_of(m.kind));
}

std::string nats_subject(std::string_view sku, const Reminder&) {
  return fmt::format("fairsale.notifications.{}.{}", nats_token(sku), kReminderKind);
}

}  // namespace fairsale
