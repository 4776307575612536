#include "core/engine/sequencer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "core/domain/invariant.hpp"

namespace fairsale {

namespace {

// How far the wall clock may drift from where it was when wakes were planned. It bounds how late
// a deadline can be noticed, and is well below the 50 ms promised.
constexpr std::int64_t kMaxWallDriftMs = 10;

constexpr unsigned kPrefetched = 16;  // events ahead of the one that is decided

constexpr std::int64_t kNoWake = std::numeric_limits<std::int64_t>::max();

}  // namespace

Sequencer::Sequencer(EventLog& log, const Clock& clock, SaleObserver& observer,
                     SequencerOptions options)
    : log_(log), clock_(clock), observer_(observer), options_(options) {
  // TimePassed events of due SKUs come on top of what was admitted.
  inbox_.reserve(options_.inbox_limit + kMaxBlocks);
  const Now now = clock_.now();
  wall_offset_ = now.wall.value - now.steady.value;
}

void Sequencer::adopt(SkuId id, Folded folded) {
  const Now now = clock_.now();
  auto sku = std::make_unique<Sku>(Sku{.id = id,
                                       .sale = std::move(folded.sale),
                                       .head = folded.head,
                                       .clock = LogClock(folded.head.time, now),
                                       .name = {}});
  sku->name = SkuName::from(sku->sale.sku()).value_or(SkuName{});
  sku->since_snapshot = folded.head.seq.value - folded.from.value;
  Sku& kept = *sku;
  const bool fresh = skus_.emplace(id.value, std::move(sku)).second;
  FAIRSALE_INVARIANT(fresh, "a SKU is adopted once");
  if (kept.since_snapshot > 0) {
    kept.unsaved = true;
    unsaved_.push_back(&kept);
  }
  plan_wake(kept, now);
}

Admission Sequencer::submit(SkuId id, const Event& event, const Ticket& ticket) {
  FAIRSALE_INVARIANT(!dead_, "nothing is submitted after the log failed");
  FAIRSALE_INVARIANT(!options_.ordered_elsewhere, "a log that follows is not submitted to");
  if (full()) return Admission::overloaded;
  Sku* sku = nullptr;
  const Admission admission = place(id, event, sku);
  if (admission == Admission::accepted) enqueue(*sku, event, &ticket);
  return admission;
}

// `sku` becomes the SKU in whose log the event has a place.
Admission Sequencer::place(SkuId id, const Event& event, Sku*& sku) {
  const auto* scheduled = std::get_if<SaleScheduled>(&event);
  auto found = skus_.find(id.value);
  if (found == skus_.end()) {
    if (scheduled == nullptr) return Admission::unknown_sale;
    if (skus_.size() >= options_.sku_limit) return Admission::too_many_skus;
    auto made = std::make_unique<Sku>(Sku{.id = id,
                                          .sale = {},
                                          .head = {},
                                          .clock = LogClock(Timestamp{0}, clock_.now()),
                                          .name = scheduled->sku});
    found = skus_.emplace(id.value, std::move(made)).first;
    observer_.seed(id, found->second->sale);
  } else if (scheduled != nullptr && !(found->second->name == scheduled->sku)) {
    // A log whose sale was never accepted has no name yet.
    if (!found->second->name.empty()) return Admission::id_taken;
    found->second->name = scheduled->sku;
  }
  sku = found->second.get();
  return Admission::accepted;
}

void Sequencer::enqueue(Sku& sku, const Event& event, const Ticket* ticket) {
  const auto index = static_cast<std::uint32_t>(inbox_.size());
  inbox_.push_back(Waiting{.event = event,
                           .ticket = ticket != nullptr ? *ticket : Ticket{},
                           .wanted = ticket != nullptr});
  if (sku.first == kNoIndex) {
    sku.first = index;
    busy_.push_back(&sku);
  } else {
    inbox_[sku.last].next = index;
  }
  sku.last = index;
}

// A deadline that passed becomes an event, unless one is coming anyway: any event passes time.
void Sequencer::take_due(Now now) {
  early_.clear();
  std::size_t taken = 0;
  for (auto it = wakes_.begin(); it != wakes_.end() && taken < kMaxBlocks; ++it, ++taken) {
    if (it->steady > now.steady.value) break;
    Sku& sku = *it->sku;
    if (sku.first != kNoIndex) continue;
    if (sku.clock.read(now) >= sku.sale.next_deadline()) {
      enqueue(sku, TimePassed{}, nullptr);
    } else {
      early_.push_back(&sku);  // the wall clock is slow by some milliseconds
    }
  }
  for (Sku* sku : early_) plan_wake(*sku, now);
}

void Sequencer::plan_wake(Sku& sku, Now now) {
  const Timestamp deadline = sku.sale.next_deadline();
  std::int64_t wake = kNoWake;
  if (deadline != kNever) {
    const std::int64_t left = (deadline - sku.clock.read(now)).value;
    wake = now.steady.value + std::max<std::int64_t>(left, 0);
  }
  set_wake(sku, wake);
}

void Sequencer::set_wake(Sku& sku, std::int64_t wake) {
  if (wake == sku.wake.value) return;
  if (sku.wake.value != kNoWake) {
    auto node = wakes_.extract(Wake{sku.wake.value, sku.id, &sku});
    if (wake != kNoWake) {
      node.value().steady = wake;
      wakes_.insert(std::move(node));
    }
  } else {
    wakes_.insert(Wake{wake, sku.id, &sku});
  }
  sku.wake = Duration{wake};
}

// Wakes are planned in steady time. When somebody sets the wall clock, plan them anew.
void Sequencer::follow_wall_clock(Now now) {
  const std::int64_t offset = now.wall.value - now.steady.value;
  if (std::abs(offset - wall_offset_) <= kMaxWallDriftMs) return;
  wall_offset_ = offset;
  std::vector<Sku*> planned;
  planned.reserve(wakes_.size());
  for (const Wake& w : wakes_) planned.push_back(w.sku);
  for (Sku* sku : planned) plan_wake(*sku, now);
}

Result<TurnReport> Sequencer::turn(Answers& answers) {
  FAIRSALE_INVARIANT(!dead_, "no turn after the log failed");
  const Now now = clock_.now();
  follow_wall_clock(now);
  if (!options_.ordered_elsewhere) take_due(now);

  TurnReport report;
  if (busy_.empty()) {
    rest(now, report);
    return report;
  }

  // Seal. What does not fit into this turn stays in the inbox for the next.
  writes_.clear();
  builders_used_ = 0;
  sealed_.clear();
  std::size_t done = 0;
  for (; done < busy_.size() && writes_.size() < kMaxBlocks; ++done) {
    Sku& sku = *busy_[done];
    const Timestamp at = sku.clock.stamp(now);
    std::uint32_t next = sku.first;
    while (next != kNoIndex && writes_.size() < kMaxBlocks) {
      const Seq first{sku.head.seq.value + 1};
      const auto bytes = seal(sku, next, at, sku.head);
      writes_.push_back(
          BlockWrite{.sku = sku.id, .first = first, .after = sku.head, .bytes = bytes});
      report.bytes += bytes.size();
    }
    sealed_.push_back({&sku, at, next});
  }
  report.blocks = writes_.size();

  if (auto durable = log_.append(writes_); !durable) {
    dead_ = true;
    return tl::unexpected(durable.error());
  }
  last_append_ = now.steady;
  settled_ = false;

  // Decide, in the order of the log.
  for (const Sealed& s : sealed_) {
    Sku& sku = *s.sku;
    ObserverSink sink(sku.id, sku.sale, &observer_);
    std::uint32_t ahead = sku.first;
    const auto prefetch = [&] {
      if (ahead == s.end) return;
      sku.sale.prefetch(inbox_[ahead].event);
      ahead = inbox_[ahead].next;
    };
    for (unsigned i = 0; i < kPrefetched; ++i) prefetch();
    for (std::uint32_t i = sku.first; i != s.end; i = inbox_[i].next) {
      prefetch();
      const Waiting& w = inbox_[i];
      const Seq seq{sku.sale.seq().value + 1};
      const Decision decision = sku.sale.apply(seq, s.at, w.event, sink);
      if (w.wanted) answers.on_decided(w.ticket, sku.id, seq, w.event, decision, sku.sale);
      ++report.events;
      ++sku.since_snapshot;
    }
    sku.first = s.end;
    observer_.on_commit(sku.id, sku.sale);
    finish(sku, now, report);
  }

  // Compact what was left over to the front of the inbox, keeping its order per SKU.
  std::vector<Sku*> left;
  for (const Sealed& s : sealed_) {
    if (s.end != kNoIndex) left.push_back(s.sku);
  }
  left.insert(left.end(), busy_.begin() + static_cast<std::ptrdiff_t>(done), busy_.end());
  busy_.clear();
  if (left.empty()) {
    inbox_.clear();
  } else {
    std::vector<Waiting> kept;
    kept.reserve(inbox_.capacity());
    kept.swap(inbox_);
    for (Sku* sku : left) {
      std::uint32_t i = sku->first;
      sku->first = sku->last = kNoIndex;
      for (; i != kNoIndex; i = kept[i].next) {
        enqueue(*sku, kept[i].event, kept[i].wanted ? &kept[i].ticket : nullptr);
      }
    }
  }
  return report;
}

// What the message's writer knew must be in this log, or one of the two is not what it was.
std::optional<Error> Sequencer::contradiction(const Sku* sku, const Ordered& m) const {
  if (m.knows.seq.value == 0) return std::nullopt;
  const Head head = sku != nullptr ? sku->head : Head{};
  if (m.knows.seq > head.seq) {
    return Error{Fault::damaged,
                 fmt::format("a message for SKU {:016x} follows position {}, and this log ends at "
                             "{}: what orders the log has lost messages",
                             m.sku.value, m.knows.seq.value, head.seq.value)};
  }
  const auto differs = [&](const Mark& mark) {
    return mark.seq == m.knows.seq && mark.digest != m.knows.digest;
  };
  if (differs(Mark::of(head)) ||
      (sku->recent && std::any_of(sku->recent->marks.begin(), sku->recent->marks.end(), differs))) {
    return Error{Fault::damaged,
                 fmt::format("a message for SKU {:016x} follows another log than this one: they "
                             "differ at or before position {}",
                             m.sku.value, m.knows.seq.value)};
  }
  return std::nullopt;
}

Result<TurnReport> Sequencer::follow(std::span<const Ordered> messages, Answers& answers) {
  FAIRSALE_INVARIANT(!dead_, "nothing is followed after the log failed");
  FAIRSALE_INVARIANT(options_.ordered_elsewhere, "a log is ordered here or elsewhere");
  FAIRSALE_INVARIANT(messages.size() <= kMaxBlocks, "a commit is bounded");
  const Now now = clock_.now();
  follow_wall_clock(now);

  TurnReport report;
  writes_.clear();
  builders_used_ = 0;
  placed_.clear();
  admissions_.clear();
  for (const Ordered& m : messages) {
    const auto found = skus_.find(m.sku.value);
    report.contradiction = contradiction(found == skus_.end() ? nullptr : found->second.get(), m);
    if (report.contradiction) break;
    Placed placed{.sku = nullptr, .message = &m, .at = {}, .first = admissions_.size()};
    BlockBuilder* builder = nullptr;
    for (const Event& event : m.events) {
      const Admission admission = place(m.sku, event, placed.sku);
      admissions_.push_back(admission);
      if (admission != Admission::accepted) continue;
      if (builder == nullptr) {
        placed.at = std::clamp(m.time, placed.sku->head.time, Timestamp{kMaxTimestampMs});
        builder = &next_builder();
        builder->begin(m.sku, placed.sku->head, placed.at, m.position);
      }
      const bool fits = builder->add(event);
      FAIRSALE_INVARIANT(fits, "a message fits into a block");
    }
    if (builder == nullptr) {
      if (placed.sku != nullptr) placed.after = placed.sku->head;
      placed_.push_back(placed);
      report.made_block.push_back(false);
      continue;
    }
    Sku& sku = *placed.sku;
    const Seq first{sku.head.seq.value + 1};
    const auto bytes = builder->finish(sku.head);
    writes_.push_back(BlockWrite{.sku = m.sku, .first = first, .after = sku.head, .bytes = bytes});
    report.bytes += bytes.size();
    sku.clock = LogClock(placed.at, now);
    if (!sku.recent) sku.recent = std::make_unique<RecentHeads>();
    sku.recent->marks[sku.recent->next++ % sku.recent->marks.size()] = Mark::of(sku.head);
    placed.after = sku.head;
    placed_.push_back(placed);
    report.made_block.push_back(true);
  }
  report.followed = placed_.size();
  report.blocks = writes_.size();
  if (!writes_.empty()) {
    if (auto durable = log_.append(writes_); !durable) {
      dead_ = true;
      return tl::unexpected(durable.error());
    }
    last_append_ = now.steady;
    settled_ = false;
  }

  touched_.clear();
  for (const Placed& p : placed_) decide(p, answers, report);
  for (Sku* sku : touched_) {
    sku->touched = false;
    finish(*sku, now, report);
  }
  return report;
}

// What there is to do for a SKU once its part of a commit is decided.
void Sequencer::finish(Sku& sku, Now now, TurnReport& report) {
  FAIRSALE_INVARIANT(sku.sale.seq() == sku.head.seq, "the state follows the log");
  plan_wake(sku, now);
  if (!sku.unsaved) {
    sku.unsaved = true;
    unsaved_.push_back(&sku);
  }
  if (due_for_snapshot(sku, options_.snapshot_every)) take_snapshot(sku, report);
}

// The part of follow() that comes after the sync, for one message.
void Sequencer::decide(const Placed& p, Answers& answers, TurnReport& report) {
  const auto& events = p.message->events;
  const auto& tickets = p.message->tickets;
  const auto accepted = [&](std::size_t i) {
    return admissions_[p.first + i] == Admission::accepted;
  };
  const auto prefetch = [&](std::size_t i) {
    if (i < events.size() && accepted(i)) p.sku->sale.prefetch(events[i]);
  };
  std::optional<ObserverSink> sink;
  for (std::size_t i = 0; i < kPrefetched; ++i) prefetch(i);
  for (std::size_t i = 0; i < events.size(); ++i) {
    prefetch(i + kPrefetched);
    if (!accepted(i)) {
      if (!tickets.empty()) {
        answers.on_refused(tickets[i], events[i], admissions_[p.first + i]);
      }
      continue;
    }
    Sku& sku = *p.sku;
    if (!sink) sink.emplace(sku.id, sku.sale, &observer_);
    const Seq seq{sku.sale.seq().value + 1};
    const Decision decision = sku.sale.apply(seq, p.at, events[i], *sink);
    if (!tickets.empty()) {
      answers.on_decided(tickets[i], sku.id, seq, events[i], decision, sku.sale);
    }
    ++report.events;
    ++sku.since_snapshot;
  }
  answers.on_followed(*p.message, p.after);
  if (!sink) return;
  // Other SKUs, and other times of this one, are in the same commit, and observers tell them apart
  // by this.
  observer_.on_commit(p.sku->id, p.sku->sale);
  if (!p.sku->touched) {
    p.sku->touched = true;
    touched_.push_back(p.sku);
  }
}

void Sequencer::take_overdue(Duration lateness, Duration patience, std::vector<SkuId>& out) {
  const Now now = clock_.now();
  follow_wall_clock(now);
  early_.clear();
  std::size_t taken = 0;
  for (auto it = wakes_.begin(); it != wakes_.end() && taken < kMaxBlocks; ++it, ++taken) {
    if (it->steady > now.steady.value) break;
    early_.push_back(it->sku);
  }
  for (Sku* sku : early_) {
    const std::int64_t late = (sku->clock.read(now) - sku->sale.next_deadline()).value;
    if (late >= lateness.value) out.push_back(sku->id);
    const std::int64_t wait = late >= lateness.value ? patience.value : lateness.value - late;
    set_wake(*sku, now.steady.value + wait);
  }
}

BlockBuilder& Sequencer::next_builder() {
  if (builders_used_ == builders_.size()) builders_.push_back(std::make_unique<BlockBuilder>());
  return *builders_[builders_used_++];
}

// Seals one block of the SKU's next events; `next` moves past them.
std::span<const std::byte> Sequencer::seal(Sku& sku, std::uint32_t& next, Timestamp at,
                                           Head& head) {
  BlockBuilder& builder = next_builder();
  builder.begin(sku.id, head, at, options_.epoch);
  while (next != kNoIndex && builder.add(inbox_[next].event)) next = inbox_[next].next;
  FAIRSALE_INVARIANT(builder.count() > 0, "every event fits into an empty block");
  return builder.finish(head);
}

std::optional<Duration> Sequencer::next_turn_in() const {
  if (!busy_.empty()) return Duration{0};
  std::int64_t wait = kNoWake;
  const Now now = clock_.now();
  if (!wakes_.empty()) {
    // The wall clock may be set meanwhile, so look again well before the promised 50 ms are over.
    wait = std::clamp<std::int64_t>(wakes_.begin()->steady - now.steady.value, 0, 25);
  }
  if (!settled_) {
    wait =
        std::min(wait, std::max<std::int64_t>(
                           last_append_.value + options_.settle_after.value - now.steady.value, 0));
  } else if (!unsaved_.empty()) {
    wait = std::min<std::int64_t>(wait, options_.idle_after.value);
  }
  if (wait == kNoWake) return std::nullopt;
  return Duration{wait};
}

// What there is to do when nothing arrives: make the record of acknowledgements durable, then take
// snapshots, one SKU a turn, so that whoever arrives waits little.
void Sequencer::rest(Now now, TurnReport& report) {
  if (!settled_ && now.steady.value - last_append_.value >= options_.settle_after.value) {
    log_.settle();
    settled_ = true;
  }
  if (!settled_ || now.steady.value - last_append_.value < options_.idle_after.value) return;
  const auto grown = std::find_if(unsaved_.begin(), unsaved_.end(), [&](const Sku* s) {
    return due_for_snapshot(*s, std::min(options_.snapshot_idle, options_.snapshot_every));
  });
  if (grown != unsaved_.end()) take_snapshot(**grown, report);
}

bool Sequencer::due_for_snapshot(const Sku& sku, std::uint64_t every) const {
  if (options_.snapshot_every == 0) return false;
  return sku.since_snapshot >= std::max(every, sku.head.seq.value / 8);
}

void Sequencer::take_snapshot(Sku& sku, TurnReport& report) {
  if (options_.snapshotter == nullptr) return save(sku, report);
  // When it cannot be taken now, it is tried again when as many events have come again.
  sku.since_snapshot = 0;
  if (!options_.snapshotter->want({sku.id, sku.head})) return;
  sku.unsaved = false;
  std::erase(unsaved_, &sku);
}

void Sequencer::save(Sku& sku, TurnReport& report) {
  sku.since_snapshot = 0;
  if (auto put = log_.put_snapshot(sku.id, sku.head, sku.sale); !put) {
    report.snapshot_error = put.error();
    return;
  }
  ++report.snapshots;
  sku.unsaved = false;
  std::erase(unsaved_, &sku);
}

TurnReport Sequencer::stop() {
  TurnReport report;
  // One that is still being taken is older, and would take the place of the last.
  if (options_.snapshotter != nullptr) options_.snapshotter->wait_until_idle();
  std::vector<Sku*> all;
  all.swap(unsaved_);
  for (Sku* sku : all) {
    if (sku->since_snapshot >= options_.snapshot_least) save(*sku, report);
  }
  log_.settle();
  settled_ = true;
  return report;
}

const Sale* Sequencer::find(SkuId sku) const {
  const auto found = skus_.find(sku.value);
  return found == skus_.end() ? nullptr : &found->second->sale;
}

void Sequencer::for_each_head(const std::function<void(SkuId, const Head&)>& visit) const {
  for (const auto& [id, sku] : skus_) visit(sku->id, sku->head);
}

const Head* Sequencer::head(SkuId sku) const {
  const auto found = skus_.find(sku.value);
  return found == skus_.end() ? nullptr : &found->second->head;
}

}  // namespace fairsale
