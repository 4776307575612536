// Stands outside of the simulated process and knows what it ought to do: what was accepted, what
// was committed, how the log folds, and what was answered. It hears everything that the process
// says and throws test::Broken at the first thing that is not as promised.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/engine/clock.hpp"
#include "core/engine/sequencer.hpp"
#include "tests/domain/model.hpp"
#include "tests/domain/watcher.hpp"
#include "tests/sim/faulty_log.hpp"
#include "tests/sim/trace.hpp"

namespace fairsale::sim {

using test::Broken;

// Throws Broken unless what was promised holds.
inline void must(bool holds, const char* promise) {
  if (!holds) throw Broken(std::string("broken promise: ") + promise);
}

struct WitnessOptions {
  bool watch = true;   // hold each decision against the promises made to shoppers
  bool model = false;  // and against the rules written a second time
  Epoch epoch{1};      // of the blocks to come
};

class Witness final : public LogListener, public SaleObserver, public Answers {
 public:
  Witness(const std::vector<std::string>& skus, WitnessOptions options, const Clock& clock,
          Trace& trace);

  // ---- What the simulation tells ----

  // The sequencer has taken this in.
  void accepted(unsigned sku, const Event&, const Ticket&);
  void turn_begins();
  // The turn went well: all that was committed has been decided and answered, and time that has
  // come was noticed.
  void turn_ended();
  // The turn failed: nobody heard anything.
  void turn_failed();
  // The process is gone; `found` tells whether the commit under way is in the log.
  void died(bool found);
  void recovering(bool yes) { recovering_ = yes; }
  // The sequencer has taken over the SKU.
  void adopted(unsigned sku);
  // Lets the process die when it has said so many more things of a SKU.
  void die_after(unsigned sku, unsigned words) { fuse_ = {sku, words}; }
  void disarm() { fuse_.reset(); }

  // ---- What the witness knows ----

  std::size_t skus() const { return skus_.size(); }
  SkuId id(unsigned sku) const { return skus_[sku].id; }
  const std::string& name(unsigned sku) const { return skus_[sku].name; }
  // As of the last commit that is in the log.
  const Sale& sale(unsigned sku) const { return skus_[sku].state; }
  const Head& head(unsigned sku) const { return skus_[sku].head; }
  std::span<const std::byte> log(unsigned sku) const { return skus_[sku].log; }
  // What the SKU's log clock says now.
  Timestamp log_time(unsigned sku) const;
  // The SKU as it would be with the commit under way, if it takes part in one.
  std::optional<std::pair<Head, Sale>> future(unsigned sku) const;
  // Tickets whose answers were heard since the last call.
  std::vector<Ticket> take_answered() { return std::exchange(answered_, {}); }
  std::uint64_t events() const { return events_; }
  // The kinds and reasons of all decisions, as bits.
  std::uint64_t kinds() const { return kinds_; }
  std::uint64_t reasons() const { return reasons_; }

  // ---- What the process says ----

  void committing(std::span<const BlockWrite>) override;
  void committed() override;
  void snapshot_put(SkuId, const Head&, const Sale&, const Digest& state) override;
  void seed(SkuId, const Sale&) override;
  void on_decision(SkuId, const Sale&, const Decision&) override;
  void on_commit(SkuId, const Sale&) override;
  void on_decided(const Ticket&, SkuId, Seq, const Event&, const Decision&, const Sale&) override;

 private:
  struct Submitted {
    std::size_t offset;
    std::size_t size;
    Ticket ticket;
  };
  // An event of the commit under way, and what is to be said of it.
  struct Due {
    Seq seq;
    Ticket ticket;
    bool wanted = false;
    Decision answer;
    std::size_t decisions_end = 0;
  };
  struct Pending {
    unsigned sku;
    Head after;
    std::size_t offset;  // into pending_bytes_
    std::size_t size;
    std::size_t first_ticket;  // into pending_tickets_
  };
  struct AttemptKey {
    std::string customer;
    IdempotencyKey key;
    friend bool operator==(const AttemptKey&, const AttemptKey&) = default;
  };
  struct HashAttemptKey {
    std::size_t operator()(const AttemptKey& k) const;
  };
  struct First {
    std::uint32_t quantity;
    Decision answer;
  };
  struct Sku {
    std::string name;
    SkuId id;
    std::vector<std::byte> log;
    Head head;
    Sale state;
    test::Watcher watcher;
    std::optional<test::Model> model;
    std::unordered_map<AttemptKey, First, HashAttemptKey> firsts;

    bool adopted = false;
    Timestamp stamped;  // by the process's log clock, at `stamped_at`
    Duration stamped_at;
    std::vector<std::byte> queue;  // events taken in and not yet committed
    std::deque<Submitted> submitted;

    std::vector<Due> due;
    std::vector<Decision> decisions;
    std::size_t next_due = 0;
    std::size_t next_decision = 0;
  };

  unsigned index(SkuId) const;
  void fold(const Pending&, bool aloud);
  void judge(Sku&, Timestamp at, const Event&, const std::vector<Decision>&,
             const Decision& answer);
  void judge_retry(Sku&, const PurchaseAttempted&, const Decision& answer);
  void check_payload(Sku&, std::span<const std::byte> payload, std::uint32_t count);
  void said(unsigned sku);

  WitnessOptions options_;
  const Clock& clock_;
  Trace& trace_;
  std::vector<Sku> skus_;
  std::vector<Pending> pending_;
  std::vector<std::byte> pending_bytes_;
  std::vector<std::pair<Ticket, bool>> pending_tickets_;
  std::vector<Ticket> answered_;
  EventEncoder encoder_;
  Event event_;
  bool recovering_ = false;
  bool heard_ = false;  // anything in this turn
  std::optional<std::pair<unsigned, unsigned>> fuse_;
  std::uint64_t events_ = 0;
  std::uint64_t kinds_ = 0;
  std::uint64_t reasons_ = 0;
};

}  // namespace fairsale::sim
