#include "tools/events/diff.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "core/log/event_codec.hpp"

namespace fairsale::cli {

namespace {

struct Span {
  Seq first;
  Seq last;
  Digest digest;
};

// The block that holds `seq`.
Result<Span> block_at(const EventLog& log, SkuId sku, Seq seq) {
  Span span;
  const auto read = log.read(sku, seq, [&span](const BlockView& b) {
    span = {b.header().first, b.last(), b.digest()};
    return false;
  });
  if (!read) return tl::unexpected(read.error());
  return span;
}

// The events of a log one by one from a position on, read some thousand at a time.
class Cursor {
 public:
  Cursor(const EventLog& log, SkuId sku, Seq from, Seq to)
      : log_(log), sku_(sku), next_(from), to_(to) {}

  // The next entry, null at the end. Valid until the call after.
  Result<const Entry*> next() {
    if (at_ == entries_.size()) {
      if (next_ > to_) return nullptr;
      if (auto ok = fill(); !ok) return tl::unexpected(ok.error());
      if (entries_.empty()) return nullptr;
    }
    return &entries_[at_++];
  }

 private:
  static constexpr std::size_t kEnough = 4096;

  Result<void> fill() {
    entries_.clear();
    at_ = 0;
    std::optional<Error> error;
    const auto read = log_.read(sku_, next_, [&](const BlockView& b) {
      const BlockHeader& h = b.header();
      const auto decoded = b.for_each([&](Seq seq, const Event& event) {
        if (seq < next_ || seq > to_) return;
        entries_.push_back({seq, h.time, event, h.first, b.last(), h.epoch, b.digest()});
      });
      if (!decoded) error = decoded.error();
      return decoded && entries_.size() < kEnough && b.last() < to_;
    });
    if (!read) return read;
    if (error) return tl::unexpected(*error);
    if (!entries_.empty()) next_ = Seq{entries_.back().seq.value + 1};
    return {};
  }

  const EventLog& log_;
  const SkuId sku_;
  Seq next_;
  const Seq to_;
  std::vector<Entry> entries_;
  std::size_t at_ = 0;
};

// Tells whether two events have the same bytes, and so are the same.
class SameEvents {
 public:
  bool operator()(const Event& a, const Event& b) {
    std::array<std::byte, kLargestEventBytes> x;
    std::array<std::byte, kLargestEventBytes> y;
    const std::size_t n = encoder_.encode(a, x.data());
    const std::size_t m = encoder_.encode(b, y.data());
    return std::equal(x.data(), x.data() + n, y.data(), y.data() + m);
  }

 private:
  EventEncoder encoder_;
};

// The last position up to which the logs have the same blocks. Since a block's digest pins all
// before it, they agree up to the end of a block or not at all.
Result<Seq> common_blocks(const EventLog& log_a, const EventLog& log_b, SkuId sku, Seq end) {
  std::uint64_t low = 0;           // they agree up to here
  std::uint64_t high = end.value;  // and may agree up to here
  while (low < high) {
    const std::uint64_t middle = low + (high - low + 1) / 2;
    const auto a = block_at(log_a, sku, Seq{middle});
    if (!a) return tl::unexpected(a.error());
    const auto b = block_at(log_b, sku, Seq{middle});
    if (!b) return tl::unexpected(b.error());
    if (a->digest == b->digest) {
      low = a->last.value;
    } else {
      high = std::min(a->first.value, b->first.value) - 1;
    }
  }
  return Seq{low};
}

}  // namespace

Result<Difference> first_difference(const EventLog& log_a, const Head& a, const EventLog& log_b,
                                    const Head& b, SkuId sku) {
  if (a == b) return Difference{};
  const Seq end = std::min(a.seq, b.seq);
  const auto common = common_blocks(log_a, log_b, sku, end);
  if (!common) return tl::unexpected(common.error());

  Cursor cursor_a(log_a, sku, Seq{common->value + 1}, a.seq);
  Cursor cursor_b(log_b, sku, Seq{common->value + 1}, b.seq);
  SameEvents same;
  Difference first;  // of the blocks
  for (;;) {
    const auto x = cursor_a.next();
    if (!x) return tl::unexpected(x.error());
    const auto y = cursor_b.next();
    if (!y) return tl::unexpected(y.error());
    if (*x == nullptr && *y == nullptr) break;
    const auto here = [&](Relation relation) {
      Difference d{.relation = relation, .seq = *x != nullptr ? (*x)->seq : (*y)->seq};
      if (*x != nullptr) d.a = **x;
      if (*y != nullptr) d.b = **y;
      return d;
    };
    if (*x == nullptr || *y == nullptr) {
      // One of the logs ends here, and up to here the events are the same.
      if (first.seq.value != 0) break;
      return here(*x == nullptr ? Relation::a_is_prefix : Relation::b_is_prefix);
    }
    if ((*x)->time != (*y)->time || !same((*x)->event, (*y)->event)) {
      return here(Relation::events_differ);
    }
    if (first.seq.value == 0) first = here(Relation::blocks_differ);
  }
  return first;
}

}  // namespace fairsale::cli
