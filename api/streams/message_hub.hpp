// Who listens to the messages of the outbox: streams of one purchase, and of a whole sale.
//
// One thread reads the outbox as it grows and is the only one that says what a stream is told and
// in which order. A subscription at a cursor gets every message behind it exactly once, in the
// order of the log: first what there is already, then what comes. Nothing is kept for a stream but
// its cursor, since the outbox lies on disk: whoever was cut off subscribes again where it was.
//
// Those of a SKU who have something to catch up on do so together, in passes: one reading from the
// smallest of their cursors, in pieces. So ten thousand clients that come back after a restart cost
// one reading. Who comes during a pass waits for the next one. Who is far behind has passes of
// their own, so that nobody near the head waits for them.
//
// A desk that is slow to send holds up the hub, which reads no further meanwhile, and never the
// other way round. What all the same finds no room in a desk's tray ends the stream.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "api/http/worker.hpp"
#include "projections/outbox/cursors.hpp"
#include "projections/stored/follower.hpp"
#include "projections/stored/store.hpp"

namespace fairsale::api {

// Something to send on a stream; without bytes: the stream is to be ended.
struct Frame {
  http::Ticket ticket;
  std::shared_ptr<const std::string> bytes;
  bool message = false;  // and not a heartbeat
};

// The frames for one desk. Thread-safe.
class FrameTray {
 public:
  explicit FrameTray(std::size_t limit) : limit_(limit) {}

  // Moves in what finds room; the streams of the others are to be ended, which always finds room.
  // Returns their tickets.
  std::vector<http::Ticket> put(std::vector<Frame>& frames);
  // Swaps the content into `out` (which must be empty).
  void take(std::vector<Frame>& out);
  // More than half of the room is taken.
  bool crowded() const;

 private:
  const std::size_t limit_;
  mutable std::mutex mutex_;
  std::vector<Frame> frames_;
};

struct Subscription {
  std::uint16_t desk = 0;
  http::Ticket ticket;
  SkuId sku;
  SkuName name;
  Seq purchase;  // 0: all messages of the sale
  Cursor after;  // may be ahead of the outbox
};

struct MessageHubOptions {
  std::size_t piece = 1024;                     // messages read at once
  std::size_t fan_out = 4096;                   // frames made at once, about
  std::uint64_t near = 65'536;                  // positions behind the head that are not far
  std::size_t tray = 65'536;                    // frames for one desk
  std::chrono::milliseconds heartbeat{10'000};  // of each stream
  std::chrono::milliseconds retry_after{500};   // when the outbox cannot be read
  // Told what goes wrong, once for each trouble, by the thread that works.
  std::function<void(const Error&)> report;
};

class MessageHub {
 public:
  // See Projector::store().
  using StoreSource = std::function<std::shared_ptr<const ProjectionStore>()>;
  // Called when something was put into that desk's tray, by the thread that works.
  using Wake = std::function<void(std::size_t desk)>;
  using TimePoint = std::chrono::steady_clock::time_point;

  MessageHub(StoreSource store, std::size_t desks, Wake wake, MessageHubOptions options);
  ~MessageHub();  // as stop()
  MessageHub(const MessageHub&) = delete;
  MessageHub& operator=(const MessageHub&) = delete;

  // Then either a thread does the work, until stop(), ...
  void start();
  void stop();
  // ... or the caller: does a piece of what there is to do and returns whether to call again at
  // once.
  bool work(TimePoint now);

  // These are for any thread and cheap.

  FrameTray& tray(std::size_t desk) { return *trays_[desk]; }
  void subscribe(const Subscription&);
  void unsubscribe(std::uint16_t desk, http::Ticket);
  // There are more messages of this SKU.
  void grew(SkuId);

 private:
  // Names a listener: its desk and connection.
  using Key = std::uint64_t;
  static Key key_of(std::uint16_t desk, http::Ticket t) {
    return std::uint64_t{desk} << 32 | t.connection;
  }

  enum class Stage : std::uint8_t { waiting, live, near, far };

  struct Topic;
  struct Listener {
    Subscription is;  // `after` moves with what it was told
    Topic* topic = nullptr;
    Stage stage = Stage::waiting;
  };
  struct Pass {
    bool under_way = false;
    Cursor at;  // all messages up to here were told
    std::vector<Key> members;
    std::vector<Key> waiting;
  };
  // A SKU that somebody listens to.
  struct Topic {
    SkuId sku;
    SkuName name;
    std::size_t listeners = 0;
    bool begun = false;
    bool queued = false;
    bool grown = false;  // there may be more than `live`
    Cursor live;         // all messages up to here were told to those who are live
    Pass near;
    Pass far;
    std::vector<Key> beginning;                      // who came before it was begun
    std::unordered_multimap<std::uint64_t, Key> of;  // listeners, by purchase
  };
  struct Request {
    Subscription subscription;
    bool leave = false;
  };
  struct Beat {
    Key key;
    std::uint32_t generation;
    TimePoint due;
  };

  void run();
  void take_requests();
  void let_in(const Subscription&);
  void let_go(Key, std::uint32_t generation);
  void queue(Topic&);
  void place(Topic&, Listener&, Key);
  Result<void> advance(const ProjectionStore&, Topic&);
  Result<void> read_live(const ProjectionStore&, Topic&);
  Result<void> read_pass(const ProjectionStore&, Topic&, Pass&, Stage);
  void tell(Topic&, const MessageRow&, Stage);
  void beat();
  void send(const Listener&, std::shared_ptr<const std::string>, bool message);
  void deliver();
  bool crowded() const;
  void failed(const Error&);

  const StoreSource store_;
  const Wake wake_;
  const MessageHubOptions options_;
  std::vector<std::unique_ptr<FrameTray>> trays_;
  Bell bell_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  // Shared.
  std::mutex mutex_;
  std::vector<Request> requests_;
  std::unordered_map<std::uint64_t, std::size_t> wanted_;  // SKUs, and how many listen
  std::unordered_set<std::uint64_t> grown_;

  // Of the thread that works.
  std::vector<Request> taken_;
  std::unordered_map<Key, Listener> listeners_;
  std::unordered_map<std::uint64_t, Topic> topics_;
  std::deque<std::uint64_t> queue_;      // topics of which there is something to read
  std::deque<Beat> beats_;               // by when they are due
  std::vector<std::vector<Frame>> out_;  // by desk
  std::size_t made_ = 0;                 // frames in out_
  TimePoint now_{};
  TimePoint retry_at_{};
  std::string trouble_;
};

}  // namespace fairsale::api
