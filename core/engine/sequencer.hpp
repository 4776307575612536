// The sequencer of one shard of SKUs: gives each event its place and time, makes it durable,
// decides it, and only then lets it be answered.
//
// A turn takes whatever has arrived since the last one, seals one block (or more, when full) per
// SKU, commits all of them with one sync, folds the events in order and reports each decision.
// There is no timer and no thread in here: whoever owns the sequencer calls turn(), so the same
// code runs under an event loop, a test, or a simulator with a virtual clock.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "core/engine/clock.hpp"
#include "core/engine/observer.hpp"
#include "core/engine/recovery.hpp"
#include "core/engine/snapshotter.hpp"
#include "core/log/event_log.hpp"

namespace fairsale {

// Names who waits for an answer. Opaque to the sequencer; handed back with the decision.
struct Ticket {
  std::uint64_t words[3] = {};
};

enum class Admission {
  accepted,
  overloaded,    // the inbox is full: try again later, nothing was recorded
  unknown_sale,  // no log of this SKU, and the event does not schedule one
  id_taken,      // another SKU name has this id
  too_many_skus,
};

// Of a log that is ordered elsewhere: the events of one message, all of one SKU. They become one
// block.
struct Ordered {
  SkuId sku;
  Epoch position;  // of the message in what orders it; the block's epoch
  Timestamp time;  // when it was stored there
  std::span<const Event> events;
  std::span<const Ticket> tickets;  // one for each event, or none at all when nobody waits
  // What the writer knew of the SKU's log: `knows.seq` events that end in this digest's first
  // bytes. With 0 events it knew nothing.
  Mark knows;
};

class Answers {
 public:
  // The event at `seq` has been decided and is durable. `sale` is as the event left it.
  virtual void on_decided(const Ticket& ticket, SkuId sku, Seq seq, const Event& event,
                          const Decision& decision, const Sale& sale) = 0;

  // These are of follow() alone. The event found no place in a log; nothing was recorded.
  virtual void on_refused(const Ticket&, const Event&, Admission) {}
  // All events of the message have been told of; `after` is the SKU's head by then.
  virtual void on_followed(const Ordered&, const Head& /*after*/) {}

 protected:
  ~Answers() = default;
};

struct SequencerOptions {
  std::size_t inbox_limit = 8192;     // events that may wait for the next turn
  std::size_t sku_limit = 1'000'000;  // SKUs of this shard
  // Events of a SKU between snapshots under load; 0: none but at a stop. A long log waits for an
  // eighth of its length, so that the cost of snapshots stays in proportion to the events.
  std::uint64_t snapshot_every = 500'000;
  std::uint64_t snapshot_idle = 10'000;  // the same, at most, when the SKU is at rest
  // At a stop, fewer are left to the log: folding them takes no longer than opening a snapshot.
  std::uint64_t snapshot_least = 256;
  Duration settle_after{20};  // of rest, before the log is settled
  Duration idle_after{1000};  // of rest, before snapshots are taken
  Epoch epoch{1};
  bool ordered_elsewhere = false;  // see follow()
  // Takes the snapshots that are due before the stop. Without one they are taken within the turn.
  Snapshotter* snapshotter = nullptr;
};

// What a turn did, for metrics.
struct TurnReport {
  std::size_t events = 0;
  std::size_t blocks = 0;
  std::size_t bytes = 0;
  std::size_t snapshots = 0;
  // Of follow(): messages that were taken, and why not the one after them: it contradicts this log.
  // What it follows is not here, so of what was ordered with it nothing may be taken any more.
  std::size_t followed = 0;
  std::vector<bool> made_block;  // by message
  std::optional<Error> contradiction;
  // A snapshot could not be written. It costs time at the next start, nothing else; it is tried
  // again when as many events have come again.
  std::optional<Error> snapshot_error;
};

// Not thread-safe: one owner. The log, clock and observer must outlive it.
class Sequencer {
 public:
  // Of one commit, so that a write batch stays bounded.
  static constexpr std::size_t kMaxBlocks = 1024;

  Sequencer(EventLog& log, const Clock& clock, SaleObserver& observer, SequencerOptions options);
  Sequencer(const Sequencer&) = delete;
  Sequencer& operator=(const Sequencer&) = delete;

  // Takes over a recovered SKU.
  void adopt(SkuId sku, Folded folded);

  // Puts an event into the next turn. Nothing is recorded before turn() commits it.
  Admission submit(SkuId sku, const Event& event, const Ticket& ticket);

  // Commits and decides what is waiting, and what time has brought. On an error nothing of this
  // turn was acknowledged and the sequencer is dead: submit() and turn() must not be called again.
  Result<TurnReport> turn(Answers& answers);

  // For a log that is ordered elsewhere (SequencerOptions::ordered_elsewhere), instead of submit():
  // commits the messages, kMaxBlocks at most, in their order, a block each, with one sync, and
  // decides them. Their events are well formed and fit into one block. A block's time is that of
  // its message, or of the block before it when that is later: the same messages give the same
  // bytes everywhere. On an error as turn(). turn() then commits nothing and only keeps the log and
  // its snapshots.
  Result<TurnReport> follow(std::span<const Ordered> messages, Answers& answers);

  // For such a log: adds the SKUs whose next deadline passed `lateness` ago by this machine's
  // clock, at most 1,024. Whoever orders events is to be told that time passed; a SKU is named
  // again when that has had no effect for `patience`.
  void take_overdue(Duration lateness, Duration patience, std::vector<SkuId>& out);

  // How long turn() may be left uncalled if nothing is submitted; nothing if forever.
  std::optional<Duration> next_turn_in() const;

  // For a graceful stop, after the last turn: lets the snapshotter finish what was asked of it,
  // takes snapshots of what changed and settles the log.
  TurnReport stop();

  // The sale of a SKU, as of the last turn. Valid until the next call of a non-const member.
  const Sale* find(SkuId sku) const;
  const Head* head(SkuId sku) const;
  void for_each_head(const std::function<void(SkuId, const Head&)>& visit) const;  // in no order

  std::size_t waiting() const { return inbox_.size(); }
  bool full() const { return inbox_.size() >= options_.inbox_limit; }
  std::size_t skus() const { return skus_.size(); }

 private:
  // The latest heads of a SKU that follows, oldest first, a ring.
  struct RecentHeads {
    std::array<Mark, 64> marks{};
    std::size_t next = 0;
  };

  struct Sku {
    SkuId id;
    Sale sale;
    Head head;
    LogClock clock;
    SkuName name;
    std::uint32_t first = kNoIndex;  // its events in the inbox, a list
    std::uint32_t last = kNoIndex;
    std::uint64_t since_snapshot = 0;
    bool unsaved = false;                                     // listed in unsaved_
    bool touched = false;                                     // by the follow() under way
    std::unique_ptr<RecentHeads> recent;                      // once it has followed
    Duration wake{std::numeric_limits<std::int64_t>::max()};  // its key in wakes_, steady time
  };

  // When to look at a SKU again. Those of one moment are in the order of their ids, so that what a
  // turn commits never depends on where in memory a SKU lies.
  struct Wake {
    std::int64_t steady;
    SkuId id;
    Sku* sku;

    friend bool operator<(const Wake& a, const Wake& b) {
      return a.steady != b.steady ? a.steady < b.steady : a.id < b.id;
    }
  };

  struct Waiting {
    Event event;
    Ticket ticket;
    bool wanted = false;  // somebody waits for the answer
    std::uint32_t next = kNoIndex;
  };

  // A SKU's part of the turn under way.
  struct Sealed {
    Sku* sku;
    Timestamp at;
    std::uint32_t end;  // the first of its events that was left for the next turn
  };

  // A message's part of the follow() under way.
  struct Placed {
    Sku* sku;
    const Ordered* message;
    Timestamp at;
    std::size_t first;  // its events' admissions
    Head after;
  };

  Admission place(SkuId, const Event&, Sku*&);
  std::optional<Error> contradiction(const Sku*, const Ordered&) const;
  void finish(Sku&, Now, TurnReport&);
  void decide(const Placed&, Answers&, TurnReport&);
  void enqueue(Sku&, const Event&, const Ticket*);
  void take_due(Now);
  void plan_wake(Sku&, Now);
  void set_wake(Sku&, std::int64_t steady);
  void follow_wall_clock(Now);
  BlockBuilder& next_builder();
  std::span<const std::byte> seal(Sku&, std::uint32_t& next, Timestamp at, Head& head);
  bool due_for_snapshot(const Sku&, std::uint64_t every) const;
  void save(Sku&, TurnReport&);
  void take_snapshot(Sku&, TurnReport&);
  void rest(Now, TurnReport&);

  EventLog& log_;
  const Clock& clock_;
  SaleObserver& observer_;
  SequencerOptions options_;

  std::unordered_map<std::uint64_t, std::unique_ptr<Sku>> skus_;
  std::vector<Waiting> inbox_;
  std::vector<Sku*> busy_;     // SKUs with events in the inbox
  std::vector<Sku*> unsaved_;  // SKUs with events after their latest snapshot
  std::set<Wake> wakes_;       // kept exact

  std::vector<std::unique_ptr<BlockBuilder>> builders_;
  std::size_t builders_used_ = 0;
  std::vector<BlockWrite> writes_;
  std::vector<Sealed> sealed_;
  std::vector<Sku*> early_;
  std::vector<Placed> placed_;
  std::vector<Admission> admissions_;
  std::vector<Sku*> touched_;

  std::int64_t wall_offset_ = 0;  // wall - steady, when the wakes were planned
  Duration last_append_{0};
  bool settled_ = true;
  bool dead_ = false;
};

}  // namespace fairsale
