#include "tests/linear/history.hpp"

#include <fmt/format.h>

#include <map>
#include <numeric>

#include "core/log/digest.hpp"
#include "tests/domain/model.hpp"

namespace fairsale::linear {

namespace {

using test::Model;
using test::Said;

// Time stands still: holds are long and do not end within a history.
constexpr Timestamp kNow{1'700'000'000'000};

// The rules, told as the model tells them, with purchases known by their keys.
struct State {
  Model model;
  // What operations without an answer would have been told: a later repetition tells it.
  std::map<std::size_t, std::string> untold;
};

Seq seq_of(std::uint32_t key) { return Seq{std::uint64_t{key} + 1}; }

std::string key_text(std::uint32_t key) { return fmt::format("key-{}", key); }

// Whether giving up means declining an offer was settled when the request was read.
Event give_up(const Operation& o) {
  const bool declines = o.told == DecisionKind::declined || o.reason == Reason::not_offered;
  if (declines) return OfferDeclined{seq_of(o.key), Role::shop};
  return PurchaseCancelled{seq_of(o.key), Role::shop};
}

Event event_of(const Operation& o, const Terms& terms) {
  switch (o.kind) {
    case Kind::attempt:
      return PurchaseAttempted{*CustomerId::from(customer_of(o.key)),
                               idempotency_key(key_text(o.key)), Quantity{o.quantity}};
    case Kind::give_up: return give_up(o);
    case Kind::pay:
      return PaymentReceived{seq_of(o.key),
                             *PaymentReference::from(fmt::format("pay-{}", o.payment)),
                             {MinorUnits{o.amount}, terms.price.currency}};
    case Kind::read: break;
  }
  return TimePassed{};
}

State opened(const Terms& terms) {
  State s;
  std::vector<Said> said;
  Terms now = terms;
  now.starts_at = kNow;
  s.model.apply(Seq{1}, kNow, SaleScheduled{.sku = *SkuName::from("a"), .terms = now, .actor = {}},
                said);
  return s;
}

bool same_counters(const Counters& a, const Counters& b) {
  return a.available == b.available && a.held == b.held && a.sold == b.sold &&
         a.waiting == b.waiting;
}

// Giving up is answered by how the purchase stands, not by whether it was new.
bool fits(const Operation& o, const Said& answer) {
  return answer.kind == o.told && answer.reason == o.reason && answer.place == o.place &&
         (o.kind == Kind::give_up || answer.repeated == o.repeated);
}

// The state after an operation, or nothing when it was told something else.
std::optional<State> step(const State& before, std::size_t i, const Operation& o,
                          const Terms& terms) {
  if (o.kind == Kind::read) {
    if (o.answered() && !same_counters(o.counters, before.model.counters())) return std::nullopt;
    return before;
  }
  State after = before;
  std::vector<Said> said;
  const Said answer = after.model.apply(seq_of(o.key), kNow, event_of(o, terms), said);
  if (o.answered() && !fits(o, answer)) return std::nullopt;
  if (!o.answered()) {
    after.untold[i] =
        fmt::format("{}:{}:{}", name_of(answer.kind), name_of(answer.reason), answer.place);
  }
  return after;
}

// Whatever was told so has left the sale as it was.
bool changes_nothing(const Operation& o) {
  if (o.kind == Kind::read) return true;
  const bool refused = o.told == DecisionKind::refused;
  return o.answered() &&
         (o.repeated || o.reason == Reason::key_reused || (refused && o.kind != Kind::attempt));
}

std::string text_of(const State& s) {
  std::string out;
  for (const auto& [seq, buy] : s.model.buys()) {
    out += fmt::format("{}={},", seq, static_cast<int>(buy.status));
  }
  out += fmt::format("line {},", fmt::join(s.model.line(), ","));
  for (const auto& [i, told] : s.untold) out += fmt::format("{}:{},", i, told);
  return out;
}

std::string text_of(const Operation& o) {
  std::string out = fmt::format("client {} sale {} ", o.client, o.sale);
  switch (o.kind) {
    case Kind::attempt: out += fmt::format("attempt key {} of {}", o.key, o.quantity); break;
    case Kind::give_up: out += fmt::format("give up key {}", o.key); break;
    case Kind::pay:
      out += fmt::format("pay key {} payment {} {}", o.key, o.payment, o.amount);
      break;
    case Kind::read: out += fmt::format("read min_seq {}", o.min_seq); break;
  }
  if (!o.answered()) return out + " -> no answer";
  if (o.kind == Kind::read) {
    return out + fmt::format(" -> available {} held {} sold {} waiting {} at {}",
                             o.counters.available.value, o.counters.held.value,
                             o.counters.sold.value, o.counters.waiting, o.position);
  }
  out += fmt::format(" -> {} at {}", name_of(o.told), o.position);
  if (o.reason != Reason::none) out += fmt::format(" ({})", name_of(o.reason));
  if (o.place != 0) out += fmt::format(" place {}", o.place);
  if (o.repeated) out += " repeated";
  return out;
}

// The operations of one sale, and what they were in the history.
std::vector<std::size_t> of_sale(const History& h, std::size_t sale) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < h.operations.size(); ++i) {
    if (h.operations[i].sale == sale) out.push_back(i);
  }
  return out;
}

std::optional<std::string> judge_sale(const History& h, std::size_t sale) {
  const Terms& terms = h.sales[sale];
  std::vector<Operation> operations;
  std::map<std::size_t, std::size_t> place_of;  // in `operations`, by place in the history
  for (const std::size_t i : of_sale(h, sale)) {
    Operation o = h.operations[i];
    place_of[i] = operations.size();
    if (o.kind == Kind::read) o.when.call -= kReadMayBeOld;
    if (o.when.after) o.when.after = place_of.at(*o.when.after);
    operations.push_back(o);
    // Nobody knows which of the two a giving up would have been: each of them may have taken
    // effect, and after one the other changes nothing.
    if (o.kind == Kind::give_up && !o.answered()) {
      o.told = DecisionKind::declined;
      operations.push_back(o);
    }
  }
  std::vector<Interval> intervals;
  for (const Operation& o : operations) intervals.push_back(o.when);
  const Search found = search(
      intervals, opened(terms),
      [&](const State& s, std::size_t i) { return step(s, i, operations[i], terms); },
      [&](std::size_t i) { return changes_nothing(operations[i]); },
      [](const State& s) { return text_of(s); });
  if (found.verdict == Verdict::linearizable) return std::nullopt;
  std::string out = fmt::format(
      "sale {}: {} after {} steps; the order that went furthest:\n", sale,
      found.verdict == Verdict::undecided ? "undecided" : "no order explains the answers",
      found.steps);
  for (const std::size_t i : found.longest) out += fmt::format("  {}\n", text_of(operations[i]));
  return out;
}

std::optional<std::string> wrong(const Operation& o, std::string_view what) {
  return fmt::format("{}: {}", text_of(o), what);
}

// Attempts with the same key and quantity are tries of one purchase.
std::optional<std::string> judge_repetitions(const History& h,
                                             const std::vector<std::size_t>& operations) {
  std::map<std::pair<std::uint32_t, std::uint32_t>, const Operation*> first;
  for (const std::size_t i : operations) {
    const Operation& o = h.operations[i];
    if (o.kind != Kind::attempt || !o.answered() || o.reason == Reason::key_reused) continue;
    const Operation*& known = first[{o.key, o.quantity}];
    if (known != nullptr && known->body != o.body) return wrong(o, "not the first answer again");
    if (known != nullptr && !known->repeated && !o.repeated) return wrong(o, "decided anew");
    if (known == nullptr || !o.repeated) known = &o;
  }
  return std::nullopt;
}

// What ended before something else began has the lower position.
std::optional<std::string> judge_order(const History& h,
                                       const std::vector<std::size_t>& operations) {
  std::vector<const Operation*> by_call;
  std::vector<const Operation*> by_answer;
  for (const std::size_t i : operations) {
    const Operation& o = h.operations[i];
    if (!o.answered()) continue;
    by_call.push_back(&o);
    by_answer.push_back(&o);
  }
  std::sort(by_call.begin(), by_call.end(),
            [](auto* a, auto* b) { return a->when.call < b->when.call; });
  std::sort(by_answer.begin(), by_answer.end(),
            [](auto* a, auto* b) { return a->when.answer < b->when.answer; });
  // The highest position that was told before a moment; moments must not go back.
  struct Told {
    const std::vector<const Operation*>& answers;
    std::size_t seen = 0;
    std::uint64_t highest = 0;
    std::uint64_t before(std::int64_t moment) {
      for (; seen < answers.size() && answers[seen]->when.answer < moment; ++seen) {
        highest = std::max(highest, answers[seen]->position);
      }
      return highest;
    }
  };
  Told by_now{by_answer};
  Told a_second_ago{by_answer};
  for (const Operation* o : by_call) {
    const std::uint64_t told = by_now.before(o->when.call);
    if (o->kind == Kind::read) {
      if (o->position < o->min_seq) return wrong(*o, "older than min_seq");
      if (o->position < a_second_ago.before(o->when.call - kReadMayBeOld)) {
        return wrong(*o, "more than a second old");
      }
    } else if (!o->repeated || o->kind != Kind::attempt) {
      if (o->position <= told) {
        return wrong(*o, fmt::format("position {} was told before it was asked for", told));
      }
    }
  }
  return std::nullopt;
}

// Tells the history in the order of its positions.
std::optional<std::string> judge_telling(const History& h, std::size_t sale,
                                         const std::vector<std::size_t>& operations) {
  // An attempt that was repeated states the position of the first.
  const auto has_own_position = [](const Operation& o) {
    return o.kind != Kind::read && !(o.kind == Kind::attempt && o.repeated);
  };
  std::vector<const Operation*> order;
  std::size_t repeated = 0;
  std::uint64_t last = 1;  // the sale was scheduled
  for (const std::size_t i : operations) {
    const Operation& o = h.operations[i];
    if (has_own_position(o) || o.kind == Kind::read) {
      order.push_back(&o);
    } else {
      ++repeated;
    }
    last = std::max(last, o.position);
  }
  // Writes before reads of the same position: a read shows what the write has left.
  std::stable_sort(order.begin(), order.end(), [&](auto* a, auto* b) {
    return std::pair(a->position, a->kind == Kind::read) <
           std::pair(b->position, b->kind == Kind::read);
  });
  State state = opened(h.sales[sale]);
  std::uint64_t at = 1;
  std::size_t writes = 0;
  for (const Operation* o : order) {
    if (o->kind != Kind::read) {
      if (o->position <= at) return wrong(*o, "two events have one position");
      at = o->position;
      ++writes;
    }
    auto next = step(state, 0, *o, h.sales[sale]);
    if (!next) return wrong(*o, "by the log's order it would have been told something else");
    state = std::move(*next);
  }
  // Each request is one event, and nothing else is in the log.
  if (last > 1 + writes + repeated) {
    return fmt::format("sale {}: {} events for {} requests", sale, last - 1, writes + repeated);
  }
  return std::nullopt;
}

}  // namespace

std::string customer_of(std::uint32_t key) { return fmt::format("customer-{}", key % 5); }

std::optional<std::string> judge_linearizable(const History& h) {
  for (std::size_t sale = 0; sale < h.sales.size(); ++sale) {
    if (auto what = judge_sale(h, sale)) return what;
  }
  return std::nullopt;
}

std::optional<std::string> judge_positions(const History& h) {
  for (std::size_t sale = 0; sale < h.sales.size(); ++sale) {
    const auto operations = of_sale(h, sale);
    if (auto what = judge_repetitions(h, operations)) return what;
    if (auto what = judge_order(h, operations)) return what;
    if (!h.whole) continue;
    if (auto what = judge_telling(h, sale, operations)) return what;
  }
  return std::nullopt;
}

std::string describe(const History& h) {
  std::vector<std::size_t> order(h.operations.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return h.operations[a].when.call < h.operations[b].when.call;
  });
  const std::int64_t zero = order.empty() ? 0 : h.operations[order[0]].when.call;
  std::string out;
  for (const std::size_t i : order) {
    const Operation& o = h.operations[i];
    out +=
        fmt::format("{:>9} {:>9} us  {}\n", (o.when.call - zero) / 1000,
                    o.answered() ? fmt::to_string((o.when.answer - zero) / 1000) : "", text_of(o));
  }
  return out;
}

}  // namespace fairsale::linear
