#include "tests/faults/disk.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>

namespace fairsale::faults {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kSector = 512;
constexpr std::size_t kHole = 4096;

void require(bool good, const fs::path& path) {
  if (!good) throw std::runtime_error("cannot write " + path.string());
}

bool all_zeros(std::string_view s) {
  return s.empty() || (s[0] == 0 && std::memcmp(s.data(), s.data() + 1, s.size() - 1) == 0);
}

void write_node(const Tree& tree, NodeId id, const fs::path& path) {
  const Tree::Node& node = tree.nodes.at(id);
  if (node.directory) {
    require(fs::create_directory(path), path);
    for (const auto& [name, child] : node.names) write_node(tree, child, path / name);
    return;
  }
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  require(fd >= 0 && ::ftruncate(fd, static_cast<off_t>(node.bytes.size())) == 0, path);
  for (std::size_t at = 0; at < node.bytes.size(); at += kHole) {
    const std::string_view part = std::string_view(node.bytes).substr(at, kHole);
    if (all_zeros(part)) continue;
    require(::pwrite(fd, part.data(), part.size(), static_cast<off_t>(at)) ==
                static_cast<ssize_t>(part.size()),
            path);
  }
  ::close(fd);
}

NodeId read_node(const fs::path& path, Tree& tree, NodeId id) {
  NodeId next = id + 1;
  Tree::Node node;
  if (fs::is_directory(path)) {
    node.directory = true;
    for (const auto& entry : fs::directory_iterator(path)) {
      node.names.emplace(entry.path().filename().string(), next);
      next = read_node(entry.path(), tree, next);
    }
  } else {
    std::ifstream in(path, std::ios::binary);
    node.bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  tree.nodes[id] = std::move(node);
  return next;
}

}  // namespace

std::size_t below(Chance& chance, std::size_t n) {
  return std::uniform_int_distribution<std::size_t>(0, n - 1)(chance);
}

bool one_in(Chance& chance, std::size_t n) { return below(chance, n) == 0; }

const NodeId* Tree::find(std::string_view path) const {
  const NodeId* id = &kRoot;
  while (!path.empty() && id != nullptr) {
    const std::size_t slash = path.find('/');
    const std::string name(path.substr(0, slash));
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (name.empty() || name == ".") continue;
    const auto& names = nodes.at(*id).names;
    const auto found = names.find(name);
    id = found == names.end() ? nullptr : &found->second;
  }
  return id;
}

std::map<std::string, const std::string*> Tree::files() const {
  std::map<std::string, const std::string*> all;
  const std::function<void(NodeId, const std::string&)> visit = [&](NodeId id,
                                                                    const std::string& path) {
    const Node& node = nodes.at(id);
    if (!node.directory) all.emplace(path, &node.bytes);
    for (const auto& [name, child] : node.names) visit(child, path + "/" + name);
  };
  visit(kRoot, "");
  return all;
}

Tree read_tree(const fs::path& root) {
  Tree tree;
  read_node(root, tree, kRoot);
  return tree;
}

void write_tree(const Tree& tree, const fs::path& root) { write_node(tree, kRoot, root); }

Replay::Replay(const Disk& disk) : disk_(disk) {
  for (const auto& [id, node] : disk.start.nodes) nodes_[id].durable = node;
}

void Replay::apply(const Operation& o, Tree::Node& node) {
  using Kind = Operation::Kind;
  switch (o.kind) {
    case Kind::create_file:
    case Kind::create_directory: node.names[o.name] = o.node; break;
    case Kind::rename:
      node.names.erase(o.name);
      node.names[o.new_name] = o.node;
      break;
    case Kind::remove: node.names.erase(o.name); break;
    case Kind::write:
      if (node.bytes.size() < o.offset + o.bytes->size()) {
        node.bytes.resize(o.offset + o.bytes->size());
      }
      node.bytes.replace(o.offset, o.bytes->size(), *o.bytes);
      break;
    case Kind::resize: node.bytes.resize(o.offset); break;
    case Kind::sync:
    case Kind::failed_sync: break;
  }
}

// What of a file's operations came to the disk by itself.
void Replay::apply_some(const std::vector<Pending>& pending, bool ordered, Tree::Node& node,
                        Chance& chance) {
  const std::size_t until = below(chance, pending.size() + 1);
  switch (below(chance, ordered ? 3 : 4)) {
    case 0: break;
    case 1:
      for (const Pending& p : pending) apply(*p.operation, node);
      break;
    case 2: {
      // In their order up to one of them, which may be torn at any byte.
      for (std::size_t i = 0; i < until; ++i) apply(*pending[i].operation, node);
      if (until == pending.size() || pending[until].operation->bytes == nullptr) break;
      Operation torn = *pending[until].operation;
      const std::size_t size = torn.bytes->size();
      if (size == kSector && torn.offset % kSector == 0) break;
      // Near the ends it gets more interesting than in the middle of a mebibyte.
      std::size_t kept = below(chance, size + 1);
      if (one_in(chance, 3)) kept = std::min(size, below(chance, 40));
      if (one_in(chance, 6)) kept = size - std::min(size, below(chance, 40));
      torn.bytes = std::make_shared<const std::string>(torn.bytes->substr(0, kept));
      apply(torn, node);
      break;
    }
    case 3: {
      // Each sector by itself; the size as it was after one of them.
      std::uint64_t size = node.bytes.size();
      const std::size_t lost = 1 + below(chance, 4);
      for (std::size_t i = 0; i < pending.size(); ++i) {
        const Operation& o = *pending[i].operation;
        if (o.kind == Operation::Kind::resize) {
          if (i >= until) continue;
          size = o.offset;
          if (node.bytes.size() > size) node.bytes.resize(size);
          continue;
        }
        const std::uint64_t end = o.offset + o.bytes->size();
        if (i < until) size = std::max(size, end);
        if (node.bytes.size() < end) node.bytes.resize(end);
        std::uint64_t at = o.offset;
        while (at < end) {
          const std::uint64_t next = std::min(end, (at / kSector + 1) * kSector);
          if (!one_in(chance, 1 + lost)) {
            node.bytes.replace(at, next - at, *o.bytes, at - o.offset, next - at);
          }
          at = next;
        }
      }
      node.bytes.resize(size);
      break;
    }
  }
}

void Replay::advance(std::size_t k, Chance& chance) {
  using Kind = Operation::Kind;
  for (; at_ < k; ++at_) {
    const Operation& o = disk_.operations[at_];
    switch (o.kind) {
      case Kind::create_file: nodes_[o.node].ordered = o.name.starts_with("MANIFEST"); break;
      case Kind::create_directory: nodes_[o.node].durable.directory = true; break;
      default: break;
    }
    const bool of_names = o.kind == Kind::create_file || o.kind == Kind::create_directory ||
                          o.kind == Kind::rename || o.kind == Kind::remove;
    Node& node = nodes_.at(of_names ? o.directory : o.node);
    if (o.kind == Kind::sync) {
      for (const Pending& p : node.pending) apply(*p.operation, node.durable);
      node.pending.clear();
      if (!node.durable.directory) keep_name(o.node);
    } else if (o.kind == Kind::failed_sync) {
      // Of a directory nothing is known; a file's bytes are clean to the system from now on.
      if (node.durable.directory) continue;
      if (!node.cached) {
        node.cached = node.durable;
        for (const Pending& p : node.pending) apply(*p.operation, *node.cached);
      }
      apply_some(node.pending, node.ordered, node.durable, chance);
      node.pending.clear();
    } else {
      node.pending.push_back({at_, &o});
      if (node.cached) apply(o, *node.cached);
    }
  }
}

// A file that was synced has the name that it was created under, and what the name was before is
// over.
void Replay::keep_name(NodeId id) {
  for (auto& [directory, node] : nodes_) {
    if (!node.durable.directory) continue;
    const auto created =
        std::find_if(node.pending.begin(), node.pending.end(), [id](const Pending& p) {
          return p.operation->kind == Operation::Kind::create_file && p.operation->node == id;
        });
    if (created == node.pending.end()) continue;
    const std::size_t when = created->when;
    const std::string& name = created->operation->name;
    std::vector<Pending> later;
    for (const Pending& p : node.pending) {
      const bool of_name = p.operation->name == name || p.operation->new_name == name;
      if (p.when <= when && of_name) {
        apply(*p.operation, node.durable);
      } else {
        later.push_back(p);
      }
    }
    node.pending = std::move(later);
    return;
  }
}

Tree Replay::seen() const {
  Tree tree;
  for (const auto& [id, node] : nodes_) {
    if (node.cached) {
      tree.nodes[id] = *node.cached;
      continue;
    }
    Tree::Node& n = tree.nodes[id] = node.durable;
    for (const Pending& p : node.pending) apply(*p.operation, n);
  }
  return tree;
}

Tree Replay::after_power_failure(Chance& chance) const {
  // A file system with a journal keeps the order of names; others need not.
  const bool journal = !one_in(chance, 3);
  std::vector<std::size_t> times{at_};
  for (const auto& [id, node] : nodes_) {
    if (!node.durable.directory) continue;
    for (const Pending& p : node.pending) times.push_back(p.when);
  }
  const std::size_t until = times[below(chance, times.size())];
  Tree tree;
  for (const auto& [id, node] : nodes_) {
    Tree::Node& n = tree.nodes[id] = node.durable;
    if (!n.directory) {
      apply_some(node.pending, node.ordered, n, chance);
      continue;
    }
    for (const Pending& p : node.pending) {
      if (journal ? p.when < until : one_in(chance, 2)) apply(*p.operation, n);
    }
  }
  return tree;
}

}  // namespace fairsale::faults
