#include "core/engine/recovery.hpp"

#include <fmt/format.h>

namespace fairsale {

namespace {

Error damaged(SkuId sku, Seq seq, std::string_view what) {
  return {Fault::damaged, fmt::format("SKU {:016x}, position {}: {}", sku.value, seq.value, what)};
}

}  // namespace

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
  std::optional<Error> error;
  const auto apply_block = [&](const BlockView& block) {
    if (auto ok = block.follows(out.head); !ok) {
      error = ok.error();
      return false;
    }
    ObserverSink sink(sku.sku, out.sale, observer);
    const auto decoded = block.for_each(
        [&](Seq seq, const Event& event) {
          if (seq > last) return;
          out.sale.apply(seq, block.header().time, event, sink);
        },
        [&](const Event& event) { out.sale.prefetch(event); });
    if (!decoded) {
      error = decoded.error();
      return false;
    }
    if (block.last() <= last) out.head = Head{block.last(), block.header().time, block.digest()};
    if (!named && out.sale.exists() && sku_id(out.sale.sku()) != sku.sku) {
      error =
          damaged(sku.sku, block.header().first,
                  fmt::format("the sale of \"{}\" lies under another SKU's id", out.sale.sku()));
      return false;
    }
    named = out.sale.exists();
    return block.last() < last;
  };
  if (out.head.seq < last) {
    const auto read = log.read(sku.sku, Seq{out.head.seq.value + 1}, apply_block);
    if (!read) return tl::unexpected(read.error());
    if (error) return tl::unexpected(*error);
    if (out.sale.seq() < last) {
      return tl::unexpected(
          damaged(sku.sku, Seq{out.head.seq.value + 1}, "the log ends before its recorded head"));
    }
  }
  // A fold that was to stop inside a block has no head of its own; a whole one must match.
  if (last == sku.head.seq && out.head.digest != sku.head.digest) {
    return tl::unexpected(
        damaged(sku.sku, last, "the chain's digest differs from the recorded head"));
  }
  if (observer != nullptr) observer->on_commit(sku.sku, out.sale);
  return out;
}

}  // namespace fairsale
