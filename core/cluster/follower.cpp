#include "core/cluster/follower.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/cluster/agreement.hpp"
#include "core/domain/invariant.hpp"
#include "core/log/event_codec.hpp"

namespace fairsale::cluster {

namespace {

constexpr std::size_t kMaxCommitBytes = std::size_t{16} << 20;
constexpr std::size_t kKeptCuts = 5;

// A block has its batch's events in their order, but for those that found no place.
bool is_part_of(std::span<const std::byte> block, const Batch& batch) {
  EventEncoder encoder;
  std::array<std::byte, kLargestEventBytes> bytes;
  for (const Event& e : batch.events) {
    const std::size_t n = encoder.encode(e, bytes.data());
    if (n <= block.size() && std::equal(bytes.data(), bytes.data() + n, block.begin())) {
      block = block.subspan(n);
    }
  }
  return block.empty();
}

}  // namespace

Result<std::map<PartitionId, Position>> last_positions(const EventLog& log, Partitions spread) {
  std::map<PartitionId, Position> out;
  const auto heads = log.heads();
  if (!heads) return tl::unexpected(heads.error());
  for (const SkuHead& h : *heads) {
    const auto read = log.read(h.sku, h.head.seq, [&](const BlockView& b) {
      Position& p = out[spread.of(h.sku)];
      p = std::max(p, Position::of(b.header().epoch));
      return true;
    });
    if (!read) return tl::unexpected(read.error());
  }
  return out;
}

Result<bool> made_last_block(const EventLog& log, const Delivered& m) {
  Batch batch;
  if (!parse_batch(m.bytes, batch)) return false;
  const auto heads = log.heads();
  if (!heads) return tl::unexpected(heads.error());
  const auto sku = std::find_if(heads->begin(), heads->end(),
                                [&](const SkuHead& h) { return h.sku == batch.sku; });
  if (sku == heads->end()) return false;
  bool same = false;
  BlockHeader last;
  auto read = log.read(sku->sku, sku->head.seq, [&](const BlockView& b) {
    last = b.header();
    same = last.epoch == m.position.epoch() && is_part_of(b.payload(), batch);
    return true;
  });
  if (!read) return tl::unexpected(read.error());
  if (!same || m.time >= last.time || last.first.value == 1) return same && m.time == last.time;
  // A block's time is its message's, or that of the block before when that is later.
  read = log.read(sku->sku, Seq{last.first.value - 1}, [&](const BlockView& b) {
    same = b.header().time == last.time;
    return false;
  });
  if (!read) return tl::unexpected(read.error());
  return same;
}

bool may_take_back(std::uint64_t cut, const std::vector<std::uint64_t>& others,
                   std::size_t processors, std::size_t durable_on) {
  const auto same = static_cast<std::size_t>(std::count(others.begin(), others.end(), cut));
  return same == others.size() && same >= enough_to_know(processors, durable_on);
}

Result<TakenBack> beyond(const EventLog& log, Partitions spread, PartitionId p, Position end) {
  TakenBack out;
  const auto heads = log.heads();
  if (!heads) return tl::unexpected(heads.error());
  for (const SkuHead& h : *heads) {
    if (spread.of(h.sku) != p) continue;
    Seq seq = h.head.seq;
    Head kept;
    while (seq.value > 0) {
      bool stays = false;
      const auto read = log.read(h.sku, seq, [&](const BlockView& b) {
        stays = Position::of(b.header().epoch) <= end;
        if (stays) kept = {b.last(), b.header().time, b.digest()};
        seq = Seq{b.header().first.value - 1};
        return false;
      });
      if (!read) return tl::unexpected(read.error());
      if (stays) break;
    }
    if (kept.seq == h.head.seq) continue;
    out.heads.push_back({h.sku, kept});
    out.events += h.head.seq.value - kept.seq.value;
    const auto read = log.read(h.sku, Seq{kept.seq.value + 1}, [&](const BlockView& b) {
      out.bytes.insert(out.bytes.end(), b.bytes().begin(), b.bytes().end());
      ++out.blocks;
      return true;
    });
    if (!read) return tl::unexpected(read.error());
  }
  return out;
}

void Follower::begin(PartitionId p, Position position) {
  partitions_[p] = {};
  begin(partitions_[p], position, false, false);
}

void Follower::stop(PartitionId p, std::string why) {
  State& s = partitions_[p];
  if (s.stopped.empty()) s.stopped = std::move(why);
}

void Follower::rewind(PartitionId p) {
  State& s = partitions_[p];
  s.position = s.anchor;
  s.gap = false;
  s.look = false;
}

Position Follower::promise(PartitionId p) {
  State& s = partitions_[p];
  s.promised_for = std::max(s.promised_for, static_cast<std::uint16_t>(s.position.generation + 1));
  s.was_there = true;
  return s.anchor;
}

void Follower::keep_promise(PartitionId p, std::uint16_t generation) {
  partitions_[p].promised_for = generation;
}

void Follower::reread(PartitionId p) {
  State& s = partitions_[p];
  s.next_read = 0;
  s.next_gap = false;
  s.promises.clear();
  s.cut.reset();
}

// False: the message is not to be taken now.
bool Follower::expected(State& s, const Delivered& m) {
  if (!s.stopped.empty() || s.look || m.position <= s.position) return false;
  if (m.position.generation == s.position.generation &&
      (s.cut ? m.position.sequence > *s.cut : s.promised())) {
    return false;
  }
  const bool next = m.position.generation == s.position.generation
                        ? m.position.sequence == s.position.sequence + 1
                        : m.position.sequence == 1;
  s.gap = !next;
  if (next && m.position.generation != s.position.generation && !is_opening(m.bytes)) {
    s.stopped =
        fmt::format("generation {} of its stream has lost how it began", m.position.generation);
    return false;
  }
  return next;
}

void Follower::read_next(State& s, const Delivered& m) {
  if (!s.stopped.empty() || m.position.sequence <= s.next_read) return;
  // What is behind the cut is for later, when this log has come to the cut.
  if (s.next_gap || s.cut || m.position.sequence != s.next_read + 1) {
    s.next_gap = true;
    return;
  }
  s.next_read = m.position.sequence;
  const auto of_this = [&](const auto& said) {
    return said && said->partition == m.partition && said->generation == m.position.generation;
  };
  if (const auto promise = parse_promise(m.bytes); of_this(promise)) {
    s.promises.emplace(promise->processor, promise->has);
  } else if (of_this(parse_cut(m.bytes)) && promises_ > 0 && s.promises.size() >= promises_) {
    s.cut = 0;
    for (const auto& [_, has] : s.promises) s.cut = std::max(*s.cut, has);
  }
}

// To the next generation, where this one has been taken up to its cut.
void Follower::go_over() {
  for (auto& [_, s] : partitions_) go_over(s);
}

void Follower::go_over(State& s) {
  if (!s.cut || s.position.sequence < *s.cut || !s.stopped.empty()) return;
  if (s.anchor.generation == s.position.generation && s.anchor.sequence > *s.cut) {
    s.stopped = fmt::format(
        "the others went over to another stream after message {}, and this log holds message {}, "
        "of which nothing was acknowledged",
        *s.cut, s.anchor.sequence);
    s.shorten_to = Position{s.position.generation, *s.cut};
    return;
  }
  s.cuts[s.position.generation] = *s.cut;
  if (s.cuts.size() > kKeptCuts) s.cuts.erase(s.cuts.begin());
  // Who comes later may find that the others have left the next generation too: it has to look
  // before it takes anything.
  begin(s, {static_cast<std::uint16_t>(s.position.generation + 1), s.next_read}, s.next_gap,
        !s.was_there);
}

void Follower::begin(State& s, Position at, bool gap, bool look) {
  State fresh;
  fresh.position = fresh.anchor = fresh.began = at;
  fresh.gap = gap;
  fresh.look = look;
  fresh.skipped = s.skipped;
  fresh.promised_for = s.promised_for;
  fresh.cuts = std::move(s.cuts);
  s = std::move(fresh);
}

// A new generation goes on where the last one was given up; this node has to be there too.
void Follower::open(State& s, const Delivered& m) {
  const auto opening = parse_opening(m.bytes);
  if (!opening) {
    s.stopped = opening.error().message;
    return;
  }
  std::map<SkuId, Head> heads;
  sequencer_.for_each_head([&](SkuId sku, const Head& head) {
    if (spread_.of(sku) == m.partition && head.seq.value > 0) heads.emplace(sku, head);
  });
  HeadsDigest digest;
  for (const auto& [sku, head] : heads) digest.add(sku, head);
  const bool same = opening->partition == m.partition &&
                    opening->generation == m.position.generation &&
                    opening->skus == digest.skus() && opening->heads == digest.finish();
  if (!same) {
    s.stopped =
        fmt::format("generation {} of its stream begins with logs that are not those of this node",
                    m.position.generation);
    return;
  }
  begin(s, m.position, false, false);
}

Result<std::size_t> Follower::take(std::span<const Delivered> messages,
                                   fairsale::Answers& answers) {
  std::size_t taken = 0;
  std::size_t bytes = 0;
  sources_.clear();
  report_ = {};
  for (; taken < messages.size() && sources_.size() < Sequencer::kMaxBlocks; ++taken) {
    const Delivered& m = messages[taken];
    State& s = partitions_[m.partition];
    const bool opens = is_opening(m.bytes) && m.position.sequence == 1;
    if (m.position.generation == s.position.generation + 1 && !opens) {
      if (!sources_.empty()) break;  // it is judged by what is committed
      read_next(s, m);
      go_over(s);
      continue;
    }
    if (!expected(s, m)) continue;
    if (opens) {
      if (!sources_.empty()) break;  // it is judged by what is committed
      open(s, m);
      continue;
    }
    const std::size_t used = sources_.size();
    if (used > 0 && bytes + m.bytes.size() > kMaxCommitBytes) break;
    if (used == batches_.size()) {
      batches_.emplace_back();
      tickets_.emplace_back();
    }
    const auto parsed = parse_batch(m.bytes, batches_[used]);
    if (!parsed && parsed.error().fault == Fault::unsupported) {
      s.stopped = parsed.error().message;
      continue;
    }
    // What is no batch is passed over, by every node alike.
    if (!parsed || spread_.of(batches_[used].sku) != m.partition) {
      ++s.skipped;
    } else {
      sources_.push_back({.index = taken, .before = s.position});
      bytes += m.bytes.size();
    }
    s.position = m.position;
  }

  ordered_.clear();
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const Batch& b = batches_[i];
    const Delivered& m = messages[sources_[i].index];
    tickets_[i].clear();
    for (std::uint32_t n = 0; b.origin.value != 0 && n < b.events.size(); ++n) {
      tickets_[i].push_back(Asker{b.origin, b.number, n}.pack());
    }
    ordered_.push_back({.sku = b.sku,
                        .position = m.position.epoch(),
                        .time = m.time,
                        .events = b.events,
                        .tickets = tickets_[i],
                        .knows = b.knows});
  }
  if (ordered_.empty()) {
    go_over();
    return taken;
  }
  auto report = sequencer_.follow(ordered_, answers);
  if (!report) return tl::unexpected(report.error());
  report_ = std::move(*report);
  for (std::size_t i = 0; i < report_.followed; ++i) {
    const Delivered& m = messages[sources_[i].index];
    if (report_.made_block[i]) partitions_[m.partition].anchor = m.position;
  }
  if (!report_.contradiction) {
    go_over();
    return taken;
  }
  // Others than the partition that stops go on with what came behind it.
  for (std::size_t i = sources_.size(); i-- > report_.followed;) {
    partitions_[messages[sources_[i].index].partition].position = sources_[i].before;
  }
  const std::size_t at = sources_[report_.followed].index;
  stop(messages[at].partition, report_.contradiction->message);
  go_over();
  return at + 1;
}

}  // namespace fairsale::cluster
