// Where stored projections lie: a RocksDB database of their own, DATA/projections, so that it can
// be deleted without fear whenever the server is down. Nothing in it is the truth and nothing is
// synced: what a power failure takes back is read from the log again.
//
// A projection may exist in several generations. One is current and answers reads; another may be
// built beside it. For each SKU a generation says up to which position of the SKU's log it is
// complete, how many rows that makes, and their digest (RowSum). These and the rows they are about
// are written together.
//
// keys, numbers big-endian
//   V                                                "fairsale projections 1"
//   C projection:u8                                  the catalog entry: its generations
//   M projection:u8 generation:u32 sku:u64           what it has of a SKU: Coverage
//   R projection:u8 generation:u32 sku:u64 row-key   a row
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"
#include "projections/stored/rows.hpp"

namespace rocksdb {
class Env;
}

namespace fairsale {

// Numbers are part of the format: never reused.
enum class GenerationState : std::uint8_t {
  current = 1,   // answers reads
  building = 2,  // is to become current
  old = 3,       // was current; no longer kept up to date
  refused = 4,   // was built, but differed from the current one
  dropped = 5,   // to be deleted
};

std::string_view name_of(GenerationState);

struct GenerationId {
  StoredProjection projection = StoredProjection::availability;
  std::uint32_t number = 0;

  friend bool operator==(const GenerationId&, const GenerationId&) = default;
};

struct Generation {
  std::uint32_t number = 0;
  GenerationState state = GenerationState::current;
  bool force = false;  // becomes current even when it differs

  friend bool operator==(const Generation&, const Generation&) = default;
};

// How a generation that was built differed from the current one.
struct Mismatch {
  std::uint32_t generation = 0;
  SkuId sku;
  Seq position;
  Digest current;
  Digest built;
};

// A projection's generations, oldest first; exactly one is current.
struct CatalogEntry {
  std::uint32_t version = 0;  // version_of() the projection when it was written
  std::uint32_t next = 1;     // numbers are never used twice
  std::vector<Generation> generations;
  std::optional<Mismatch> mismatch;

  const Generation* in_state(GenerationState) const;
  std::uint32_t current() const;
};

// What a generation has of a SKU: all rows of the log up to `position`.
struct Coverage {
  Seq position;
  std::uint64_t rows = 0;
  Digest digest;

  friend bool operator==(const Coverage&, const Coverage&) = default;
};

// Both as they are stored. Nothing when the bytes are not those of such an entry.
std::string encode(const CatalogEntry&);
std::string encode(const Coverage&);
std::optional<CatalogEntry> decode_catalog(std::string_view);
std::optional<Coverage> decode_coverage(std::string_view);

struct OrderEntry {
  OrderRow order;
  std::optional<RefundRow> refund;
};

// A look at one moment. `position` is up to where the rows are complete.
struct OrderPage {
  Seq position;
  std::vector<OrderEntry> orders;
  bool more = false;
};

struct TimelinePage {
  Seq position;
  std::vector<TimelineRow> seconds;
  bool more = false;
};

struct MessagePage {
  Seq position;
  std::vector<MessageRow> messages;
};

// Reads are thread-safe and see one moment each. There is one writer, except for the catalog, which
// has its own keys.
class ProjectionStore {
 public:
  // Opens for writing, creating what does not exist. Fails with unsupported (written by a newer
  // fairsale), damaged, busy, full or io. `env` is what RocksDB does its I/O through, for tests.
  static Result<std::unique_ptr<ProjectionStore>> open(const std::filesystem::path& directory,
                                                       rocksdb::Env* env = nullptr);
  // Opens a view of this moment, beside a writer or at rest; not_found when there is no store.
  static Result<std::unique_ptr<ProjectionStore>> open_view(const std::filesystem::path& directory);

  ~ProjectionStore();
  ProjectionStore(const ProjectionStore&) = delete;
  ProjectionStore& operator=(const ProjectionStore&) = delete;

  // Nothing when the projection has never been stored.
  Result<std::optional<CatalogEntry>> catalog(StoredProjection) const;
  // Does not wait when the store is behind: fails with busy then.
  Result<void> put_catalog(StoredProjection, const CatalogEntry&);

  Result<Coverage> coverage(GenerationId, SkuId) const;
  // In the order of the SKUs' ids. `visit` returns false to stop.
  Result<void> each_coverage(GenerationId,
                             const std::function<bool(SkuId, const Coverage&)>& visit) const;

  // In the order of their ids, whatever the generation claims to have.
  Result<void> each_sku_with_rows(GenerationId, const std::function<void(SkuId)>& visit) const;

  // Rows of a SKU whose keys begin with `prefix`, in order, from the key `from` on. `visit` returns
  // false to stop.
  using RowVisitor = std::function<bool(std::string_view key, std::string_view value)>;
  Result<void> each_row(GenerationId, SkuId, std::string_view prefix, std::string_view from,
                        const RowVisitor& visit) const;
  Result<std::optional<std::string>> row(GenerationId, SkuId, std::string_view key) const;

  // Of the current generations; at most `limit` rows after the position or second.
  Result<OrderPage> orders(SkuId, Seq after, std::size_t limit) const;
  Result<TimelinePage> timeline(SkuId, std::int64_t after, std::size_t limit) const;
  // The messages that follow the one of this position and number.
  Result<MessagePage> messages(SkuId, Seq after, std::uint32_t number, std::size_t limit) const;
  // How far the current generation has come.
  Result<Seq> position(StoredProjection, SkuId) const;

  // Writes that become visible together.
  class Batch {
   public:
    explicit Batch(ProjectionStore&);
    ~Batch();

    struct Added {
      bool gap = false;  // the generation does not reach stretch.from: nothing was added
      Seq before;        // where it stood and stands once the batch is written
      Seq after;
      std::int64_t rows = 0;  // how many more
    };

    // Brings a generation to where the stretch ends; what it has already is passed over. A SKU may
    // be in a batch once per generation.
    Result<Added> add(GenerationId, const Stretch&);
    // Forgets a SKU.
    void forget(GenerationId, SkuId);
    // Forgets a generation.
    void forget(GenerationId);

    std::size_t bytes() const;
    // Nothing of the batch is written on failure. Leaves the batch empty.
    Result<void> write();

   private:
    friend class ProjectionStore;
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

  // After a failed write: tries to make the store writable again.
  Result<void> resume();

 private:
  struct Impl;
  explicit ProjectionStore(std::unique_ptr<Impl>);

  std::unique_ptr<Impl> impl_;
};

// DATA/projections.
std::filesystem::path projections_directory(const std::filesystem::path& data);

}  // namespace fairsale
