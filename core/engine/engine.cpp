#include "core/engine/engine.hpp"

#include <fmt/format.h>

#include <thread>

#include "core/log/data_directory.hpp"

namespace fairsale {

Result<std::unique_ptr<Engine>> Engine::open(EventLog& log, const Clock& clock,
                                             std::span<SaleObserver* const> observers,
                                             SequencerOptions options) {
  auto heads = log.heads();
  if (!heads) return tl::unexpected(heads.error());

  auto engine = std::make_unique<Engine>();
  engine->snapshotter_ = std::make_unique<Snapshotter>(log);
  options.snapshotter = engine->snapshotter_.get();
  for (SaleObserver* observer : observers) {
    engine->shards_.push_back(std::make_unique<Sequencer>(log, clock, *observer, options));
  }
  std::vector<Result<void>> results(observers.size());
  const auto recover = [&](std::size_t shard) {
    for (const SkuHead& sku : *heads) {
      if (engine->shard_of(sku.sku) != shard) continue;
      auto folded = fold(log, sku, FoldFrom::snapshot, observers[shard]);
      if (!folded) {
        results[shard] = tl::unexpected(folded.error());
        return;
      }
      engine->shards_[shard]->adopt(sku.sku, std::move(*folded));
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < observers.size(); ++i) threads.emplace_back(recover, i);
    recover(0);
  }
  for (const auto& result : results) {
    if (result) continue;
    Error e = result.error();
    if (e.fault == Fault::damaged) e.message += fmt::format(". {}", kDamageAdvice);
    return tl::unexpected(std::move(e));
  }
  return engine;
}

}  // namespace fairsale
