#include "core/engine/clock.hpp"

#include <chrono>

namespace fairsale {

Now SystemClock::now() const {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  const auto steady = std::chrono::steady_clock::now().time_since_epoch();
  return {Timestamp{duration_cast<milliseconds>(wall).count()},
          Duration{duration_cast<milliseconds>(steady).count()}};
}

}  // namespace fairsale
