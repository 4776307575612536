// Sales that are traded through a real store while a witness notes what was submitted and what was
// acknowledged, and what a store must hold after that.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/rocks_log.hpp"
#include "tests/faults/recorder.hpp"

namespace fairsale::faults {

using Block = std::shared_ptr<const std::vector<std::byte>>;

// What a store may hold and what it must.
struct Expected {
  struct Sku {
    std::vector<Block> blocks;  // may hold: a prefix of these
    std::size_t least = 0;      // must hold: as many
  };
  // Blocks that were committed together: all of them or none.
  using Commit = std::vector<std::pair<SkuId, std::size_t>>;

  std::map<SkuId, Sku> skus;
  std::vector<Commit> commits;

  std::uint64_t events() const;  // that it must hold
};

// One opening of a store, until it is closed.
struct Life {
  std::size_t opened = 0;  // operations on the disk by then
  Expected found;          // as it was then: all there is must stay
  struct Commit {
    Expected::Commit blocks;
    std::size_t begun;  // operations by then
    std::thread::id thread;
    std::optional<std::size_t> acknowledged;  // operations by then
  };
  std::vector<Commit> commits;

  // After so many operations, `at` >= opened.
  Expected expected(std::size_t at) const;
};

// A store's lives one after the other, and what it must hold at any operation.
struct History {
  Expected before;  // the first life
  std::vector<Life> lives;

  Expected expected(std::size_t at) const;
};

// What is found in a store. Fails the test where that is not as expected; events that are missing
// although they must be there are counted.
struct Look {
  Expected found;
  std::uint64_t lost = 0;
  std::uint64_t snapshots = 0;  // that were usable
};
// With `failing`, reads may fail: what they give must be right all the same.
Look look(const EventLog&, const Expected&, bool failing = false);

// Passes everything on, and notes it in the life. Thread-safe.
class Witness final : public EventLog {
 public:
  Witness(EventLog& log, Life& life, const Recorder& recorder)
      : log_(log), life_(life), recorder_(recorder) {}

  Result<void> append(std::span<const BlockWrite> blocks) override;
  Result<void> read(SkuId sku, Seq from,
                    const std::function<bool(const BlockView&)>& visit) const override {
    return log_.read(sku, from, visit);
  }
  Result<std::vector<SkuHead>> heads() const override { return log_.heads(); }
  Result<std::vector<LastBlock>> last_blocks() const override { return log_.last_blocks(); }
  Result<void> put_snapshot(SkuId sku, const Head& at, const Sale& sale) override {
    return log_.put_snapshot(sku, at, sale);
  }
  Result<std::optional<Snapshot>> snapshot(SkuId sku, Seq at_most) const override {
    return log_.snapshot(sku, at_most);
  }
  void settle() override { log_.settle(); }

 private:
  EventLog& log_;
  Life& life_;
  const Recorder& recorder_;
  std::mutex mutex_;
};

struct Trading {
  unsigned turns = 10;
  unsigned threads = 1;  // each with sales of its own
  bool large = true;     // some turns have thousands of events
};

// Trades in the sales that the log has and in new ones. Ends early when a commit fails; commits are
// tried a few more times then, which must not succeed.
void trade(Witness&, const Trading&, Chance&);

// The digest of each sale's state, folded from the start and from its newest snapshot, which must
// agree.
std::map<SkuId, Digest> digests(const EventLog&);

}  // namespace fairsale::faults
