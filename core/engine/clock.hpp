// Time enters here and nowhere else; from then on it comes from the log.
#pragma once

#include <algorithm>

#include "core/domain/types.hpp"

namespace fairsale {

// One reading of both clocks, in milliseconds. `steady` never jumps; its zero means nothing.
struct Now {
  Timestamp wall;
  Duration steady;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Now now() const = 0;
};

class SystemClock final : public Clock {
 public:
  Now now() const override;
};

// Moves only when told to. For tests and simulation.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(Timestamp wall) : now_{wall, Duration{0}} {}
  Now now() const override { return now_; }

  void advance(Duration d) {
    now_.wall = now_.wall + d;
    now_.steady.value += d.value;
  }
  // As when an administrator or NTP sets the clock: the steady one does not notice.
  void set_wall(Timestamp t) { now_.wall = t; }

 private:
  Now now_;
};

// The clock of one SKU's log. It follows the wall clock, but never goes back: while the wall clock
// is behind what the log already says, time goes on at the pace of the steady clock, so that holds
// still end after the time that was promised.
class LogClock {
 public:
  LogClock(Timestamp last, Now at) : last_(last), steady_(at.steady) {}

  Timestamp read(Now now) const {
    return std::max(now.wall, last_ + Duration{now.steady.value - steady_.value});
  }

  Timestamp stamp(Now now) {
    last_ = read(now);
    steady_ = now.steady;
    return last_;
  }

 private:
  Timestamp last_;
  Duration steady_;
};

}  // namespace fairsale
