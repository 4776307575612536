// An EventLog in memory, with the promises of the real one short of surviving the process.
#pragma once

#include <map>
#include <mutex>
#include <optional>

#include "core/log/event_log.hpp"

namespace fairsale {

class MemoryLog : public EventLog {
 public:
  Result<void> append(std::span<const BlockWrite> blocks) override;
  Result<void> shorten(std::span<const SkuHead>) override;
  Result<void> read(SkuId sku, Seq from,
                    const std::function<bool(const BlockView&)>& visit) const override;
  Result<std::vector<SkuHead>> heads() const override;
  Result<std::vector<LastBlock>> last_blocks() const override;
  Result<void> put_snapshot(SkuId sku, const Head& at, const Sale& sale) override;
  Result<std::optional<Snapshot>> snapshot(SkuId sku, Seq at_most) const override;
  void settle() override {}

  // The next append commits nothing and fails with this error; the log is dead from then on.
  void fail_next_append(Error);

 private:
  using Bytes = std::vector<std::byte>;

  struct StoredSnapshot {
    Head head;
    Digest state;
    Bytes bytes;
  };

  struct Sku {
    Head head;
    std::map<Seq, Bytes> blocks;  // by first position
    std::map<Seq, StoredSnapshot> snapshots;
  };

  mutable std::mutex mutex_;
  std::map<SkuId, Sku> skus_;
  std::optional<Error> next_error_;
  std::optional<Error> dead_;
};

}  // namespace fairsale
