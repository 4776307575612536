#include "projections/audit/line.hpp"

#include <algorithm>

namespace fairsale::audit {

std::uint32_t Line::join(std::uint32_t who, std::uint8_t quantity) {
  const auto ticket = static_cast<std::uint32_t>(who_.size());
  who_.push_back(who);
  if (ticket == leaves_) grow();
  set(ticket, {quantity, quantity});
  ++size_;
  return ticket;
}

void Line::leave(std::uint32_t ticket) {
  set(ticket, {});
  --size_;
}

std::uint32_t Line::first_within(std::uint32_t quantity) const {
  quantity = std::min<std::uint32_t>(quantity, kMaxQuantity);  // so that an empty leaf never fits
  if (size_ == 0 || nodes_[1].smallest > quantity) return kNobody;
  std::size_t i = 1;
  while (i < leaves_) {
    i *= 2;
    if (nodes_[i].smallest > quantity) ++i;
  }
  return who_[i - leaves_];
}

void Line::set(std::uint32_t ticket, Node leaf) {
  std::size_t i = std::size_t{leaves_} + ticket;
  nodes_[i] = leaf;
  for (i /= 2; i >= 1; i /= 2) {
    const Node& a = nodes_[2 * i];
    const Node& b = nodes_[2 * i + 1];
    const Node both{std::min(a.smallest, b.smallest), std::max(a.largest, b.largest)};
    if (nodes_[i] == both) return;
    nodes_[i] = both;
  }
}

void Line::grow() {
  const std::uint32_t before = leaves_;
  leaves_ = std::max<std::uint32_t>(64, 2 * before);
  std::vector<Node> nodes(std::size_t{2} * leaves_);
  std::copy_n(nodes_.begin() + before, before, nodes.begin() + leaves_);
  for (std::size_t i = leaves_ - 1; i >= 1; --i) {
    nodes[i] = {std::min(nodes[2 * i].smallest, nodes[2 * i + 1].smallest),
                std::max(nodes[2 * i].largest, nodes[2 * i + 1].largest)};
  }
  nodes_ = std::move(nodes);
}

}  // namespace fairsale::audit
