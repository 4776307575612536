#include "tools/bench/traffic.hpp"

#include <algorithm>
#include <random>

namespace fairsale::bench {

std::string_view name_of(Role role) {
  constexpr std::array<std::string_view, kRoles> names = {"fresh", "retry", "over", "read"};
  return names[static_cast<std::size_t>(role)];
}

Traffic::Traffic(const std::array<unsigned, kRoles>& weights, std::uint64_t first,
                 std::uint64_t skus)
    : next_(first), skus_(skus) {
  for (std::size_t i = 0; i < kRoles; ++i) {
    plan_.insert(plan_.end(), weights[i], static_cast<Role>(i));
  }
  std::shuffle(plan_.begin(), plan_.end(), std::mt19937(1));
  recent_.reserve(kRecent);
}

Next Traffic::next() {
  Role role = plan_[at_];
  if (++at_ == plan_.size()) at_ = 0;
  if (role == Role::read) return {role, {.customer = 0, .key = 0, .sku = reads_++ % skus_}};
  if (recent_.empty()) role = Role::fresh;
  std::uint64_t customer;
  std::uint64_t key;
  if (role == Role::fresh) {
    customer = key = next_++;
  } else {
    customer = recent_[random_.below(recent_.size())];
    key = role == Role::retry ? customer : next_++;
  }
  return {role, {.customer = customer, .key = key, .sku = customer % skus_}};
}

void Traffic::answered(std::uint64_t customer) {
  if (recent_.size() < kRecent) {
    recent_.push_back(customer);
  } else {
    recent_[oldest_] = customer;
    oldest_ = (oldest_ + 1) % kRecent;
  }
}

}  // namespace fairsale::bench
