// What a run found, for people and as JSON.
#pragma once

#include <string>

#include "tools/rush/audit.hpp"
#include "tools/rush/crowd.hpp"
#include "tools/rush/verify.hpp"

namespace fairsale::rush {

// One line a check, and the first few violations of those that failed.
std::string violations_text(const Violations&);
// {"passed":bool,"violations":N,"by_check":{"kept":{"count":0,"first":[…]},…}}
std::string violations_json(const Violations&);

std::string sale_text(const SaleFacts&);
std::string sale_json(const SaleFacts&);

std::string summary_text(const RunInfo&, const Crowd&);
// Members without the braces around them, so that the caller can add more.
std::string summary_json(const RunInfo&, const Crowd&);

// A line of progress, to be written over the one before.
std::string progress_line(const Crowd&, double answers_per_second);

}  // namespace fairsale::rush
