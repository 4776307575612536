#include "tools/bench/tally.hpp"

#include <string_view>

namespace fairsale::bench {

namespace {
constexpr std::size_t kMaxKinds = 32;  // what is more counts as the last of them
}

void Tally::count(Role role, const Label& label) {
  Kinds& kinds = kinds_[static_cast<std::size_t>(role)];
  for (auto& [known, n] : kinds) {
    if (known == label) {
      ++n;
      return;
    }
  }
  if (kinds.size() < kMaxKinds) {
    kinds.emplace_back(label, 1);
  } else {
    ++kinds.back().second;
  }
}

void Tally::count(Role role, const Label& label, std::uint64_t latency_us) {
  count(role, label);
  const std::string_view kind = label.view();
  (kind == "429" || kind == "503" ? pushed_back_ : latency_).record(latency_us);
}

std::uint64_t Tally::answers() const {
  std::uint64_t sum = 0;
  for (const Kinds& kinds : kinds_) {
    for (const auto& [label, n] : kinds) sum += n;
  }
  return sum;
}

}  // namespace fairsale::bench
