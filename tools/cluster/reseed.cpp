#include "tools/cluster/reseed.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/cluster/follower.hpp"
#include "core/log/sale_name.hpp"
#include "tools/events/diff.hpp"

namespace fairsale::cli {

namespace {

using cluster::PartitionId;
using cluster::Position;

// The head that a log had after so many events, if a block ends there.
Result<std::optional<Head>> head_at(const EventLog& log, SkuId sku, Seq seq) {
  std::optional<Head> head;
  const auto read = log.read(sku, seq, [&](const BlockView& b) {
    if (b.last() == seq) head = Head{b.last(), b.header().time, b.digest()};
    return false;
  });
  if (!read) return tl::unexpected(read.error());
  return head;
}

Result<SalePlan> plan_sale(std::span<const EventLog* const> logs, SkuId sku,
                           std::span<const Head> heads, const ClusterShape& shape) {
  std::vector<cluster::Copy> copies;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    copies.push_back({heads[i], [log = logs[i], sku](Seq seq) { return head_at(*log, sku, seq); }});
  }
  const auto named =
      std::find_if(heads.begin(), heads.end(), [](const Head& h) { return h.seq.value > 0; });
  auto name = sale_name(*logs[static_cast<std::size_t>(named - heads.begin())], sku);
  if (!name) return tl::unexpected(name.error());
  SalePlan plan{.sku = sku, .name = std::move(*name), .head = {}, .from = 0, .copies = {}};
  if (plan.name.empty()) plan.name = fmt::format("{:016x}", sku.value);
  const auto agreed = cluster::agree(copies, shape.processors, shape.durable_on);
  if (!agreed) {
    return fail(agreed.error().fault, fmt::format("sku {}: {}", plan.name, agreed.error().message));
  }
  plan.head = agreed->head;
  plan.from = agreed->from;
  for (const Head& h : heads) {
    SaleCopy copy{.head = h, .lacks = 0, .apart = Seq{0}};
    copy.lacks = plan.head.seq.value - std::min(plan.head.seq.value, h.seq.value);
    plan.copies.push_back(copy);
  }
  for (const std::size_t i : agreed->apart) {
    const auto d = first_difference(*logs[plan.from], plan.head, *logs[i], heads[i], sku);
    if (!d) return tl::unexpected(d.error());
    SaleCopy& copy = plan.copies[i];
    copy.apart = d->seq;
    copy.lacks = plan.head.seq.value - std::min(plan.head.seq.value, d->seq.value - 1);
  }
  return plan;
}

}  // namespace

std::vector<std::byte> PartitionPlan::opening(std::uint16_t generation) const {
  std::vector<std::byte> bytes;
  cluster::append_opening(
      bytes, {.partition = id, .generation = generation, .skus = skus, .heads = heads});
  return bytes;
}

Result<ReseedPlan> plan_reseed(std::span<const EventLog* const> logs, const ClusterShape& shape,
                               std::map<PartitionId, Position> known) {
  if (shape.durable_on > shape.processors || 2 * shape.durable_on <= shape.processors) {
    return fail(Fault::invalid, fmt::format("what is acknowledged is on more than half of the "
                                            "processors: {} of {} cannot be",
                                            shape.durable_on, shape.processors));
  }
  if (logs.size() > shape.processors) {
    return fail(Fault::invalid, fmt::format("{} data directories are not of {} processors",
                                            logs.size(), shape.processors));
  }
  // Also when there is no sale of which it could be said.
  const std::vector<cluster::Copy> nothing(logs.size());
  if (const auto enough = cluster::agree(nothing, shape.processors, shape.durable_on); !enough) {
    return tl::unexpected(enough.error());
  }

  ReseedPlan plan{.shape = shape};
  plan.apart.resize(logs.size());
  const cluster::Partitions spread{shape.partitions};
  std::map<SkuId, std::vector<Head>> heads;
  std::map<PartitionId, Position> furthest = std::move(known);
  for (std::size_t i = 0; i < logs.size(); ++i) {
    const auto own = logs[i]->heads();
    if (!own) return tl::unexpected(own.error());
    for (const SkuHead& h : *own) {
      if (h.head.seq.value == 0 || !shape.has(h.sku)) continue;
      auto& all = heads[h.sku];
      all.resize(logs.size());
      all[i] = h.head;
    }
    const auto positions = cluster::last_positions(*logs[i], spread);
    if (!positions) return tl::unexpected(positions.error());
    for (const auto& [p, at] : *positions) furthest[p] = std::max(furthest[p], at);
  }

  std::vector<cluster::HeadsDigest> digests(shape.partitions);
  for (const auto& [sku, of_copies] : heads) {
    auto sale = plan_sale(logs, sku, of_copies, shape);
    if (!sale) return tl::unexpected(sale.error());
    digests[spread.of(sku).value].add(sku, sale->head);
    for (std::size_t i = 0; i < logs.size(); ++i) {
      if (sale->copies[i].apart.value > 0) plan.apart[i] = true;
    }
    plan.sales.push_back(std::move(*sale));
  }
  for (std::uint32_t i = 0; i < shape.partitions; ++i) {
    if (!shape.takes.contains(PartitionId{i})) continue;
    const std::uint64_t skus = digests[i].skus();
    plan.partitions.push_back({.id = PartitionId{i},
                               .furthest = furthest[PartitionId{i}],
                               .skus = skus,
                               .heads = digests[i].finish()});
  }
  return plan;
}

Result<CopyReport> bring_up(std::span<EventLog* const> logs, const ReseedPlan& plan,
                            const std::function<void(std::uint64_t)>& copied) {
  CopyReport all;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    if (plan.apart[i]) continue;
    BatchedAppend out(*logs[i]);
    for (const SalePlan& sale : plan.sales) {
      if (auto ok = copy_blocks(*logs[sale.from], {sale.sku, sale.head}, sale.copies[i].head.seq,
                                out, copied);
          !ok) {
        return tl::unexpected(ok.error());
      }
    }
    if (auto ok = out.finish(); !ok) return tl::unexpected(ok.error());
    logs[i]->settle();
    auto heads = logs[i]->heads();
    if (!heads) return tl::unexpected(heads.error());
    std::erase_if(*heads, [&](const SkuHead& h) { return !plan.shape.has(h.sku); });
    const auto as_planned = [](const SkuHead& h, const SalePlan& s) {
      return h.sku == s.sku && h.head == s.head;
    };
    if (!std::equal(heads->begin(), heads->end(), plan.sales.begin(), plan.sales.end(),
                    as_planned)) {
      return fail(Fault::damaged, "a copy does not end where the logs that were chosen do");
    }
    all.skus += out.report().skus;
    all.blocks += out.report().blocks;
    all.events += out.report().events;
    all.bytes += out.report().bytes;
  }
  return all;
}

Result<NextGeneration> next_generation(LogStreams& streams, const PartitionPlan& plan) {
  // The newest that has, or had, a message. Processors look at them in the same way.
  std::uint16_t newest = plan.furthest.generation;
  api::LogStreamBounds has;
  for (std::uint16_t next = newest; next < UINT16_MAX;) {
    const auto bounds = streams.bounds({plan.id, ++next});
    if (!bounds) return tl::unexpected(bounds.error());
    if (!*bounds) break;
    if ((*bounds)->last == 0) continue;
    newest = next;
    has = **bounds;
  }
  // A partition of which nobody here has anything, and which is in use: other processors take it.
  if (plan.furthest == Position{} && plan.skus == 0 && newest == 0) {
    const auto begun = streams.bounds({plan.id, 0});
    if (!begun) return tl::unexpected(begun.error());
    if (*begun && (*begun)->last > 0) return NextGeneration{0, true};
  }
  if (newest > plan.furthest.generation && has.first <= 1) {
    const auto first = streams.message({plan.id, newest}, 1);
    if (!first) return tl::unexpected(first.error());
    if (*first && **first == plan.opening(newest)) return NextGeneration{newest, true};
  }
  if (newest == UINT16_MAX) {
    return fail(Fault::invalid, fmt::format("partition {} has no generation left", plan.id.value));
  }
  return NextGeneration{static_cast<std::uint16_t>(newest + 1), false};
}

Result<void> begin_generation(LogStreams& streams, const PartitionPlan& plan,
                              const NextGeneration& next) {
  if (next.there) return {};
  const api::LogStream stream{plan.id, next.number};
  const auto opening = plan.opening(next.number);
  if (auto ok = streams.ensure(stream); !ok) return ok;
  if (auto ok = streams.open(stream, opening); !ok) return ok;
  const auto first = streams.message(stream, 1);
  if (!first) return tl::unexpected(first.error());
  if (*first && **first == opening) return {};
  return fail(Fault::io, fmt::format("the stream {} does not begin with its opening: try again, "
                                     "with all processors stopped",
                                     stream.name()));
}

}  // namespace fairsale::cli
