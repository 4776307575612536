// What the tests of the log share: sample events, a chain of blocks, directories and files to
// damage.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/rocks_log.hpp"

namespace fairsale::testing {

using Bytes = std::vector<std::byte>;

// A new directory, removed at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

Bytes read_file(const std::filesystem::path&);
void write_file(const std::filesystem::path&, std::span<const std::byte>);
void flip_bit(const std::filesystem::path&, std::size_t offset, unsigned bit = 0);
void truncate_file(const std::filesystem::path&, std::size_t size);
void copy_tree(const std::filesystem::path& from, const std::filesystem::path& to);

// The files with this extension (".log", ".sst") under DIR/log, in the order of their numbers.
std::vector<std::filesystem::path> log_files(const std::filesystem::path& data,
                                             std::string_view extension);

std::string to_hex(std::span<const std::byte>);
Bytes from_hex(std::string_view);

// One event of every type with every field set, in the order of the type numbers.
std::vector<Event> sample_events();
Terms sample_terms();
SaleScheduled scheduled(std::string_view sku = "sneaker-1");
PurchaseAttempted attempt(unsigned customer, unsigned quantity = 1);

// Writes the blocks of one SKU, each chained to the one before.
class Chain {
 public:
  explicit Chain(std::string_view name) : name_(name), sku_(sku_id(name)) {}

  // A block of `n` events; the very first event schedules the sale. `write()` gives the block to
  // commit, whose bytes live as long as the chain.
  BlockWrite block(unsigned n = 3);

  SkuId sku() const { return sku_; }
  const Head& head() const { return head_; }
  const std::vector<std::unique_ptr<Bytes>>& blocks() const { return blocks_; }

  // Goes on from a head that it had before.
  void go_back(const Head& head) { head_ = head; }

 private:
  std::string name_;
  SkuId sku_;
  Head head_;
  BlockBuilder builder_;
  std::vector<std::unique_ptr<Bytes>> blocks_;
  unsigned customers_ = 0;
};

// Commits these blocks together; a failure is a test's.
void commit(EventLog&, std::vector<BlockWrite>);

// The bytes of all blocks from `from` on; a failure goes to `error`.
std::vector<Bytes> read_all(const EventLog&, SkuId, Seq from = Seq{1}, Error* error = nullptr);

// Opens DIR for writing; a failure is a test's.
std::unique_ptr<EventLog> open_log(const std::filesystem::path&, RecoveryReport* report = nullptr);

// The error of an opening that must fail.
Error refusal(const std::filesystem::path&, OpenMode mode = OpenMode::read_write);

// A sale that the blocks of a chain have been folded into.
Sale fold(const Chain&);

}  // namespace fairsale::testing
