// The event streams of one desk, on its thread: what sales look like, from the board; messages,
// from the hub; and for purchases their place in line and the end of their hold, looked up at
// their shard.
//
// Purchases come first: a turn does a bounded piece of the work for streams, and the next turn goes
// on with it.
//
// A client that takes messages more slowly than the outbox is read, as one that catches up mostly
// does, is not sent what it cannot take: its subscription is ended, and begun again behind the last
// message that it was sent once the network has taken that.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/http/worker.hpp"
#include "api/streams/message_hub.hpp"
#include "core/domain/sale.hpp"
#include "core/engine/clock.hpp"
#include "projections/availability.hpp"

namespace fairsale::api {

// How a purchase that waits stands in line.
struct Standing {
  std::uint32_t place = 0;
  std::uint64_t units_ahead = 0;
  std::uint64_t units_may_return = 0;
  std::optional<Duration> eta;

  friend bool operator==(const Standing&, const Standing&) = default;
};

// {"place":3,"units_ahead":4,"units_may_return":20,"eta_seconds":35}
void append_standing(std::string& out, const Standing&);

// A stream's question to the shard of its purchase, and the answer.
struct Look {
  http::Ticket ticket;
  SkuId sku;
  Seq purchase;
};

struct Looked {
  http::Ticket ticket;
  std::optional<Standing> standing;  // while it waits
  Timestamp until;                   // of its hold; 0 when it has none
  Duration hold;                     // how long holds of the sale last
};

// Of all desks.
struct StreamCount {
  explicit StreamCount(std::size_t limit) : most(limit) {}

  const std::size_t most;
  std::atomic<std::size_t> open{0};
};

// A stream of a purchase that its shard has allowed.
struct PurchaseStream {
  http::Ticket ticket;
  SkuId sku;
  SkuName name;
  Seq purchase;
  Cursor after;
  std::string document;  // of the purchase as it is at `after`; empty when the client resumes
};

class EventStreams {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `hub` may be null: then there are streams of sales only.
  EventStreams(http::Worker& worker, const AvailabilityBoard& board, const Clock& clock,
               MessageHub* hub, std::uint16_t desk, StreamCount& count);

  // These begin an answer; false: there are too many streams, and nothing was answered.
  bool begin_sale(http::Ticket, std::shared_ptr<const Availability>, std::optional<Cursor> seen);
  bool begin_decisions(http::Ticket, const Availability&, Cursor after);
  bool begin_purchase(const PurchaseStream&);

  // To be called with each stream that the worker reports as closed, once.
  void closed(http::Ticket);

  // Once per turn: sends what is due, and adds to `looks` what is to be looked up. Returns when it
  // wants to be called again.
  TimePoint turn(std::vector<Look>& looks);
  // Whether a turn has anything to do at all.
  bool any() const { return !streams_.empty(); }
  void looked(const Looked&);

 private:
  enum class Kind : std::uint8_t { sale, purchase, decisions };

  // A sale that somebody watches.
  struct Watched {
    std::shared_ptr<const Availability> now;
    std::string frame;
    std::uint64_t version = ~std::uint64_t{0};  // of the board when it was looked up
    std::size_t watchers = 0;
  };
  using Watches = std::map<std::uint64_t, Watched>;  // by SKU

  struct Stream {
    http::Ticket ticket;
    Kind kind = Kind::sale;
    SkuId sku;
    SkuName name;
    Seq purchase;
    Cursor told;                       // the last message that it was sent
    std::uint32_t subscription = 0;    // frames of earlier ones are not for it
    bool behind = false;               // it has none, until the network has taken what was sent
    Watches::iterator watched;         // of a sale
    Seq sent;                          // of a sale: the position
    TimePoint due;                     // heartbeat of a sale, look at a purchase
    Timestamp announced;               // end of the hold that it was told is near
    std::optional<Standing> standing;  // that it was told
  };

  bool admit();
  bool begin(Stream, std::string_view first);
  Stream* find(http::Ticket);
  void refresh(Watched&);
  static void show(Watched&, std::shared_ptr<const Availability>);
  void visit(Stream&, std::vector<Look>& looks);
  void read_tray();
  void subscribe(Stream&);
  void go_on();

  http::Worker& worker_;
  const AvailabilityBoard& board_;
  const Clock& clock_;
  MessageHub* const hub_;
  const std::uint16_t desk_;
  StreamCount& count_;

  std::vector<Stream> streams_;
  std::vector<std::uint32_t> index_;  // into streams_ + 1, by connection; 0: none
  Watches watches_;
  std::size_t sale_streams_ = 0;

  std::vector<Frame> frames_;
  std::size_t read_ = 0;  // of frames_
  std::vector<http::Ticket> behind_;
  TimePoint go_on_at_{};  // when they are looked at again

  std::size_t next_ = 0;  // to be visited in this round
  TimePoint round_at_{};  // when the next one begins
  bool in_round_ = false;
  std::size_t sent_ = 0;  // frames of sales in this turn
  TimePoint now_{};
  std::string scratch_;
};

}  // namespace fairsale::api
