#include "api/cluster/bus.hpp"

#include <fmt/format.h>
#include <simdjson.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <deque>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "projections/delivery/nats_client.hpp"

namespace fairsale::api {

namespace {

using cluster::BatchNumber;
using cluster::NodeId;
using cluster::PartitionId;
using cluster::Position;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kConnectTimeout{500};
constexpr milliseconds kWriteTimeout{2'000};
constexpr milliseconds kRequestTimeout{2'000};
constexpr milliseconds kAtOnce{750};
constexpr milliseconds kReconnectWait{100};
constexpr milliseconds kPingInterval{300};
constexpr int kPingsOut = 2;  // a server that is silent is left after about a second
constexpr milliseconds kDestroyAfter{5'000};
constexpr milliseconds kStreamHeartbeat{250};
constexpr std::int64_t kNanos = 1'000'000;  // of a millisecond
constexpr std::int64_t kForgetConsumerAfter = 30'000 * kNanos;

constexpr std::string_view kStoredPrefix = "fairsale.stored.";
constexpr std::string_view kRepliesPrefix = "fairsale.replies.";
constexpr std::string_view kQueriesPrefix = "fairsale.queries.";
constexpr const char* kShown = "fairsale.shown";
constexpr const char* kShow = "fairsale.show";
constexpr const char* kNodes = "fairsale.nodes";

template <class T>
bool parse(std::string_view text, T& out, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  return error == std::errc() && end == text.data() + text.size();
}

// "ORIGIN.NUMBER"
bool parse_origin_and_number(std::string_view text, NodeId& origin, std::uint64_t& number) {
  const std::size_t dot = text.find('.');
  return dot != std::string_view::npos && parse(text.substr(0, dot), origin.value, 16) &&
         parse(text.substr(dot + 1), number);
}

std::span<const std::byte> bytes_of(natsMsg* m) {
  return {reinterpret_cast<const std::byte*>(natsMsg_GetData(m)),
          static_cast<std::size_t>(natsMsg_GetDataLength(m))};
}

// What JetStream writes into the reply subject of a message that it delivers:
// $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<its consumer's>.<time>.<pending>, and with a
// domain and an account two tokens more before the stream.
struct Metadata {
  std::uint64_t sequence = 0;
  std::int64_t nanoseconds = 0;
};
std::optional<Metadata> metadata_of(const char* reply) {
  if (reply == nullptr) return std::nullopt;
  std::string_view rest(reply);
  std::array<std::string_view, 16> tokens;
  std::size_t n = 0;
  while (n < tokens.size()) {
    const std::size_t dot = rest.find('.');
    tokens[n++] = rest.substr(0, dot);
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  if (n < 9 || tokens[0] != "$JS" || tokens[1] != "ACK") return std::nullopt;
  const std::size_t shift = n == 9 ? 0 : 2;
  Metadata m;
  if (!parse(tokens[5 + shift], m.sequence) || !parse(tokens[7 + shift], m.nanoseconds)) {
    return std::nullopt;
  }
  return m;
}

// The last message that a consumer has sent, as its heartbeats say.
std::optional<std::uint64_t> delivered_of(natsMsg* m) {
  const char* text = nullptr;
  std::uint64_t sequence = 0;
  if (natsMsgHeader_Get(m, "Nats-Last-Stream", &text) != NATS_OK || text == nullptr ||
      !parse(std::string_view(text), sequence)) {
    return std::nullopt;
  }
  return sequence;
}

std::string leader_of(const jsClusterInfo* cluster) {
  return cluster != nullptr && cluster->Leader != nullptr ? cluster->Leader : "";
}

milliseconds since(steady_clock::time_point moment) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - moment);
}

Result<std::string> new_inbox() {
  natsInbox* made = nullptr;
  if (natsStatus s = natsInbox_Create(&made); s != NATS_OK) return nats_failure("an inbox", s);
  std::string inbox(made);
  natsInbox_Destroy(made);
  return inbox;
}

class NatsBus;

enum class Kind : std::uint8_t {
  messages,
  stored,
  probes,
  answers,
  queries,
  replies,
  shown,
  show,
  lacks,
  has,
  unstored,
  nodes
};

// By way of which the library calls, also after close() has returned.
struct Calls {
  std::shared_mutex mutex;  // held, shared, while the bus and its listener are called
  NatsBus* bus = nullptr;   // null: closed
};

struct Hearing {
  Calls* calls = nullptr;
  Kind kind = Kind::messages;
  NodeId origin;
  PartitionId partition;
  std::uint16_t generation = 0;
  std::uint64_t run = 0;
  std::atomic<bool> over{false};
};

class NatsBus final : public Bus {
 public:
  NatsBus(BusOptions options, BusListener& listener)
      : options_(std::move(options)), listener_(listener) {
    calls_.bus = this;
  }
  ~NatsBus() override { close(); }

  Result<void> connect() {
    const auto set = [this](natsOptions* made) {
      natsStatus s = natsOptions_SetName(made, options_.name.c_str());
      const auto then = [&](natsStatus next) {
        if (s == NATS_OK) s = next;
      };
      then(natsOptions_SetPingInterval(made, kPingInterval.count()));
      then(natsOptions_SetMaxPingsOut(made, kPingsOut));
      then(natsOptions_SetAllowReconnect(made, true));
      then(natsOptions_SetMaxReconnect(made, -1));
      then(natsOptions_SetReconnectWait(made, kReconnectWait.count()));
      then(natsOptions_SetReconnectJitter(made, kReconnectWait.count() / 2,
                                          kReconnectWait.count() / 2));
      // What cannot be sent now is not sent: by the time it could be, nobody waits for it.
      then(natsOptions_SetReconnectBufSize(made, 1));
      then(natsOptions_SetWriteDeadline(made, kWriteTimeout.count()));
      then(natsOptions_SetSendAsap(made, true));
      then(natsOptions_SetErrorHandler(made, on_error, nullptr));
      then(natsOptions_SetDisconnectedCB(made, on_disconnected, &calls_));
      then(natsOptions_SetReconnectedCB(made, on_reconnected, &calls_));
      then(natsOptions_SetClosedCB(made, on_closed, &calls_));
      return s;
    };
    jsOptions js;
    jsOptions_Init(&js);
    js.Wait = kRequestTimeout.count();
    auto client = connect_nats_client(options_.url, options_.credentials, options_.creds_file,
                                      kConnectTimeout, set, js);
    if (!client) return tl::unexpected(client.error());
    client_.emplace(std::move(*client));
    auto inbox = new_inbox();
    if (!inbox) return tl::unexpected(inbox.error());
    probes_ = std::move(*inbox);
    return hear(probes_ + ".*.*", nullptr, {.kind = Kind::probes});
  }

  Result<void> available() override {
    jsAccountInfo* info = nullptr;
    jsErrCode code{};
    jsOptions soon = at_once();
    const natsStatus s = js_GetAccountInfo(&info, context(), &soon, &code);
    jsAccountInfo_Destroy(info);
    if (s != NATS_OK) return nats_failure("it has no leader of its own", s);
    return {};
  }

  Result<void> ensure_stream(PartitionId p, std::uint16_t generation) override {
    return ensure_log_stream(context(), {p, generation}, options_.streams);
  }

  Result<std::optional<LogStreamBounds>> bounds(PartitionId p, std::uint16_t generation) override {
    return log_stream_bounds(context(), {p, generation});
  }

  Result<std::string> follow(PartitionId p, Position next, std::uint64_t run) override {
    const std::pair key{p, next.generation};
    std::shared_ptr<Subscribed> before;
    {
      const std::scoped_lock lock(mutex_);
      Following& f = following_[key];
      before = taken_from(f);
      f.heard.reset();
      f.last = next.sequence - 1;
      f.told = 0;
      f.lost = false;
    }
    drop(std::move(before));
    const auto inbox = new_inbox();
    if (!inbox) return tl::unexpected(inbox.error());
    Hearing what{.kind = Kind::messages, .partition = p, .generation = next.generation, .run = run};
    auto hearing = subscribe(*inbox, nullptr, what);
    if (!hearing) return tl::unexpected(hearing.error());
    {
      const std::scoped_lock lock(mutex_);
      following_[key].hearing = *hearing;
    }
    jsConsumerConfig config;
    jsConsumerConfig_Init(&config);
    config.DeliverSubject = inbox->c_str();
    config.DeliverPolicy = js_DeliverByStartSequence;
    config.OptStartSeq = next.sequence;
    config.AckPolicy = js_AckNone;
    config.FlowControl = true;
    config.Heartbeat = kStreamHeartbeat.count() * kNanos;
    config.InactiveThreshold = kForgetConsumerAfter;
    config.Replicas = 1;
    config.MemoryStorage = true;
    jsErrCode code{};
    const std::string name = LogStream{p, next.generation}.name();
    jsConsumerInfo* info = nullptr;
    const natsStatus s = js_AddConsumer(&info, context(), name.c_str(), &config, nullptr, &code);
    std::string server;
    if (s == NATS_OK) server = leader_of(info->Cluster);
    jsConsumerInfo_Destroy(info);
    if (s != NATS_OK) return nats_failure(fmt::format("the stream {} cannot be followed", name), s);
    return server;
  }

  bool lost(PartitionId p, std::uint16_t generation) const override {
    const std::scoped_lock lock(mutex_);
    const auto it = following_.find({p, generation});
    return it != following_.end() && it->second.lost;
  }

  void found(PartitionId p, std::uint16_t generation, std::uint64_t last) override {
    const std::scoped_lock lock(mutex_);
    const auto it = following_.find({p, generation});
    if (it == following_.end()) return;
    Following& f = it->second;
    f.last = std::max(f.last, last);
    f.lost = f.told > f.last;
  }

  milliseconds quiet(PartitionId p, std::uint16_t generation) const override {
    const std::scoped_lock lock(mutex_);
    const auto it = following_.find({p, generation});
    if (it == following_.end() || !it->second.message) return milliseconds::max();
    return since(*it->second.message);
  }

  std::string heard(PartitionId p, std::uint16_t generation) const override {
    const std::scoped_lock lock(mutex_);
    const auto it = following_.find({p, generation});
    if (it == following_.end()) return "it is not followed";
    const auto ago = [](const auto& moment) {
      return moment ? fmt::format("{} ms ago", since(*moment).count()) : std::string("never");
    };
    return fmt::format("its consumer spoke {}, its leader {}", ago(it->second.heard),
                       ago(it->second.led));
  }

  void leave(PartitionId p, std::uint16_t generation) override {
    std::shared_ptr<Subscribed> before;
    {
      const std::scoped_lock lock(mutex_);
      const auto it = following_.find({p, generation});
      if (it == following_.end()) return;
      before = taken_from(it->second);
      following_.erase(it);
    }
    drop(std::move(before));
  }

  // A message for another stream is refused by the leader, before anything is stored.
  void probe(PartitionId p, std::uint16_t generation) override {
    {
      const std::scoped_lock lock(mutex_);
      if (!following_.contains({p, generation})) return;
    }
    const auto subject = LogStream{p, generation}.subject();
    const auto reply = fmt::format("{}.{}.{}", probes_, p.value, generation);
    natsMsg* made = nullptr;
    if (natsMsg_Create(&made, subject.c_str(), reply.c_str(), nullptr, 0) != NATS_OK) return;
    const NatsMessagePtr message(made);
    if (natsMsgHeader_Set(made, "Nats-Expected-Stream", "none") == NATS_OK) {
      (void)natsConnection_PublishMsg(connection(), made);
    }
  }

  milliseconds silent(PartitionId p, std::uint16_t generation) const override {
    const std::scoped_lock lock(mutex_);
    const auto it = following_.find({p, generation});
    if (it == following_.end() || !it->second.heard || !it->second.led) return milliseconds::max();
    return since(std::min(*it->second.heard, *it->second.led));
  }

  Result<std::optional<std::string>> leader(PartitionId p, std::uint16_t generation) override {
    jsStreamInfo* info = nullptr;
    jsErrCode code{};
    const natsStatus s =
        js_GetStreamInfo(&info, context(), LogStream{p, generation}.name().c_str(), nullptr, &code);
    const NatsStreamInfoPtr kept(info);
    if (s != NATS_OK) return nats_failure("streams cannot be looked at", s);
    if (info->Cluster == nullptr) return std::optional<std::string>{};
    return std::optional(leader_of(info->Cluster));
  }

  void step_down(PartitionId p, std::uint16_t generation) override {
    const auto subject =
        fmt::format("$JS.API.STREAM.LEADER.STEPDOWN.{}", LogStream{p, generation}.name());
    natsMsg* reply = nullptr;
    (void)natsConnection_RequestString(&reply, connection(), subject.c_str(), "",
                                       kRequestTimeout.count());
    natsMsg_Destroy(reply);
  }

  bool remove_stream(PartitionId p, std::uint16_t generation) override {
    const natsStatus s =
        js_DeleteStream(context(), LogStream{p, generation}.name().c_str(), nullptr, nullptr);
    return s == NATS_OK || s == NATS_NOT_FOUND;
  }

  Result<std::optional<LogStreamMessage>> fetch(PartitionId p, Position at) override {
    jsOptions soon = at_once();
    return log_stream_message(context(), {p, at.generation}, at.sequence, &soon);
  }

  bool publish_batch(PartitionId p, std::uint16_t generation, NodeId origin, BatchNumber number,
                     std::span<const std::byte> bytes) override {
    const auto subject = LogStream{p, generation}.subject();
    const auto reply = fmt::format("{}{:x}.{}", kStoredPrefix, origin.value, number.value);
    return natsConnection_PublishRequest(connection(), subject.c_str(), reply.c_str(), bytes.data(),
                                         static_cast<int>(bytes.size())) == NATS_OK;
  }

  void publish_message(PartitionId p, std::uint16_t generation,
                       std::span<const std::byte> bytes) override {
    publish(LogStream{p, generation}.subject(), bytes);
  }

  void publish_answers(NodeId origin, std::span<const std::byte> bytes) override {
    publish(fmt::format("fairsale.answers.{:x}", origin.value), bytes);
  }

  bool publish_query(PartitionId p, NodeId origin, std::uint64_t number,
                     std::span<const std::byte> bytes) override {
    const auto subject = fmt::format("{}{}", kQueriesPrefix, p.value);
    const auto reply = fmt::format("{}{:x}.{}", kRepliesPrefix, origin.value, number);
    return natsConnection_PublishRequest(connection(), subject.c_str(), reply.c_str(), bytes.data(),
                                         static_cast<int>(bytes.size())) == NATS_OK;
  }

  void publish_reply(std::string_view reply_to, std::span<const std::byte> bytes) override {
    publish(std::string(reply_to), bytes);
  }
  void publish_shown(std::span<const std::byte> bytes) override { publish(kShown, bytes); }
  void ask_to_show() override { publish(kShow, {}); }
  void publish_lacks(PartitionId p, std::span<const std::byte> bytes) override {
    publish(fmt::format("fairsale.lacks.{}", p.value), bytes);
  }
  void publish_has(NodeId node, std::span<const std::byte> bytes) override {
    publish(fmt::format("fairsale.has.{:x}", node.value), bytes);
  }
  void publish_unstored(PartitionId p) override {
    publish(fmt::format("fairsale.unstored.{}", p.value), {});
  }
  void publish_heartbeat(std::span<const std::byte> bytes) override { publish(kNodes, bytes); }

  Result<void> hear_origin(NodeId origin) override {
    for (const auto& [kind, subject] :
         {std::pair{Kind::stored, fmt::format("{}{:x}.*", kStoredPrefix, origin.value)},
          std::pair{Kind::answers, fmt::format("fairsale.answers.{:x}", origin.value)},
          std::pair{Kind::replies, fmt::format("{}{:x}.*", kRepliesPrefix, origin.value)}}) {
      if (auto ok = hear(subject, nullptr, {.kind = kind, .origin = origin}); !ok) {
        return ok;
      }
    }
    return {};
  }
  Result<void> hear_queries(PartitionId p) override {
    return hear(fmt::format("{}{}", kQueriesPrefix, p.value), "processors",
                {.kind = Kind::queries, .partition = p});
  }
  Result<void> hear_lacks(PartitionId p) override {
    return hear(fmt::format("fairsale.lacks.{}", p.value), nullptr, {.kind = Kind::lacks});
  }
  Result<void> hear_has(NodeId node) override {
    return hear(fmt::format("fairsale.has.{:x}", node.value), nullptr, {.kind = Kind::has});
  }
  Result<void> hear_shown() override { return hear(kShown, nullptr, {.kind = Kind::shown}); }
  Result<void> hear_show() override { return hear(kShow, nullptr, {.kind = Kind::show}); }
  Result<void> hear_unstored(PartitionId p) override {
    return hear(fmt::format("fairsale.unstored.{}", p.value), nullptr,
                {.kind = Kind::unstored, .partition = p});
  }
  Result<void> hear_heartbeats() override { return hear(kNodes, nullptr, {.kind = Kind::nodes}); }

  void close() override {
    {
      const std::unique_lock lock(calls_.mutex);
      calls_.bus = nullptr;
    }
    if (client_) natsConnection_Close(connection());
    {
      const std::scoped_lock lock(left_mutex_);
      left_.clear();
    }
    const std::scoped_lock lock(mutex_);
    following_.clear();
    kept_.clear();
    client_.reset();
  }

 private:
  // A subscription, and what its callback is given, which the library may be done with before or
  // after this.
  struct Subscribed {
    NatsSubscriptionPtr subscription;
    std::shared_ptr<Hearing> hearing;
  };
  struct Left {
    steady_clock::time_point since;
    std::shared_ptr<Subscribed> hearing;
  };
  struct Following {
    std::shared_ptr<Subscribed> hearing;
    std::optional<steady_clock::time_point> heard;  // its consumer
    std::optional<steady_clock::time_point> led;    // a leader of the stream
    std::optional<steady_clock::time_point> message;
    std::uint64_t last = 0;  // message that came
    std::uint64_t told = 0;  // the last that its consumer has sent
    bool lost = false;       // messages behind it
  };

  // Of what who can answer it answers at once.
  static jsOptions at_once() {
    jsOptions options;
    jsOptions_Init(&options);
    options.Wait = kAtOnce.count();
    return options;
  }

  // The subscription may be destroyed by now.
  static void on_error(natsConnection*, natsSubscription*, natsStatus s, void*) {
    spdlog::warn("NATS: {}", natsStatus_GetText(s));
  }
  template <class F>
  static void call(Calls& calls, F&& what) {
    const std::shared_lock lock(calls.mutex);
    if (calls.bus != nullptr) what(*calls.bus);
  }
  static void on_disconnected(natsConnection*, void* calls) {
    call(*static_cast<Calls*>(calls), [](NatsBus& b) { b.listener_.on_connection(false); });
  }
  static void on_reconnected(natsConnection*, void* calls) {
    call(*static_cast<Calls*>(calls), [](NatsBus& b) { b.listener_.on_connection(true); });
  }
  // For good, and not by close(): the library gives up when its credentials were refused twice, or
  // a server says that this client breaks its limits.
  static void on_closed(natsConnection* c, void* calls) {
    call(*static_cast<Calls*>(calls), [c](NatsBus& b) {
      const char* why = nullptr;
      (void)natsConnection_GetLastError(c, &why);
      spdlog::error("NATS: the connection is closed: {}", why != nullptr ? why : "no reason given");
      b.listener_.on_connection_lost();
    });
  }

  natsConnection* connection() const { return client_ ? client_->connection.get() : nullptr; }
  jsCtx* context() const { return client_ ? client_->context.get() : nullptr; }

  void publish(const std::string& subject, std::span<const std::byte> bytes) {
    (void)natsConnection_Publish(connection(), subject.c_str(), bytes.data(),
                                 static_cast<int>(bytes.size()));
  }

  // Its subscription, which is heard no more. Under the mutex; for drop().
  static std::shared_ptr<Subscribed> taken_from(Following& f) {
    if (f.hearing) f.hearing->hearing->over = true;
    return std::move(f.hearing);
  }

  // The library (3.4.1) may be about to deliver to it, without a hold on it
  // (github.com/nats-io/nats.c/issues/637), so it is destroyed when that is over. Not under the
  // mutex: it waits for the library, which may wait for the network.
  void drop(std::shared_ptr<Subscribed> s) {
    if (!s) return;
    natsSubscription_Unsubscribe(s->subscription.get());
    std::deque<Left> gone;
    const auto now = steady_clock::now();
    const std::scoped_lock lock(left_mutex_);
    left_.push_back({now, std::move(s)});
    while (now - left_.front().since > kDestroyAfter) {
      gone.push_back(std::move(left_.front()));
      left_.pop_front();
    }
  }

  Result<std::shared_ptr<Subscribed>> subscribe(const std::string& subject, const char* queue,
                                                const Hearing& what) {
    auto hearing = std::make_shared<Hearing>();
    hearing->calls = &calls_;
    hearing->kind = what.kind;
    hearing->origin = what.origin;
    hearing->partition = what.partition;
    hearing->generation = what.generation;
    hearing->run = what.run;
    using Kept = std::shared_ptr<Hearing>;
    auto library = std::make_unique<Kept>(hearing);
    natsSubscription* made = nullptr;
    const natsStatus s =
        queue == nullptr
            ? natsConnection_Subscribe(&made, connection(), subject.c_str(), on_msg, hearing.get())
            : natsConnection_QueueSubscribe(&made, connection(), subject.c_str(), queue, on_msg,
                                            hearing.get());
    if (s != NATS_OK) return nats_failure("cannot subscribe", s);
    auto out = std::make_shared<Subscribed>();
    out->subscription.reset(made);
    out->hearing = std::move(hearing);
    if (natsSubscription_SetOnCompleteCB(
            made, [](void* it) { delete static_cast<Kept*>(it); }, library.get()) == NATS_OK) {
      (void)library.release();
    }
    return out;
  }

  Result<void> hear(const std::string& subject, const char* queue, const Hearing& what) {
    auto made = subscribe(subject, queue, what);
    if (!made) return tl::unexpected(made.error());
    const std::scoped_lock lock(mutex_);
    kept_.push_back(std::move(*made));
    return {};
  }

  static void on_msg(natsConnection*, natsSubscription*, natsMsg* msg, void* closure) {
    const NatsMessagePtr kept(msg);
    auto& h = *static_cast<Hearing*>(closure);
    call(*h.calls, [&](NatsBus& bus) {
      if (!h.over) bus.heard(h, msg);
    });
  }

  void heard(const Hearing& h, natsMsg* m) {
    switch (h.kind) {
      case Kind::messages: return heard_message(h, m);
      case Kind::stored: return heard_stored(m);
      case Kind::probes: return heard_probe(m);
      case Kind::answers: return listener_.on_answers(h.origin, bytes_of(m));
      case Kind::queries: {
        const char* reply = natsMsg_GetReply(m);
        if (reply != nullptr) listener_.on_query(h.partition, bytes_of(m), reply);
        return;
      }
      case Kind::replies: {
        NodeId origin;
        std::uint64_t number = 0;
        const std::string_view subject = natsMsg_GetSubject(m);
        if (!parse_origin_and_number(subject.substr(kRepliesPrefix.size()), origin, number)) return;
        listener_.on_reply(origin, number,
                           natsMsg_IsNoResponders(m) ? std::span<const std::byte>{} : bytes_of(m));
        return;
      }
      case Kind::shown: return listener_.on_shown(bytes_of(m));
      case Kind::show: return listener_.on_show();
      case Kind::lacks: return listener_.on_lacks(bytes_of(m));
      case Kind::has: return listener_.on_has(bytes_of(m));
      case Kind::unstored: return listener_.on_unstored(h.partition);
      case Kind::nodes: return listener_.on_heartbeat(bytes_of(m));
    }
  }

  void heard_message(const Hearing& h, natsMsg* m) {
    const char* reply = natsMsg_GetReply(m);
    const auto metadata = metadata_of(reply);
    {
      const std::scoped_lock lock(mutex_);
      const auto it = following_.find({h.partition, h.generation});
      if (it == following_.end() || h.over) return;
      Following& f = it->second;
      f.heard = steady_clock::now();
      if (metadata) {
        f.message = f.heard;
        f.last = metadata->sequence;
      } else if (const auto delivered = delivered_of(m)) {
        f.told = *delivered;
        f.lost = f.lost || f.told > f.last;
      }
    }
    if (!metadata) {
      // A heartbeat, or the question whether we keep up: the answer says that all before it has
      // been taken.
      const char* stalled = nullptr;
      if (natsMsgHeader_Get(m, "Nats-Consumer-Stalled", &stalled) == NATS_OK) reply = stalled;
      if (reply != nullptr) (void)natsConnection_Publish(connection(), reply, nullptr, 0);
      return;
    }
    listener_.on_message({.partition = h.partition,
                          .position = {h.generation, metadata->sequence},
                          .time = Timestamp{metadata->nanoseconds / kNanos},
                          .bytes = bytes_of(m)},
                         h.run);
  }

  void heard_probe(natsMsg* m) {
    if (natsMsg_IsNoResponders(m)) return;
    std::string_view rest = natsMsg_GetSubject(m);
    rest.remove_prefix(std::min(rest.size(), probes_.size() + 1));
    const std::size_t dot = rest.find('.');
    PartitionId p;
    std::uint16_t generation = 0;
    if (dot == std::string_view::npos || !parse(rest.substr(0, dot), p.value) ||
        !parse(rest.substr(dot + 1), generation)) {
      return;
    }
    const std::scoped_lock lock(mutex_);
    const auto it = following_.find({p, generation});
    if (it != following_.end()) it->second.led = steady_clock::now();
  }

  void heard_stored(natsMsg* m) {
    NodeId origin;
    BatchNumber number;
    const std::string_view subject = natsMsg_GetSubject(m);
    if (!parse_origin_and_number(subject.substr(kStoredPrefix.size()), origin, number.value))
      return;
    std::optional<Position> at;
    if (!natsMsg_IsNoResponders(m)) {
      // {"stream":"FAIRSALE_LOG_0_0","seq":17}, or the same with an "error". What was refused by
      // the leader is not known to be nowhere, so it stays as it is: not stored.
      thread_local simdjson::dom::parser parser;
      simdjson::dom::element ack;
      std::string_view stream;
      std::uint64_t sequence = 0;
      const auto bytes = bytes_of(m);
      simdjson::dom::element error;
      if (parser.parse(reinterpret_cast<const char*>(bytes.data()), bytes.size()).get(ack) ==
              simdjson::SUCCESS &&
          ack["stream"].get(stream) == simdjson::SUCCESS &&
          ack["seq"].get(sequence) == simdjson::SUCCESS) {
        if (ack["error"].get(error) == simdjson::SUCCESS) return;
        std::uint16_t generation = 0;
        if (parse(stream.substr(stream.rfind('_') + 1), generation)) at = {generation, sequence};
      }
    }
    listener_.on_stored(origin, number, at);
  }

  const BusOptions options_;
  BusListener& listener_;
  std::optional<NatsClient> client_;
  std::string probes_;  // where their answers come, under .P.G

  Calls& calls_ = for_ever<Calls>();

  mutable std::mutex mutex_;
  std::map<std::pair<PartitionId, std::uint16_t>, Following> following_;  // by generation
  std::vector<std::shared_ptr<Subscribed>> kept_;
  std::mutex left_mutex_;
  std::deque<Left> left_;
};

}  // namespace

Result<std::unique_ptr<Bus>> connect_nats(BusOptions options, BusListener& listener) {
  auto bus = std::make_unique<NatsBus>(std::move(options), listener);
  if (auto ok = bus->connect(); !ok) return tl::unexpected(ok.error());
  return bus;
}

}  // namespace fairsale::api
