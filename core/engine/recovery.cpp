#include "core/engine/recovery.hpp"

#include <fmt/format.h>

namespace fairsale {

namespace {

Error damaged(SkuId sku, Seq seq, std::string_view what) {
  return {Fault::damaged, fmt::format("SKU {:016x}, position {}: {}", sku.value, seq.value, what)};
}

}  // namespace

Result<Head> follow(const EventLog& log, const SkuHead& sku, const Head& from, Seq last,
                    const std::function<Result<void>(const BlockView&)>& visit) {
  Head head = from;   // of the last block that was passed on
  Head whole = from;  // the same, unless that block goes beyond `last`
  last = std::min(last, sku.head.seq);
  if (head.seq < last) {
    Result<void> result;
    const auto read = log.read(sku.sku, Seq{head.seq.value + 1}, [&](const BlockView& block) {
      result = block.follows(head);
      if (result) result = visit(block);
      if (!result) return false;
      head = Head{block.last(), block.header().time, block.digest()};
      if (head.seq <= last) whole = head;
      return head.seq < last;
    });
    if (!read) return tl::unexpected(read.error());
    if (!result) return tl::unexpected(result.error());
    if (head.seq < last) {
      return tl::unexpected(
          damaged(sku.sku, Seq{from.seq.value + 1}, "the log ends before its recorded head"));
    }
  }
  // Who was to stop inside a block has no head to compare; a whole one must match.
  if (last == sku.head.seq && whole.digest != sku.head.digest) {
    return tl::unexpected(
        damaged(sku.sku, last, "the chain's digest differs from the recorded head"));
  }
  return whole;
}

Result<Folded> fold(const EventLog& log, const SkuHead& sku, FoldFrom from, SaleObserver* observer,
                    Seq until) {
  const Seq last = std::min(until, sku.head.seq);
  Folded out;
  if (from == FoldFrom::snapshot) {
    auto snapshot = log.snapshot(sku.sku, last);
    if (!snapshot) return tl::unexpected(snapshot.error());
    if (*snapshot) {
      out.head = (*snapshot)->head;
      out.sale = std::move((*snapshot)->sale);
      out.from = out.head.seq;
    }
  }
  if (observer != nullptr) observer->seed(sku.sku, out.sale);

  bool named = false;  // the sale's name has been seen to be that of the SKU
  const auto apply_block = [&](const BlockView& block) -> Result<void> {
    ObserverSink sink(sku.sku, out.sale, observer);
    const auto decoded = block.for_each(
        [&](Seq seq, const Event& event) {
          if (seq > last) return;
          out.sale.apply(seq, block.header().time, event, sink);
        },
        [&](const Event& event) { out.sale.prefetch(event); });
    if (!decoded) return decoded;
    if (!named && out.sale.exists() && sku_id(out.sale.sku()) != sku.sku) {
      return tl::unexpected(
          damaged(sku.sku, block.header().first,
                  fmt::format("the sale of \"{}\" lies under another SKU's id", out.sale.sku())));
    }
    named = out.sale.exists();
    return {};
  };
  const auto head = follow(log, sku, out.head, last, apply_block);
  if (!head) return tl::unexpected(head.error());
  out.head = *head;
  if (observer != nullptr) observer->on_commit(sku.sku, out.sale);
  return out;
}

}  // namespace fairsale
