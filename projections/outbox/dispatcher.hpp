// Gives the messages of the outbox to their consumers: each message at least once, those of one SKU
// in their order, and the next not before the one before it was taken.
//
// The messages lie in the stored projection `outbox`, which is made from the log; a consumer has a
// cursor for each SKU (cursors.hpp). So a kill, a consumer that is down for a day and one that is
// new are one and the same: a consumer that is behind. Each has a thread of its own and never waits
// for another; purchases never wait for any. Beside messages it gives reminders of holds that end
// soon (reminders.hpp): these are worth nothing later, so they go first.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/log/event_log.hpp"
#include "projections/outbox/cursors.hpp"
#include "projections/outbox/reminders.hpp"
#include "projections/stored/follower.hpp"
#include "projections/stored/store.hpp"

namespace fairsale {

// Messages of one SKU, in order.
struct Consignment {
  SkuId sku;
  std::string_view name;  // of the SKU
  std::span<const MessageRow> messages;
};

// Where messages go.
class Consumer {
 public:
  virtual ~Consumer() = default;

  // Its cursors are kept under this name; it stays the same as long as it goes to the same place.
  virtual std::string_view name() const = 0;
  // Whether it is given what was said before it was first seen, or only what follows.
  virtual bool wants_the_past() const { return true; }

  // Returns how many were taken for good, from the first on; an error says why not more, and those
  // are given again after a while. Called by one thread. Must return within some seconds, and soon
  // after interrupt().
  struct Taken {
    std::size_t messages = 0;
    std::optional<Error> trouble;
  };
  virtual Taken take(const Consignment&) = 0;

  // The same with reminders of holds of one SKU, at most kReminders. What is not taken is given
  // again for as long as the hold lasts, and keeps no messages back; a reminder may come before the
  // message that tells of its hold. Of no interest, unless said otherwise.
  static constexpr std::size_t kReminders = 8;
  virtual Taken remind(std::string_view /*sku*/, std::span<const Reminder> reminders) {
    return {reminders.size(), {}};
  }

  // It is to stop, for good. From another thread.
  virtual void interrupt() {}
};

struct DispatcherOptions {
  std::size_t batch = 256;  // messages in a consignment
  // After trouble; doubled each time in a row, up to the second.
  std::chrono::milliseconds retry_first{100};
  std::chrono::milliseconds retry_last{30'000};
  // What goes wrong, from any thread. Told once per trouble, and once it is over.
  std::function<void(std::string_view consumer, const Error&)> report;
  Reminders* reminders = nullptr;  // which must outlive the dispatcher; none: nobody is reminded
};

struct ConsumerStatus {
  std::string name;
  std::uint64_t taken = 0;       // messages and reminders since the start
  std::size_t skus_behind = 0;   // SKUs of which there is more, or may be
  unsigned failures = 0;         // in a row
  std::optional<Error> trouble;  // while it lasts
};

class Dispatcher {
 public:
  // `store` gives the store of projections to read from, or nothing while there is none; see
  // Projector::store(). The log must outlive it.
  using StoreSource = std::function<std::shared_ptr<const ProjectionStore>()>;
  Dispatcher(const EventLog& log, StoreSource store, std::unique_ptr<CursorStore> cursors,
             DispatcherOptions options);
  ~Dispatcher();  // as stop()
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // One that is not known yet and does not want the past begins behind what the log holds now. A
  // cursor behind the log's end, as after restoring an older copy, is set back to it. Names are
  // different. After start() it is given messages at once. Thread-safe.
  Result<void> add(std::unique_ptr<Consumer>);
  // Ends a consumer and forgets its cursors; when it returns, the consumer is gone. Waits for what
  // the consumer is about. Not from the consumer's own thread; else thread-safe.
  Result<void> remove(std::string_view name);

  // Then either threads do the work, until stop(), ...
  void start();
  void stop();
  // ... or the caller: gives each consumer what there is for it, until nothing is left or all that
  // is left waits for a consumer in trouble. Those are tried once.
  void work();

  // There are more messages of this SKU. Thread-safe; cheap.
  void grew(SkuId);

  // These two are thread-safe, and fail with not_found when there is no such consumer.

  // Gives the messages of a SKU again that follow the cursor; does nothing when it has not come
  // that far.
  Result<void> rewind(std::string_view name, SkuId, Cursor);
  // Tries again at once, instead of waiting out the pause after trouble.
  Result<void> retry(std::string_view name);

  std::vector<ConsumerStatus> status() const;

 private:
  struct Lane;
  struct Course;

  using Lanes = std::vector<std::shared_ptr<Lane>>;
  Lanes lanes() const;
  Result<std::shared_ptr<Lane>> lane(std::string_view name) const;
  Result<void> begin(Lane&, bool behind_all);
  void run(Lane&);
  std::chrono::milliseconds step(Lane&);
  std::chrono::milliseconds remind(Lane&);
  std::chrono::milliseconds deliver(Lane&);
  void note(Lane&, Course&, const std::optional<Error>& trouble);
  Result<bool> give(Lane&, SkuId);

  const EventLog& log_;
  const StoreSource store_;
  const std::unique_ptr<CursorStore> cursors_;
  const DispatcherOptions options_;
  std::mutex changing_;  // who adds, removes, starts or stops; taken before the next
  mutable std::mutex mutex_;
  Lanes lanes_;           // under the mutex
  bool started_ = false;  // under changing_
};

}  // namespace fairsale
