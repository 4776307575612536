#include "projections/stored/sale_fold.hpp"

#include <fmt/format.h>

namespace fairsale {

namespace {

class CollectingSink final : public DecisionSink {
 public:
  CollectingSink(Stretch& out, const Sale& sale, Seq known)
      : out_(out), sale_(sale), known_(known) {}
  void on(const Decision& d) override {
    if (sale_.seq() <= known_) return;
    collect(out_, sale_, d);
    collect_message(out_, sale_, d);
  }

 private:
  Stretch& out_;
  const Sale& sale_;
  Seq known_;
};

}  // namespace

Result<SaleFold> SaleFold::from_snapshot(const EventLog& log, SkuId sku, Seq known) {
  SaleFold fold(sku);
  if (known.value == 0) return fold;
  auto snapshot = log.snapshot(sku, known);
  if (!snapshot) return tl::unexpected(snapshot.error());
  if (*snapshot) {
    fold.head_ = (*snapshot)->head;
    fold.sale_ = std::move((*snapshot)->sale);
  }
  return fold;
}

Result<SaleFold::Piece> SaleFold::next(const EventLog& log, std::uint64_t events, Seq known) {
  Piece piece{.stretch = {.sku = sku_, .from = head_.seq, .to = head_.seq}, .at_end = true};
  CollectingSink sink(piece.stretch, sale_, known);
  std::optional<Error> error;
  const auto damaged = [&](Seq at, std::string_view what) {
    error = Error{Fault::damaged,
                  fmt::format("SKU {:016x}, position {}: {}", sku_.value, at.value, what)};
    return false;
  };
  const auto visit = [&](const BlockView& block) {
    if (auto ok = block.follows(head_); !ok)
      return damaged(block.header().first, ok.error().message);
    const auto decoded = block.for_each(
        [&](Seq seq, const Event& event) { sale_.apply(seq, block.header().time, event, sink); },
        [&](const Event& event) { sale_.prefetch(event); });
    if (!decoded) {
      error = decoded.error();
      return false;
    }
    if (sale_.exists() && sku_id(sale_.sku()) != sku_) {
      return damaged(block.header().first,
                     fmt::format("the sale of \"{}\" lies under another SKU's "
                                 "id",
                                 sale_.sku()));
    }
    head_ = Head{block.last(), block.header().time, block.digest()};
    if (head_.seq > known) collect_second(piece.stretch, sale_);
    piece.at_end = head_.seq.value - piece.stretch.from.value < events;
    return piece.at_end;
  };
  const auto read = log.read(sku_, Seq{head_.seq.value + 1}, visit);
  if (!read) return tl::unexpected(read.error());
  if (error) return tl::unexpected(*error);
  piece.stretch.to = head_.seq;
  if (head_.seq > known && head_.seq > piece.stretch.from && sale_.exists()) {
    piece.stretch.document = render_sale(sale_);
  }
  return piece;
}

}  // namespace fairsale
