// A sequence that grows without ever moving an element: segments of doubling size. Growing costs
// one allocation per doubling and no copy, so no purchase pays for the move of all before it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/domain/invariant.hpp"

namespace fairsale {

// The first segment holds 2^kFirstLog2 elements. Elements are trivially copyable; memory is
// touched only when an element is written, so a large last segment costs address space, not RAM.
template <class T, unsigned kFirstLog2 = 3>
class Segmented {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  T& operator[](std::size_t i) { return *at(i); }
  const T& operator[](std::size_t i) const { return *at(i); }
  T& back() { return (*this)[size_ - 1]; }

  void push_back(const T& value) {
    reserve(size_ + 1);
    ::new (static_cast<void*>(at(size_))) T(value);
    ++size_;
  }

  // Afterwards `n` elements fit without an allocation.
  void reserve(std::size_t n) {
    while (n > capacity_) {
      const std::size_t count = std::size_t{1} << (kFirstLog2 + segments_.size());
      segments_.push_back(Segment(static_cast<T*>(::operator new(count * sizeof(T)))));
      capacity_ += count;
    }
  }

  // Appends `n` elements that lie side by side in memory and returns the index of the first.
  // What is left of a segment too small for them is skipped (and is indeterminate).
  std::size_t append_contiguous(const T* source, std::size_t n) {
    for (;;) {
      reserve(size_ + (n == 0 ? 1 : n));
      const std::size_t left = left_in_segment(size_);
      if (left >= n) break;
      size_ += left;
    }
    const std::size_t first = size_;
    if (n != 0) std::uninitialized_copy_n(source, n, at(first));
    size_ += n;
    return first;
  }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p); }
  };
  using Segment = std::unique_ptr<T, Free>;

  static unsigned segment_of(std::size_t i) {
    return static_cast<unsigned>(std::bit_width(i + (std::size_t{1} << kFirstLog2))) - 1 -
           kFirstLog2;
  }

  T* at(std::size_t i) const {
    const std::size_t j = i + (std::size_t{1} << kFirstLog2);
    const unsigned k = static_cast<unsigned>(std::bit_width(j)) - 1;
    return segments_[k - kFirstLog2].get() + (j - (std::size_t{1} << k));
  }

  std::size_t left_in_segment(std::size_t i) const {
    const std::size_t j = i + (std::size_t{1} << kFirstLog2);
    return (std::size_t{2} << (std::bit_width(j) - 1)) - j;
  }

  std::vector<Segment> segments_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

// Starts to bring what `p` points at into the processor's cache.
inline void prefetch_line(const void* p) {
  __builtin_prefetch(p);
  // A function that does nothing but prefetch would count as one without effect: GCC drops its
  // calls.
  asm volatile("");
}

// Linear hashing (W. Litwin, "Linear hashing: a new tool for file and table addressing", 1980):
// the table grows by one bucket at a time, so that no insertion ever rehashes everything. Entries
// are indices of records kept elsewhere; each record carries the link to the next in its bucket
// and, so that a look needs no more than the record, its hash.
//
// Links is a type with: link(i), a reference to record i's std::uint32_t link, and
// std::uint32_t hash(i). Iteration is not offered, so no result can depend on the hash.
class LinearIndex {
 public:
  static constexpr std::uint32_t kNone = 0xffff'ffff;

  // Returns the first entry of this hash for which `equal(index)` holds, or kNone.
  template <class Links, class Equal>
  std::uint32_t find(Links&& links, std::uint32_t hash, Equal&& equal) const {
    if (buckets_.empty()) return kNone;
    for (std::uint32_t i = buckets_[bucket_of(hash)]; i != kNone; i = links.link(i)) {
      if (links.hash(i) == hash && equal(i)) return i;
    }
    return kNone;
  }

  // The caller has made sure that no equal entry is present.
  template <class Links>
  void insert(Links&& links, std::uint32_t hash, std::uint32_t index) {
    if (count_ >= buckets_.size()) split(links);
    std::uint32_t& head = buckets_[bucket_of(hash)];
    links.link(index) = head;
    head = index;
    ++count_;
  }

  void reserve(std::size_t n) { buckets_.reserve(n); }

  // Gives an empty index the buckets that `n` entries will have, so that entering them moves none.
  void presize(std::size_t n) {
    buckets_.reserve(n);
    while (buckets_.size() < n) buckets_.push_back(kNone);
  }

  // Starts to bring the bucket of `hash` into the processor's cache.
  void prefetch(std::uint32_t hash) const {
    if (!buckets_.empty()) prefetch_line(&buckets_[bucket_of(hash)]);
  }

  // The same for the record at `depth` in that bucket's chain, when those before it have arrived,
  // and for one that an insertion soon after will move to a fresh bucket.
  template <class Links>
  void prefetch_record(Links&& links, std::uint32_t hash, unsigned depth) const {
    if (buckets_.empty()) return;
    const auto fetch = [&](std::size_t bucket) {
      std::uint32_t i = buckets_[bucket];
      for (unsigned d = 0; d < depth && i != kNone; ++d) i = links.link(i);
      if (i != kNone) prefetch_line(&links.link(i));
    };
    fetch(bucket_of(hash));
    const std::size_t n = buckets_.size();
    fetch((n + kSoon / (depth + 1) - std::bit_floor(n)) & (std::bit_floor(n) - 1));
  }

 private:
  static constexpr std::size_t kSoon = 8;  // insertions

  std::size_t bucket_of(std::uint32_t hash) const {
    const std::size_t n = buckets_.size();
    const std::size_t upper = std::bit_ceil(n);
    std::size_t b = hash & (upper - 1);
    if (b >= n) b &= (upper >> 1) - 1;
    return b;
  }

  template <class Links>
  void split(Links&& links) {
    const std::size_t fresh = buckets_.size();
    buckets_.push_back(kNone);
    if (fresh == 0) return;
    // The bucket whose entries may now belong to the fresh one differs from it in the top bit.
    std::uint32_t i = buckets_[fresh - std::bit_floor(fresh)];
    buckets_[fresh - std::bit_floor(fresh)] = kNone;
    while (i != kNone) {
      const std::uint32_t next = links.link(i);
      std::uint32_t& head = buckets_[bucket_of(links.hash(i))];
      links.link(i) = head;
      head = i;
      i = next;
    }
  }

  Segmented<std::uint32_t> buckets_;
  std::size_t count_ = 0;
};

}  // namespace fairsale
