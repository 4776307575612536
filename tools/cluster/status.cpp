#include "tools/cluster/status.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>

#include "core/json/json.hpp"

namespace fairsale::cli {

namespace {

namespace dom = simdjson::dom;

tl::unexpected<Error> not_understood() {
  return fail(Fault::io, "its answer is not what a node of a cluster says");
}

// Whether the field is there: a text, or null for an empty one.
bool take(const dom::element& object, std::string_view name, std::string& out) {
  dom::element field;
  if (object[name].get(field) != simdjson::SUCCESS) return false;
  out.clear();
  std::string_view text;
  if (field.is_null()) return true;
  if (field.get(text) != simdjson::SUCCESS) return false;
  out = text;
  return true;
}

template <class T>
bool take(const dom::element& object, std::string_view name, T& out) {
  std::uint64_t n = 0;
  if (object[name].get(n) != simdjson::SUCCESS) return false;
  out = static_cast<T>(n);
  return out == n;
}

bool take_node(const dom::element& object, NodeSeen& out) {
  dom::array partitions;
  if (!take(object, "node", out.name) || !take(object, "id", out.id) ||
      !take(object, "role", out.role) ||
      object["partitions"].get(partitions) != simdjson::SUCCESS) {
    return false;
  }
  for (const dom::element p : partitions) {
    PartitionSeen& seen = out.partitions.emplace_back();
    if (!take(p, "partition", seen.partition) || !take(p, "generation", seen.generation) ||
        !take(p, "message", seen.message) || !take(p, "stopped", seen.stopped) ||
        !take(p, "waits", seen.waits)) {
      return false;
    }
  }
  return true;
}

// For a line that people read: what a server says of itself cannot begin another.
std::string shown(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out.substr(1, out.size() - 2);
}

std::string word(std::string_view text) {
  std::string out;
  append_word(out, text);
  return out;
}

// Columns as wide as what is in them; the last is not padded.
class Table {
 public:
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void put(std::string& out) const {
    std::vector<std::size_t> widths;
    for (const auto& cells : rows_) {
      widths.resize(std::max(widths.size(), cells.size()));
      for (std::size_t i = 0; i < cells.size(); ++i)
        widths[i] = std::max(widths[i], cells[i].size());
    }
    for (const auto& cells : rows_) {
      for (std::size_t i = 0; i + 1 < cells.size(); ++i) {
        fmt::format_to(std::back_inserter(out), "{:<{}}  ", cells[i], widths[i]);
      }
      out += cells.back() + '\n';
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace

Result<ClusterAnswer> parse_cluster(std::string_view json) {
  dom::parser parser;
  dom::element answer;
  dom::array others;
  ClusterAnswer out;
  if (parser.parse(json.data(), json.size()).get(answer) != simdjson::SUCCESS ||
      !take_node(answer, out.node) || !take(answer, "not_ready", out.node.not_ready) ||
      answer["others"].get(others) != simdjson::SUCCESS) {
    return not_understood();
  }
  for (const dom::element other : others) {
    if (!take_node(other, out.others.emplace_back())) return not_understood();
  }
  return out;
}

Result<HeadSeen> parse_audit_head(std::string_view json) {
  dom::parser parser;
  dom::element answer;
  HeadSeen out;
  if (parser.parse(json.data(), json.size()).get(answer) != simdjson::SUCCESS ||
      !take(answer, "position", out.position) || !take(answer, "head", out.head) ||
      !take(answer, "state_digest", out.state)) {
    return not_understood();
  }
  return out;
}

bool SaleHeads::agree() const {
  std::map<std::uint64_t, const HeadSeen*> at;
  return std::all_of(heads.begin(), heads.end(), [&](const HeadSeen& h) {
    const HeadSeen& first = *at.emplace(h.position, &h).first->second;
    return first.head == h.head && first.state == h.state;
  });
}

NodeSeen* ClusterStatus::find(std::string_view id) {
  const auto it = std::find_if(nodes_.begin(), nodes_.end(),
                               [&](const NodeSeen& n) { return !id.empty() && n.id == id; });
  return it == nodes_.end() ? nullptr : &*it;
}

void ClusterStatus::saw(const NodeSeen& node) {
  for (const PartitionSeen& p : node.partitions) {
    auto& furthest = furthest_[p.partition];
    furthest = std::max(furthest, std::pair(p.generation, p.message));
  }
}

void ClusterStatus::add(const std::string& url, ClusterAnswer answer) {
  answer.node.url = url;
  if (answer.node.role == "alone") answer.node.not_ready = "it is not in a cluster";
  saw(answer.node);
  if (NodeSeen* heard_of = find(answer.node.id); heard_of != nullptr && heard_of->url.empty()) {
    nodes_.erase(nodes_.begin() + (heard_of - nodes_.data()));
  }
  const auto first_heard_of =
      std::find_if(nodes_.begin(), nodes_.end(), [](const NodeSeen& n) { return n.url.empty(); });
  nodes_.insert(first_heard_of, std::move(answer.node));
  for (NodeSeen& other : answer.others) {
    saw(other);
    NodeSeen* known = find(other.id);
    if (known == nullptr) {
      nodes_.push_back(std::move(other));
    } else if (known->url.empty()) {
      *known = std::move(other);  // it was heard of later
    }
  }
}

void ClusterStatus::add_failure(const std::string& url, std::string why) {
  NodeSeen node;
  node.url = url;
  node.not_ready = std::move(why);
  const auto first_heard_of =
      std::find_if(nodes_.begin(), nodes_.end(), [](const NodeSeen& n) { return n.url.empty(); });
  nodes_.insert(first_heard_of, std::move(node));
}

bool ClusterStatus::well() const {
  for (const NodeSeen& n : nodes_) {
    if (!n.not_ready.empty()) return false;
    for (const PartitionSeen& p : n.partitions) {
      if (!p.stopped.empty() || !p.waits.empty()) return false;
    }
  }
  return std::all_of(heads_.begin(), heads_.end(),
                     [](const SaleHeads& h) { return h.agree() && h.failures.empty(); });
}

std::optional<std::uint64_t> ClusterStatus::lag(const PartitionSeen& p) const {
  const auto furthest = furthest_.find(p.partition);
  if (furthest == furthest_.end() || furthest->second.first != p.generation) return std::nullopt;
  return furthest->second.second - p.message;
}

std::string ClusterStatus::text() const {
  const auto name = [](const NodeSeen& n) { return n.name.empty() ? word(n.url) : word(n.name); };
  std::string out;
  Table nodes;
  nodes.row({"NODE", "ROLE", "READY"});
  for (const NodeSeen& n : nodes_) {
    nodes.row({name(n), n.role.empty() ? "?" : word(n.role),
               n.url.empty()         ? "not asked"
               : n.not_ready.empty() ? "yes"
                                     : "no: " + shown(n.not_ready)});
  }
  nodes.put(out);

  std::map<std::uint32_t, std::vector<std::vector<std::string>>> by_partition;
  for (const NodeSeen& n : nodes_) {
    for (const PartitionSeen& p : n.partitions) {
      const auto behind = lag(p);
      by_partition[p.partition].push_back({std::to_string(p.partition), name(n),
                                           std::to_string(p.generation), std::to_string(p.message),
                                           behind ? std::to_string(*behind) : "a generation",
                                           !p.stopped.empty() ? "stopped: " + shown(p.stopped)
                                           : !p.waits.empty() ? "waits: " + shown(p.waits)
                                                              : "goes on"});
    }
  }
  if (!by_partition.empty()) {
    Table partitions;
    partitions.row({"PARTITION", "NODE", "GENERATION", "MESSAGE", "LAG", "STATE"});
    for (auto& [_, rows] : by_partition) {
      for (auto& cells : rows) partitions.row(std::move(cells));
    }
    out += '\n';
    partitions.put(out);
  }

  for (const SaleHeads& s : heads_) {
    fmt::format_to(std::back_inserter(out), "\nsku {}: {}\n", word(s.sku),
                   s.agree() ? "heads agree wherever positions are the same"
                             : "HEADS DIFFER AT THE SAME POSITION");
    Table heads;
    heads.row({"NODE", "POSITION", "HEAD"});
    for (const HeadSeen& h : s.heads) {
      heads.row({word(h.node), std::to_string(h.position), shown(h.head)});
    }
    heads.put(out);
    for (const std::string& why : s.failures) out += shown(why) + '\n';
  }
  return out;
}

std::string ClusterStatus::json() const {
  std::string out;
  JsonWriter json(out);
  const auto text_or_null = [&json](std::string_view key, std::string_view text) {
    json.key(key);
    text.empty() ? json.null() : json.value(text);
  };
  json.begin_object().member("well", well()).key("nodes").begin_array();
  for (const NodeSeen& n : nodes_) {
    json.begin_object();
    text_or_null("url", n.url);
    text_or_null("node", n.name);
    text_or_null("role", n.role);
    json.key("ready");
    n.url.empty() ? json.null() : json.value(n.not_ready.empty());
    text_or_null("not_ready", n.not_ready);
    json.key("partitions").begin_array();
    for (const PartitionSeen& p : n.partitions) {
      json.begin_object()
          .member("partition", p.partition)
          .member("generation", p.generation)
          .member("message", p.message)
          .key("lag");
      const auto behind = lag(p);
      behind ? json.value(*behind) : json.null();
      text_or_null("stopped", p.stopped);
      text_or_null("waits", p.waits);
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().key("heads").begin_array();
  for (const SaleHeads& s : heads_) {
    json.begin_object()
        .member("sku", std::string_view(s.sku))
        .member("agree", s.agree())
        .key("processors")
        .begin_array();
    for (const HeadSeen& h : s.heads) {
      json.begin_object()
          .member("node", std::string_view(h.node))
          .member("position", h.position)
          .member("head", std::string_view(h.head))
          .member("state_digest", std::string_view(h.state))
          .end_object();
    }
    json.end_array().key("failures").begin_array();
    for (const std::string& why : s.failures) json.value(std::string_view(why));
    json.end_array().end_object();
  }
  json.end_array().end_object();
  out += '\n';
  return out;
}

}  // namespace fairsale::cli
