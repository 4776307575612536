// A line of waiting purchases in the order in which they joined, which answers in O(log n) who is
// the first that wants no more than a given quantity. It knows nothing of how the sale keeps its
// own line: a tree over all places ever taken, with the smallest and the largest quantity wanted
// below each node.
#pragma once

#include <cstdint>
#include <vector>

namespace fairsale::audit {

class Line {
 public:
  static constexpr std::uint32_t kNobody = 0xffff'ffff;
  static constexpr std::uint8_t kMaxQuantity = 254;

  // `who` joins at the end, for 1 to kMaxQuantity units. Returns their ticket.
  std::uint32_t join(std::uint32_t who, std::uint8_t quantity);
  void leave(std::uint32_t ticket);

  std::uint32_t size() const { return size_; }

  // The first in line; kNobody when it is empty.
  std::uint32_t first() const { return first_within(kMaxQuantity); }
  // The first who wants no more than `quantity`; kNobody when all want more.
  std::uint32_t first_within(std::uint32_t quantity) const;
  // The most that anybody in line wants; 0 when it is empty.
  std::uint8_t largest() const { return size_ == 0 ? 0 : nodes_[1].largest; }

 private:
  struct Node {
    std::uint8_t smallest = 0xff;  // nobody waits below
    std::uint8_t largest = 0;
    bool operator==(const Node&) const = default;
  };

  void set(std::uint32_t ticket, Node);
  void grow();

  std::uint32_t leaves_ = 0;  // a power of two
  std::uint32_t size_ = 0;
  std::vector<Node> nodes_;         // a heap: the children of i are 2i and 2i + 1
  std::vector<std::uint32_t> who_;  // by ticket
};

}  // namespace fairsale::audit
