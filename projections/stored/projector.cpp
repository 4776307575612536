#include "projections/stored/projector.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "core/log/priority.hpp"

namespace fairsale {

namespace fs = std::filesystem;

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kGather{20};      // of live rows before they are written
constexpr milliseconds kPatience{1000};  // of the thread when there is nothing to do
constexpr std::size_t kMaxBatchBytes = std::size_t{1} << 20;

}  // namespace

std::string_view name_of(ProjectionStatus::State s) {
  switch (s) {
    case ProjectionStatus::State::unavailable: return "unavailable";
    case ProjectionStatus::State::healing: return "healing";
    case ProjectionStatus::State::rebuilding: return "rebuilding";
    case ProjectionStatus::State::live: return "live";
  }
  return "unknown";
}

Projector::Projector(EventLog& log, std::size_t shards, ProjectorOptions options)
    : log_(log), options_(std::move(options)) {
  for (std::size_t i = 0; i < shards; ++i) queues_.push_back(std::make_unique<StretchQueue>(bell_));
}

Projector::~Projector() { stop(); }

Result<void> Projector::begin() {
  const auto heads = log_.heads();
  if (!heads) return tl::unexpected(heads.error());
  logged_ = 0;
  for (const SkuHead& h : *heads) logged_ += h.head.seq.value;
  if (available()) {
    follow_catalog();
    if (auto ok = scan(); !ok) failed(ok.error());
  }
  publish();
  return {};
}

void Projector::start() {
  thread_ = std::thread([this] { run(); });
}

void Projector::stop() {
  stopping_.store(true);
  bell_.ring();
  if (thread_.joinable()) thread_.join();
}

void Projector::run() {
  work_in_background();
  while (!stopping_.load()) {
    bool again = false;
    // A fold is as large as its sale: when there is no room for it, it is tried again later.
    try {
      again = work();
    } catch (const std::bad_alloc&) {
      fold_.reset();
      failed({Fault::full, "there is no memory to read a sale from the log"});
    }
    if (again) continue;
    bell_.wait(kPatience);
    if (!stopping_.load()) std::this_thread::sleep_for(kGather);
  }
  if (!opened_ || !writable_) return;
  follow_catalog();
  if (auto ok = drain(); !ok) failed(ok.error());
}

bool Projector::work() {
  if (!available()) {
    // What comes meanwhile is in the log.
    for (auto& queue : queues_) {
      scan_ = queue->take(taken_) || scan_ || !taken_.empty();
      taken_.clear();
    }
    publish();
    return false;
  }
  follow_catalog();
  bool again = false;
  const auto piece = [&]() -> Result<void> {
    if (auto ok = forget_dropped(); !ok) return ok;
    if (auto ok = drain(); !ok) return ok;
    if (scan_) {
      again = true;
      return scan();
    }
    if (fold_ || !urgent_.empty() || !stale_.empty()) {
      auto healed = heal();
      if (!healed) return tl::unexpected(healed.error());
      again = *healed;
      return {};
    }
    auto finished = finish();
    if (!finished) return tl::unexpected(finished.error());
    again = *finished;
    return {};
  };
  if (auto ok = piece(); !ok) again = failed(ok.error());
  publish();
  return again;
}

// ---- The store: opening, failing, trying again ----

bool Projector::available() {
  bool suspected = false;
  {
    const std::scoped_lock lock(mutex_);
    suspected = std::exchange(suspected_, false);
  }
  if (suspected && opened_) move_aside();
  if (opened_ && writable_) return true;
  const auto now = steady_clock::now();
  if (now < retry_at_) return false;
  retry_at_ = now + options_.retry_after;
  if (!opened_) {
    auto ok = open_store();
    if (!ok && ok.error().fault == Fault::damaged) {
      failed(ok.error());
      ok = open_store();
    }
    if (!ok) {
      failed(ok.error());
      return false;
    }
  } else if (store_->resume()) {
    writable_ = true;
  } else {
    close_store();
    return false;
  }
  scan_ = true;
  return true;
}

Result<void> Projector::open_store() {
  auto opened = ProjectionStore::open(options_.directory, options_.env);
  if (!opened) return tl::unexpected(opened.error());
  std::shared_ptr<ProjectionStore> store = std::move(*opened);
  Entries entries;
  for (const StoredProjection p : kStoredProjections) {
    const auto known = store->catalog(p);
    if (!known) return tl::unexpected(known.error());
    CatalogEntry entry = known->value_or(CatalogEntry{});
    if (!*known || entry.version != version_of(p)) {
      // Rows of another version say nothing any more.
      for (Generation& g : entry.generations) g.state = GenerationState::dropped;
      entry.version = version_of(p);
      entry.mismatch.reset();
      entry.generations.push_back({entry.next++, GenerationState::current, false});
      if (auto ok = store->put_catalog(p, entry); !ok) return ok;
    }
    entries[index_of(p)] = std::move(entry);
  }
  const std::scoped_lock lock(mutex_);
  store_ = std::move(store);
  catalog_ = std::move(entries);
  catalog_changed_ = true;
  opened_ = true;
  writable_ = true;
  return {};
}

// What was in hand is taken up again when the store is open.
void Projector::close_store() {
  std::shared_ptr<ProjectionStore> closing;
  {
    const std::scoped_lock lock(mutex_);
    closing.swap(store_);
    targets_.clear();
  }
  // Reads that are under way end first.
  while (closing && closing.use_count() > 1) std::this_thread::sleep_for(milliseconds(1));
  closing.reset();
  opened_ = false;
  fold_.reset();
  urgent_.clear();
  stale_.clear();
}

// Makes room for a new store.
void Projector::move_aside() {
  close_store();
  retry_at_ = {};
  std::error_code ec;
  for (unsigned i = 1; i <= kMaxDamaged; ++i) {
    const fs::path aside = fmt::format("{}.damaged-{}", options_.directory.string(), i);
    if (fs::exists(aside, ec)) continue;
    fs::rename(options_.directory, aside, ec);
    if (!ec) return;
  }
  fs::remove_all(options_.directory, ec);
}

// Returns whether there is something to do at once.
bool Projector::failed(const Error& error) {
  if (options_.report) options_.report(error);
  {
    const std::scoped_lock lock(mutex_);
    error_ = error;
  }
  pending_.clear();
  taken_.clear();
  if (error.fault == Fault::damaged) {
    move_aside();
    return true;
  }
  writable_ = false;
  retry_at_ = steady_clock::now() + options_.retry_after;
  return false;
}

void Projector::suspect(const Error& error) {
  if (error.fault != Fault::damaged) return;
  {
    const std::scoped_lock lock(mutex_);
    if (suspected_ || !store_) return;
    suspected_ = true;
  }
  if (options_.report) options_.report(error);
  bell_.ring();
}

std::shared_ptr<const ProjectionStore> Projector::store() const {
  const std::scoped_lock lock(mutex_);
  return store_;
}

// ---- Generations ----

void Projector::follow_catalog() {
  const std::scoped_lock lock(mutex_);
  if (!std::exchange(catalog_changed_, false)) return;
  std::vector<Target> before;
  before.swap(targets_);
  for (const StoredProjection p : kStoredProjections) {
    for (const Generation& g : catalog_[index_of(p)].generations) {
      if (g.state != GenerationState::current && g.state != GenerationState::building) continue;
      Target t{.id = {p, g.number}, .current = g.state == GenerationState::current};
      const auto same =
          std::find_if(before.begin(), before.end(), [&](const Target& b) { return b.id == t.id; });
      if (same != before.end()) {
        t.covered = same->covered;
        t.rows = same->rows;
      } else {
        scan_ = true;
      }
      targets_.push_back(t);
    }
  }
}

Result<void> Projector::forget_dropped() {
  for (const StoredProjection p : kStoredProjections) {
    std::optional<GenerationId> dropped;
    {
      const std::scoped_lock lock(mutex_);
      const Generation* g = catalog_[index_of(p)].in_state(GenerationState::dropped);
      if (g != nullptr) dropped = GenerationId{p, g->number};
    }
    if (!dropped) continue;
    ProjectionStore::Batch batch(*store_);
    batch.forget(*dropped);
    if (auto ok = batch.write(); !ok) return ok;
    const std::scoped_lock lock(mutex_);
    CatalogEntry next = catalog_[index_of(p)];
    std::erase_if(next.generations,
                  [&](const Generation& g) { return g.number == dropped->number; });
    if (auto ok = store_->put_catalog(p, next); !ok) return ok;
    catalog_[index_of(p)] = std::move(next);
  }
  return {};
}

// Writes a projection's entry as `change` leaves it, if that says done.
template <class Change>
GenerationChange Projector::change_catalog(StoredProjection p, Change&& change) {
  {
    const std::scoped_lock lock(mutex_);
    if (!store_) return GenerationChange::unavailable;
    CatalogEntry next = catalog_[index_of(p)];
    const GenerationChange outcome = change(next);
    if (outcome != GenerationChange::done) return outcome;
    if (auto ok = store_->put_catalog(p, next); !ok) return GenerationChange::unavailable;
    catalog_[index_of(p)] = std::move(next);
    catalog_changed_ = true;
  }
  bell_.ring();
  return GenerationChange::done;
}

GenerationChange Projector::rebuild(StoredProjection p, bool force) {
  return change_catalog(p, [&](CatalogEntry& entry) {
    if (entry.in_state(GenerationState::building) != nullptr) return GenerationChange::under_way;
    if (entry.generations.size() >= kMaxGenerations) return GenerationChange::too_many;
    entry.generations.push_back({entry.next++, GenerationState::building, force});
    entry.mismatch.reset();
    return GenerationChange::done;
  });
}

GenerationChange Projector::drop(StoredProjection p, std::uint32_t generation) {
  return change_catalog(p, [&](CatalogEntry& entry) {
    const auto found =
        std::find_if(entry.generations.begin(), entry.generations.end(), [&](const Generation& g) {
          return g.number == generation && g.state != GenerationState::dropped;
        });
    if (found == entry.generations.end()) return GenerationChange::unknown;
    if (found->state == GenerationState::current) return GenerationChange::in_use;
    found->state = GenerationState::dropped;
    if (entry.mismatch && entry.mismatch->generation == generation) entry.mismatch.reset();
    return GenerationChange::done;
  });
}

// ---- Live rows ----

Result<void> Projector::drain() {
  ProjectionStore::Batch batch(*store_);
  for (auto& queue : queues_) {
    scan_ = queue->take(taken_) || scan_;
    for (const Stretch& s : taken_) {
      bool gap = false;
      if (auto ok = store_stretch(batch, s, gap); !ok) return ok;
      if (batch.bytes() < kMaxBatchBytes) continue;
      if (auto ok = commit(batch); !ok) return ok;
    }
    taken_.clear();
  }
  return commit(batch);
}

Result<void> Projector::store_stretch(ProjectionStore::Batch& batch, const Stretch& s, bool& gap) {
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    const auto added = batch.add(targets_[i].id, s);
    if (!added) return tl::unexpected(added.error());
    if (added->gap) {
      gap = true;
      (targets_[i].current ? urgent_ : stale_).insert(s.sku.value);
    } else if (added->after > added->before) {
      pending_.push_back({i, s.sku, added->after.value - added->before.value, added->rows});
    }
  }
  return {};
}

Result<void> Projector::commit(ProjectionStore::Batch& batch) {
  if (auto ok = batch.write(); !ok) return ok;
  for (const Delta& d : pending_) {
    targets_[d.target].covered += d.covered;
    targets_[d.target].rows += static_cast<std::uint64_t>(d.rows);
    const Target& t = targets_[d.target];
    const bool grew = t.current && t.id.projection == StoredProjection::outbox && d.rows > 0;
    if (grew && options_.outbox_grew) options_.outbox_grew(d.sku);
  }
  pending_.clear();
  return {};
}

// ---- Healing ----

// Finds out which SKUs are behind, and recounts.
Result<void> Projector::scan() {
  scan_ = false;
  const auto heads = log_.heads();
  if (!heads) return fail(Fault::io, heads.error().message);
  broken_.clear();
  {
    const std::scoped_lock lock(mutex_);
    error_.reset();
  }
  for (Target& t : targets_) {
    ProjectionStore::Batch batch(*store_);
    auto& behind = t.current ? urgent_ : stale_;
    std::uint64_t covered = 0;
    std::uint64_t rows = 0;
    auto head = heads->begin();
    const auto read = store_->each_coverage(t.id, [&](SkuId sku, const Coverage& c) {
      for (; head != heads->end() && head->sku < sku; ++head) behind.insert(head->sku.value);
      const bool logged = head != heads->end() && head->sku == sku;
      if (!logged || head->head.seq < c.position) {
        // The log is another than these rows were made from: a backup, say.
        batch.forget(t.id, sku);
        if (logged) behind.insert(sku.value);
      } else {
        covered += c.position.value;
        rows += c.rows;
        if (c.position < head->head.seq) behind.insert(sku.value);
      }
      if (logged) ++head;
      return true;
    });
    if (!read) return read;
    for (; head != heads->end(); ++head) behind.insert(head->sku.value);
    if (auto ok = batch.write(); !ok) return ok;
    t.covered = covered;
    t.rows = rows;
  }
  return {};
}

// What all generations that are kept up to date have of a SKU.
Result<Seq> Projector::least(SkuId sku) const {
  Seq least{~std::uint64_t{0}};
  for (const Target& t : targets_) {
    const auto c = store_->coverage(t.id, sku);
    if (!c) return tl::unexpected(c.error());
    least = std::min(least, c->position);
  }
  return least;
}

void Projector::give_up_on(SkuId sku, const Error& error) {
  fold_.reset();
  urgent_.erase(sku.value);
  stale_.erase(sku.value);
  broken_.insert(sku.value);
  const Error told{Fault::io,
                   fmt::format("SKU {:016x} cannot be read from the log and stays behind: {}",
                               sku.value, error.message)};
  if (options_.report) options_.report(told);
  const std::scoped_lock lock(mutex_);
  error_ = told;
}

// Folds a piece of one SKU that is behind. The log's damage is not the store's: it leaves the SKU
// where it is.
Result<bool> Projector::heal() {
  const SkuId sku =
      fold_ ? fold_->sku() : SkuId{!urgent_.empty() ? *urgent_.begin() : *stale_.begin()};
  const auto known = least(sku);
  if (!known) return tl::unexpected(known.error());
  const auto healed = [&] {
    fold_.reset();
    urgent_.erase(sku.value);
    stale_.erase(sku.value);
    return true;
  };
  // Live rows have come to fit while it was folded.
  if (fold_ && *known > fold_known_ && *known > fold_->position()) fold_.reset();
  if (!fold_) {
    bool more = false;
    const auto looked = log_.read(sku, Seq{known->value + 1}, [&](const BlockView&) {
      more = true;
      return false;
    });
    if (!looked) {
      give_up_on(sku, looked.error());
      return true;
    }
    if (!more) return healed();
    auto fold = SaleFold::from_snapshot(log_, sku, *known);
    if (!fold) {
      give_up_on(sku, fold.error());
      return true;
    }
    fold_.emplace(std::move(*fold));
    fold_known_ = *known;
  }
  auto piece = fold_->next(log_, options_.piece, *known);
  if (!piece) {
    give_up_on(sku, piece.error());
    return true;
  }
  bool gap = false;
  if (piece->stretch.to > *known) {
    ProjectionStore::Batch batch(*store_);
    if (auto ok = store_stretch(batch, piece->stretch, gap); !ok) return tl::unexpected(ok.error());
    if (auto ok = commit(batch); !ok) return tl::unexpected(ok.error());
  }
  if (!piece->at_end) return true;
  // A generation that was begun meanwhile has not seen the beginning of the fold.
  if (!gap) return healed();
  fold_.reset();
  return true;
}

// ---- Switching ----

Result<bool> Projector::finish() {
  if (!broken_.empty()) return false;
  for (const Target& building : targets_) {
    if (building.current) continue;
    const auto current = std::find_if(targets_.begin(), targets_.end(), [&](const Target& t) {
      return t.current && t.id.projection == building.id.projection;
    });
    auto done = finish(*current, building);
    if (!done || *done) return done;
  }
  return false;
}

// Returns true when there is something to do at once.
Result<bool> Projector::finish(const Target& current, const Target& building) {
  std::optional<Mismatch> mismatch;
  bool behind = false;
  std::optional<Error> error;
  const auto read = store_->each_coverage(current.id, [&](SkuId sku, const Coverage& c) {
    const auto built = store_->coverage(building.id, sku);
    if (!built) {
      error = built.error();
      return false;
    }
    if (built->position != c.position) {
      (built->position < c.position ? stale_ : urgent_).insert(sku.value);
      behind = true;
    } else if (!mismatch && !(*built == c)) {
      mismatch = Mismatch{.generation = building.id.number,
                          .sku = sku,
                          .position = c.position,
                          .current = c.digest,
                          .built = built->digest};
    }
    return true;
  });
  if (!read) return tl::unexpected(read.error());
  if (error) return tl::unexpected(*error);
  if (behind) return true;
  if (current.covered != building.covered) {
    scan_ = true;  // it has a SKU that the current one has not
    return true;
  }

  const std::scoped_lock lock(mutex_);
  CatalogEntry next = catalog_[index_of(building.id.projection)];
  const Generation* asked = next.in_state(GenerationState::building);
  if (asked == nullptr || asked->number != building.id.number) return true;  // it was dropped
  const bool refused = mismatch && !asked->force;
  for (Generation& g : next.generations) {
    if (g.state == GenerationState::current && !refused) {
      g.state = GenerationState::old;
    } else if (g.state == GenerationState::building) {
      g.state = refused ? GenerationState::refused : GenerationState::current;
    }
  }
  next.mismatch = mismatch;
  if (auto ok = store_->put_catalog(building.id.projection, next); !ok) {
    return tl::unexpected(ok.error());
  }
  catalog_[index_of(building.id.projection)] = std::move(next);
  catalog_changed_ = true;
  if (mismatch && options_.report) {
    options_.report(
        {Fault::invalid,
         fmt::format("Generation {} of projection {}, built from the log, differs from the current "
                     "one in SKU {:016x} at position {}: digest {} instead of {}. {}",
                     building.id.number, name_of(building.id.projection), mismatch->sku.value,
                     mismatch->position.value, to_hex(mismatch->built), to_hex(mismatch->current),
                     refused ? "It was not switched to; rebuild with force to do so"
                             : "It was switched to all the same, as told")});
  }
  return true;
}

// ---- What others see ----

std::uint64_t Projector::accepted() const {
  std::uint64_t n = logged_;
  for (const auto& queue : queues_) n += queue->events();
  return n;
}

void Projector::publish() {
  const std::scoped_lock lock(mutex_);
  published_ = targets_;
  failing_ = !opened_ || !writable_;
  behind_ = !urgent_.empty() || scan_ || !broken_.empty();
}

std::optional<Error> Projector::error() const {
  const std::scoped_lock lock(mutex_);
  return error_;
}

std::vector<ProjectionStatus> Projector::status() const {
  const std::uint64_t events = accepted();
  std::vector<ProjectionStatus> all;
  const std::scoped_lock lock(mutex_);
  for (const StoredProjection p : kStoredProjections) {
    ProjectionStatus s{.projection = p};
    all.push_back(s);
    if (!store_ || failing_) continue;
    const CatalogEntry& entry = catalog_[index_of(p)];
    const auto covered = [&](std::uint32_t number) -> const Target* {
      const auto found = std::find_if(published_.begin(), published_.end(), [&](const Target& t) {
        return t.id == GenerationId{p, number};
      });
      return found == published_.end() ? nullptr : &*found;
    };
    s.generation = entry.current();
    const Target* current = covered(s.generation);
    const std::uint64_t have = current != nullptr ? current->covered : 0;
    s.lag = events > have ? events - have : 0;
    s.rows = current != nullptr ? current->rows : 0;
    const auto part = [&](std::uint64_t n) {
      return events == 0 ? 1 : std::min(1.0, static_cast<double>(n) / static_cast<double>(events));
    };
    const Generation* building = entry.in_state(GenerationState::building);
    if (building != nullptr) {
      const Target* t = covered(building->number);
      s.state = ProjectionStatus::State::rebuilding;
      s.progress = t != nullptr ? part(t->covered) : 0;
    } else if (behind_ || current == nullptr) {
      s.state = ProjectionStatus::State::healing;
      s.progress = part(have);
    } else {
      s.state = ProjectionStatus::State::live;
      s.progress = 1;
    }
    s.mismatch = entry.mismatch;
    for (const Generation& g : entry.generations) {
      if (g.state != GenerationState::dropped) s.generations.push_back(g);
    }
    all.back() = std::move(s);
  }
  return all;
}

}  // namespace fairsale
