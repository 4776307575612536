#include "tests/sim/faulty_log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/log/commit_check.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale::sim {

namespace {

// record := magic:u32 size:u32 sequence:u64 crc:u32 body; the CRC is of what is around it.
// body   := (sku:u64 first:u64 head:60 bytes size:u32 block)*
constexpr std::uint32_t kMagic = 0x4c52'4157;
constexpr std::size_t kRecordHeader = 20;
constexpr std::size_t kCrcAt = 16;
constexpr std::size_t kEntryHeader = 80;

std::uint32_t record_crc(const std::byte* record, std::size_t body) {
  const std::uint32_t head = crc32c({record, kCrcAt});
  return head ^ (crc32c({record + kRecordHeader, body}) * 31);
}

Head head_of(const BlockView& b) { return {b.last(), b.header().time, b.digest()}; }

std::string name_of(SkuId sku, Seq seq) {
  return fmt::format("SKU {:016x}, position {}", sku.value, seq.value);
}

class Collect final : public ByteSink {
 public:
  void write(std::span<const std::byte> part) override {
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  std::vector<std::byte> bytes;
};

class Replay final : public ByteSource {
 public:
  explicit Replay(std::span<const std::byte> bytes) : left_(bytes) {}
  std::span<const std::byte> next() override { return std::exchange(left_, {}); }

 private:
  std::span<const std::byte> left_;
};

void flip_a_bit(std::span<std::byte> bytes, Chance& chance) {
  bytes[chance.below(bytes.size())] ^= std::byte{1} << chance.below(8);
}

}  // namespace

// ---- Commits ----

void FaultyLog::write_record(std::span<const BlockWrite> blocks) {
  std::size_t body = 0;
  for (const BlockWrite& b : blocks) body += kEntryHeader + b.bytes.size();
  const std::size_t at = wal_.size();
  wal_.resize(at + kRecordHeader + body);
  std::byte* p = wal_.data() + at;
  p = put_le(p, kMagic);
  p = put_le(p, static_cast<std::uint32_t>(body));
  p = put_le(p, sequence_ + 1);
  p += 4;
  for (const BlockWrite& b : blocks) {
    p = put_le(p, b.sku.value);
    p = put_le(p, b.first.value);
    const HeadBytes head = encode_head(b.sku, {b.after, b.first});
    std::memcpy(p, head.data(), head.size());
    p = put_le(p + head.size(), static_cast<std::uint32_t>(b.bytes.size()));
    std::memcpy(p, b.bytes.data(), b.bytes.size());
    p += b.bytes.size();
  }
  put_le(wal_.data() + at + kCrcAt, record_crc(wal_.data() + at, body));
}

Result<void> FaultyLog::append(std::span<const BlockWrite> blocks) {
  if (dead_) return tl::unexpected(*dead_);
  const auto head_before = [this](SkuId sku) {
    const auto it = skus_.find(sku);
    return it == skus_.end() ? Head{} : it->second.head.head;
  };
  if (auto ok = check_commit(blocks, head_before); !ok) return ok;
  listener_.committing(blocks);
  const std::size_t at = wal_.size();
  write_record(blocks);
  const Blow blow = std::exchange(blow_, Blow::none);
  switch (blow) {
    case Blow::full:
    case Blow::sync_error:
      in_flight_ = at;
      dead_ = blow == Blow::full ? Error{Fault::full, "no space left on the device"}
                                 : Error{Fault::io, "fdatasync failed"};
      return tl::unexpected(*dead_);
    case Blow::die_before_sync: in_flight_ = at; throw Died{};
    default: break;
  }
  enter(at);
  if (blow == Blow::die_after_sync) {
    unheard_ = true;
    throw Died{};
  }
  cached_.emplace();
  cached_->sequence = sequence_;
  for (const BlockWrite& b : blocks) cached_->heads.emplace_back(b.sku, b.after);
  if (blow == Blow::die_after_ack) {
    unheard_ = true;
    throw Died{};
  }
  listener_.committed();
  return {};
}

// Makes the whole record at `offset` the latest.
void FaultyLog::enter(std::size_t offset) {
  const std::byte* p = wal_.data() + offset;
  const std::size_t end = offset + kRecordHeader + get_le<std::uint32_t>(p + 4);
  sequence_ = get_le<std::uint64_t>(p + 8);
  for (std::size_t at = offset + kRecordHeader; at < end;) {
    p = wal_.data() + at;
    const SkuId id{get_le<std::uint64_t>(p)};
    const Seq first{get_le<std::uint64_t>(p + 8)};
    const auto size = get_le<std::uint32_t>(p + 76);
    PerSku& sku = skus_[id];
    if (const auto head = decode_head(id, {reinterpret_cast<const char*>(p + 16), 60})) {
      sku.head = *head;
    }
    sku.blocks.push_back({first, sku.head.head.seq, at + kEntryHeader, size});
    at += kEntryHeader + size;
  }
}

// ---- Crashes ----

// The offset behind the record, if there is a whole one.
std::optional<std::size_t> FaultyLog::record_at(std::size_t offset, std::uint64_t& sequence) const {
  if (wal_.size() < offset + kRecordHeader) return std::nullopt;
  const std::byte* p = wal_.data() + offset;
  if (get_le<std::uint32_t>(p) != kMagic) return std::nullopt;
  const std::size_t body = get_le<std::uint32_t>(p + 4);
  if (wal_.size() - offset - kRecordHeader < body) return std::nullopt;
  if (record_crc(p, body) != get_le<std::uint32_t>(p + kCrcAt)) return std::nullopt;
  sequence = get_le<std::uint64_t>(p + 8);
  return offset + kRecordHeader + body;
}

bool FaultyLog::a_record_after(std::size_t offset) const {
  std::uint64_t ignored = 0;
  for (; offset + kRecordHeader <= wal_.size(); ++offset) {
    if (record_at(offset, ignored)) return true;
  }
  return false;
}

// Where the records outside the tables begin, all of which are whole; then where they end.
std::vector<std::size_t> FaultyLog::records() const {
  std::vector<std::size_t> starts{tables_};
  std::uint64_t ignored = 0;
  while (const auto next = record_at(starts.back(), ignored)) starts.push_back(*next);
  return starts;
}

Outcome FaultyLog::crash(const Harm& harm, Chance& chance) {
  Outcome out{.found = std::exchange(unheard_, false)};
  blow_ = Blow::none;
  snapshot_fails_ = false;
  if (out.found) out.what += "; the commit under way was durable";
  const bool torn = in_flight_ && lose_in_flight(harm, chance, out);
  in_flight_.reset();
  if (harm.power) {
    if (chance.one_in(2)) {
      if (!settled()) out.what += "; ACKED is behind";
      cached_ = synced_acked_;
    } else {
      synced_acked_ = cached_;
    }
  }
  if (!out.opens) return out;
  if (harm.acked) {
    if (!backup_) backup_ = Backup{wal_, skus_, cached_};
    // What is torn can then not be told from a promise that was lost.
    if (torn) {
      out.opens = false;
      std::uint64_t ignored = 0;
      std::size_t end = tables_;
      while (const auto next = record_at(end, ignored)) end = *next;
      backup_->wal.resize(end);
    }
    cached_.reset();
    out.what += "; ACKED is lost";
  } else if (harm.rot && !torn) {
    rot(chance, out);
  }
  return out;
}

// What is left of the commit under way. Returns true when it is a torn end.
bool FaultyLog::lose_in_flight(const Harm& harm, Chance& chance, Outcome& out) {
  const std::size_t at = *in_flight_;
  Bytes record(wal_.begin() + static_cast<std::ptrdiff_t>(at), wal_.end());
  wal_.resize(at);
  const auto append_bytes = [this](std::span<const std::byte> bytes) {
    wal_.insert(wal_.end(), bytes.begin(), bytes.end());
  };
  switch (chance.below(harm.astray && harm.power ? 6u : harm.power ? 4u : 3u)) {
    case 0: out.what += "; the commit under way is lost"; return false;
    case 1:
      append_bytes(record);
      out.found = true;
      out.what += "; the commit under way is found";
      return false;
    case 2:
      append_bytes(std::span(record).first(1 + chance.below(record.size() - 1)));
      if (harm.power && chance.one_in(2)) wal_.resize(wal_.size() + chance.below(300));
      out.what += "; the commit under way is torn";
      return true;
    case 3:
      for (unsigned bits = 1 + chance.below(8); bits > 0; --bits) flip_a_bit(record, chance);
      append_bytes(record);
      // The flips may have met.
      if (std::uint64_t s = 0; record_at(at, s)) {
        out.found = true;
        out.what += "; the commit under way is found";
        return false;
      }
      out.what += "; the commit under way is garbled";
      return true;
    default: break;
  }
  // A write that landed elsewhere.
  out.opens = false;
  backup_ = Backup{wal_, skus_, cached_};
  if (at == tables_ || chance.one_in(2)) {
    wal_.resize(at + 1 + chance.below(200));
    append_bytes(record);
    out.what += "; the commit under way landed beyond the end";
  } else {
    const std::size_t over = tables_ + chance.below(at - tables_);
    wal_.resize(std::max(at, over + record.size()));
    std::copy(record.begin(), record.end(), wal_.begin() + static_cast<std::ptrdiff_t>(over));
    out.what += "; the commit under way landed over another";
  }
  return false;
}

// Damages what was acknowledged, where that can be told from an end that nobody was promised.
void FaultyLog::rot(Chance& chance, Outcome& out) {
  Backup before{wal_, skus_, cached_};
  const auto starts = records();
  const std::size_t count = starts.size() - 1;
  const std::uint64_t promised = cached_ ? cached_->sequence : 0;
  const auto sequence_of = [&](std::size_t i) { return tables_sequence_ + 1 + i; };
  bool done = false;
  switch (chance.below(3)) {
    case 0: done = rot_in_tables(chance, out); break;
    case 1: {
      if (count == 0) break;
      const std::size_t i = chance.below(count);
      if (i + 1 == count && sequence_of(i) > promised) break;
      flip_a_bit(std::span(wal_).subspan(starts[i], starts[i + 1] - starts[i]), chance);
      out.opens = false;
      out.what += fmt::format("; record {} of {} is damaged", i + 1, count);
      done = true;
      break;
    }
    default: {
      if (count == 0) break;
      const std::size_t i = chance.below(count);
      if (sequence_of(i) > promised) break;
      wal_.resize(starts[i]);
      out.opens = false;
      out.what += fmt::format("; the log is cut before record {} of {}", i + 1, count);
      done = true;
      break;
    }
  }
  if (done) backup_ = std::move(before);
}

bool FaultyLog::rot_in_tables(Chance& chance, Outcome& out) {
  std::vector<std::pair<SkuId, std::size_t>> all;
  for (const auto& [id, sku] : skus_) {
    for (std::size_t i = 0; i < sku.in_tables; ++i) all.emplace_back(id, i);
  }
  if (all.empty()) return false;
  const auto target = all[chance.below(all.size())];
  const SkuId id = target.first;
  const std::size_t i = target.second;
  PerSku& sku = skus_[id];
  Place& place = sku.blocks[i];
  const Seq last = place.last;
  if (chance.one_in(2)) {
    flip_a_bit(std::span(wal_).subspan(place.offset, place.size), chance);
    out.what += fmt::format("; {} is damaged in its table", name_of(id, place.first));
  } else {
    const auto [other_id, j] = all[chance.below(all.size())];
    if (other_id == id && j == i) return false;
    const Place& other = skus_[other_id].blocks[j];
    place.offset = other.offset;
    place.size = other.size;
    out.what +=
        fmt::format("; {} holds {}", name_of(id, place.first), name_of(other_id, other.first));
  }
  // Of each SKU the last block is looked at on opening, and those that ACKED names.
  const bool named =
      cached_ && std::any_of(cached_->heads.begin(), cached_->heads.end(),
                             [&](const auto& h) { return h.first == id && h.second.seq == last; });
  if (named || i + 1 == sku.blocks.size()) {
    out.opens = false;
  } else {
    out.rotten = {id, last};
  }
  return true;
}

void FaultyLog::repair() {
  wal_ = std::move(backup_->wal);
  skus_ = std::move(backup_->skus);
  cached_ = backup_->cached;
  synced_acked_ = cached_;
  backup_.reset();
}

Result<void> FaultyLog::open() {
  std::size_t end = tables_;
  std::uint64_t last = tables_sequence_;
  bool out_of_order = false;
  for (std::uint64_t sequence = 0;;) {
    const auto next = record_at(end, sequence);
    if (!next) break;
    out_of_order = sequence != last + 1;
    if (out_of_order) break;
    end = *next;
    last = sequence;
  }
  const bool clean = std::all_of(wal_.begin() + static_cast<std::ptrdiff_t>(end), wal_.end(),
                                 [](std::byte b) { return b == std::byte{0}; });
  if (!clean && (out_of_order || a_record_after(end + 1))) {
    return fail(Fault::damaged, fmt::format("damage at {}, and a commit follows", end));
  }
  if (!clean && !cached_) {
    return fail(Fault::damaged, fmt::format("damage at {}, and no ACKED to judge it by", end));
  }
  if (cached_ && last < cached_->sequence) {
    return fail(Fault::damaged, fmt::format("the log ends at {}, but {} was acknowledged", last,
                                            cached_->sequence));
  }

  wal_.resize(end);
  dead_.reset();
  sequence_ = tables_sequence_;
  for (auto& [id, sku] : skus_) {
    sku.blocks.resize(sku.in_tables);
    sku.head = sku.table_head;
  }
  const auto starts = records();
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) enter(starts[i]);
  if (auto ok = verify(); !ok) return ok;
  if (!cached_ || cached_->sequence < sequence_) {
    cached_.emplace();
    cached_->sequence = sequence_;
    for (const auto& [id, sku] : skus_) {
      if (!sku.blocks.empty()) cached_->heads.emplace_back(id, sku.head.head);
    }
  }
  synced_acked_ = cached_;
  return {};
}

// Each head must be that of its SKU's last block, and what was acknowledged must be there.
Result<void> FaultyLog::verify() const {
  for (const auto& [id, sku] : skus_) {
    if (sku.blocks.empty()) continue;
    const Place& place = sku.blocks.back();
    const auto view = BlockView::parse(bytes_at(place));
    if (!view) return tl::unexpected(view.error());
    if (view->header().sku != id || view->header().first != place.first ||
        head_of(*view) != sku.head.head) {
      return fail(Fault::damaged, name_of(id, place.first) + ": it does not match the head");
    }
  }
  if (!cached_) return {};
  for (const auto& [id, head] : cached_->heads) {
    if (ends_a_block(id, head)) continue;
    return fail(Fault::damaged, name_of(id, head.seq) + " was acknowledged and is not there");
  }
  return {};
}

bool FaultyLog::ends_a_block(SkuId id, const Head& head) const {
  const auto found = skus_.find(id);
  if (found == skus_.end()) return false;
  const auto& blocks = found->second.blocks;
  const auto place = std::lower_bound(blocks.begin(), blocks.end(), head.seq,
                                      [](const Place& p, Seq seq) { return p.last < seq; });
  if (place == blocks.end()) return false;
  const auto view = BlockView::parse(bytes_at(*place));
  return view && view->header().sku == id && head_of(*view) == head;
}

void FaultyLog::flush() {
  tables_ = wal_.size();
  tables_sequence_ = sequence_;
  for (auto& [id, sku] : skus_) {
    sku.in_tables = sku.blocks.size();
    sku.table_head = sku.head;
  }
}

bool FaultyLog::holds(SkuId id, std::span<const std::byte> expected) const {
  const auto found = skus_.find(id);
  if (found == skus_.end()) return expected.empty();
  for (const Place& p : found->second.blocks) {
    if (p.size > expected.size() || std::memcmp(&wal_[p.offset], expected.data(), p.size) != 0) {
      return false;
    }
    expected = expected.subspan(p.size);
  }
  return expected.empty();
}

// ---- Reading ----

// Checks each block by itself; how blocks follow one another is left to who reads, since every
// reader in the product looks again, and only here it shows whether it does.
Result<void> FaultyLog::read(SkuId id, Seq from,
                             const std::function<bool(const BlockView&)>& visit) const {
  const auto found = skus_.find(id);
  if (found == skus_.end()) return {};
  const auto& blocks = found->second.blocks;
  auto place = std::lower_bound(blocks.begin(), blocks.end(), from,
                                [](const Place& p, Seq seq) { return p.last < seq; });
  for (; place != blocks.end(); ++place) {
    const auto view = BlockView::parse(bytes_at(*place));
    if (!view) {
      return fail(view.error().fault, name_of(id, place->first) + ": " + view.error().message);
    }
    if (!visit(*view)) return {};
  }
  return {};
}

Result<std::vector<SkuHead>> FaultyLog::heads() const {
  std::vector<SkuHead> heads;
  for (const auto& [id, sku] : skus_) {
    if (!sku.blocks.empty()) heads.push_back({id, sku.head.head});
  }
  return heads;
}

Result<std::vector<LastBlock>> FaultyLog::last_blocks() const {
  std::vector<LastBlock> blocks;
  for (const auto& [id, sku] : skus_) {
    if (!sku.blocks.empty()) blocks.push_back({id, sku.blocks.back().first});
  }
  return blocks;
}

// ---- Snapshots ----

Result<void> FaultyLog::put_snapshot(SkuId id, const Head& at, const Sale& sale) {
  if (std::exchange(snapshot_fails_, false)) return fail(Fault::full, "no space for a snapshot");
  Collect sink;
  sale.serialize(sink);
  const Digest state = sha256(sink.bytes);
  listener_.snapshot_put(id, at, sale, state);
  auto& kept = skus_[id].snapshots;
  std::erase_if(kept, [&](const StoredSnapshot& s) { return s.head.seq == at.seq; });
  kept.push_back({at, state, std::move(sink.bytes)});
  std::sort(kept.begin(), kept.end(), [](const StoredSnapshot& a, const StoredSnapshot& b) {
    return a.head.seq < b.head.seq;
  });
  if (kept.size() > 3) kept.erase(kept.begin());
  return {};
}

void FaultyLog::plant_snapshot(SkuId id, const Head& at, const Sale& sale) {
  Collect sink;
  sale.serialize(sink);
  auto& kept = skus_[id].snapshots;
  std::erase_if(kept, [&](const StoredSnapshot& s) { return s.head.seq >= at.seq; });
  const Digest state = sha256(sink.bytes);
  kept.push_back({at, state, std::move(sink.bytes)});
}

void FaultyLog::spoil_snapshot(SkuId id, Chance& chance) {
  auto& kept = skus_[id].snapshots;
  if (kept.empty()) return;
  StoredSnapshot& s = kept[chance.below(kept.size())];
  switch (chance.below(3)) {
    case 0: flip_a_bit(s.bytes, chance); break;
    case 1: kept.erase(kept.begin() + (&s - kept.data())); break;
    default:
      // The bytes of an older one under a newer one's head.
      s.bytes = kept.front().bytes;
      s.state = kept.front().state;
  }
}

Result<std::optional<Snapshot>> FaultyLog::snapshot(SkuId id, Seq at_most) const {
  const auto found = skus_.find(id);
  if (found == skus_.end()) return std::nullopt;
  const auto& kept = found->second.snapshots;
  for (auto s = kept.rbegin(); s != kept.rend(); ++s) {
    if (s->head.seq > at_most || !ends_a_block(id, s->head)) continue;
    if (sha256(s->bytes) != s->state) continue;
    Replay source(s->bytes);
    auto sale = Sale::restore(source);
    if (!sale || sale->seq() != s->head.seq) continue;
    return Snapshot{s->head, s->state, std::move(*sale)};
  }
  return std::nullopt;
}

}  // namespace fairsale::sim
