// Keeps the stored projections up to date, heals what is behind, and builds new generations beside
// the current ones while sales go on.
//
// Everything rests on one rule: a generation has of each SKU the rows of log[1..n] for some n, and
// n only grows. Live stretches (from, to] move n on when from <= n; when they do not fit, because
// some were lost or the generation is new, they are dropped and the SKU is folded from its log
// until they fit again. So a start after a kill, a full queue, a deleted store and a rebuild are
// one and the same thing: SKUs that are behind.
//
// A generation that was built becomes current in one write, once it has all SKUs at the same
// positions and with the same digests as the current one. When a digest differs nothing is
// switched, unless the rebuild was told to: then the log, from which it was built, is right.
//
// Trouble with the store never reaches the sales: a damaged one is moved aside and built anew, one
// that cannot be written is tried again.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/log/event_log.hpp"
#include "projections/stored/follower.hpp"
#include "projections/stored/sale_fold.hpp"
#include "projections/stored/store.hpp"

namespace fairsale {

struct ProjectionStatus {
  enum class State : std::uint8_t {
    unavailable,  // the store cannot be opened or written
    healing,      // reads are behind, since some SKUs are being read from the log
    rebuilding,   // a generation is being built; reads are up to date
    live,
  };

  StoredProjection projection = StoredProjection::availability;
  State state = State::unavailable;
  std::uint32_t generation = 0;  // the current one; 0 when unavailable
  std::uint64_t lag = 0;         // events that are in the log and not yet in it, over all SKUs
  std::uint64_t rows = 0;
  double progress = 0;  // of the rebuild or of healing; 1 when live
  std::vector<Generation> generations;
  std::optional<Mismatch> mismatch;  // of the last rebuild that was refused
};

std::string_view name_of(ProjectionStatus::State);

// What came of rebuild() and drop().
enum class GenerationChange {
  done,
  under_way,    // one is being built already
  too_many,     // as many as may be are kept
  unknown,      // there is no such generation
  in_use,       // it is the current one
  unavailable,  // the store cannot be written; see error()
};

struct ProjectorOptions {
  std::filesystem::path directory;  // of the store; see projections_directory()
  std::uint64_t piece = 8192;       // events that are folded between two looks at the queues
  // Told of each SKU of which the current outbox has more messages, on the thread that works.
  std::function<void(SkuId)> outbox_grew;
  // Told what goes wrong, on the thread that works.
  std::function<void(const Error&)> report;
  std::chrono::milliseconds retry_after{5000};  // when the store cannot be written
  rocksdb::Env* env = nullptr;                  // what RocksDB does its I/O through; for tests
};

class Projector {
 public:
  // As many generations of a projection may be kept.
  static constexpr std::size_t kMaxGenerations = 8;
  // As many damaged stores are kept beside the one in use, as DIRECTORY.damaged-1 and so on.
  static constexpr unsigned kMaxDamaged = 3;

  // The log must outlive it. One queue for each shard; those who put something into them come after
  // begin() and go before stop().
  Projector(EventLog& log, std::size_t shards, ProjectorOptions options);
  ~Projector();  // as stop()
  Projector(const Projector&) = delete;
  Projector& operator=(const Projector&) = delete;

  StretchQueue& queue(std::size_t shard) { return *queues_[shard]; }

  // Notes where the log's SKUs stand, opens the store and sees what is behind. A store that cannot
  // be opened is reported and tried again later. Before anything is put into the queues.
  Result<void> begin();

  // Then either a thread does the work, until stop(), which stores what is in the queues first...
  void start();
  void stop();
  // ... or the caller: does a piece of what there is to do, and returns whether to call again at
  // once.
  bool work();

  // These are for any thread.

  // The store to read from, to be kept for one read. Nothing when it is unavailable.
  std::shared_ptr<const ProjectionStore> store() const;
  // To be told when a read finds damage: the store is moved aside and built anew.
  void suspect(const Error&);

  std::vector<ProjectionStatus> status() const;
  // Why the store is unavailable, or what keeps a SKU's log from being read.
  std::optional<Error> error() const;

  // Begins to build a new generation, which becomes current even when it differs if `force`.
  // Survives a kill once it has returned.
  GenerationChange rebuild(StoredProjection, bool force);
  // Lets go of a generation; one that is being built is given up.
  GenerationChange drop(StoredProjection, std::uint32_t generation);

 private:
  // A generation that is kept up to date, and what it comes to over all SKUs.
  struct Target {
    GenerationId id;
    bool current = false;
    std::uint64_t covered = 0;  // events
    std::uint64_t rows = 0;
  };
  using Entries = std::array<CatalogEntry, kStoredProjections.size()>;
  static std::size_t index_of(StoredProjection p) { return static_cast<std::size_t>(p) - 1; }

  void run();
  bool available();
  template <class Change>
  GenerationChange change_catalog(StoredProjection, Change&&);
  Result<void> open_store();
  void close_store();
  void move_aside();
  bool failed(const Error&);
  void follow_catalog();
  Result<void> forget_dropped();
  Result<void> drain();
  Result<void> store_stretch(ProjectionStore::Batch&, const Stretch&, bool& gap);
  Result<void> commit(ProjectionStore::Batch&);
  Result<void> scan();
  Result<bool> heal();
  Result<Seq> least(SkuId) const;
  void give_up_on(SkuId, const Error&);
  Result<bool> finish();
  Result<bool> finish(const Target& current, const Target& building);
  void publish();
  std::uint64_t accepted() const;

  EventLog& log_;
  const ProjectorOptions options_;
  Bell bell_;
  std::vector<std::unique_ptr<StretchQueue>> queues_;
  std::uint64_t logged_ = 0;  // events that were in the log at begin()

  // Shared.
  mutable std::mutex mutex_;
  std::shared_ptr<ProjectionStore> store_;
  Entries catalog_;
  bool catalog_changed_ = false;
  bool suspected_ = false;
  std::optional<Error> error_;
  std::vector<Target> published_;
  bool failing_ = true;  // the store cannot be opened or written
  bool behind_ = false;  // some SKUs of current generations are behind
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  // Of the thread that works.
  std::chrono::steady_clock::time_point retry_at_{};
  bool opened_ = false;
  bool writable_ = true;
  bool scan_ = false;
  std::vector<Target> targets_;
  struct Delta {
    std::size_t target;
    SkuId sku;
    std::uint64_t covered;
    std::int64_t rows;
  };
  std::vector<Delta> pending_;      // of the batch that is not yet written
  std::set<std::uint64_t> urgent_;  // SKUs that are behind in a current generation
  std::set<std::uint64_t> stale_;   // SKUs that are behind in one that is being built
  std::set<std::uint64_t> broken_;  // SKUs whose log cannot be read
  std::optional<SaleFold> fold_;
  Seq fold_known_;  // what all had when it began
  std::vector<Stretch> taken_;
};

}  // namespace fairsale
