#include "core/log/memory_log.hpp"

#include <cstring>
#include <utility>

#include "core/log/commit_check.hpp"

namespace fairsale {

namespace {

class Collect : public ByteSink {
 public:
  void write(std::span<const std::byte> part) override {
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  std::vector<std::byte> bytes;
};

class Replay : public ByteSource {
 public:
  explicit Replay(std::span<const std::byte> bytes) : left_(bytes) {}
  std::span<const std::byte> next() override { return std::exchange(left_, {}); }

 private:
  std::span<const std::byte> left_;
};

}  // namespace

void MemoryLog::fail_next_append(Error e) {
  const std::lock_guard lock(mutex_);
  next_error_ = std::move(e);
}

Result<void> MemoryLog::append(std::span<const BlockWrite> blocks) {
  const std::lock_guard lock(mutex_);
  if (dead_) return tl::unexpected(*dead_);
  if (next_error_) {
    dead_ = std::exchange(next_error_, std::nullopt);
    return tl::unexpected(*dead_);
  }
  const auto head_of = [this](SkuId sku) {
    const auto it = skus_.find(sku);
    return it == skus_.end() ? Head{} : it->second.head;
  };
  if (auto ok = check_commit(blocks, head_of); !ok) return ok;
  for (const BlockWrite& b : blocks) {
    Sku& sku = skus_[b.sku];
    sku.blocks.emplace(b.first, Bytes(b.bytes.begin(), b.bytes.end()));
    sku.head = b.after;
  }
  return {};
}

Result<void> MemoryLog::shorten(std::span<const SkuHead> heads) {
  const std::lock_guard lock(mutex_);
  if (dead_) return tl::unexpected(*dead_);
  for (const auto& [sku, head] : heads) {
    if (head == Head{}) continue;
    const auto it = skus_.find(sku);
    bool ends = false;
    if (it != skus_.end()) {
      auto block = it->second.blocks.upper_bound(head.seq);
      if (block != it->second.blocks.begin()) {
        const auto view = BlockView::parse(std::prev(block)->second);
        ends = view && view->last() == head.seq && view->digest() == head.digest;
      }
    }
    if (!ends) return fail(Fault::invalid, "no block ends at this head");
  }
  for (const auto& [sku, head] : heads) {
    if (head == Head{}) {
      skus_.erase(sku);
      continue;
    }
    Sku& of = skus_[sku];
    of.blocks.erase(of.blocks.upper_bound(head.seq), of.blocks.end());
    of.snapshots.erase(of.snapshots.upper_bound(head.seq), of.snapshots.end());
    of.head = head;
  }
  return {};
}

Result<void> MemoryLog::read(SkuId sku, Seq from,
                             const std::function<bool(const BlockView&)>& visit) const {
  // One block at a time is copied out, so that `visit` may append.
  Head before;
  Bytes bytes;
  for (Seq next = from;;) {
    {
      const std::lock_guard lock(mutex_);
      const auto it = skus_.find(sku);
      if (it == skus_.end() || next > it->second.head.seq) return {};
      auto block = it->second.blocks.upper_bound(next);
      if (block != it->second.blocks.begin()) --block;
      if (block != it->second.blocks.begin() && before.seq == Seq{0}) {
        const auto view = BlockView::parse(std::prev(block)->second);
        if (!view) return tl::unexpected(view.error());
        before = Head{view->last(), view->header().time, view->digest()};
      }
      bytes = block->second;
    }
    const auto view = BlockView::parse(bytes);
    if (!view) return tl::unexpected(view.error());
    if (auto ok = view->follows(before); !ok) return ok;
    if (!visit(*view)) return {};
    before = Head{view->last(), view->header().time, view->digest()};
    next = Seq{view->last().value + 1};
  }
}

Result<std::vector<SkuHead>> MemoryLog::heads() const {
  const std::lock_guard lock(mutex_);
  std::vector<SkuHead> heads;
  heads.reserve(skus_.size());
  for (const auto& [id, sku] : skus_) {
    if (sku.head.seq != Seq{0}) heads.push_back({id, sku.head});
  }
  return heads;
}

Result<std::vector<LastBlock>> MemoryLog::last_blocks() const {
  const std::lock_guard lock(mutex_);
  std::vector<LastBlock> blocks;
  for (const auto& [id, sku] : skus_) {
    if (!sku.blocks.empty()) blocks.push_back({id, sku.blocks.rbegin()->first});
  }
  return blocks;
}

Result<void> MemoryLog::put_snapshot(SkuId sku, const Head& at, const Sale& sale) {
  Collect sink;
  sale.serialize(sink);
  const Digest state = sha256(sink.bytes);
  const std::lock_guard lock(mutex_);
  auto& kept = skus_[sku].snapshots;
  kept.insert_or_assign(at.seq, StoredSnapshot{at, state, std::move(sink.bytes)});
  while (kept.size() > 2) kept.erase(kept.begin());
  return {};
}

Result<std::optional<Snapshot>> MemoryLog::snapshot(SkuId sku, Seq at_most) const {
  const std::lock_guard lock(mutex_);
  const auto it = skus_.find(sku);
  if (it == skus_.end()) return std::nullopt;
  const auto after = it->second.snapshots.upper_bound(at_most);
  if (after == it->second.snapshots.begin()) return std::nullopt;
  const StoredSnapshot& s = std::prev(after)->second;
  Replay source(s.bytes);
  auto sale = Sale::restore(source);
  if (!sale) return std::nullopt;
  return Snapshot{s.head, s.state, std::move(*sale)};
}

}  // namespace fairsale
