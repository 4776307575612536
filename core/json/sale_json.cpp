#include "core/json/sale_json.hpp"

namespace fairsale {

void append_counters(JsonWriter& json, const Counters& c) {
  json.member("stock", c.stocked.value)
      .member("available", c.available.value)
      .member("held", c.held.value)
      .member("sold", c.sold.value)
      .member("waiting", c.waiting);
}

void append_terms(JsonWriter& json, const Terms& t) {
  json.member("price", t.price).member("starts_at", t.starts_at).key("ends_at");
  if (t.ends_at == kNever) {
    json.null();
  } else {
    json.value(t.ends_at);
  }
  json.key("hold_seconds").seconds(t.hold).key("grace_seconds").seconds(t.grace);
  json.member("limit_per_customer", t.limit_per_customer.value)
      .member("units_per_purchase", t.units_per_purchase.value)
      .member("line_limit", t.line_limit)
      .member("line_policy", name_of(t.line_policy));
}

}  // namespace fairsale
