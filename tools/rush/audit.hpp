// Reads back what was acknowledged and checks it: every purchase by its id, a sample of attempts
// repeated with their keys, a sample of customers' listings, and the sale before and after.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tools/rush/driver.hpp"
#include "tools/rush/record.hpp"
#include "tools/rush/requests.hpp"
#include "tools/rush/verify.hpp"

namespace fairsale::rush {

struct AuditOptions {
  std::size_t repeats = 1000;  // attempts that are repeated with their key
  std::size_t listings = 200;  // customers whose listing is read
  std::uint64_t seed = 1;      // chooses the samples
  std::int64_t patience_us = 60'000'000;
};

struct AuditReport {
  SaleFacts sale;
  std::uint64_t read = 0;
  std::uint64_t repeated = 0;
  std::uint64_t listed = 0;
  std::vector<Observed> observed;
};

// `violations` gets what is found. Fails when the server does not answer.
Result<AuditReport> audit(Driver&, const Requests&, const RunInfo&, std::span<const Claim>,
                          const AuditOptions&, Violations& violations);

}  // namespace fairsale::rush
