#include "tests/domain/histories.hpp"

#include <algorithm>
#include <ostream>

namespace fairsale::test {

namespace {

constexpr Currency kEuro{{'E', 'U', 'R'}};

// The purchase that an action is about: mostly one for which the action makes sense, else any, now
// and then a position of something else or of nothing.
Seq target_of(const Action& a, const Sale& sale) {
  if (a.variant % 16 == 15 || sale.purchases() == 0) return Seq{a.target};
  // Wears one purchase out.
  if (a.variant % 16 == 14 || (a.what == Do::pay && a.variant % 16 > 10)) {
    return sale.purchase(PurchaseIndex{0}).seq;
  }
  const auto makes_sense = [&a](PurchaseStatus s) {
    switch (a.what) {
      case Do::cancel: return s == PurchaseStatus::waiting || holds_units(s);
      case Do::decline: return s == PurchaseStatus::offered;
      case Do::pay: return holds_units(s) || (a.variant % 16 > 7 && s == PurchaseStatus::expired);
      case Do::refund: return s == PurchaseStatus::ordered;
      default: return true;
    }
  };
  std::vector<Seq> sensible;
  for (std::uint32_t i = 0; a.variant % 16 < 13 && i < sale.purchases(); ++i) {
    const Purchase& p = sale.purchase(PurchaseIndex{i});
    if (makes_sense(p.status)) sensible.push_back(p.seq);
  }
  if (!sensible.empty()) return sensible[a.target % sensible.size()];
  const auto index = static_cast<std::uint32_t>(a.target % sale.purchases());
  return sale.purchase(PurchaseIndex{index}).seq;
}

Money due_for(const Sale& sale, Seq purchase) {
  Money due = sale.terms().price;
  if (const auto index = sale.find_purchase(purchase)) {
    due.amount.value *= sale.purchase(*index).quantity;
  }
  return due;
}

Terms changed_terms(const Action& a, const Terms& first, const Sale& sale) {
  Terms t = sale.exists() ? sale.terms() : first;
  if (sale.exists()) t.stock = sale.counters().stocked;
  switch (a.variant % 12) {
    case 0: t.line_limit = a.quantity % 8; break;
    case 1: t.limit_per_customer.value += 1; break;
    case 2: t.limit_per_customer.value -= 1; break;
    case 3: t.ends_at = Timestamp{sale.time().value + a.target % 64}; break;
    case 4: t.ends_at = kNever; break;
    case 5: t.stock.value += a.quantity % 4; break;
    case 6: t.hold.value += a.target; break;
    case 7: t.units_per_purchase.value = 1 + a.quantity % 5; break;
    case 8: t.price.amount.value += 1; break;
    case 9: t.starts_at = Timestamp{sale.time().value + a.target % 16}; break;
    case 10: t.line_policy = static_cast<LinePolicy>(a.target % 3); break;
    case 11: break;
  }
  return t;
}

Event event_of(const Action& a, const Terms& first, const Sale& sale) {
  const auto actor = text<Actor>("owner");
  const auto why = text<Why>("because");
  const Seq target = target_of(a, sale);
  if (!sale.exists() && a.variant % 8 != 7) {
    return SaleScheduled{text<SkuName>("demo"), kRulesV1, first, actor};
  }
  switch (a.what) {
    case Do::attempt: {
      const bool sensible = a.variant % 8 != 0;
      return PurchaseAttempted{
          text<CustomerId>(std::string(1, static_cast<char>('A' + a.who))),
          key_named("k" + std::to_string(a.key)),
          Quantity{sensible ? 1 + a.quantity % first.units_per_purchase.value : a.quantity}};
    }
    case Do::repeat: {
      const auto index = sale.find_purchase(target);
      if (!index) return TimePassed{};
      const Purchase& p = sale.purchase(*index);
      return PurchaseAttempted{text<CustomerId>(sale.customer_name(CustomerIndex{p.customer})),
                               p.key, Quantity{p.quantity + (a.variant % 4 == 3 ? 1u : 0u)}};
    }
    case Do::cancel: return PurchaseCancelled{target, Role::shop};
    case Do::decline: return OfferDeclined{target, Role::customer};
    case Do::pay: {
      PaymentReceived e{target, text<PaymentReference>("ref-" + std::to_string(a.key)),
                        due_for(sale, target)};
      if (a.variant % 8 == 6) ++e.amount.amount.value;
      if (a.variant % 8 == 7) e.amount.currency = Currency{{'U', 'S', 'D'}};
      return e;
    }
    case Do::fail:
      return PaymentFailed{target, text<PaymentReference>("ref-" + std::to_string(a.key))};
    case Do::refund: return OrderRefunded{target, a.variant % 2 == 0, actor, why};
    case Do::pause: return SalePaused{actor, why};
    case Do::resume: return SaleResumed{actor, why};
    case Do::close:
      if (a.variant % 8 != 0) return TimePassed{};  // most sales stay open for a while
      return SaleClosed{actor, why};
    case Do::stock: {
      const Counters& c = sale.counters();
      const std::uint32_t committed = c.held.value + c.sold.value;
      const std::uint32_t to[] = {committed,           committed + a.quantity % 5,
                                  c.stocked.value + 1, c.stocked.value + 2,
                                  c.stocked.value,     committed - 1,
                                  a.quantity,          a.target % 2 == 0 ? kMaxStock + 1 : 0};
      return StockAdjusted{Quantity{to[a.variant % 8]}, actor, why};
    }
    case Do::change: return SaleChanged{changed_terms(a, first, sale), actor, why};
    case Do::schedule:
      return SaleScheduled{text<SkuName>(a.variant % 4 == 3 ? "other" : "demo"), kRulesV1,
                           a.variant % 2 == 0 ? first : changed_terms(a, first, sale), actor};
    case Do::nothing: return TimePassed{};
  }
  return TimePassed{};
}

Timestamp time_of(const Action& a, const Sale& sale) {
  const std::int64_t now = sale.time().value;
  Timestamp next = sale.next_deadline();
  // When only the end is left to wait for, most histories have something else to do first.
  if (sale.exists() && next == sale.terms().ends_at && a.variant % 16 != 0) next = kNever;
  const std::int64_t deadline = next == kNever ? now + 1 + a.target % 32 : next.value;
  switch (a.jump) {
    case Jump::none: return Timestamp{now};
    case Jump::little: return Timestamp{now + 1 + a.target % 4};
    case Jump::before_deadline: return Timestamp{std::max(now, deadline - 1)};
    case Jump::to_deadline: return Timestamp{deadline};
    case Jump::past_deadline: return Timestamp{deadline + 1};
    case Jump::past_several: return Timestamp{deadline + a.quantity % 64 + a.target};
  }
  return Timestamp{now};
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Action& a) {
  return out << static_cast<int>(a.what) << '/' << static_cast<int>(a.jump)
             << " who=" << static_cast<int>(a.who) << " key=" << static_cast<int>(a.key)
             << " target=" << static_cast<int>(a.target)
             << " variant=" << static_cast<int>(a.variant) << " quantity=" << a.quantity;
}

std::ostream& operator<<(std::ostream& out, const History& h) {
  out << "\n  terms " << describe(h.terms);
  for (const Arrival& a : arrivals_of(h)) out << "\n  " << describe(a);
  return out << '\n';
}

std::string describe(const Arrival& a) {
  return "#" + std::to_string(a.seq.value) + " at " + std::to_string(a.at.value) +
         "ms: " + describe(a.event);
}

rc::Gen<Terms> any_terms() {
  using namespace rc;
  const auto few = [](std::uint32_t low, std::uint32_t high) {
    return gen::inRange<std::uint32_t>(low, high + 1);
  };
  return gen::map(
      gen::tuple(few(1, 12), few(1, 9), few(1, 4), few(0, 9), gen::inRange<std::int64_t>(0, 30),
                 gen::element<std::int64_t>(-1, -1, -1, 40, 400, 1000),
                 gen::element<std::int64_t>(1, 20, 60, 200),
                 gen::element<std::int64_t>(0, 0, 5, 30),
                 gen::element(LinePolicy::strict, LinePolicy::skip_if_unfit),
                 gen::element<std::int64_t>(0, 100)),
      [](const auto& t) {
        const auto& [stock, limit, units, line, starts, length, hold, grace, policy, price] = t;
        return Terms{.stock = Quantity{stock},
                     .price = Money{MinorUnits{price}, kEuro},
                     .starts_at = Timestamp{starts},
                     .ends_at = length < 0 ? kNever : Timestamp{starts + length},
                     .hold = Duration{hold},
                     .grace = Duration{grace},
                     .limit_per_customer = Quantity{limit},
                     .units_per_purchase = Quantity{units},
                     .line_limit = line,
                     .line_policy = policy};
      });
}

rc::Gen<Action> any_action() {
  using namespace rc;
  const auto what = gen::weightedElement<Do>({{40, Do::attempt},
                                              {5, Do::repeat},
                                              {6, Do::cancel},
                                              {3, Do::decline},
                                              {12, Do::pay},
                                              {2, Do::fail},
                                              {4, Do::refund},
                                              {2, Do::pause},
                                              {4, Do::resume},
                                              {1, Do::close},
                                              {3, Do::stock},
                                              {4, Do::change},
                                              {1, Do::schedule},
                                              {8, Do::nothing}});
  const auto jump = gen::weightedElement<Jump>({{40, Jump::none},
                                                {12, Jump::little},
                                                {2, Jump::before_deadline},
                                                {3, Jump::to_deadline},
                                                {1, Jump::past_deadline},
                                                {1, Jump::past_several}});
  const auto quantity = gen::weightedOneOf<std::uint32_t>(
      {{12, gen::inRange<std::uint32_t>(1, 4)},
       {3, gen::inRange<std::uint32_t>(0, 7)},
       {1, gen::element<std::uint32_t>(0, 100, 101, 65'535, 65'536, 65'537, 0xffff'ffff)}});
  return gen::build<Action>(gen::set(&Action::what, what), gen::set(&Action::jump, jump),
                            gen::set(&Action::who, gen::inRange<std::uint8_t>(0, 8)),
                            gen::set(&Action::key, gen::inRange<std::uint8_t>(0, 24)),
                            gen::set(&Action::target, gen::inRange<std::uint8_t>(0, 255)),
                            gen::set(&Action::variant, gen::inRange<std::uint8_t>(0, 255)),
                            gen::set(&Action::quantity, quantity));
}

rc::Gen<History> any_history() {
  using namespace rc;
  return gen::build<History>(
      gen::set(&History::terms, any_terms()),
      gen::set(&History::actions,
               gen::scale(2.0, gen::container<std::vector<Action>>(any_action()))));
}

Arrival arrival_of(const Action& a, const Terms& first, const Sale& sale) {
  return {Seq{sale.seq().value + 1}, time_of(a, sale), event_of(a, first, sale)};
}

std::vector<Arrival> arrivals_of(const History& h) {
  std::vector<Arrival> arrivals;
  Sale sale;
  Deaf deaf;
  for (const Action& a : h.actions) {
    arrivals.push_back(arrival_of(a, h.terms, sale));
    sale.apply(arrivals.back().seq, arrivals.back().at, arrivals.back().event, deaf);
  }
  return arrivals;
}

std::vector<Said> fold(Sale& sale, const std::vector<Arrival>& arrivals, std::size_t from) {
  Recorder heard(sale);
  for (std::size_t i = from; i < arrivals.size(); ++i) {
    sale.apply(arrivals[i].seq, arrivals[i].at, arrivals[i].event, heard);
  }
  return std::move(heard.said);
}

}  // namespace fairsale::test
