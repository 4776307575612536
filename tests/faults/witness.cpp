#include "tests/faults/witness.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "core/engine/sequencer.hpp"
#include "tests/domain/histories.hpp"

namespace fairsale::faults {

namespace {

constexpr std::size_t kSales = 6;
constexpr Timestamp kOpening{1'700'000'000'000};

std::uint64_t events_in(const Block& block) {
  const auto view = BlockView::parse(*block);
  return view ? view->header().count : 0;
}

Block copy(std::span<const std::byte> bytes) {
  return std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
}

struct Nobody final : Answers, SaleObserver {
  void on_decided(const Ticket&, SkuId, Seq, const Event&, const Decision&, const Sale&) override {}
  void seed(SkuId, const Sale&) override {}
  void on_decision(SkuId, const Sale&, const Decision&) override {}
  void on_commit(SkuId, const Sale&) override {}
};

SaleScheduled scheduled(std::string_view name, std::size_t stock) {
  return {.sku = *SkuName::from(name),
          .terms = {.stock = Quantity{static_cast<std::uint32_t>(stock)},
                    .price = {MinorUnits{1000}, Currency{{'E', 'U', 'R'}}},
                    .starts_at = kOpening,
                    .hold = Duration{60'000},
                    .limit_per_customer = Quantity{20},
                    .units_per_purchase = Quantity{2},
                    .line_limit = 1000},
          .actor = *Actor::from("test")};
}

std::string name_of_sale(std::size_t i) { return fmt::format("sale-{}", i); }

Event any_event(const Sale* sale, std::size_t number, ManualClock& clock, Chance& chance) {
  if (sale == nullptr || !sale->exists()) {
    return scheduled(name_of_sale(number), 1 + below(chance, 30));
  }
  const auto byte = [&] { return static_cast<std::uint8_t>(below(chance, 256)); };
  test::Action action{.what = static_cast<test::Do>(below(chance, 14)),
                      .jump = static_cast<test::Jump>(below(chance, 6)),
                      .who = static_cast<std::uint8_t>(below(chance, 26)),
                      .key = byte(),
                      .target = byte(),
                      .variant = byte(),
                      .quantity = static_cast<std::uint32_t>(below(chance, 4))};
  if (one_in(chance, 2)) action.what = test::Do::attempt;
  const auto arrival = test::arrival_of(action, sale->terms(), *sale);
  const std::int64_t wait = arrival.at.value - clock.now().wall.value;
  clock.advance(Duration{std::clamp<std::int64_t>(wait, 1, 3'600'000)});
  return well_formed(arrival.event) ? arrival.event : Event{TimePassed{}};
}

// One thread's share of the sales.
void trade_some(Witness& log, const Trading& trading, unsigned share, std::uint64_t seed) {
  Chance chance(seed);
  Nobody nobody;
  ManualClock clock(kOpening);
  Sequencer sequencer(log, clock, nobody,
                      {.snapshot_every = 100, .snapshot_idle = 20, .snapshot_least = 1});
  std::vector<std::size_t> mine;
  for (std::size_t i = share; i < kSales; i += trading.threads) mine.push_back(i);
  const auto heads = log.heads();
  ASSERT_TRUE(heads) << heads.error().message;
  for (const SkuHead& head : *heads) {
    const bool is_mine = std::any_of(mine.begin(), mine.end(), [&](std::size_t i) {
      return sku_id(name_of_sale(i)) == head.sku;
    });
    if (!is_mine) continue;
    auto folded = fold(log, head, FoldFrom::snapshot, nullptr);
    ASSERT_TRUE(folded) << folded.error().message;
    sequencer.adopt(head.sku, std::move(*folded));
    if (clock.now().wall < head.head.time) clock.set_wall(head.head.time);
  }
  for (unsigned turn = 0; turn < trading.turns; ++turn) {
    for (std::size_t i = 0, n = 1 + below(chance, 3); i < n; ++i) {
      const std::size_t number = mine[below(chance, mine.size())];
      const SkuId sku = sku_id(name_of_sale(number));
      std::size_t events = 1 + below(chance, 12);
      if (trading.large && one_in(chance, 15)) events = 500 + below(chance, 2000);
      for (std::size_t e = 0; e < events; ++e) {
        const Event event = any_event(sequencer.find(sku), number, clock, chance);
        static_cast<void>(sequencer.submit(sku, event, {}));
        if (sequencer.find(sku) == nullptr) break;
      }
    }
    if (!sequencer.turn(nobody)) {
      // A sequencer ends here, and with it the process. The log must say no to whoever does not.
      for (int again = 0; again < 3; ++again) {
        BlockBuilder builder;
        const auto name = fmt::format("after-the-end-{}-{}", share, again);
        Head head;
        builder.begin(sku_id(name), head, kOpening, Epoch{1});
        builder.add(scheduled(name, 1));
        const auto bytes = builder.finish(head);
        const BlockWrite block{sku_id(name), Seq{1}, head, bytes};
        EXPECT_FALSE(log.append({&block, 1})) << "a commit was acknowledged after one had failed";
      }
      return;
    }
    if (one_in(chance, 6)) {
      clock.advance(Duration{one_in(chance, 2) ? 50 : 5000});
      if (!sequencer.turn(nobody)) return;
    }
  }
  if (one_in(chance, 2)) sequencer.stop();
}

}  // namespace

std::uint64_t Expected::events() const {
  std::uint64_t n = 0;
  for (const auto& [id, sku] : skus) {
    for (std::size_t i = 0; i < sku.least; ++i) n += events_in(sku.blocks[i]);
  }
  return n;
}

Expected Life::expected(std::size_t at) const {
  Expected e = found;
  for (const Commit& c : commits) {
    e.commits.push_back(c.blocks);
    if (!c.acknowledged || *c.acknowledged > at) continue;
    for (const auto& [sku, index] : c.blocks) {
      e.skus[sku].least = std::max(e.skus[sku].least, index + 1);
    }
  }
  return e;
}

Expected History::expected(std::size_t at) const {
  const auto after =
      std::find_if(lives.begin(), lives.end(), [at](const Life& life) { return life.opened > at; });
  return after == lives.begin() ? before : std::prev(after)->expected(at);
}

Look look(const EventLog& log, const Expected& expected, bool failing) {
  Look out;
  const auto heads = log.heads();
  if (!heads) {
    EXPECT_TRUE(failing) << heads.error().message;
    return out;
  }
  std::set<SkuId> unread;
  for (const SkuHead& head : *heads) {
    Expected::Sku& found = out.found.skus[head.sku];
    const auto ok = log.read(head.sku, Seq{1}, [&found](const BlockView& view) {
      found.blocks.push_back(copy(view.bytes()));
      return true;
    });
    if (!ok) {
      EXPECT_TRUE(failing) << ok.error().message;
      unread.insert(head.sku);
    }
    found.least = found.blocks.size();
    const auto known = expected.skus.find(head.sku);
    const std::size_t submitted = known == expected.skus.end() ? 0 : known->second.blocks.size();
    EXPECT_LE(found.blocks.size(), submitted) << "there is more than was submitted";
    for (std::size_t i = 0; i < std::min(found.blocks.size(), submitted); ++i) {
      EXPECT_EQ(*found.blocks[i], *known->second.blocks[i]) << "block " << i << " is another one";
    }
  }
  for (const auto& [id, sku] : expected.skus) {
    if (unread.count(id) != 0) continue;
    const std::size_t have = out.found.skus.count(id) == 0 ? 0 : out.found.skus[id].blocks.size();
    for (std::size_t i = have; i < sku.least; ++i) out.lost += events_in(sku.blocks[i]);
  }
  EXPECT_EQ(out.lost, 0U) << "acknowledged events are lost";
  if (failing) return out;
  for (const auto& commit : expected.commits) {
    const auto there = std::count_if(commit.begin(), commit.end(), [&](const auto& block) {
      return out.found.skus.count(block.first) != 0 &&
             block.second < out.found.skus[block.first].blocks.size();
    });
    EXPECT_TRUE(there == 0 || there == static_cast<std::ptrdiff_t>(commit.size()))
        << "half of a commit is there";
  }
  for (const SkuHead& head : *heads) {
    const auto snapshot = log.snapshot(head.sku, head.head.seq);
    EXPECT_TRUE(snapshot) << snapshot.error().message;
    if (snapshot && *snapshot) ++out.snapshots;
  }
  digests(log);
  return out;
}

std::map<SkuId, Digest> digests(const EventLog& log) {
  std::map<SkuId, Digest> all;
  const auto heads = log.heads();
  EXPECT_TRUE(heads);
  if (!heads) return all;
  for (const SkuHead& head : *heads) {
    const auto whole = fold(log, head, FoldFrom::start, nullptr);
    const auto rest = fold(log, head, FoldFrom::snapshot, nullptr);
    EXPECT_TRUE(whole) << whole.error().message;
    EXPECT_TRUE(rest) << rest.error().message;
    if (!whole || !rest) continue;
    all[head.sku] = state_digest(whole->sale);
    EXPECT_EQ(state_digest(rest->sale), all[head.sku]) << "a snapshot tells another story";
    EXPECT_FALSE(whole->sale.check());
  }
  return all;
}

Result<void> Witness::append(std::span<const BlockWrite> blocks) {
  std::size_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    Life::Commit commit{.blocks = {},
                        .begun = recorder_.now(),
                        .thread = std::this_thread::get_id(),
                        .acknowledged = {}};
    for (const BlockWrite& b : blocks) {
      auto& known = life_.found.skus[b.sku].blocks;
      commit.blocks.emplace_back(b.sku, known.size());
      known.push_back(copy(b.bytes));
    }
    number = life_.commits.size();
    life_.commits.push_back(std::move(commit));
  }
  auto result = log_.append(blocks);
  if (result) {
    const std::lock_guard lock(mutex_);
    life_.commits[number].acknowledged = recorder_.now();
  }
  return result;
}

void trade(Witness& log, const Trading& trading, Chance& chance) {
  std::vector<std::uint64_t> seeds;
  for (unsigned i = 0; i < trading.threads; ++i) seeds.push_back(chance());
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < trading.threads; ++i) {
    threads.emplace_back([&, i] { trade_some(log, trading, i, seeds[i]); });
  }
  trade_some(log, trading, 0, seeds[0]);
  for (std::thread& t : threads) t.join();
}

}  // namespace fairsale::faults
