#include "tools/rush/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <unordered_map>

namespace fairsale::rush {

namespace {

constexpr std::size_t kKeep = 10;
constexpr std::uint64_t kForever = std::numeric_limits<std::uint64_t>::max();

bool acknowledged(const Claim& c) { return c.first != First::none; }

bool allowed_after(const Claim& c, const Observed& o) {
  using S = PurchaseStatus;
  switch (c.first) {
    case First::none: return true;
    case First::refused: return o.status == S::refused && o.reason == c.reason;
    case First::reserved:
      switch (o.status) {
        case S::reserved:
        case S::ordered:
        case S::expired:
        case S::cancelled:
        case S::refunded: break;
        default: return false;
      }
      break;
    case First::waiting:
      if (o.status == S::refused || o.status == S::reserved) return false;
      break;
  }
  const bool sold = o.status == S::ordered || o.status == S::refunded;
  if (c.payment == PaymentAnswer::ordered && !sold) return false;
  if (c.cancel == CancelAnswer::cancelled && o.status != S::cancelled) return false;
  if (c.cancel == CancelAnswer::declined && o.status != S::declined) return false;
  // Only the run pays for its own customers; `sent` is a payment whose answer never came.
  if (sold && c.payment != PaymentAnswer::ordered && c.payment != PaymentAnswer::sent) return false;
  return true;
}

std::string told(const Claim& c) {
  std::string s(c.first == First::reserved  ? "reserved"
                : c.first == First::waiting ? "waiting"
                                            : "refused");
  if (c.first == First::refused) s += fmt::format(" ({})", name_of(c.reason));
  if (c.payment == PaymentAnswer::ordered) s += ", paid";
  if (c.cancel == CancelAnswer::cancelled || c.cancel == CancelAnswer::declined) {
    s += ", given up";
  }
  return s;
}

// Left in the line until the sale was over for everyone in it.
bool never_served(const Observed& o) {
  if (o.read != Observed::Read::found) return false;
  if (o.status == PurchaseStatus::waiting) return true;
  return o.status == PurchaseStatus::released &&
         (o.reason == Reason::sold_out || o.reason == Reason::ended || o.reason == Reason::closed);
}

// The position by which a purchase from the line had been made an offer; 0 when it is not known
// to have been made one, kForever when only that it was.
std::uint64_t offered_by(const Claim& c, const Observed& o) {
  if (c.first != First::waiting) return 0;
  if (c.offered_at != 0) return c.offered_at;
  if (o.read != Observed::Read::found) return 0;
  switch (o.status) {
    case PurchaseStatus::offered:
    case PurchaseStatus::ordered:
    case PurchaseStatus::expired:
    case PurchaseStatus::declined:
    case PurchaseStatus::refunded: return kForever;
    default: return 0;
  }
}

class Checker {
 public:
  Checker(const Evidence& e, Violations& v) : e_(e), v_(v) {
    for (std::uint32_t i = 0; i < e.claims.size(); ++i) {
      if (acknowledged(e.claims[i]) && e.claims[i].seq != 0) order_.push_back(i);
      complete_ = complete_ && acknowledged(e.claims[i]);
    }
    std::sort(order_.begin(), order_.end(),
              [&](std::uint32_t a, std::uint32_t b) { return claim(a).seq < claim(b).seq; });
  }

  void run() {
    counters();
    ids();
    statuses();
    kept();
    limits();
    tally();
    line();
    if (e_.alone && complete_) {
      first_come();
      places();
    }
  }

 private:
  const Claim& claim(std::uint32_t i) const { return e_.claims[i]; }
  const Observed& observed(std::uint32_t i) const { return e_.observed[i]; }

  void counters() {
    v_.ran("counters");
    const SaleFacts& s = e_.sale;
    if (s.available < 0 || s.held < 0 || s.sold < 0 || s.waiting < 0 ||
        s.available + s.held + s.sold != s.stock || s.held + s.sold > s.stock) {
      v_.add("counters", fmt::format("stock {} but available {} + held {} + sold {} (waiting {})",
                                     s.stock, s.available, s.held, s.sold, s.waiting));
    }
  }

  void ids() {
    v_.ran("ids");
    for (std::size_t i = 0; i + 1 < order_.size(); ++i) {
      if (claim(order_[i]).seq == claim(order_[i + 1]).seq) {
        v_.add("ids", fmt::format("attempts {} and {} were both given purchase {}", order_[i],
                                  order_[i + 1], claim(order_[i]).seq));
      }
    }
    for (const std::uint32_t i : order_) {
      if (claim(i).position != claim(i).seq) {
        v_.add("ids", fmt::format("attempt {}: purchase {} was first answered at position {}", i,
                                  claim(i).seq, claim(i).position));
      }
    }
    for (std::uint32_t i = 0; i < e_.claims.size(); ++i) {
      const Claim& c = claim(i);
      if (c.seq == 0 && (c.first == First::reserved || c.first == First::waiting)) {
        v_.add("ids", fmt::format("attempt {} is {} without a purchase id", i, told(c)));
      }
    }
  }

  void statuses() {
    v_.ran("statuses");
    for (std::uint32_t i = 0; i < e_.claims.size(); ++i) {
      const Claim& c = claim(i);
      if (c.first == First::refused && c.status != documented_status(c.reason)) {
        v_.add("statuses", fmt::format("attempt {}: {} came with status {} instead of {}", i,
                                       name_of(c.reason), c.status, documented_status(c.reason)));
      }
    }
  }

  void kept() {
    v_.ran("kept");
    for (const std::uint32_t i : order_) {
      const Claim& c = claim(i);
      const Observed& o = observed(i);
      switch (o.read) {
        case Observed::Read::no: break;
        case Observed::Read::missing:
          v_.add("kept", fmt::format("attempt {}: purchase {} was acknowledged as {} and is gone",
                                     i, c.seq, told(c)));
          break;
        case Observed::Read::wrong:
          v_.add("kept", fmt::format("attempt {}: purchase {} cannot be read", i, c.seq));
          break;
        case Observed::Read::found:
          if (!allowed_after(c, o)) {
            v_.add("kept",
                   fmt::format(
                       "attempt {}: purchase {} was acknowledged as {} and is now {}{}", i, c.seq,
                       told(c), name_of(o.status),
                       o.reason == Reason::none ? "" : fmt::format(" ({})", name_of(o.reason))));
          } else if (o.quantity != 0 && c.first != First::refused && o.quantity != c.quantity) {
            v_.add("kept", fmt::format("attempt {}: purchase {} asked for {} units and now says {}",
                                       i, c.seq, c.quantity, o.quantity));
          }
      }
    }
  }

  void limits() {
    if (e_.sale.limit_per_customer <= 0) return;
    v_.ran("limits");
    std::unordered_map<std::uint32_t, std::int64_t> units;
    for (const std::uint32_t i : order_) {
      if (observed(i).read != Observed::Read::found) continue;
      switch (observed(i).status) {
        case PurchaseStatus::reserved:
        case PurchaseStatus::offered:
        case PurchaseStatus::ordered:
        case PurchaseStatus::waiting: units[claim(i).customer] += claim(i).quantity; break;
        default: break;
      }
    }
    for (const auto& [customer, n] : units) {
      if (n > e_.sale.limit_per_customer) {
        v_.add("limits", fmt::format("customer {} has {} units; the limit is {}", customer, n,
                                     e_.sale.limit_per_customer));
      }
    }
  }

  void tally() {
    if (!e_.at_rest) return;  // what was read at different moments cannot be added up
    v_.ran("tally");
    std::int64_t held = 0;
    std::int64_t sold = 0;
    std::int64_t waiting = 0;
    for (const std::uint32_t i : order_) {
      if (observed(i).read != Observed::Read::found) continue;
      switch (observed(i).status) {
        case PurchaseStatus::reserved:
        case PurchaseStatus::offered: held += claim(i).quantity; break;
        case PurchaseStatus::ordered: sold += claim(i).quantity; break;
        case PurchaseStatus::waiting: ++waiting; break;
        default: break;
      }
    }
    const SaleFacts& s = e_.sale;
    const bool over = held > s.held || sold > s.sold || waiting > s.waiting;
    const bool equal = held == s.held && sold == s.sold && waiting == s.waiting;
    if (over || (e_.alone && complete_ && !equal)) {
      v_.add("tally",
             fmt::format("the purchases add up to held {}, sold {}, waiting {}; the sale says {}, "
                         "{}, {}",
                         held, sold, waiting, s.held, s.sold, s.waiting));
    }
  }

  // Walks the attempts in log order, with the latest position up to which somebody who joined
  // before is known to have waited, for each quantity asked for.
  void line() {
    v_.ran("no_passing");
    v_.ran("line_order");
    constexpr std::size_t kQuantities = kMaxUnitsPerPurchase + 1;
    struct Longest {
      std::uint64_t until = 0;
      std::uint32_t attempt = 0;
    };
    std::array<Longest, kQuantities> waits{};
    const auto before = [&](const Claim& c) {
      const std::size_t most =
          e_.sale.strict ? kQuantities : std::min<std::size_t>(c.quantity + 1U, kQuantities);
      return *std::max_element(
          waits.begin(), waits.begin() + static_cast<std::ptrdiff_t>(most),
          [](const Longest& a, const Longest& b) { return a.until < b.until; });
    };
    for (const std::uint32_t i : order_) {
      const Claim& c = claim(i);
      if (c.first == First::reserved) {
        const Longest longest = before(c);
        if (longest.until >= c.seq) {
          v_.add("no_passing",
                 fmt::format("purchase {} was reserved at once while purchase {} waited", c.seq,
                             claim(longest.attempt).seq));
        }
      }
      if (c.first != First::waiting) continue;
      if (const std::uint64_t by = offered_by(c, observed(i)); by != 0) {
        const Longest longest = before(c);
        if (longest.until >= by && longest.until != 0) {
          v_.add("line_order",
                 fmt::format("purchase {} was offered units while purchase {} waited before it",
                             c.seq, claim(longest.attempt).seq));
        }
      }
      const bool to_the_end = e_.alone && never_served(observed(i));
      const std::uint64_t until = to_the_end ? kForever : c.waiting_at;
      Longest& longest = waits[std::min<std::size_t>(c.quantity, kQuantities - 1)];
      if (until > longest.until) longest = {until, i};
    }
  }

  void first_come() {
    v_.ran("first_come");
    std::int64_t reserved = 0;
    std::int64_t put_to_wait = 0;
    std::uint64_t sold_out = 0;
    bool all_free_yet = true;  // nobody was put to wait or told that the units are gone
    for (const std::uint32_t i : order_) {
      const Claim& c = claim(i);
      const bool told_gone = c.first == First::refused && (c.reason == Reason::sold_out ||
                                                           c.reason == Reason::insufficient_stock);
      if (all_free_yet && (c.first == First::waiting || told_gone)) {
        all_free_yet = false;
        if (reserved + c.quantity <= e_.sale.stock) {
          v_.add("first_come",
                 fmt::format("purchase {} ({} units) was told {} when only {} of {} had been "
                             "reserved",
                             c.seq, c.quantity, told(c), reserved, e_.sale.stock));
        }
      }
      if (c.first == First::reserved) {
        reserved += c.quantity;
        if (sold_out != 0) {
          v_.add("first_come", fmt::format("purchase {} was reserved after purchase {} was told "
                                           "sold_out",
                                           c.seq, sold_out));
        }
      }
      if (c.first == First::refused && c.reason == Reason::sold_out && sold_out == 0) {
        sold_out = c.seq;
      }
      if (c.first == First::refused && c.reason == Reason::line_full &&
          put_to_wait < e_.sale.line_limit) {
        v_.add("first_come",
               fmt::format("purchase {} was told line_full after only {} of {} had joined", c.seq,
                           put_to_wait, e_.sale.line_limit));
      }
      if (c.first == First::waiting) ++put_to_wait;
    }
  }

  void places() {
    v_.ran("places");
    std::int64_t joined = 0;
    for (const std::uint32_t i : order_) {
      const Claim& c = claim(i);
      if (c.first != First::waiting) continue;
      ++joined;
      if (c.place < 1 || c.place > joined || c.place > e_.sale.line_limit) {
        v_.add("places", fmt::format("purchase {} was told place {}; {} had joined by then, the "
                                     "line takes {}",
                                     c.seq, c.place, joined, e_.sale.line_limit));
      }
    }
  }

  const Evidence& e_;
  Violations& v_;
  std::vector<std::uint32_t> order_;  // acknowledged attempts with an id, in the order of the log
  bool complete_ = true;
};

}  // namespace

void Violations::add(std::string_view check, std::string what) {
  ran(check);
  Found& found = by_check_.find(check)->second;
  ++found.count;
  ++total_;
  if (found.first.size() < kKeep) found.first.push_back(std::move(what));
}

void Violations::ran(std::string_view check) {
  if (by_check_.find(check) == by_check_.end()) by_check_.emplace(check, Found{});
}

void check_evidence(const Evidence& e, Violations& v) { Checker(e, v).run(); }

}  // namespace fairsale::rush
