#include "projections/outbox/reminders.hpp"

#include <algorithm>

#include "core/log/sale_name.hpp"

namespace fairsale {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience{1000};
constexpr milliseconds kAgain{20};    // until an outbox that is behind is looked at again
constexpr std::int64_t kFresh = 250;  // ms, for which it is true enough that a hold is open
constexpr std::size_t kPage = 256;    // messages
constexpr std::size_t kPages = 64;    // in a row, so that nobody waits long

}  // namespace

Reminders::Reminders(const EventLog& log, StoreSource store, const AvailabilityBoard& board,
                     const Clock& clock, RemindersOptions options)
    : log_(log),
      store_(std::move(store)),
      board_(board),
      clock_(clock),
      options_(std::move(options)) {}

void Reminders::seed(SkuId sku, const Sale& sale) {
  const std::scoped_lock lock(mutex_);
  Followed& f = skus_[sku.value];
  f.cursor = Cursor::past(sale.seq());
  for (std::uint32_t i = 0; i < sale.purchases(); ++i) {
    const Purchase& p = sale.purchase(PurchaseIndex{i});
    if (!holds_units(p.status)) continue;
    const Reminder r{.purchase = p.seq,
                     .customer = *CustomerId::from(sale.customer_name(CustomerIndex{p.customer})),
                     .quantity = Quantity{p.quantity},
                     .until = p.until};
    begin(f, sku, r, sale.terms().hold, sale.time());
  }
  grew(sku);
}

void Reminders::grew(SkuId sku) {
  const std::scoped_lock lock(growing_);
  grown_.insert(sku.value);
}

// `log_time` is when this was decided, or later: the log's time may be ahead of the clock, and goes
// on at its pace.
void Reminders::begin(Followed& f, SkuId sku, const Reminder& r, Duration hold,
                      Timestamp log_time) {
  const Now now = clock_.now();
  const Duration lead = reminder_lead(hold);
  const std::int64_t left = (r.until - std::max(now.wall, log_time)).value;
  if (left <= 0) return;
  // Never in the past, so that it comes behind all marks that were given out.
  const Mark mark{now.steady.value + std::max<std::int64_t>(left - lead.value, 0), ++learnt_};
  Hold& h = holds_[mark];
  h = {.sku = sku, .reminder = r, .ends = now.steady.value + left};
  h.reminder.at = Timestamp{r.until.value - lead.value};
  f.open[r.purchase.value] = mark;
}

void Reminders::end(Followed& f, Seq purchase) {
  const auto it = f.open.find(purchase.value);
  if (it == f.open.end()) return;
  holds_.erase(it->second);
  f.open.erase(it);
}

void Reminders::follow() {
  std::set<std::uint64_t> grown;
  {
    const std::scoped_lock lock(growing_);
    grown.swap(grown_);
  }
  if (grown.empty()) return;
  // What the store cannot give, whoever delivers messages tells of.
  const auto store = store_();
  for (const std::uint64_t sku : grown) {
    if (!store || !follow(*store, SkuId{sku})) grew(SkuId{sku});
  }
}

// Returns whether there was no more.
bool Reminders::follow(const ProjectionStore& store, SkuId sku) {
  Followed& f = skus_[sku.value];
  for (std::size_t i = 0; i < kPages; ++i) {
    const auto page = store.messages(sku, f.cursor.position, f.cursor.number, kPage);
    if (!page) return false;
    for (const MessageRow& m : page->messages) {
      switch (m.kind) {
        case DecisionKind::reserved:
        case DecisionKind::offered:
          begin(f, sku,
                {.purchase = m.purchase,
                 .customer = m.customer,
                 .quantity = m.quantity,
                 .until = m.until},
                m.until - m.at, m.at);
          break;
        case DecisionKind::ordered:
        case DecisionKind::expired:
        case DecisionKind::cancelled:
        case DecisionKind::declined: end(f, m.purchase); break;
        default: break;
      }
      f.cursor = {m.position, m.number};
    }
    if (page->messages.size() < kPage) {
      f.position = page->position;
      f.cursor = std::max(f.cursor, Cursor::past(page->position));
      return true;
    }
  }
  return false;
}

// Whether what is held of the SKU is true enough to be told. A sale in a rush is always some
// messages ahead of what can be followed, so what counts is how long ago that was true.
bool Reminders::known_by_now(SkuId sku, std::int64_t now) {
  Followed& f = skus_[sku.value];
  if (f.name.empty()) {
    const auto name = sale_name(log_, sku);
    if (!name) return false;
    f.name = *name;
  }
  const auto sale = board_.find(f.name);
  if (!sale) return false;
  if (f.position < sale->position) {
    // The outbox may have got further without a message.
    if (const auto store = store_()) follow(*store, sku);
  }
  if (f.position >= sale->position) {
    f.known = now;
    f.looked.reset();
  } else {
    if (f.looked && f.position >= f.looked->position) {
      f.known = f.looked->at;
      f.looked.reset();
    }
    if (!f.looked) f.looked = {sale->position, now};
  }
  return f.known && now - *f.known <= kFresh;
}

Reminders::Next Reminders::next(const Mark& behind, std::size_t limit) {
  Next next{.wait = kPatience};
  if (options_.current && !options_.current()) {
    next.due = true;
    return next;
  }
  const std::scoped_lock lock(mutex_);
  follow();
  const std::int64_t now = clock_.now().steady.value;
  const auto first_from = [&](auto it) {
    return std::find_if(it, holds_.end(), [&](const auto& h) { return h.second.ends > now; });
  };
  auto it = first_from(holds_.upper_bound(behind));
  if (it == holds_.end()) return next;
  if (it->first.due > now) {
    next.wait = std::min(kPatience, milliseconds(it->first.due - now));
    return next;
  }
  const SkuId sku = it->second.sku;
  next.wait = kAgain;
  next.due = true;
  if (!known_by_now(sku, now)) return next;
  next.wait = milliseconds(0);
  next.sku = skus_[sku.value].name;
  // That may have ended the first of them.
  for (it = first_from(holds_.upper_bound(behind));
       it != holds_.end() && it->first.due <= now && it->second.sku == sku &&
       next.reminders.size() < limit;
       it = first_from(std::next(it))) {
    next.reminders.push_back(it->second.reminder);
    next.marks.push_back(it->first);
  }
  return next;
}

}  // namespace fairsale
