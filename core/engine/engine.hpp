// The shards of one server: SKUs spread over sequencers, one for each thread that drives one.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/engine/sequencer.hpp"

namespace fairsale {

class Engine {
 public:
  // Recovers every SKU of the log into its shard, one thread a shard. `observers` has one entry
  // for each shard; the log, clock and observers must outlive the engine. The number of shards may
  // differ from that of the last run. Fails with the first damage found, naming SKU and position
  // and what to do about it.
  static Result<std::unique_ptr<Engine>> open(EventLog& log, const Clock& clock,
                                              std::span<SaleObserver* const> observers,
                                              SequencerOptions options);

  // Takes the snapshots of all shards while they run. It may be stopped before, after or while
  // they are.
  Snapshotter& snapshotter() { return *snapshotter_; }

  std::size_t shards() const { return shards_.size(); }
  Sequencer& shard(std::size_t i) { return *shards_[i]; }
  std::size_t shard_of(SkuId sku) const { return sku.value % shards_.size(); }

 private:
  std::unique_ptr<Snapshotter> snapshotter_;
  std::vector<std::unique_ptr<Sequencer>> shards_;
};

}  // namespace fairsale
