#include "tests/sim/simulation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <memory>

#include "projections/line.hpp"
#include "projections/stored/follower.hpp"
#include "projections/stored/sale_fold.hpp"
#include "tests/domain/histories.hpp"
#include "tests/sim/swarm.hpp"
#include "tests/sim/witness.hpp"

namespace fairsale::sim {

namespace {

// A shard as a worker has it, without the worker.
struct Shard {
  Shard(EventLog& log, const Clock& clock, AvailabilityBoard& board, StretchQueue& queue,
        Witness& witness, const SequencerOptions& options)
      : availability(board),
        follower(availability, queue),
        observers({&availability, &line, &follower, &witness}),
        sequencer(log, clock, observers, options) {}

  AvailabilityProjection availability;
  LineProjection line;
  ProjectionFollower follower;
  Observers observers;
  Sequencer sequencer;
};

struct Process {
  AvailabilityBoard board;
  Bell bell;
  StretchQueue queue{bell};
  std::vector<std::unique_ptr<Shard>> shards;
};

// What is stored of a SKU's projections, by the rule of docs/architecture.md.
struct Shelf {
  Seq position;
  std::string document;
  std::map<std::string, std::string> rows;

  // Returns false, and changes nothing, when something is missing before the stretch.
  bool add(const Stretch& s) {
    if (s.from > position) return false;
    if (s.to <= position) return true;
    const auto put = [this](StoredRow row) { rows[std::move(row.key)] = std::move(row.value); };
    for (const auto& row : s.seconds) put(encode(row));
    for (const auto& row : s.orders) put(encode(row));
    for (const auto& row : s.refunds) put(encode(row));
    for (const auto& row : s.messages) put(encode(row));
    document = s.json();
    position = s.to;
    return true;
  }
};

struct Request {
  Event event;
  unsigned sku = 0;
  bool answered = false;
  bool given_up = false;
  bool on_wire = false;
  std::uint64_t tries = 0;
};

class Simulation {
 public:
  Simulation(std::uint64_t seed, const SimulationOptions& options)
      : seed_(seed),
        options_(options),
        swarm_(seed),
        trace_(options.text),
        witness_(swarm_.skus,
                 {.watch = options.check,
                  .model = options.check && swarm_.model,
                  .epoch = swarm_.options.epoch},
                 clock_, trace_),
        log_(witness_),
        shelves_(swarm_.skus.size()) {}

  Report run();

 private:
  void step(Deed, Chance&);
  void settle();
  void answer_all(Chance&);

  void send(Deed, Chance&);
  void submit(std::uint32_t request);
  void deliver(Chance&);
  void turn(Chance&);
  void hear_answers(Chance&);

  void advance(std::int64_t ms);
  void pass_to_deadline(std::int64_t beside, Chance&);

  void restart(const Harm&, Chance&, std::int64_t downtime = -1);
  void start(const Outcome&);
  void recover();
  void judge_rot(const Outcome::Rotten&);

  void take_snapshot(unsigned sku);
  void project(Chance&);
  void catch_up(unsigned sku);
  void look(unsigned sku);
  void look_at_rows(unsigned sku);

  Shard& shard_of(unsigned sku) {
    return *process_->shards[witness_.id(sku).value % process_->shards.size()];
  }
  unsigned any_sku(Chance& c) const { return c.below(swarm_.skus.size()); }
  Harm harm(Chance& c) const {
    return {.power = c.one_in(2), .rot = false, .acked = false, .astray = swarm_.astray};
  }

  const std::uint64_t seed_;
  const SimulationOptions options_;
  const Swarm swarm_;
  Trace trace_;
  ManualClock clock_{kOpening};
  Witness witness_;
  FaultyLog log_;
  std::unique_ptr<Process> process_;
  std::deque<Request> requests_;
  std::vector<std::uint32_t> wire_;   // sent and not delivered
  std::vector<std::uint32_t> inbox_;  // delivered to this process and not answered
  std::vector<Shelf> shelves_;
  std::optional<std::pair<unsigned, Head>> snapshot_wanted_;
  std::optional<std::pair<unsigned, unsigned>> recovery_fuse_;
  bool calm_ = false;  // faults have stopped
  Report report_;
};

// ---- Clients ----

test::Do deed_of(Deed d) {
  switch (d) {
    case Deed::repeat: return test::Do::repeat;
    case Deed::cancel: return test::Do::cancel;
    case Deed::decline: return test::Do::decline;
    case Deed::pay: return test::Do::pay;
    case Deed::payment_failed: return test::Do::fail;
    case Deed::refund: return test::Do::refund;
    case Deed::pause: return test::Do::pause;
    case Deed::resume: return test::Do::resume;
    case Deed::close: return test::Do::close;
    case Deed::restock: return test::Do::stock;
    case Deed::change: return test::Do::change;
    case Deed::schedule: return test::Do::schedule;
    default: return test::Do::attempt;
  }
}

void Simulation::send(Deed deed, Chance& c) {
  const unsigned sku = any_sku(c);
  const test::Action action{
      .what = deed_of(deed),
      .who = static_cast<std::uint8_t>(c.below(swarm_.customers)),
      .key = static_cast<std::uint8_t>(c.below(swarm_.keys)),
      .target = static_cast<std::uint8_t>(c.below(256)),
      .variant = static_cast<std::uint8_t>(c.below(256)),
      .quantity = c.one_in(16) ? c.pick<std::uint32_t>({0, 100, 101, 65'535, 65'537, 0xffff'ffff})
                               : 1 + c.below(4)};
  Event event = test::arrival_of(action, swarm_.terms[sku], witness_.sale(sku)).event;
  if (auto* scheduled = std::get_if<SaleScheduled>(&event)) {
    scheduled->sku = *SkuName::from(witness_.name(sku));
  }
  // What the API refuses does not get this far, and only the sequencer tells time.
  if (!well_formed(event) || std::holds_alternative<TimePassed>(event)) return;
  const auto index = static_cast<std::uint32_t>(requests_.size());
  requests_.push_back(Request{.event = event, .sku = sku});
  if (swarm_.network) {
    requests_[index].on_wire = true;
    wire_.push_back(index);
  } else {
    submit(index);
  }
}

void Simulation::submit(std::uint32_t index) {
  Request& r = requests_[index];
  r.on_wire = false;
  const Ticket ticket{{index + std::uint64_t{1}, ++r.tries, 0}};
  const Admission a = shard_of(r.sku).sequencer.submit(witness_.id(r.sku), r.event, ticket);
  trace_.add(index, a);
  trace_.say([&] {
    return fmt::format("  {} {} {}: {}{}", a == Admission::accepted ? "in" : "not taken:", index,
                       witness_.name(r.sku), test::describe(r.event),
                       r.tries > 1 ? fmt::format(" (try {})", r.tries) : "");
  });
  switch (a) {
    case Admission::accepted:
      must(shard_of(r.sku).sequencer.waiting() <= swarm_.options.inbox_limit,
           "the inbox stays within its limit");
      witness_.accepted(r.sku, r.event, ticket);
      inbox_.push_back(index);
      return;
    case Admission::overloaded:
      must(shard_of(r.sku).sequencer.waiting() >= swarm_.options.inbox_limit,
           "nobody is turned away before the inbox is full");
      r.on_wire = true;
      wire_.push_back(index);
      return;
    case Admission::unknown_sale:
      must(witness_.head(r.sku).seq == Seq{0}, "a sale that is in the log is known");
      r.answered = true;
      return;
    default: throw Broken("broken promise: each SKU has its name and its place");
  }
}

void Simulation::deliver(Chance& c) {
  if (wire_.empty()) return;
  const std::size_t at = c.one_in(2) ? 0 : c.below(wire_.size());
  const std::uint32_t index = wire_[at];
  const bool again = swarm_.duplicates && !calm_ && c.one_in(4);
  if (!again) wire_.erase(wire_.begin() + static_cast<std::ptrdiff_t>(at));
  submit(index);
}

void Simulation::hear_answers(Chance& c) {
  for (const Ticket& t : witness_.take_answered()) {
    const auto index = static_cast<std::uint32_t>(t.words[0] - 1);
    trace_.add(index);
    Request& r = requests_[index];
    if (!swarm_.lossy || calm_ || !c.one_in(6)) {
      r.answered = true;
    } else if (!r.answered && !r.on_wire) {
      // The client has heard nothing and asks again.
      r.on_wire = true;
      wire_.push_back(index);
    }
    const auto waits = std::find(inbox_.begin(), inbox_.end(), index);
    if (waits != inbox_.end()) inbox_.erase(waits);
  }
}

// ---- The process ----

void Simulation::turn(Chance& c) {
  try {
    for (std::size_t i = 0; i < process_->shards.size(); ++i) {
      witness_.turn_begins();
      Shard& shard = *process_->shards[i];
      const auto turned = shard.sequencer.turn(witness_);
      if (turned) {
        must(!log_.failed() || turned->events == 0, "nothing is decided after the log failed");
        shard.follower.hand_over();
        continue;
      }
      must(log_.failed(), "a turn fails only when the log does");
      trace_.add(turned.error().fault);
      trace_.say([&] { return "  the turn failed: " + turned.error().message; });
      witness_.turn_failed();
      // The other shard may get as far as its own turn before the process ends.
      if (i + 1 == process_->shards.size() || c.one_in(2)) {
        hear_answers(c);
        return restart(harm(c), c);
      }
    }
    if (log_.failed()) return restart(harm(c), c);
  } catch (const Died&) {
    trace_.say([] { return "  the process died at work"; });
    hear_answers(c);
    return restart(harm(c), c);
  }
  witness_.turn_ended();
  hear_answers(c);
  for (const auto& shard : process_->shards) {
    const auto wait = shard->sequencer.next_turn_in();
    trace_.add(wait ? wait->value : -1);
  }
  for (unsigned i = 0; i < witness_.skus(); ++i) {
    if (witness_.sale(i).next_deadline() == kNever) continue;
    const auto wait = shard_of(i).sequencer.next_turn_in();
    must(wait && wait->value <= 25, "a deadline to come is looked after");
  }
}

void Simulation::advance(std::int64_t ms) {
  clock_.advance(Duration{ms});
  report_.simulated_ms += ms;
  trace_.add(ms);
  trace_.say([&] { return fmt::format("  {} ms later", ms); });
}

// To the deadline of a SKU, or `beside` it.
void Simulation::pass_to_deadline(std::int64_t beside, Chance& c) {
  const unsigned sku = any_sku(c);
  const Timestamp deadline = witness_.sale(sku).next_deadline();
  if (deadline == kNever) return;
  const std::int64_t left = (deadline - witness_.log_time(sku)).value + beside;
  if (left > 0 && left < 30 * 86'400'000LL) advance(left);
}

void Simulation::restart(const Harm& harm, Chance& c, std::int64_t downtime) {
  process_.reset();
  ++report_.restarts;
  std::vector<std::pair<unsigned, std::pair<Head, Sale>>> futures;
  bool under_way = false;
  for (unsigned i = 0; i < witness_.skus(); ++i) {
    if (auto future = witness_.future(i)) {
      under_way = true;
      if (swarm_.futures && c.one_in(2)) futures.emplace_back(i, std::move(*future));
    }
  }
  const Outcome out = log_.crash(harm, c);
  trace_.add(out.opens, out.found);
  trace_.say([&] {
    return fmt::format("  {}{}", harm.power ? "the power is cut" : "the process ends", out.what);
  });
  if (under_way) ++(out.found ? report_.commits_found : report_.commits_lost);
  if (!out.found) {
    for (auto& [sku, future] : futures) {
      log_.plant_snapshot(witness_.id(sku), future.first, future.second);
    }
  }
  witness_.died(out.found);
  for (const std::uint32_t index : inbox_) {
    Request& r = requests_[index];
    if (r.answered || r.on_wire) continue;
    if (swarm_.impatient && !calm_ && c.one_in(3)) {
      r.given_up = true;
      continue;
    }
    r.on_wire = true;
    wire_.push_back(index);
  }
  inbox_.clear();
  // A new process has a new steady clock.
  if (downtime < 0) downtime = c.pick<std::int64_t>({0, 3, 1'000, 60'000});
  report_.simulated_ms += downtime;
  clock_ = ManualClock(clock_.now().wall + Duration{downtime});
  start(out);
}

void Simulation::start(const Outcome& expected) {
  auto opened = log_.open();
  must(expected.opens == opened.has_value(),
       expected.opens ? "a store that is sound opens" : "a damaged store is refused");
  if (!opened) {
    must(opened.error().fault == Fault::damaged, "damage is called damage");
    ++report_.refusals;
    log_.repair();
    opened = log_.open();
    must(opened.has_value(), "a store that was repaired opens");
  }
  if (expected.rotten) judge_rot(*expected.rotten);
  for (unsigned i = 0; i < witness_.skus(); ++i) {
    must(log_.holds(witness_.id(i), witness_.log(i)),
         "what was acknowledged is in the log, byte for byte, and nothing that was not submitted");
  }
  for (;;) {
    try {
      recover();
      return;
    } catch (const Died&) {
      trace_.say([] { return "  the process died while it recovered"; });
      process_.reset();
      witness_.died(false);
      must(log_.open().has_value(), "a store that is sound opens");
    }
  }
}

void Simulation::recover() {
  process_ = std::make_unique<Process>();
  for (unsigned i = 0; i < swarm_.shards; ++i) {
    process_->shards.push_back(std::make_unique<Shard>(log_, clock_, process_->board,
                                                       process_->queue, witness_, swarm_.options));
  }
  if (recovery_fuse_) witness_.die_after(recovery_fuse_->first, recovery_fuse_->second);
  recovery_fuse_.reset();
  const auto heads = log_.heads();
  must(heads.has_value(), "a sound log tells its heads");
  witness_.recovering(true);
  for (const SkuHead& head : *heads) {
    unsigned i = 0;
    while (witness_.id(i) != head.sku) ++i;
    must(head.head == witness_.head(i), "the log ends where it should");
    Shard& shard = shard_of(i);
    auto folded = fold(log_, head, FoldFrom::snapshot, &shard.observers);
    if (!folded) throw Broken("a sound log was refused: " + folded.error().message);
    must(folded->head == head.head, "recovery goes to the end of the log");
    must(folded->sale.seq() == head.head.seq, "and so does the state");
    if (options_.check) {
      must(state_digest(folded->sale) == state_digest(witness_.sale(i)),
           "a recovered state is a fold of the log from nothing");
    }
    trace_.add(head.head);
    trace_.add(folded->from.value);
    trace_.say([&] {
      return fmt::format("  {} recovered up to #{}, from a snapshot at #{}", witness_.name(i),
                         head.head.seq.value, folded->from.value);
    });
    report_.from_snapshot += folded->from.value != 0;
    shard.sequencer.adopt(head.sku, std::move(*folded));
    witness_.adopted(i);
  }
  witness_.recovering(false);
  witness_.disarm();
  for (const auto& shard : process_->shards) shard->follower.begin();
}

// Opening has not seen the damage; whoever folds over it must.
void Simulation::judge_rot(const Outcome::Rotten& rotten) {
  ++report_.refusals;
  const auto heads = log_.heads();
  must(heads.has_value(), "a sound log tells its heads");
  for (const SkuHead& head : *heads) {
    const auto from_start = fold(log_, head, FoldFrom::start, nullptr);
    const auto snapshot = log_.snapshot(head.sku, head.head.seq);
    const auto from_snapshot = fold(log_, head, FoldFrom::snapshot, nullptr);
    if (head.sku != rotten.sku) {
      must(from_start && from_snapshot, "damage to one SKU is not another's");
      continue;
    }
    must(!from_start && from_start.error().fault == Fault::damaged,
         "a fold over damage is refused, and damage is called damage");
    const bool passed_over = snapshot && *snapshot && (*snapshot)->head.seq >= rotten.last;
    must(from_snapshot.has_value() == passed_over, "only a snapshot leads past damage");
    SaleFold piecewise(rotten.sku);
    must(!piecewise.next(log_, ~0ULL).has_value(), "a fold in pieces over damage is refused");
  }
  log_.repair();
  must(log_.open().has_value(), "a store that was repaired opens");
}

// ---- Beside the sales ----

// As the snapshotter does it: asked for at one time, taken at another.
void Simulation::take_snapshot(unsigned sku) {
  if (const auto wanted = std::exchange(snapshot_wanted_, std::nullopt)) {
    const SkuHead head{witness_.id(wanted->first), wanted->second};
    const auto folded = fold(log_, head, FoldFrom::snapshot, nullptr);
    if (!folded) throw Broken("no snapshot of a sound log: " + folded.error().message);
    must(folded->head == head.head, "a snapshot is of the head that was asked for");
    static_cast<void>(log_.put_snapshot(head.sku, folded->head, folded->sale));
  }
  if (witness_.head(sku).seq != Seq{0}) snapshot_wanted_ = {sku, witness_.head(sku)};
}

void Simulation::project(Chance& c) {
  std::vector<Stretch> taken;
  const bool lost = process_->queue.take(taken);
  must(!lost, "a queue that is not full loses nothing");
  for (const Stretch& s : taken) {
    unsigned i = 0;
    while (witness_.id(i) != s.sku) ++i;
    must(s.to == witness_.head(i).seq, "the queue is up to date after a turn");
    if (!shelves_[i].add(s) && c.one_in(2)) catch_up(i);
  }
}

void Simulation::catch_up(unsigned i) {
  Shelf& shelf = shelves_[i];
  auto fold = SaleFold::from_snapshot(log_, witness_.id(i), shelf.position);
  must(fold.has_value(), "a sound log folds");
  for (;;) {
    const auto piece = fold->next(log_, 40, shelf.position);
    must(piece.has_value(), "a sound log folds in pieces");
    must(shelf.add(piece->stretch), "the pieces of a fold follow one another");
    if (piece->at_end) break;
  }
  must(shelf.position == witness_.head(i).seq, "catching up leads to the end of the log");
}

// Compares what the process has of a SKU with the log and with what follows from it.
void Simulation::look(unsigned i) {
  if (!options_.check || witness_.head(i).seq == Seq{0}) return;
  const SkuId id = witness_.id(i);
  const Sale& expected = witness_.sale(i);
  Shard& shard = shard_of(i);
  const Sale* live = shard.sequencer.find(id);
  must(live != nullptr && *shard.sequencer.head(id) == witness_.head(i),
       "the process is up to date");
  if (const auto wrong = live->check())
    throw Broken("the sale's own check: " + std::string(*wrong));
  const Digest state = state_digest(*live);
  must(state == state_digest(expected), "the state follows from the log");
  must(log_.holds(id, witness_.log(i)), "the log holds what was committed");

  AvailabilityBoard board;
  AvailabilityProjection availability(board);
  LineProjection line;
  Observers observers({&availability, &line});
  const auto folded = fold(log_, {id, witness_.head(i)}, FoldFrom::start, &observers);
  if (!folded) throw Broken("a sound log was refused: " + folded.error().message);
  must(state_digest(folded->sale) == state, "state(n) is a fold of log[1..n]");
  const auto same = [&](const Projection& one, const Projection& other) {
    must(one.cursor(id) == other.cursor(id) && one.digest(id) == other.digest(id),
         "a projection at n is that of a fold of log[1..n]");
  };
  same(shard.availability, availability);
  same(shard.line, line);
  LineProjection seeded_line;
  seeded_line.seed(id, expected);
  same(shard.line, seeded_line);
  AvailabilityProjection seeded(board);
  seeded.seed(id, expected);
  same(shard.availability, seeded);
  if (shelves_[i].position == witness_.head(i).seq) look_at_rows(i);
}

// What is stored, against a fold from the start and against the sale itself.
void Simulation::look_at_rows(unsigned i) {
  const SkuId id = witness_.id(i);
  const Sale& expected = witness_.sale(i);
  const Shelf& shelf = shelves_[i];
  Shelf fresh;
  SaleFold rows(id);
  const auto piece = rows.next(log_, ~0ULL);
  must(piece && fresh.add(piece->stretch), "a sound log folds in pieces");
  must(fresh.rows == shelf.rows && fresh.document == shelf.document,
       "stored rows at n are those of a fold of log[1..n]");
  if (!expected.exists()) return;
  must(shelf.document == render_sale(expected), "the stored document is that of the sale");
  const std::string second = timeline_key(expected.time().value / 1'000);
  const auto latest = shelf.rows.find(second);
  must(latest != shelf.rows.end(), "the latest second is stored");
  const Counters& counters = expected.counters();
  must(decode_timeline(second, latest->second) ==
           TimelineRow{.second = expected.time().value / 1'000,
                       .position = expected.seq(),
                       .purchases = expected.purchases(),
                       .customers = expected.customers(),
                       .available = counters.available,
                       .held = counters.held,
                       .sold = counters.sold,
                       .waiting = counters.waiting,
                       .phase = expected.phase()},
       "the latest second is as the sale stands");
  std::size_t orders = 0;
  std::size_t refunds = 0;
  std::size_t orders_expected = 0;
  std::size_t refunds_expected = 0;
  for (const auto& [key, value] : shelf.rows) {
    if (key.starts_with(kRefundKeys)) ++refunds;
    if (!key.starts_with(kOrderKeys)) continue;
    ++orders;
    const auto row = decode_order(key, value);
    must(row.has_value(), "a stored row is legible");
    const auto purchase = expected.find_purchase(row->purchase);
    must(purchase.has_value(), "an order is of a purchase");
    const auto paid = expected.order_payment(*purchase);
    must(paid && paid->reference == row->reference && paid->amount == row->amount,
         "an order names the payment that made it one");
  }
  for (std::uint32_t p = 0; p < expected.purchases(); ++p) {
    const Purchase& purchase = expected.purchase(PurchaseIndex{p});
    const bool refunded = purchase.status == PurchaseStatus::refunded;
    orders_expected += refunded || purchase.status == PurchaseStatus::ordered;
    refunds_expected += refunded;
    if (refunded) {
      must(shelf.rows.contains(refund_key(purchase.seq)), "each refund is stored");
    }
  }
  must(orders == orders_expected && refunds == refunds_expected,
       "each order and each refund is stored, once");
}

// ---- Steps ----

void Simulation::step(Deed deed, Chance& c) {
  switch (deed) {
    case Deed::deliver: return deliver(c);
    case Deed::turn: return turn(c);
    case Deed::tick: return advance(1 + c.below(30));
    case Deed::wait: return advance(c.pick<std::int64_t>({25, 100, 1'000, 5'000, 61'000}));
    case Deed::to_deadline:
      return pass_to_deadline(c.pick<std::int64_t>({-4, -1, 0, 0, 0, 1, 49, 1'000}), c);
    case Deed::set_wall: {
      const std::int64_t by =
          c.pick<std::int64_t>({3, 9, 30, 1'000, 60'000, 3'600'000, 86'400'000});
      const Timestamp to = clock_.now().wall + Duration{c.one_in(2) ? by : -by};
      clock_.set_wall(to);
      trace_.add(to.value);
      trace_.say([&] { return fmt::format("  the wall clock is set to {}", to.value); });
      return;
    }
    case Deed::stop: {
      turn(c);
      for (const auto& shard : process_->shards) {
        must(shard->sequencer.waiting() == 0, "a turn takes all that waits");
        shard->sequencer.stop();
      }
      must(log_.settled(), "a stop settles the log");
      trace_.say([] { return "  a graceful stop"; });
      return restart({.power = true}, c);
    }
    case Deed::kill: return restart({}, c);
    case Deed::power_cut: return restart({.power = true, .astray = swarm_.astray}, c);
    case Deed::rot: return restart({.power = c.one_in(2), .rot = true}, c);
    case Deed::lose_acked: {
      Harm h = harm(c);
      h.acked = true;
      return restart(h, c);
    }
    case Deed::fail_append: return log_.strike_next_append(c.pick({Blow::full, Blow::sync_error}));
    case Deed::die_in_append:
      return log_.strike_next_append(
          c.pick({Blow::die_before_sync, Blow::die_after_sync, Blow::die_after_ack}));
    case Deed::die_in_turn: return witness_.die_after(any_sku(c), c.below(6));
    case Deed::die_in_recovery: {
      recovery_fuse_ = {any_sku(c), c.below(40)};
      return restart({}, c);
    }
    case Deed::flush: return log_.flush();
    case Deed::snapshot: return take_snapshot(any_sku(c));
    case Deed::fail_snapshot: return log_.fail_next_snapshot();
    case Deed::spoil_snapshot: return log_.spoil_snapshot(witness_.id(any_sku(c)), c);
    case Deed::project: return project(c);
    case Deed::lose_rows: {
      std::vector<Stretch> lost;
      process_->queue.take(lost);
      if (c.one_in(3)) shelves_[any_sku(c)] = {};
      return;
    }
    case Deed::look: return look(any_sku(c));
    default: return send(deed, c);
  }
}

// Each delivery is taken in or finds a full inbox, and a turn empties that.
void Simulation::answer_all(Chance& c) {
  const std::size_t most = 4 * (wire_.size() + 4);
  for (std::size_t n = 0; !wire_.empty() || !inbox_.empty(); ++n) {
    must(n < most, "everybody is answered in bounded time");
    for (std::size_t k = wire_.size(); k > 0; --k) deliver(c);
    turn(c);
  }
}

// Faults stop, everybody who waits asks again, nobody sends anything new: everything must come to
// an end.
void Simulation::settle() {
  Chance c(seed_, ~std::uint64_t{1});
  calm_ = true;
  trace_.say([] { return std::string("faults stop"); });
  witness_.disarm();
  restart({}, c, 0);
  for (std::uint32_t i = 0; i < requests_.size(); ++i) {
    Request& r = requests_[i];
    if (r.answered || r.given_up || r.on_wire) continue;
    r.on_wire = true;
    wire_.push_back(i);
  }
  answer_all(c);
  for (const Request& r : requests_) {
    must(r.answered || r.given_up, "nobody who asks is left without an answer");
  }

  // An operator resumes what is paused. Then every hold ends, one after another at the worst.
  std::int64_t bound = 0;
  std::size_t holds = 0;
  for (unsigned i = 0; i < witness_.skus(); ++i) {
    const Sale& sale = witness_.sale(i);
    if (sale.phase() == Phase::paused) {
      requests_.push_back(Request{.event = SaleResumed{test::text<Actor>("owner"), {}}, .sku = i});
      submit(static_cast<std::uint32_t>(requests_.size() - 1));
    }
    for (std::uint32_t p = 0; p < sale.purchases(); ++p) {
      const PurchaseStatus s = sale.purchase(PurchaseIndex{p}).status;
      if (s != PurchaseStatus::waiting && !holds_units(s)) continue;
      ++holds;
      bound += sale.terms().hold.value + sale.terms().grace.value;
    }
  }
  answer_all(c);
  const std::int64_t began = report_.simulated_ms;
  for (std::size_t n = 0;; ++n) {
    std::optional<std::int64_t> next;
    for (unsigned i = 0; i < witness_.skus(); ++i) {
      const Sale& sale = witness_.sale(i);
      if (sale.counters().held.value == 0) continue;
      const std::int64_t left = (sale.next_deadline() - witness_.log_time(i)).value;
      next = std::min(next.value_or(left), left);
    }
    if (!next) break;
    must(n < 2 * holds + 8, "every hold ends");
    advance(std::max<std::int64_t>(*next, 0));
    turn(c);
  }
  must(report_.simulated_ms - began <= bound, "and in bounded time");
  for (unsigned i = 0; i < witness_.skus(); ++i) {
    must(witness_.sale(i).counters().waiting == 0, "nobody waits for what is free");
  }

  // Who asks once more gets the first answer; the witness knows it.
  for (unsigned n = 0; n < 6 && !requests_.empty(); ++n) {
    submit(c.below(requests_.size()));
    turn(c);
  }
  must(inbox_.empty(), "everybody is answered");

  // The start or the end of a sale may still come to pass, once each.
  for (std::size_t n = 0; n < 2 * witness_.skus() + 1 && !log_.settled(); ++n) {
    advance(swarm_.options.settle_after.value);
    turn(c);
  }
  must(log_.settled(), "at rest the log settles");
  advance(swarm_.options.idle_after.value + 1);
  turn(c);
  for (unsigned i = 0; i < witness_.skus(); ++i) {
    if (shelves_[i].position != Seq{0}) catch_up(i);
    look(i);
  }
  step(Deed::stop, c);
  if (swarm_.model) {
    for (unsigned i = 0; i < witness_.skus(); ++i) look(i);
  }
}

Report Simulation::run() {
  try {
    start({});
    for (unsigned i = 0; i < swarm_.steps; ++i) {
      if (options_.skip != nullptr && (*options_.skip)[i]) continue;
      Chance c(seed_, i);
      const Deed deed = swarm_.next(c);
      trace_.add(i, deed);
      trace_.say([&] { return fmt::format("step {}: {}", i, name_of(deed)); });
      ++report_.steps;
      step(deed, c);
    }
    settle();
  } catch (const Broken& e) {
    report_.failure = e.what();
  } catch (const Died&) {
    report_.failure = "the simulation lost track of a process";
  }
  report_.hash = trace_.hash();
  report_.events = witness_.events();
  report_.kinds = witness_.kinds();
  report_.reasons = witness_.reasons();
  return std::move(report_);
}

}  // namespace

unsigned steps_of(std::uint64_t seed) { return Swarm(seed).steps; }

Report simulate(std::uint64_t seed, const SimulationOptions& options) {
  return Simulation(seed, options).run();
}

}  // namespace fairsale::sim
