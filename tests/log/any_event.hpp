// Random events for properties.
#pragma once

#include <gtest/gtest.h>

// After GoogleTest, which it builds on.
#include <rapidcheck.h>

#include <limits>
#include <string>

#include "core/domain/event.hpp"

namespace fairsale::testing {

// Numbers that lean towards the ends of their range.
template <class T>
rc::Gen<T> number() {
  return rc::gen::weightedOneOf<T>({{3, rc::gen::arbitrary<T>()},
                                    {1, rc::gen::element<T>(0, 1, std::numeric_limits<T>::min(),
                                                            std::numeric_limits<T>::max())}});
}

template <std::size_t N>
Text<N> any_text(std::size_t at_least = 0) {
  const auto size = *rc::gen::weightedOneOf<std::size_t>(
      {{3, rc::gen::inRange(at_least, N + 1)}, {1, rc::gen::element(at_least, N)}});
  const auto s = *rc::gen::container<std::string>(size, rc::gen::arbitrary<char>());
  return *Text<N>::from(s);
}

inline SkuName any_sku() {
  const auto size = *rc::gen::inRange<std::size_t>(1, 65);
  const auto s =
      *rc::gen::container<std::string>(size, rc::gen::elementOf(std::string("abcXYZ019._-")));
  return *SkuName::from(s);
}

template <class S>
S any_number() {
  return S{*number<typename S::rep>()};
}

inline Money any_money() {
  Money m{any_number<MinorUnits>(), {}};
  for (char& c : m.currency.code) c = *rc::gen::arbitrary<char>();
  return m;
}

inline Terms any_terms() {
  return {.stock = any_number<Quantity>(),
          .price = any_money(),
          .starts_at = any_number<Timestamp>(),
          .ends_at = any_number<Timestamp>(),
          .hold = any_number<Duration>(),
          .grace = any_number<Duration>(),
          .limit_per_customer = any_number<Quantity>(),
          .units_per_purchase = any_number<Quantity>(),
          .line_limit = *number<std::uint32_t>(),
          .line_policy = *rc::gen::element(LinePolicy::strict, LinePolicy::skip_if_unfit),
          .opening = *rc::gen::element(Opening::fifo, Opening::draw)};
}

inline Role any_role() { return *rc::gen::element(Role::customer, Role::shop, Role::op); }

// Well formed, of any type, with any values that the format allows.
inline Event any_event() {
  switch (*rc::gen::inRange(0, 13)) {
    case 0:
      return SaleScheduled{
          .sku = any_sku(), .rules = kRulesV1, .terms = any_terms(), .actor = any_text<64>()};
    case 1: return SaleChanged{any_terms(), any_text<64>(), any_text<160>()};
    case 2: return SalePaused{any_text<64>(), any_text<160>()};
    case 3: return SaleResumed{any_text<64>(), any_text<160>()};
    case 4: return SaleClosed{any_text<64>(), any_text<160>()};
    case 5: return StockAdjusted{any_number<Quantity>(), any_text<64>(), any_text<160>()};
    case 6: {
      PurchaseAttempted e{any_text<64>(1), {}, any_number<Quantity>()};
      for (auto& b : e.key.bytes) b = *rc::gen::arbitrary<std::uint8_t>();
      return e;
    }
    case 7: return PurchaseCancelled{any_number<Seq>(), any_role()};
    case 8: return OfferDeclined{any_number<Seq>(), any_role()};
    case 9: return PaymentReceived{any_number<Seq>(), any_text<64>(), any_money()};
    case 10: return PaymentFailed{any_number<Seq>(), any_text<64>()};
    case 11:
      return OrderRefunded{any_number<Seq>(), *rc::gen::arbitrary<bool>(), any_text<64>(),
                           any_text<160>()};
    default: return TimePassed{};
  }
}

}  // namespace fairsale::testing
