#include "tools/moment/moment.hpp"

#include <fmt/format.h>

namespace fairsale::cli {

Result<Moment> moment_at(const EventLog& log, const SkuHead& sku, Seq at, const Way& way) {
  if (at > sku.head.seq) {
    return fail(Fault::not_found, fmt::format("the log ends at position {}, before {}",
                                              sku.head.seq.value, at.value));
  }
  auto folded = fold(log, sku, way.from, way.observer, at);
  if (!folded) return tl::unexpected(folded.error());
  Moment m{.sale = std::move(folded->sale), .now = {}, .from = folded->from};
  m.now = m.sale.time();
  return m;
}

Result<Moment> moment_at(const EventLog& log, const SkuHead& sku, Timestamp time, const Way& way) {
  const auto at = position_at(log, sku, time);
  if (!at) return tl::unexpected(at.error());
  auto m = moment_at(log, sku, *at, way);
  if (m) m->now = time;
  return m;
}

Result<Seq> position_at(const EventLog& log, const SkuHead& sku, Timestamp time) {
  std::uint64_t low = 0;  // an end of a block at or before `time`, or the beginning
  std::uint64_t high = sku.head.seq.value;  // all after it is later than `time`
  while (low < high) {
    const std::uint64_t middle = low + (high - low + 1) / 2;
    const auto read = log.read(sku.sku, Seq{middle}, [&](const BlockView& block) {
      if (block.header().time <= time) {
        low = std::min(block.last().value, high);
      } else {
        high = block.header().first.value - 1;
      }
      return false;
    });
    if (!read) return tl::unexpected(read.error());
  }
  return Seq{low};
}

Look look_at(const Moment& m, std::optional<CustomerIndex> customer, std::optional<Seq> purchase) {
  const Sale& sale = m.sale;
  Look look;
  if (!sale.exists()) return look;
  const Terms& terms = sale.terms();
  const bool closed = sale.phase() == Phase::closed;
  const bool ended = closed || sale.phase() == Phase::ended;
  look.due.opening = !ended && sale.time() < terms.starts_at && terms.starts_at <= m.now;
  look.due.end = !ended && terms.ends_at <= m.now;
  for (std::uint32_t i = 0; i < sale.purchases(); ++i) {
    const Purchase& p = sale.purchase(PurchaseIndex{i});
    Standing s{.purchase = PurchaseIndex{i}};
    if (p.status == PurchaseStatus::waiting) {
      look.line.add(p.quantity);
      s.place = static_cast<std::uint32_t>(look.line.purchases);
      if (look.next.size() < kMaxNext) look.next.push_back(p.seq);
    } else if (holds_units(p.status) && p.until + terms.grace <= m.now) {
      s.due = true;
      look.due.holds.add(p.quantity);
    }
    if ((customer && p.customer == customer->value) || (purchase && p.seq == *purchase)) {
      if (look.chosen.size() < kMaxStandings) {
        look.chosen.push_back(s);
      } else {
        ++look.left_out;
      }
    }
  }
  return look;
}

}  // namespace fairsale::cli
