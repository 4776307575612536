#include "tests/sim/swarm.hpp"

#include <algorithm>

namespace fairsale::sim {

namespace {

struct Habit {
  std::string_view name;
  std::uint32_t weight;
  bool optional;
};

// In the order of Deed.
constexpr std::array<Habit, kDeeds> kHabits{{
    {"attempt", 800, false},    {"repeat", 160, true},
    {"cancel", 100, true},      {"decline", 50, true},
    {"pay", 240, true},         {"payment_failed", 20, true},
    {"refund", 60, true},       {"pause", 16, true},
    {"resume", 50, true},       {"close", 6, true},
    {"restock", 40, true},      {"change", 50, true},
    {"schedule", 12, true},     {"deliver", 700, false},
    {"turn", 800, false},       {"tick", 240, true},
    {"wait", 80, true},         {"to_deadline", 120, true},
    {"set_wall", 24, true},     {"stop", 8, true},
    {"kill", 8, true},          {"power_cut", 14, true},
    {"fail_append", 10, true},  {"die_in_append", 10, true},
    {"die_in_turn", 10, true},  {"die_in_recovery", 6, true},
    {"rot", 10, true},          {"lose_acked", 5, true},
    {"flush", 16, true},        {"snapshot", 20, true},
    {"fail_snapshot", 8, true}, {"spoil_snapshot", 10, true},
    {"project", 40, true},      {"lose_rows", 6, true},
    {"look", 16, false},
}};

constexpr Currency kEuro{{'E', 'U', 'R'}};

Terms any_terms(Chance& c) {
  const std::int64_t length = c.pick<std::int64_t>({-1, -1, -1, 2'000, 60'000, 3'600'000});
  Terms t{.stock = Quantity{c.one_in(8) ? 40 + c.below(100) : 1 + c.below(12)},
          .price = {MinorUnits{c.pick<std::int64_t>({0, 100, 100})}, kEuro},
          .starts_at = kOpening + Duration{c.pick<std::int64_t>({-5'000, 0, 0, 0, 40, 5'000})},
          .ends_at = kNever,
          .hold = Duration{c.pick<std::int64_t>({1, 20, 200, 5'000, 60'000, 600'000})},
          .grace = Duration{c.pick<std::int64_t>({0, 0, 5, 1'000, 30'000})},
          .limit_per_customer = Quantity{1 + c.below(8)},
          .units_per_purchase = Quantity{1 + c.below(3)},
          .line_limit = c.pick<std::uint32_t>({0, 2, 5, 5, 12, 60}),
          .line_policy = c.pick({LinePolicy::strict, LinePolicy::skip_if_unfit})};
  if (length >= 0) t.ends_at = t.starts_at + Duration{length};
  return t;
}

}  // namespace

std::string_view name_of(Deed d) { return kHabits[static_cast<std::size_t>(d)].name; }

Swarm::Swarm(std::uint64_t seed) {
  Chance c(seed, ~std::uint64_t{0});
  steps = c.one_in(48) ? 600 + c.below(1'400) : 30 + c.below(200);
  shards = 1 + c.below(2);
  for (unsigned n = c.pick({1u, 1u, 2u, 3u}), i = 0; i < n; ++i) {
    skus.push_back(std::string("sku-") + static_cast<char>('a' + i));
    terms.push_back(any_terms(c));
  }
  customers = c.pick({2u, 5u, 10u, 24u});
  keys = c.pick({2u, 16u, 200u});
  model = c.one_in(3);

  options.inbox_limit = c.pick<std::size_t>({2, 8, 64, 256});
  options.snapshot_every = c.pick<std::uint64_t>({0, 4, 16, 64, 500'000});
  options.snapshot_idle = c.pick<std::uint64_t>({1, 8, 10'000});
  options.snapshot_least = c.pick<std::uint64_t>({0, 1, 32});
  options.settle_after = Duration{c.pick<std::int64_t>({0, 20, 500})};
  options.idle_after = Duration{c.pick<std::int64_t>({0, 50, 1'000})};
  options.epoch = Epoch{1 + c.below(3)};

  for (bool* feature : {&network, &duplicates, &lossy, &impatient, &astray, &futures}) {
    *feature = c.one_in(2);
  }
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < kDeeds; ++i) {
    const bool left_out = c.one_in(2);
    const std::uint32_t scale = c.pick({1u, 2u, 4u, 8u});
    if (kHabits[i].optional) {
      sum += left_out ? 0 : kHabits[i].weight * scale / 2;
    } else if (static_cast<Deed>(i) != Deed::deliver || network) {
      sum += kHabits[i].weight;
    }
    upto[i] = sum;
  }
}

Deed Swarm::next(Chance& c) const {
  const std::uint32_t at = c.below(upto.back());
  return static_cast<Deed>(std::upper_bound(upto.begin(), upto.end(), at) - upto.begin());
}

}  // namespace fairsale::sim
