#include "projections/render.hpp"

#include <fmt/format.h>

#include <chrono>

namespace fairsale {

std::string rfc3339(Timestamp t) {
  using namespace std::chrono;
  const sys_time<milliseconds> at{milliseconds{t.value}};
  const auto day = floor<days>(at);
  const year_month_day date{day};
  const hh_mm_ss time{at - day};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     time.hours().count(), time.minutes().count(), time.seconds().count(),
                     time.subseconds().count());
}

std::string seconds_of(Duration d) {
  std::string out = fmt::format("{}", d.value / 1000);
  const auto rest = d.value % 1000;
  if (rest == 0) return out;
  out += fmt::format(".{:03}", rest);
  while (out.back() == '0') out.pop_back();
  return out;
}

}  // namespace fairsale
