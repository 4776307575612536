#include "tests/sim/witness.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/log/block_format.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale::sim {

namespace {

// Expiries are noticed within this many milliseconds.
constexpr std::int64_t kMaxLagMs = 50;

class Collect final : public DecisionSink {
 public:
  void on(const Decision& d) override { all.push_back(d); }
  std::vector<Decision> all;
};

}  // namespace

std::size_t Witness::HashAttemptKey::operator()(const AttemptKey& k) const {
  std::size_t h = std::hash<std::string>{}(k.customer);
  std::size_t key = 0;
  std::memcpy(&key, k.key.bytes.data(), sizeof(key));
  return h * 31 + key;
}

Witness::Witness(const std::vector<std::string>& skus, WitnessOptions options, const Clock& clock,
                 Trace& trace)
    : options_(options), clock_(clock), trace_(trace), skus_(skus.size()) {
  for (unsigned i = 0; i < skus.size(); ++i) {
    skus_[i].name = skus[i];
    skus_[i].id = sku_id(skus[i]);
    if (options.model) skus_[i].model.emplace();
  }
}

unsigned Witness::index(SkuId id) const {
  for (unsigned i = 0; i < skus_.size(); ++i) {
    if (skus_[i].id == id) return i;
  }
  throw Broken("broken promise: nothing is said of a SKU that nobody named");
}

// ---- What goes in ----

void Witness::accepted(unsigned i, const Event& event, const Ticket& ticket) {
  Sku& sku = skus_[i];
  if (!sku.adopted) adopted(i);
  const std::size_t at = sku.queue.size();
  sku.queue.resize(at + kLargestEventBytes);
  const std::size_t size = encoder_.encode(event, sku.queue.data() + at);
  sku.queue.resize(at + size);
  sku.submitted.push_back({at, size, ticket});
}

void Witness::adopted(unsigned i) {
  Sku& sku = skus_[i];
  sku.adopted = true;
  sku.stamped = sku.head.time;
  sku.stamped_at = clock_.now().steady;
}

Timestamp Witness::log_time(unsigned i) const {
  const Sku& sku = skus_[i];
  const Now now = clock_.now();
  if (!sku.adopted) return std::max(now.wall, sku.head.time);
  const Duration since{now.steady.value - sku.stamped_at.value};
  return std::max(now.wall, sku.stamped + since);
}

// ---- What is committed ----

void Witness::committing(std::span<const BlockWrite> blocks) {
  must(pending_.empty(), "one commit at a time");
  for (const BlockWrite& b : blocks) {
    const unsigned i = index(b.sku);
    Sku& sku = skus_[i];
    const std::byte* p = b.bytes.data();
    const auto count = get_le<std::uint32_t>(p + block_format::kCountAt);
    const Timestamp at{get_le<std::int64_t>(p + block_format::kTimeAt)};
    must(get_le<std::uint64_t>(p + block_format::kEpochAt) == options_.epoch.value,
         "a block names its writer's epoch");
    must(at == log_time(i), "log time is the wall clock's, and never goes back");
    sku.stamped = at;
    sku.stamped_at = clock_.now().steady;
    pending_.push_back(
        {i, b.after, pending_bytes_.size(), b.bytes.size(), pending_tickets_.size()});
    pending_bytes_.insert(pending_bytes_.end(), b.bytes.begin(), b.bytes.end());
    check_payload(
        sku, b.bytes.subspan(block_format::kHeaderSize, b.bytes.size() - block_format::kOverhead),
        count);
    trace_.add(i, count);
    trace_.add(b.after);
  }
}

// The events must be those that were accepted, byte for byte and in order, or a single TimePassed.
void Witness::check_payload(Sku& sku, std::span<const std::byte> payload, std::uint32_t count) {
  for (std::uint32_t n = 0; n < count; ++n) {
    if (sku.submitted.empty()) {
      must(count == 1 && payload.size() == 1 && payload[0] == std::byte{TimePassed::number},
           "nothing is in the log that nobody submitted");
      pending_tickets_.emplace_back(Ticket{}, false);
      return;
    }
    const Submitted s = sku.submitted.front();
    must(payload.size() >= s.size &&
             std::memcmp(payload.data(), sku.queue.data() + s.offset, s.size) == 0,
         "the log holds what was accepted, in order");
    payload = payload.subspan(s.size);
    sku.submitted.pop_front();
    pending_tickets_.emplace_back(s.ticket, true);
  }
  must(payload.empty(), "the log holds nothing else");
  if (sku.submitted.empty()) sku.queue.clear();
}

void Witness::committed() {
  for (const Pending& p : pending_) fold(p, true);
  pending_.clear();
  pending_bytes_.clear();
  pending_tickets_.clear();
}

// What is now in the log is folded; `aloud`: the process is to say the same.
void Witness::fold(const Pending& p, bool aloud) {
  Sku& sku = skus_[p.sku];
  const auto bytes = std::span(pending_bytes_).subspan(p.offset, p.size);
  sku.log.insert(sku.log.end(), bytes.begin(), bytes.end());
  sku.head = p.after;
  EventDecoder decoder(
      bytes.subspan(block_format::kHeaderSize, bytes.size() - block_format::kOverhead));
  Collect heard;
  for (std::size_t n = p.first_ticket; decoder.left() > 0; ++n) {
    must(decoder.next(event_) == DecodeFault::none, "what was encoded decodes");
    ++events_;
    const Seq seq{sku.state.seq().value + 1};
    heard.all.clear();
    if (options_.watch) sku.watcher.before(sku.state, p.after.time, event_);
    const Decision answer = sku.state.apply(seq, p.after.time, event_, heard);
    if (options_.watch) judge(sku, p.after.time, event_, heard.all, answer);
    trace_.add(answer);
    reasons_ |= std::uint64_t{1} << static_cast<unsigned>(answer.reason);
    for (const Decision& d : heard.all) {
      kinds_ |= std::uint64_t{1} << static_cast<unsigned>(d.kind);
      reasons_ |= std::uint64_t{1} << static_cast<unsigned>(d.reason);
    }
    trace_.say([&] {
      std::string line = fmt::format("    {} #{} at {}: {}", sku.name, seq.value,
                                     p.after.time.value, test::describe(event_));
      for (const Decision& d : heard.all) {
        line += "\n        " + test::describe(test::said_by(sku.state, d));
      }
      if (answer.repeated) {
        line += "\n        " + test::describe(test::said_by(sku.state, answer));
      }
      return line;
    });
    if (!aloud) continue;
    sku.decisions.insert(sku.decisions.end(), heard.all.begin(), heard.all.end());
    const auto& [ticket, wanted] = pending_tickets_[n];
    sku.due.push_back({seq, ticket, wanted, answer, sku.decisions.size()});
  }
  must(sku.state.seq() == sku.head.seq, "a block says how many events it has");
}

void Witness::judge(Sku& sku, Timestamp at, const Event& event,
                    const std::vector<Decision>& decisions, const Decision& answer) {
  std::vector<test::Said> heard;
  heard.reserve(decisions.size());
  for (const Decision& d : decisions) heard.push_back(test::said_by(sku.state, d));
  const test::Said said = test::said_by(sku.state, answer);
  if (sku.model) {
    std::vector<test::Said> predicted;
    const test::Said predicted_answer = sku.model->apply(sku.state.seq(), at, event, predicted);
    if (predicted != heard || predicted_answer != said) {
      std::string text = "the model disagrees. Expected:";
      for (const test::Said& s : predicted) text += "\n  " + test::describe(s);
      text += "\n  answer " + test::describe(predicted_answer) + "\nbut heard:";
      for (const test::Said& s : heard) text += "\n  " + test::describe(s);
      throw Broken(text + "\n  answer " + test::describe(said));
    }
    must(sku.model->counters() == sku.state.counters(), "the model counts the same");
    must(sku.model->phase() == sku.state.phase(), "the model is in the same phase");
    must(sku.model->next_deadline() == sku.state.next_deadline(), "the model waits for the same");
  }
  for (const test::Said& s : heard) sku.watcher.heard(s);
  // It looks at everybody, so not at each event of a long sale.
  const std::uint64_t every = 1 + sku.state.purchases() / 8;
  if (sku.state.seq().value % every == 0) sku.watcher.after(sku.state, said);
  const Counters& c = sku.state.counters();
  must(std::uint64_t{c.available.value} + c.held.value + c.sold.value == c.stocked.value,
       "available + held + sold == stocked");
  if (const auto* attempt = std::get_if<PurchaseAttempted>(&event)) {
    judge_retry(sku, *attempt, answer);
  }
}

void Witness::judge_retry(Sku& sku, const PurchaseAttempted& attempt, const Decision& answer) {
  if (answer.reason == Reason::unknown_sale) return;
  const std::uint32_t quantity = std::min<std::uint32_t>(attempt.quantity.value, 0xffff);
  const auto [known, fresh] = sku.firsts.try_emplace(
      AttemptKey{std::string(attempt.customer.view()), attempt.key}, First{quantity, answer});
  if (fresh) {
    must(!answer.repeated, "the first answer is not a repeated one");
  } else if (quantity == known->second.quantity) {
    Decision first = known->second.answer;
    first.repeated = true;
    must(answer == first, "the same key gets the same answer");
  } else {
    must(answer.kind == DecisionKind::refused && answer.reason == Reason::key_reused,
         "the same key with another body is a conflict");
  }
}

std::optional<std::pair<Head, Sale>> Witness::future(unsigned i) const {
  const auto p =
      std::find_if(pending_.begin(), pending_.end(), [&](const Pending& b) { return b.sku == i; });
  if (p == pending_.end()) return std::nullopt;
  Sale sale = test::copy_of(skus_[i].state);
  const auto bytes = std::span(pending_bytes_).subspan(p->offset, p->size);
  EventDecoder decoder(
      bytes.subspan(block_format::kHeaderSize, bytes.size() - block_format::kOverhead));
  test::Deaf deaf;
  Event event;
  while (decoder.left() > 0 && decoder.next(event) == DecodeFault::none) {
    sale.apply(Seq{sale.seq().value + 1}, p->after.time, event, deaf);
  }
  return std::pair{p->after, std::move(sale)};
}

// ---- What the process says ----

void Witness::said(unsigned sku) {
  heard_ = true;
  if (!fuse_ || fuse_->first != sku) return;
  if (fuse_->second-- > 0) return;
  fuse_.reset();
  throw Died{};
}

void Witness::seed(SkuId id, const Sale&) {
  if (recovering_) said(index(id));
}

void Witness::on_decision(SkuId id, const Sale& sale, const Decision& d) {
  const unsigned i = index(id);
  Sku& sku = skus_[i];
  if (!recovering_) {
    must(sku.next_decision < sku.decisions.size(), "only what is durable is decided");
    must(sku.decisions[sku.next_decision] == d, "what is decided follows from the log");
    must(sale.seq() == sku.due[sku.next_due].seq, "a decision is told while the sale reflects it");
    ++sku.next_decision;
  }
  said(i);
}

void Witness::on_decided(const Ticket& ticket, SkuId id, Seq seq, const Event&,
                         const Decision& answer, const Sale& sale) {
  const unsigned i = index(id);
  Sku& sku = skus_[i];
  must(sku.next_due < sku.due.size() && seq <= sku.head.seq, "only what is durable is answered");
  const Due& due = sku.due[sku.next_due];
  must(due.wanted && due.ticket.words[0] == ticket.words[0] &&
           due.ticket.words[1] == ticket.words[1] && due.seq == seq,
       "who waits is answered, in the order of the log");
  must(due.answer == answer, "the answer follows from the log");
  must(due.decisions_end == sku.next_decision, "an answer comes after its decisions");
  must(sale.seq() == seq, "an answer is told while the sale reflects it");
  ++sku.next_due;
  answered_.push_back(ticket);
  said(i);
}

void Witness::on_commit(SkuId id, const Sale& sale) {
  const unsigned i = index(id);
  Sku& sku = skus_[i];
  if (!recovering_) {
    must(sku.next_decision == sku.decisions.size(), "all is decided by the end of a commit");
    must(sale.seq() == sku.head.seq && sale.counters() == sku.state.counters() &&
             sale.time() == sku.state.time() && sale.next_deadline() == sku.state.next_deadline(),
         "the state follows from the log");
  }
  said(i);
}

void Witness::snapshot_put(SkuId id, const Head& at, const Sale& sale, const Digest& state) {
  Sku& sku = skus_[index(id)];
  must(at.seq == sale.seq(), "a snapshot is of the position it names");
  must(at.seq <= sku.head.seq, "a snapshot is of what is durable");
  if (at.seq == sku.head.seq) {
    must(at == sku.head, "a snapshot names the log's head");
    if (options_.watch) must(state == state_digest(sku.state), "a snapshot is of the log's state");
  }
  trace_.add(at);
  trace_.say([&] { return fmt::format("    {} snapshot at #{}", sku.name, at.seq.value); });
}

// ---- Turns and lives ----

void Witness::turn_begins() { heard_ = false; }

void Witness::turn_ended() {
  for (unsigned i = 0; i < skus_.size(); ++i) {
    Sku& sku = skus_[i];
    if (!sku.due.empty()) {
      must(sku.next_decision == sku.decisions.size(), "all that was committed is decided");
      const bool answered =
          sku.next_due == sku.due.size() ||
          std::none_of(sku.due.begin() + static_cast<std::ptrdiff_t>(sku.next_due), sku.due.end(),
                       [](const Due& d) { return d.wanted; });
      must(answered, "all that was committed is answered");
      sku.due.clear();
      sku.decisions.clear();
      sku.next_due = sku.next_decision = 0;
    }
    if (sku.state.next_deadline() == kNever || !sku.adopted || !sku.submitted.empty()) continue;
    must(sku.state.next_deadline().value + kMaxLagMs > log_time(i).value,
         "a deadline that has passed is noticed");
  }
}

void Witness::turn_failed() { must(!heard_, "nothing of a failed turn is acknowledged"); }

void Witness::died(bool found) {
  for (Sku& sku : skus_) {
    sku.adopted = false;
    sku.queue.clear();
    sku.submitted.clear();
    sku.due.clear();
    sku.decisions.clear();
    sku.next_due = sku.next_decision = 0;
  }
  if (found) {
    for (const Pending& p : pending_) fold(p, false);
  }
  pending_.clear();
  pending_bytes_.clear();
  pending_tickets_.clear();
  fuse_.reset();
}

}  // namespace fairsale::sim
