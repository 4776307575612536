#include "core/explain/explain.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace fairsale {

namespace {

// Whether others decided what became of an attempt that was answered so.
bool decided_by_others(DecisionKind kind, Reason reason) {
  return kind == DecisionKind::waiting || reason == Reason::sold_out ||
         reason == Reason::insufficient_stock || reason == Reason::line_full;
}

bool lost(PurchaseStatus s) {
  switch (s) {
    case PurchaseStatus::refused:
    case PurchaseStatus::expired:
    case PurchaseStatus::cancelled:
    case PurchaseStatus::declined:
    case PurchaseStatus::released: return true;
    default: return false;
  }
}

// A purchase that is followed from its attempt to the end of the log.
struct Followed {
  Story story;
  PurchaseIndex index;
  PurchaseStatus status = PurchaseStatus::refused;
  bool could_buy = false;     // as of the last decision of this event that time made
  std::uint32_t place = 0;    // in line, now
  std::vector<bool> ahead;    // by purchase: stood before it at its attempt
  std::vector<bool> waiting;  // by purchase: of those, still waits
};

// Folds the log and writes down what concerns the question.
class Teller final : public DecisionSink {
 public:
  Teller(const Question& question, Sale start) : question_(question), sale_(std::move(start)) {}

  Result<void> apply(Seq seq, Timestamp at, const Event& event) {
    seq_ = seq;
    at_ = at;
    event_ = &event;
    stocked_ = sale_.counters().stocked;
    acted_ = false;
    const auto* attempt = std::get_if<PurchaseAttempted>(&event);
    const bool wanted = question_.purchase
                            ? seq == *question_.purchase
                            : attempt != nullptr && attempt->customer == question_.customer;
    if (wanted && attempt == nullptr) return not_an_attempt(event);
    asked_ = wanted ? attempt : nullptr;
    const std::size_t known = followed_.size();
    const Decision answer = sale_.apply(seq, at, event, *this);
    if (answer.repeated) note_repeated(answer);
    if (wanted && followed_.size() == known) {
      if (auto ok = note_unkept(*attempt, answer); !ok) return ok;
    }
    for (Followed& f : followed_) {
      f.could_buy = false;
      if (could_buy(f)) note_chance(f, seq_);
    }
    return {};
  }

  void prefetch(const Event& event) { sale_.prefetch(event); }

  void on(const Decision& d) override {
    look_for_chance_before(d);
    const bool new_purchase = asked_ != nullptr && d.purchase == seq_;
    if (new_purchase) begin(d);
    for (Followed& f : followed_) {
      if (!f.story.is_purchase) continue;
      if (d.purchase == f.story.attempt) {
        own(f, d);
      } else {
        others(f, d);
      }
      if (!acted_) f.could_buy = could_buy(f);
    }
  }

  Explanation finish(const SkuHead& head) {
    Explanation e{.sku = std::string(sale_.sku()),
                  .head = head.head,
                  .at = sale_.time(),
                  .provisional = {},
                  .terms = sale_.terms(),
                  .phase = sale_.phase(),
                  .stories = {},
                  .stories_left_out = left_out_};
    for (Followed& f : followed_) {
      finish(f);
      e.stories.push_back(std::move(f.story));
    }
    return e;
  }

  const Sale& sale() const { return sale_; }

 private:
  static Result<void> not_an_attempt(const Event& event) {
    const Seq about = std::visit(
        [](const auto& e) {
          if constexpr (requires { e.purchase; }) {
            return e.purchase;
          } else {
            return Seq{0};
          }
        },
        event);
    std::string what = fmt::format("no purchase was attempted there: it is a {}", name_of(event));
    if (about.value != 0) what += fmt::format(" about the purchase of position {}", about.value);
    return fail(Fault::not_found, std::move(what));
  }

  // The decision on a new attempt; the sale reflects it already.
  void begin(const Decision& d) {
    if (followed_.size() >= kMaxStories) {
      ++left_out_;
      return;
    }
    Followed f;
    f.index = *sale_.find_purchase(d.purchase);
    Story& s = f.story;
    s.attempt = d.purchase;
    s.at = at_;
    s.quantity = asked_->quantity.value;
    if (question_.names) s.customer = asked_->customer.view();
    s.before = sale_.counters();
    if (d.kind == DecisionKind::reserved) {
      s.before.available.value += d.quantity.value;
      s.before.held.value -= d.quantity.value;
    } else if (d.kind == DecisionKind::waiting) {
      --s.before.waiting;
    }
    if (decided_by_others(d.kind, d.reason)) look_ahead(f);
    followed_.push_back(std::move(f));
  }

  void look_ahead(Followed& f) {
    Ahead ahead;
    f.ahead.resize(f.index.value);
    f.waiting.resize(f.index.value);
    for (std::uint32_t i = f.index.value; i-- > 0;) {
      const Purchase& p = sale_.purchase(PurchaseIndex{i});
      Tally* tally = p.status == PurchaseStatus::waiting   ? &ahead.waiting
                     : holds_units(p.status)               ? &ahead.holding
                     : p.status == PurchaseStatus::ordered ? &ahead.ordered
                                                           : nullptr;
      if (tally == nullptr) continue;
      tally->add(p.quantity);
      f.ahead[i] = true;
      f.waiting[i] = p.status == PurchaseStatus::waiting;
      if (++ahead.of > std::min(question_.ahead_limit, kMaxAheadListed)) continue;
      Ahead::Listed listed{.purchase = p.seq, .quantity = p.quantity, .then = p.status};
      if (question_.names) listed.customer = sale_.customer_name(CustomerIndex{p.customer});
      ahead.nearest.push_back(std::move(listed));
    }
    std::reverse(ahead.nearest.begin(), ahead.nearest.end());
    f.story.ahead = std::move(ahead);
  }

  void add(Followed& f, const Decision& d, bool is_own) {
    if (f.story.steps.size() >= kMaxSteps) {
      ++f.story.steps_left_out;
      return;
    }
    f.story.steps.push_back({.seq = seq_,
                             .at = at_,
                             .event = name_of(*event_),
                             .decision = d.kind,
                             .reason = d.reason,
                             .repeated = d.repeated,
                             .own = is_own,
                             .quantity = d.quantity.value,
                             .place = d.place,
                             .until = d.until,
                             .counters = sale_.counters()});
  }

  void own(Followed& f, const Decision& d) {
    add(f, d, true);
    f.status = sale_.purchase(f.index).status;
    Story& s = f.story;
    if (d.kind == DecisionKind::waiting) f.place = s.first_place = s.best_place = d.place;
    if (!lost(f.status)) {
      s.afterwards.reset();  // a late payment may still be honoured
    } else if (!s.afterwards) {
      s.afterwards.emplace();
      s.afterwards->since = seq_;
    }
  }

  void others(Followed& f, const Decision& d) {
    if (d.purchase.value == 0) {
      const bool undecided = f.status == PurchaseStatus::waiting || holds_units(f.status);
      if (undecided && d.kind != DecisionKind::refused && d.kind != DecisionKind::noted) {
        add(f, d, false);
      }
      if (f.story.afterwards && d.kind == DecisionKind::stock_adjusted && d.quantity > stocked_) {
        f.story.afterwards->stock_added += d.quantity.value - stocked_.value;
      }
      return;
    }
    if (f.status == PurchaseStatus::waiting) return move_up(f, d);
    if (!f.story.afterwards) return;
    Afterwards& a = *f.story.afterwards;
    const auto* refund = std::get_if<OrderRefunded>(event_);
    switch (d.kind) {
      case DecisionKind::reserved:
      case DecisionKind::offered: a.served.add(d.quantity.value); break;
      case DecisionKind::expired:
      case DecisionKind::declined: a.came_back.add(d.quantity.value); break;
      case DecisionKind::cancelled:  // of a hold: who only waited gave nothing back
        if (d.until.value != 0) a.came_back.add(d.quantity.value);
        break;
      case DecisionKind::refunded:
        if (refund != nullptr && refund->restock) a.came_back.add(d.quantity.value);
        break;
      default: break;
    }
  }

  void move_up(Followed& f, const Decision& d) {
    if (d.purchase > f.story.attempt) {
      if (d.kind == DecisionKind::reserved || d.kind == DecisionKind::offered) {
        f.story.overtaken_by.add(d.quantity.value);
      }
      return;
    }
    // A line that is released as a whole does not move up.
    const bool left = d.kind == DecisionKind::offered || d.kind == DecisionKind::cancelled ||
                      (d.kind == DecisionKind::released && d.reason == Reason::insufficient_stock);
    if (!left) return;
    const auto index = sale_.find_purchase(d.purchase);
    if (!index || !f.waiting[index->value]) return;
    f.waiting[index->value] = false;
    f.story.best_place = std::min(f.story.best_place, --f.place);
  }

  void note_repeated(const Decision& d) {
    for (Followed& f : followed_) {
      if (f.story.is_purchase && d.purchase == f.story.attempt) add(f, d, true);
    }
  }

  // An attempt that made no purchase: a retry, another quantity under a used key, or none could be.
  Result<void> note_unkept(const PurchaseAttempted& attempt, const Decision& answer) {
    if (!question_.purchase) {
      // It is a step in the purchase's story, or the purchase was left out.
      if (answer.purchase.value != 0) return {};
    } else if (answer.repeated) {
      return fail(Fault::not_found,
                  fmt::format("it is a retry of the purchase of position {}, which got the same "
                              "answer: ask for that one",
                              answer.purchase.value));
    }
    if (followed_.size() >= kMaxStories) {
      ++left_out_;
      return {};
    }
    Followed f;
    f.story.attempt = seq_;
    f.story.at = at_;
    f.story.quantity = attempt.quantity.value;
    if (question_.names) f.story.customer = attempt.customer.view();
    f.story.is_purchase = false;
    f.story.reason = answer.reason;
    f.story.before = sale_.counters();
    add(f, answer, true);
    followed_.push_back(std::move(f));
    return {};
  }

  // What time brings, an expiry say, is brought by the event that comes next, and that may take it
  // or shut it off at once. So there is a moment between the two, after the last decision that time
  // made and before the event's own; the sale is then as that decision left it.
  void look_for_chance_before(const Decision& d) {
    if (acted_ || brought_by_time(d.kind)) return;
    acted_ = true;
    for (Followed& f : followed_) {
      if (f.could_buy) note_chance(f, Seq{seq_.value - 1});
    }
  }

  // Never an event's own decision, though an event may bring them after it as well.
  static bool brought_by_time(DecisionKind kind) {
    switch (kind) {
      case DecisionKind::opened:
      case DecisionKind::ended:
      case DecisionKind::expired:
      case DecisionKind::offered:
      case DecisionKind::sold_out:
      case DecisionKind::released:
      case DecisionKind::line_released: return true;
      default: return false;
    }
  }

  // Whether the attempt, made now with a new key, would be reserved.
  bool could_buy(const Followed& f) const {
    if (!f.story.afterwards || f.story.afterwards->chance) return false;
    const Terms& t = sale_.terms();
    const Counters& c = sale_.counters();
    const std::uint32_t q = f.story.quantity;
    if (sale_.phase() != Phase::open || q == 0 || q > t.units_per_purchase.value ||
        q > c.available.value || (c.waiting > 0 && t.line_policy == LinePolicy::strict)) {
      return false;
    }
    const CustomerIndex customer{sale_.purchase(f.index).customer};
    return std::uint64_t{sale_.customer_units(customer).value} + q <= t.limit_per_customer.value;
  }

  void note_chance(Followed& f, Seq after) const {
    f.could_buy = false;
    f.story.afterwards->chance = after;
    f.story.afterwards->chance_at = at_;
  }

  void finish(Followed& f) {
    Story& s = f.story;
    if (!s.is_purchase) return;
    const Purchase& p = sale_.purchase(f.index);
    s.status = p.status;
    s.reason = p.reason;
    if (!s.ahead) return;
    for (std::uint32_t i = 0; i < f.ahead.size(); ++i) {
      if (!f.ahead[i]) continue;
      const Purchase& before = sale_.purchase(PurchaseIndex{i});
      s.ahead->became[static_cast<std::size_t>(before.status)].add(before.quantity);
    }
    for (Ahead::Listed& listed : s.ahead->nearest) {
      listed.now = sale_.purchase(*sale_.find_purchase(listed.purchase)).status;
    }
  }

  const Question& question_;
  Sale sale_;
  std::vector<Followed> followed_;
  std::uint64_t left_out_ = 0;

  // Of the event that is being applied.
  Seq seq_;
  Timestamp at_;
  const Event* event_ = nullptr;
  const PurchaseAttempted* asked_ = nullptr;  // when it is one that the question is about
  Quantity stocked_;
  bool acted_ = false;  // what time brought is over, the event itself has been decided
};

}  // namespace

Result<Explanation> explain(const EventLog& log, const SkuHead& sku, const Question& question,
                            const std::function<bool(std::uint64_t events)>& watch) {
  const auto id = [&] { return fmt::format("position {}", question.purchase->value); };
  if (question.purchase && (question.purchase->value == 0 || *question.purchase > sku.head.seq)) {
    return fail(Fault::not_found,
                fmt::format("{}: the log has positions 1 to {}", id(), sku.head.seq.value));
  }
  // Whoever is asked about by position did nothing before it.
  Head from;
  Sale start;
  if (question.purchase && question.purchase->value > 1 && question.from == FoldFrom::snapshot) {
    auto snapshot = log.snapshot(sku.sku, Seq{question.purchase->value - 1});
    if (!snapshot) return tl::unexpected(snapshot.error());
    if (*snapshot) {
      from = (*snapshot)->head;
      start = std::move((*snapshot)->sale);
    }
  }
  Teller teller(question, std::move(start));
  const auto done = follow(log, sku, from, sku.head.seq, [&](const BlockView& b) -> Result<void> {
    if (watch && !watch(b.header().count)) {
      return fail(Fault::busy, "the explanation was broken off");
    }
    Result<void> result;
    const auto decoded = b.for_each(
        [&](Seq seq, const Event& event) {
          if (result && seq <= sku.head.seq) result = teller.apply(seq, b.header().time, event);
        },
        [&](const Event& event) { teller.prefetch(event); });
    return result ? decoded : result;
  });
  if (!done) {
    Error error = done.error();
    if (error.fault == Fault::not_found) error.message = id() + ": " + error.message;
    return tl::unexpected(std::move(error));
  }
  Explanation e = teller.finish(sku);
  if (e.stories.empty()) {
    return fail(Fault::not_found,
                fmt::format("customer {} never tried to buy {}", question.customer.view(), e.sku));
  }
  return e;
}

}  // namespace fairsale
