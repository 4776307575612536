// What an audit found, for people (text, one HTML page) and for programs (JSON).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/audit/audit.hpp"

namespace fairsale::audit {

struct StoreReport {
  std::string store;    // the data directory as it was named
  std::string program;  // "fairsale 1.2.3"
  bool fairness = false;
  std::optional<Error> damage;  // of the store as a whole, see Plan
  std::vector<SaleReport> sales;
  double seconds = 0;

  bool sound() const;  // everything checks out
  bool fair() const;   // every promise was kept
  bool read() const;   // all could be read
};

// One paragraph a sale; a list that is long is cut short and says so.
std::string to_text(const StoreReport&);

// One object. Each sale has the members of GET /v1/sales/{sku}/audit-head, so that it can be kept
// as a saved head.
std::string to_json(const StoreReport&);

// A page without scripts or anything from elsewhere. Charts and tables are bounded: the page of a
// store with very many sales or interventions says what it leaves out.
std::string to_html(const StoreReport&);

}  // namespace fairsale::audit
