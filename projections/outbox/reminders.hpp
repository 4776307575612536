// Which holds are about to end, and have not been said to: what consumers of the outbox are
// reminded of, each hold once.
//
// A reminder follows from the message that opened the hold, and is due at a moment of the clock,
// not at a position of the log: it is no row of the outbox, and nothing of it is stored. What is
// kept is the open holds, in memory: as the sales stand at the start, and from then on by following
// the outbox. So after a restart a hold that is still open is reminded of again, with the same id;
// one that ended meanwhile is not. The memory taken is some 200 bytes for each open hold.
//
// Once a hold is learnt of, time is that of the steady clock: one that is set back moves nothing,
// as it moves no log's time; one that is set forth ends holds early, some of them before their
// reminder.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/engine/clock.hpp"
#include "core/log/event_log.hpp"
#include "projections/availability.hpp"
#include "projections/outbox/cursors.hpp"
#include "projections/outbox/message.hpp"
#include "projections/stored/store.hpp"

namespace fairsale {

struct RemindersOptions {
  // Whether this server knows how its sales stand now; nobody is reminded while it does not. Empty:
  // it always does.
  std::function<bool()> current;
};

class Reminders {
 public:
  // A place among the reminders, in the order in which they fall due. Of this process only.
  struct Mark {
    std::int64_t due = 0;      // milliseconds of the steady clock
    std::uint64_t number = 0;  // of two that are due together, that which was learnt of first
    friend auto operator<=>(const Mark&, const Mark&) = default;
  };

  // What is next for a consumer: reminders of one SKU, each with its place, or else how long it is
  // to wait before it asks again.
  struct Next {
    std::string sku;
    std::vector<Reminder> reminders;
    std::vector<Mark> marks;
    std::chrono::milliseconds wait{0};
    bool due = false;  // some are, if their holds are still open, which may not be known yet
  };

  // `store` gives the store of projections, or nothing while there is none. The log, the board and
  // the clock must outlive it.
  using StoreSource = std::function<std::shared_ptr<const ProjectionStore>()>;
  Reminders(const EventLog& log, StoreSource store, const AvailabilityBoard& board,
            const Clock& clock, RemindersOptions options = {});
  Reminders(const Reminders&) = delete;
  Reminders& operator=(const Reminders&) = delete;

  // A SKU as it stands at the start; one that is not told of is followed from its first event. Each
  // once, before next().
  void seed(SkuId, const Sale&);

  // There are more messages of this SKU. Thread-safe; cheap.
  void grew(SkuId);

  // At most `limit` reminders that are due, from behind the mark, of holds that were open at some
  // moment of the last quarter of a second. While the outbox is too far behind the sale to tell,
  // they wait, and those that follow them too. Thread-safe; reads the store.
  Next next(const Mark& behind, std::size_t limit);

 private:
  struct Hold {
    SkuId sku;
    Reminder reminder;
    std::int64_t ends = 0;  // as a mark's `due`
  };
  // A SKU, as far as it was followed.
  struct Followed {
    std::string name;  // once it is known
    Cursor cursor;
    Seq position;                                  // all messages up to it were seen
    std::unordered_map<std::uint64_t, Mark> open;  // its holds, by purchase
    // Its holds were known to be open at this time, ...
    std::optional<std::int64_t> known;
    // ... and will be for this one, once it was followed so far.
    struct Look {
      Seq position;
      std::int64_t at = 0;
    };
    std::optional<Look> looked;
  };

  void begin(Followed&, SkuId, const Reminder&, Duration hold, Timestamp log_time);
  void end(Followed&, Seq purchase);
  void follow();
  bool follow(const ProjectionStore&, SkuId);
  bool known_by_now(SkuId, std::int64_t now);

  const EventLog& log_;
  const StoreSource store_;
  const AvailabilityBoard& board_;
  const Clock& clock_;
  const RemindersOptions options_;

  std::mutex growing_;             // guards the next; the last to be taken
  std::set<std::uint64_t> grown_;  // SKUs of which there may be more
  std::mutex mutex_;               // guards the rest; only threads that deliver wait for it
  std::unordered_map<std::uint64_t, Followed> skus_;
  std::map<Mark, Hold> holds_;
  std::uint64_t learnt_ = 0;
};

}  // namespace fairsale
