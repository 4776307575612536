// A disk with a cache, and what it may hold after the power failed.
//
// A disk is given as the tree of files that it surely held at the start and the operations on it
// since, in their order. What was written to a file is sure to stay once a later sync of that file
// returned; that a name was given, changed or removed, once a sync of its directory did. All else
// may be there after a power failure or not: bytes that were written, each sector of 512 bytes by
// itself, or up to any byte; the size that a file had meanwhile, whether the bytes were there yet
// or not; names in the order of the operations up to any of them, or each by itself.
//
// What is taken for granted: a sector that is overwritten as a whole has the old or the new bytes;
// a rename within a directory is whole; a file that was synced has the name that it was created
// under, as on all file systems of Linux that have a journal. And of RocksDB's MANIFEST, which it
// extends without laying out room, the size is never ahead of the bytes, as with ext4's
// data=ordered, XFS and Btrfs; otherwise RocksDB refuses to open after a tear within its last
// record.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace fairsale::faults {

using Chance = std::mt19937_64;

std::size_t below(Chance&, std::size_t n);  // 0 to n - 1
bool one_in(Chance&, std::size_t n);

using NodeId = std::uint32_t;
inline constexpr NodeId kRoot = 0;

// Files and directories under one root. A node may be without a name, since an open file outlives
// its last one.
struct Tree {
  struct Node {
    bool directory = false;
    std::string bytes;                    // of a file
    std::map<std::string, NodeId> names;  // in a directory
  };
  std::map<NodeId, Node> nodes{{kRoot, {.directory = true, .bytes = {}, .names = {}}}};

  // The node of this path relative to the root, if there is one.
  const NodeId* find(std::string_view path) const;
  // Of all files that have a name, by path.
  std::map<std::string, const std::string*> files() const;
};

Tree read_tree(const std::filesystem::path& root);
// Into a directory that does not exist yet. Blocks of zeros become holes.
void write_tree(const Tree&, const std::filesystem::path& root);

struct Operation {
  enum class Kind {
    create_file,
    create_directory,
    write,
    resize,
    rename,
    remove,
    sync,
    failed_sync
  };
  Kind kind;
  NodeId node;
  NodeId directory = kRoot;  // where the name is
  std::string name;
  std::string new_name;
  std::uint64_t offset = 0;  // of a write; or the new size
  std::shared_ptr<const std::string> bytes;
};

struct Disk {
  Tree start;
  std::vector<Operation> operations;
};

// Goes through a disk's operations, and tells what the disk may hold at each of them.
class Replay {
 public:
  explicit Replay(const Disk& disk);

  // Goes on to the moment before operation `k`, which is not before the present one. Chance: a sync
  // that failed leaves any part of what it was to write, and the rest is never written again.
  void advance(std::size_t k, Chance&);

  // What processes see as long as there is power.
  Tree seen() const;

  // What may be there after the power failed now.
  Tree after_power_failure(Chance&) const;

 private:
  struct Pending {
    std::size_t when;  // index of the operation
    const Operation* operation;
  };
  struct Node {
    Tree::Node durable;
    std::vector<Pending> pending;
    // What processes see, once a sync has failed: bytes that are not to be written any more.
    std::optional<Tree::Node> cached;
    bool ordered = false;  // its size is never ahead of its bytes
  };

  static void apply(const Operation&, Tree::Node&);
  static void apply_some(const std::vector<Pending>&, bool ordered, Tree::Node&, Chance&);
  void keep_name(NodeId);

  const Disk& disk_;
  std::size_t at_ = 0;
  std::map<NodeId, Node> nodes_;
};

}  // namespace fairsale::faults
