#include "projections/audit/audit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>

#include "projections/stored/compare.hpp"

namespace fairsale::audit {

namespace {

// A state digest costs a walk over the whole state. The chain's digest pins all events, so it is
// enough for the older ones of many saved heads.
constexpr std::size_t kMostStateDigests = 16;

std::string figures(const Counters& c) {
  return fmt::format("stock {} = free {} + held {} + sold {}, {} waiting", c.stocked.value,
                     c.available.value, c.held.value, c.sold.value, c.waiting);
}

Error out_of_memory() {
  return {Fault::io, "not enough memory to audit this sale; fewer at a time (--jobs 1) need less"};
}

// Compares the bytes of a sale with those of a stored snapshot, chunk by chunk.
class Comparison final : public ByteSink {
 public:
  explicit Comparison(StoredSnapshot& stored) : stored_(stored) {}

  void write(std::span<const std::byte> bytes) override {
    expected_ += bytes.size();
    while (!bytes.empty() && refill()) {
      const std::size_t n = std::min(bytes.size(), chunk_.size());
      if (!first_difference_ && std::memcmp(bytes.data(), chunk_.data(), n) != 0) {
        const auto differs =
            std::mismatch(bytes.begin(), bytes.begin() + static_cast<long>(n), chunk_.begin());
        first_difference_ = offset_ + static_cast<std::uint64_t>(differs.first - bytes.begin());
      }
      bytes = bytes.subspan(n);
      chunk_ = chunk_.subspan(n);
      offset_ += n;
    }
  }

  // Reads what is left of the snapshot; then the rest can be asked for.
  void finish() {
    while (refill()) {
      offset_ += chunk_.size();
      chunk_ = {};
    }
    digest_ = sha_.finish();
    if (!first_difference_ && offset_ != expected_) {
      first_difference_ = std::min(offset_, expected_);
    }
  }

  const Digest& digest() const { return digest_; }  // of the stored bytes
  std::uint64_t stored() const { return offset_; }
  std::uint64_t expected() const { return expected_; }
  std::optional<std::uint64_t> first_difference() const { return first_difference_; }

 private:
  bool refill() {
    if (!chunk_.empty()) return true;
    chunk_ = stored_.next();
    sha_.update(chunk_);
    return !chunk_.empty();
  }

  StoredSnapshot& stored_;
  std::span<const std::byte> chunk_;
  Sha256 sha_;
  Digest digest_;
  std::uint64_t offset_ = 0;
  std::uint64_t expected_ = 0;
  std::optional<std::uint64_t> first_difference_;
};

// What is to be compared at a position: snapshots and saved heads, by position.
struct Checkpoint {
  Seq seq;
  std::variant<SnapshotName, const SavedHead*> what;
};

class SaleAudit final : public DecisionSink {
 public:
  SaleAudit(const SnapshotFiles& files, const SaleTask& task, const AuditOptions& options)
      : files_(files), task_(task), options_(options) {
    report_.id = task.head.sku;
    report_.sku = task.sku;
    for (const SnapshotName& s : task.snapshots) checkpoints_.push_back({s.seq, s});
    for (const SavedHead& h : task.saved) checkpoints_.push_back({h.position, &h});
    std::stable_sort(checkpoints_.begin(), checkpoints_.end(),
                     [](const Checkpoint& a, const Checkpoint& b) { return a.seq < b.seq; });
    end_ = task.durable.seq;
    for (const SavedHead& h : task.saved) {
      if (h.position <= recorded().seq) end_ = std::max(end_, h.position);
    }
    states_skipped_ = task.saved.size() - std::min(task.saved.size(), kMostStateDigests);
    if (options.fairness) fairness_.emplace();
  }

  SaleReport run(const EventLog& log) {
    const auto start = std::chrono::steady_clock::now();
    try {
      follow(log);
      describe();
    } catch (const std::bad_alloc&) {
      whole_ = false;
      report_.failure = out_of_memory();
      describe_briefly();
    }
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(report_);
  }

 private:
  void follow(const EventLog& log) {
    open_projections();
    if (recorded().seq == Seq{0} && task_.last_block != Seq{0}) {
      broken({Check::block, Seq{1}, Seq{1}, "a recorded head for its blocks",
              fmt::format("blocks up to the one that begins at {}, and no head",
                          task_.last_block.value)});
    }
    if (end_ > Seq{0}) {
      const auto read =
          log.read(task_.head.sku, Seq{1}, [this](const BlockView& b) { return take(b); });
      if (!read && whole_) broken(read.error());
    }
    if (whole_) check_end();
    leave_rest();
  }

  void diverge(Divergence d) {
    ++report_.divergences_found;
    if (report_.divergences.size() < SaleReport::kMostDivergences) {
      report_.divergences.push_back(std::move(d));
    }
  }

  // The blocks cannot be followed any further.
  void broken(Divergence d) {
    whole_ = false;
    diverge(std::move(d));
  }
  void broken(const Error& e) {
    if (e.fault != Fault::damaged) {
      whole_ = false;
      report_.failure = e;
      return;
    }
    broken({Check::block, next(), doubted(), next_block(), e.message});
  }

  const Head& recorded() const { return task_.head.head; }
  Seq next() const { return Seq{sale_.seq().value + 1}; }
  std::string next_block() const {
    return fmt::format("a whole block from position {} on, chained to {}", head_.seq.value + 1,
                       to_hex(head_.digest));
  }

  bool take(const BlockView& block) {
    const BlockHeader& h = block.header();
    if (auto ok = block.follows(head_); !ok) {
      broken(ok.error());
      return false;
    }
    if (report_.blocks == 0) report_.first = h.time;
    const auto decoded = block.for_each(
        [&](Seq seq, const Event& event) {
          if (whole_) take(seq, h.time, event);
        },
        [this](const Event& event) {
          sale_.prefetch(event);
          if (fairness_) fairness_->prefetch(event);
        });
    if (!decoded && whole_) broken(decoded.error());
    if (!whole_) return false;
    head_ = {block.last(), h.time, block.digest()};
    last_block_ = h.first;
    ++report_.blocks;
    if (!named_ && sale_.exists()) {
      named_ = true;
      report_.sku = sale_.sku();
      if (sku_id(sale_.sku()) != task_.head.sku) {
        broken({Check::name, h.first, Seq{1},
                fmt::format("a sale whose id is {:016x}", task_.head.sku.value),
                fmt::format("the sale of {}, whose id is {:016x}", sale_.sku(),
                            sku_id(sale_.sku()).value)});
        return false;
      }
    }
    reach_checkpoints();
    check_projections();
    if (options_.progress) options_.progress(h.count);
    if (options_.go_on && !options_.go_on()) {
      broken(Error{Fault::io, "the audit was broken off"});
      return false;
    }
    return end_ >= recorded().seq || head_.seq < end_;
  }

  void take(Seq seq, Timestamp at, const Event& event) {
    at_ = at;
    if (fairness_) {
      fairness_->before(seq, at, event);
      fairness_->after(sale_.apply(seq, at, event, *this));
    } else {
      sale_.apply(seq, at, event, *this);
    }
    const Counters& c = sale_.counters();
    // Once they differ, they differ at every event that follows.
    if (fairness_ && !counts_differ_ && fairness_->counters() != c) {
      counts_differ_ = true;
      diverge(counts_differ(seq, fairness_->counters(), c));
    }
    if (std::uint64_t{c.available.value} + c.held.value + c.sold.value != c.stocked.value) {
      diverge({Check::invariant, seq, seq, fmt::format("{} units in all", c.stocked.value),
               fmt::format("{} free, {} held, {} sold", c.available.value, c.held.value,
                           c.sold.value)});
    }
  }

  // What can be said of each decision without a walk.
  void on(const Decision& d) override {
    if (d.kind == DecisionKind::reserved || d.kind == DecisionKind::offered) {
      if (sale_.customer_units(d.customer) > sale_.terms().limit_per_customer ||
          d.until != at_ + sale_.terms().hold) {
        diverge({Check::invariant, sale_.seq(), sale_.seq(),
                 "a hold within the limit and of the terms' length",
                 fmt::format("purchase {}: the customer has {} units of {}, held until {}",
                             d.purchase.value, sale_.customer_units(d.customer).value,
                             sale_.terms().limit_per_customer.value, d.until.value)});
      }
    }
    if (projections_) projections_->on(sale_, d);
    if (fairness_) fairness_->on(d);
  }

  // Compares whatever is to be compared up to the end of this block.
  void reach_checkpoints() {
    for (; next_checkpoint_ < checkpoints_.size(); ++next_checkpoint_) {
      const Checkpoint& c = checkpoints_[next_checkpoint_];
      if (c.seq > head_.seq) return;
      if (const auto* name = std::get_if<SnapshotName>(&c.what)) {
        compare_snapshot(*name, c.seq == head_.seq);
      } else {
        compare_saved(*std::get<const SavedHead*>(c.what));
      }
    }
  }

  void compare_snapshot(const SnapshotName& name, bool at_end_of_block) {
    auto stored = files_.open(name);
    if (!stored) return cannot_open(name, stored.error());
    ++report_.snapshots;
    if (!at_end_of_block || stored->head() != head_) {
      // The snapshot's header is whole, so it may as well be the log that was changed.
      return diverge(
          {Check::snapshot, name.seq, first_unvouched(),
           fmt::format("a block that ends at position {} with digest {}, as its snapshot says",
                       name.seq.value, to_hex(stored->head().digest)),
           at_end_of_block ? fmt::format("digest {}", to_hex(head_.digest))
                           : std::string("no block ends there")});
    }
    Comparison comparison(*stored);
    sale_.serialize(comparison);
    comparison.finish();
    const auto differs = comparison.first_difference();
    const bool size_fits = stored->size() == stored->stored_bytes();
    if (differs || !size_fits || comparison.digest() != stored->state()) {
      return diverge(
          {Check::snapshot, name.seq, name.seq,
           fmt::format("the snapshot of position {} to have the state's {} bytes, digest {}",
                       name.seq.value, comparison.expected(), to_hex(digest_now())),
           fmt::format("{} bytes, digest {} (its header says {}){}", stored->stored_bytes(),
                       to_hex(comparison.digest()), to_hex(stored->state()),
                       differs ? fmt::format("; the first difference is at byte {}", *differs)
                               : std::string())});
    }
    vouched_ = head_.seq;
    remember(comparison.digest());
    recount();
  }

  void cannot_open(const SnapshotName& name, const Error& e) {
    if (e.fault == Fault::not_found) {
      ++report_.snapshots_gone;
    } else if (e.fault == Fault::damaged) {
      ++report_.snapshots;
      diverge({Check::snapshot, name.seq, name.seq,
               fmt::format("a whole snapshot of position {}", name.seq.value), e.message});
    } else {
      report_.failure = e;
    }
  }

  void open_projections() {
    if (options_.projections == nullptr) return;
    auto check = ProjectionCheck::open(*options_.projections, task_.head.sku);
    if (!check) return cannot_read_projections(check.error());
    projections_.emplace(std::move(*check));
    tell_projections();
  }

  void check_projections() {
    if (!projections_) return;
    if (auto ok = projections_->after_block(sale_); !ok) return cannot_read_projections(ok.error());
    tell_projections();
  }

  void tell_projections() {
    for (const ProjectionDifference& d : projections_->take_differences()) {
      diverge({Check::projection, d.position, d.position,
               fmt::format("in projection {}, generation {}, {}: {}",
                           fairsale::name_of(d.generation.projection), d.generation.number, d.row,
                           d.expected),
               d.found});
    }
  }

  void cannot_read_projections(const Error& e) {
    projections_.reset();
    if (e.fault != Fault::damaged) {
      report_.failure = e;
      return;
    }
    diverge({Check::projection, sale_.seq(), sale_.seq(), "legible stored projections", e.message});
  }

  void compare_saved(const SavedHead& saved) {
    ++report_.saved_heads;
    const bool ends_here = saved.position == head_.seq;
    if (!ends_here || saved.head != head_.digest) {
      return diverge({Check::saved_head, saved.position, first_unvouched(),
                      fmt::format("a block that ends at position {} with digest {}, as saved",
                                  saved.position.value, to_hex(saved.head)),
                      ends_here ? fmt::format("digest {}: the history up to there is another one",
                                              to_hex(head_.digest))
                                : std::string("no block ends there: the history is another one")});
    }
    vouched_ = head_.seq;
    if (states_skipped_ > 0) {
      --states_skipped_;
      return;
    }
    if (!saved.state) return;
    if (const Digest state = digest_now(); state != *saved.state) {
      diverge({Check::saved_head, saved.position, saved.position,
               fmt::format("the state's digest {}, as saved", to_hex(*saved.state)),
               fmt::format("the same events lead to {}", to_hex(state))});
    }
  }

  // Nothing vouches for the last block yet.
  Seq doubted() const { return std::max(first_unvouched(), last_block_); }
  Seq first_unvouched() const { return Seq{vouched_.value + 1}; }

  // The state's digest takes a walk over the state, as recounting does: once at a position.
  const Digest& digest_now() {
    if (digest_of_ != sale_.seq()) remember(state_digest(sale_));
    return digest_;
  }
  void remember(const Digest& digest) {
    digest_of_ = sale_.seq();
    digest_ = digest;
  }

  void recount() {
    if (std::exchange(recounted_, sale_.seq()) == sale_.seq()) return;
    if (const auto wrong = sale_.check()) {
      diverge({Check::invariant, sale_.seq(), first_unvouched(), "a state that adds up",
               std::string(*wrong)});
    }
  }

  void compare_end(const Head& expected, std::string_view which) {
    if (head_ == expected) return;
    diverge({Check::block, next(), doubted(),
             fmt::format("the {} head, position {}, digest {}", which, expected.seq.value,
                         to_hex(expected.digest)),
             fmt::format("the chain ends at position {} with {}", head_.seq.value,
                         to_hex(head_.digest))});
  }

  // All blocks that are to be audited have been folded.
  void check_end() {
    // Where a saved head lies behind the durable one, it has been compared by now.
    if (end_ >= recorded().seq) compare_end(recorded(), "recorded");
    if (end_ == task_.durable.seq && task_.durable != recorded()) {
      compare_end(task_.durable, "acknowledged");
    }
    if (end_ < recorded().seq) {
      report_.provisional = recorded().seq;
    } else if (task_.last_block > last_block_) {
      diverge({Check::block, next(), doubted(),
               fmt::format("no block behind the one that begins at {} and ends with the head",
                           last_block_.value),
               fmt::format("a block under the position {}", task_.last_block.value)});
    }
    recount();
  }

  // The positions that the log did not reach.
  void leave_rest() {
    leave_checkpoints();
    if (!projections_) return;
    report_.projections = projections_->compared();
    for (const auto& [generation, position] : projections_->left()) {
      if (!whole_ || position <= recorded().seq) {
        ++report_.not_compared;
        continue;
      }
      ++report_.projections;
      beyond_the_log(Check::projection, position,
                     fmt::format("up to which projection {}, generation {} is made",
                                 fairsale::name_of(generation.projection), generation.number));
    }
  }

  void leave_checkpoints() {
    for (; next_checkpoint_ < checkpoints_.size(); ++next_checkpoint_) {
      const Checkpoint& c = checkpoints_[next_checkpoint_];
      const auto* name = std::get_if<SnapshotName>(&c.what);
      if (name != nullptr) {
        const auto stored = files_.open(*name);
        if (!stored) {
          cannot_open(*name, stored.error());
          continue;
        }
      }
      if (!whole_ || c.seq <= recorded().seq) {
        ++report_.not_compared;
        continue;
      }
      ++(name != nullptr ? report_.snapshots : report_.saved_heads);
      beyond_the_log(name != nullptr ? Check::snapshot : Check::saved_head, c.seq,
                     name != nullptr ? "where this snapshot was taken" : "as saved");
    }
  }

  void beyond_the_log(Check check, Seq position, std::string_view why) {
    diverge(
        {check, next(), next(),
         fmt::format("a log that reaches position {}, {}", position.value, why),
         fmt::format("the log ends at position {}", std::max(head_.seq, recorded().seq).value)});
  }

  void describe() {
    describe_briefly();
    report_.complete = whole_ && !report_.failure;
    if (sale_.seq() == head_.seq) report_.state = digest_now();
  }
  void describe_briefly() {
    report_.head = head_;
    report_.events = sale_.seq().value;
    report_.phase = sale_.phase();
    report_.counters = sale_.counters();
    report_.purchases = sale_.purchases();
    report_.customers = sale_.customers();
    if (fairness_) report_.fairness = fairness_->finish();
  }

  const SnapshotFiles& files_;
  const SaleTask& task_;
  const AuditOptions& options_;
  SaleReport report_;
  std::vector<Checkpoint> checkpoints_;
  std::size_t next_checkpoint_ = 0;
  std::size_t states_skipped_ = 0;  // saved heads, the oldest, whose state is not digested

  Sale sale_;
  Seq end_;  // where the audit ends
  Head head_;
  Seq last_block_;  // where it begins
  Seq digest_of_{~std::uint64_t{0}};
  Digest digest_;
  Seq recounted_;
  Seq vouched_;        // the last position that something outside the log agreed with
  bool whole_ = true;  // every block so far
  bool named_ = false;
  bool counts_differ_ = false;
  Timestamp at_;
  std::optional<FairnessCheck> fairness_;
  std::optional<ProjectionCheck> projections_;
};

}  // namespace

std::string_view name_of(Check c) {
  switch (c) {
    case Check::block: return "block";
    case Check::name: return "name";
    case Check::invariant: return "invariant";
    case Check::snapshot: return "snapshot";
    case Check::projection: return "projection";
    case Check::saved_head: return "saved_head";
  }
  return "unknown";
}

Divergence counts_differ(Seq seq, const Counters& decided, const Counters& sale) {
  return {Check::invariant, seq, seq, "what the decisions add up to, " + figures(decided),
          figures(sale)};
}

SaleReport audit_sale(const EventLog& log, const SnapshotFiles& files, const SaleTask& task,
                      const AuditOptions& options) {
  try {
    return SaleAudit(files, task, options).run(log);
  } catch (const std::bad_alloc&) {
    SaleReport none;
    none.id = task.head.sku;
    none.failure = Error{Fault::io, "no memory"};
    return none;
  }
}

namespace {

// Every SKU that the current generations have something of, or claim to.
Result<void> each_sku(const ProjectionStore& store, const std::function<void(SkuId)>& visit) {
  for (const StoredProjection p : kStoredProjections) {
    const auto catalog = store.catalog(p);
    if (!catalog) return tl::unexpected(catalog.error());
    if (!*catalog || (*catalog)->version != version_of(p)) continue;
    const GenerationId current{p, (*catalog)->current()};
    const auto read = store.each_coverage(current, [&](SkuId sku, const auto&) {
      visit(sku);
      return true;
    });
    if (!read) return read;
    if (auto rows = store.each_sku_with_rows(current, visit); !rows) return rows;
  }
  return {};
}

}  // namespace

Result<Plan> plan_audit(const EventLog& log, const StoreTasks& wanted) {
  const auto heads = log.heads();
  if (!heads) return tl::unexpected(heads.error());
  const auto durable = log.durable_heads();
  if (!durable) return tl::unexpected(durable.error());
  Plan plan;
  const auto blocks = log.last_blocks();
  if (!blocks && blocks.error().fault != Fault::damaged) return tl::unexpected(blocks.error());
  std::map<SkuId, SaleTask> all;
  const auto task = [&all](SkuId sku) -> SaleTask& {
    SaleTask& t = all[sku];
    t.head.sku = sku;
    return t;
  };
  for (const SkuHead& h : *heads) task(h.sku).head = h;
  for (const SkuHead& h : *durable) task(h.sku).durable = h.head;
  if (blocks) {
    for (const LastBlock& b : *blocks) task(b.sku).last_block = b.first;
  } else {
    plan.damage = blocks.error();
  }
  for (const SnapshotName& s : wanted.snapshots) task(s.sku).snapshots.push_back(s);
  for (const SavedHead& h : wanted.saved) {
    SaleTask& t = task(sku_id(h.sku));
    t.sku = h.sku;
    t.saved.push_back(h);
  }
  if (wanted.projections != nullptr) {
    const auto read = each_sku(*wanted.projections, [&task](SkuId sku) { task(sku); });
    if (!read && read.error().fault != Fault::damaged) return tl::unexpected(read.error());
    if (!read && !plan.damage) plan.damage = read.error();
  }
  if (wanted.skus.empty()) {
    for (auto& [id, t] : all) plan.tasks.push_back(std::move(t));
    return plan;
  }
  for (const std::string& sku : wanted.skus) {
    const auto found = all.find(sku_id(sku));
    if (found == all.end()) {
      return fail(Fault::not_found, fmt::format("no log of SKU {} in this store", sku));
    }
    found->second.sku = sku;
    plan.tasks.push_back(found->second);
  }
  return plan;
}

Result<void> audit_store(const EventLog& log, const SnapshotFiles& files,
                         const std::vector<SaleTask>& tasks, const AuditOptions& options,
                         const std::function<void(SaleReport&&)>& done) {
  std::vector<std::size_t> order(tasks.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return tasks[a].head.head.seq > tasks[b].head.head.seq;
  });
  std::atomic<std::size_t> next{0};
  std::atomic<bool> lost{false};
  std::mutex passing_on;
  const auto goes_on = [&] { return !lost && (!options.go_on || options.go_on()); };
  const auto work = [&] {
    try {
      for (std::size_t i = next++; i < order.size() && goes_on(); i = next++) {
        SaleReport report = audit_sale(log, files, tasks[order[i]], options);
        report.number = order[i];
        const std::lock_guard lock(passing_on);
        done(std::move(report));
      }
    } catch (const std::bad_alloc&) {
      lost = true;
    }
  };
  {
    std::vector<std::jthread> threads;
    const std::size_t jobs = std::min<std::size_t>(std::max(1U, options.jobs), tasks.size());
    try {
      for (std::size_t i = 1; i < jobs; ++i) threads.emplace_back(work);
    } catch (const std::exception&) {
      // The system gives no more threads; those that there are do all of it.
    }
    work();
  }
  if (lost) return fail(Fault::io, "not enough memory for the report");
  return {};
}

}  // namespace fairsale::audit
