// What is asked next: a fixed mix of first attempts, repeats, attempts over the limit and reads.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tools/bench/request.hpp"
#include "tools/rush/random.hpp"

namespace fairsale::bench {

enum class Role : std::uint8_t {
  fresh,  // a new customer with a new key
  retry,  // an attempt that has been answered, once more: same customer, same key
  over,   // a customer who has been served, with a new key
  read,   // nobody's: only the SKU counts
};
inline constexpr std::size_t kRoles = 4;
std::string_view name_of(Role);

struct Next {
  Role role = Role::fresh;
  Numbers numbers;
};

// Not thread-safe. The same arguments and answers give the same sequence.
class Traffic {
 public:
  // `weights` by role, 0 to 1000 each, one of them above 0. Numbers count from `first`; SKU n is
  // n % skus.
  Traffic(const std::array<unsigned, kRoles>& weights, std::uint64_t first, std::uint64_t skus);

  // A repeat before anything has been answered is a first attempt instead.
  Next next();

  // Tells that a first attempt has been answered, so that it may be repeated.
  void answered(std::uint64_t customer);

  std::uint64_t next_number() const { return next_; }

 private:
  static constexpr std::size_t kRecent = 8192;

  std::vector<Role> plan_;
  std::size_t at_ = 0;
  std::uint64_t next_;
  std::uint64_t skus_;
  std::uint64_t reads_ = 0;
  std::vector<std::uint64_t> recent_;
  std::size_t oldest_ = 0;
  rush::Random random_{1};
};

}  // namespace fairsale::bench
