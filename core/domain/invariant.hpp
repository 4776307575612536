// A broken invariant aborts loudly: going on would turn a bug into a wrong sale.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace fairsale {

[[noreturn]] inline void invariant_broken(const char* what, const char* file, int line) {
  std::fprintf(stderr, "fairsale: invariant broken: %s (%s:%d)\n", what, file, line);
  std::abort();
}

}  // namespace fairsale

// Always on, in every build type.
#define FAIRSALE_INVARIANT(condition, what)          \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::fairsale::invariant_broken(what " [" #condition "]", __FILE__, __LINE__))
