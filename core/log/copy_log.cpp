#include "core/log/copy_log.hpp"

#include <fmt/format.h>

#include <unordered_map>

namespace fairsale {

Result<void> BatchedAppend::add(const BlockView& block) {
  const BlockHeader& h = block.header();
  if (bytes_ + block.bytes().size() > kCommitBytes || writes_.size() >= kCommitBlocks) {
    if (auto ok = finish(); !ok) return ok;
  }
  blocks_.emplace_back(block.bytes().begin(), block.bytes().end());
  writes_.push_back({.sku = h.sku,
                     .first = h.first,
                     .after = {block.last(), h.time, block.digest()},
                     .bytes = blocks_.back()});
  bytes_ += block.bytes().size();
  if (report_.skus == 0 || sku_ != h.sku) ++report_.skus;
  sku_ = h.sku;
  ++report_.blocks;
  report_.events += h.count;
  report_.bytes += block.bytes().size();
  return {};
}

Result<void> BatchedAppend::finish() {
  if (writes_.empty()) return {};
  auto done = log_.append(writes_);
  writes_.clear();
  blocks_.clear();
  bytes_ = 0;
  return done;
}

namespace {

// Whether the log in `from` goes on from this head of the same SKU elsewhere.
Result<void> goes_on_from(const EventLog& from, const SkuHead& source, const SkuHead& target) {
  const auto differs = [&](std::string_view why) {
    return fail(Fault::invalid,
                fmt::format("SKU {:016x}: {}. The target holds another history: choose another "
                            "target",
                            source.sku.value, why));
  };
  if (target.head.seq > source.head.seq) {
    return differs(fmt::format("the target is at position {}, ahead of the source at {}",
                               target.head.seq.value, source.head.seq.value));
  }
  if (target.head.seq == source.head.seq) {
    if (target.head == source.head) return {};
    return differs(
        fmt::format("both are at position {}, with different digests", source.head.seq.value));
  }
  std::optional<Head> there;
  const auto done = from.read(source.sku, target.head.seq, [&](const BlockView& b) {
    there = Head{b.last(), b.header().time, b.digest()};
    return false;
  });
  if (!done) return done;
  if (there != target.head) {
    return differs(
        fmt::format("the source has no block that ends at position {} with the "
                    "target's digest",
                    target.head.seq.value));
  }
  return {};
}

}  // namespace

Result<void> copy_blocks(const EventLog& from, const SkuHead& source, Seq after, BatchedAppend& out,
                         const std::function<void(std::uint64_t)>& copied) {
  if (after >= source.head.seq) return {};
  Result<void> added;
  Head end;
  const auto done = from.read(source.sku, Seq{after.value + 1}, [&](const BlockView& b) {
    end = {b.last(), b.header().time, b.digest()};
    if (end.seq > source.head.seq) return false;
    added = out.add(b);
    if (added && copied) copied(b.header().count);
    return added && end.seq < source.head.seq;
  });
  if (!done) return done;
  if (!added) return added;
  if (end == source.head) return {};
  return fail(Fault::damaged, fmt::format("SKU {:016x}: its log does not lead to its head, at {}",
                                          source.sku.value, source.head.seq.value));
}

Result<CopyReport> copy_log(const EventLog& from, EventLog& to, std::span<const SkuHead> heads,
                            const std::function<void(std::uint64_t)>& copied) {
  const auto targets = to.heads();
  if (!targets) return tl::unexpected(targets.error());
  std::unordered_map<std::uint64_t, Head> source_of;
  std::unordered_map<std::uint64_t, Head> target_of;
  for (const SkuHead& h : heads) source_of.emplace(h.sku.value, h.head);
  for (const SkuHead& h : *targets) {
    const auto source = source_of.find(h.sku.value);
    if (source == source_of.end()) {
      return fail(Fault::invalid, fmt::format("the target holds SKU {:016x}, which the source does "
                                              "not know: choose another target",
                                              h.sku.value));
    }
    if (auto ok = goes_on_from(from, {h.sku, source->second}, h); !ok) {
      return tl::unexpected(ok.error());
    }
    target_of.emplace(h.sku.value, h.head);
  }

  BatchedAppend out(to);
  for (const SkuHead& source : heads) {
    const auto target = target_of.find(source.sku.value);
    const Seq after = target == target_of.end() ? Seq{0} : target->second.seq;
    if (auto ok = copy_blocks(from, source, after, out, copied); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  if (auto ok = out.finish(); !ok) return tl::unexpected(ok.error());
  to.settle();
  return out.report();
}

}  // namespace fairsale
