#include "api/audits.hpp"

#include <exception>
#include <filesystem>

#include "core/json/json.hpp"
#include "core/log/priority.hpp"
#include "core/log/rocks_log.hpp"
#include "projections/audit/audit.hpp"

namespace fairsale::api {

bool Audits::begin(bool fairness, Timestamp now) {
  const std::scoped_lock lock(mutex_);
  if (state_ == State::running || stopping_) return false;
  if (thread_.joinable()) thread_.join();  // It has nothing left to do.
  fairness_ = fairness;
  began_at_ = now;
  events_ = events_in_all_ = sales_ = findings_found_ = 0;
  sound_ = fair_ = true;
  findings_.clear();
  error_.clear();
  try {
    thread_ = std::thread([this] { run(); });
    state_ = State::running;
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

bool Audits::stop() {
  std::thread last;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    last.swap(thread_);
  }
  if (last.joinable()) last.join();
  const std::scoped_lock lock(mutex_);
  return broken_off_;
}

void Audits::run() noexcept {
  work_in_background();
  Result<void> done;
  try {
    done = audit();
  } catch (const std::exception&) {
    done = fail(Fault::io, "there is not enough memory for the audit");
  }
  const std::scoped_lock lock(mutex_);
  state_ = done ? State::done : State::failed;
  if (!done) error_ = std::move(done.error().message);
}

Result<void> Audits::audit() {
  bool fairness = false;
  {
    const std::scoped_lock lock(mutex_);
    fairness = fairness_;
  }
  const SnapshotFiles files(std::filesystem::path(directory_) / "snapshots", false);
  audit::StoreTasks wanted;
  wanted.snapshots = files.all();
  // Before the log: it reaches whatever these were made of. Without projections the rest is audited
  // all the same; what is wrong with them is told by their own routes.
  const auto projections = ProjectionStore::open_view(projections_directory(directory_));
  if (projections) wanted.projections = projections->get();
  RecoveryReport recovery;
  const auto log = open_rocks_log({.directory = directory_, .mode = OpenMode::read_only}, recovery);
  if (!log) return tl::unexpected(log.error());
  const auto plan = audit::plan_audit(**log, wanted);
  if (!plan) return tl::unexpected(plan.error());
  if (plan->damage) return tl::unexpected(*plan->damage);
  std::uint64_t events = 0;
  for (const audit::SaleTask& t : plan->tasks) events += t.durable.seq.value;
  {
    const std::scoped_lock lock(mutex_);
    events_in_all_ = events;
  }
  bool goes_on = true;
  auto done = audit::audit_store(
      **log, files, plan->tasks,
      {.fairness = fairness,
       .projections = wanted.projections,
       .progress = [this](std::uint64_t n) { events_ += n; },
       .go_on = [&] { return goes_on = !stopping_.load(std::memory_order_relaxed); }},
      [this](audit::SaleReport&& report) { take(report); });
  if (!done || goes_on) return done;
  const std::scoped_lock lock(mutex_);
  broken_off_ = true;
  return fail(Fault::io, "it was broken off, since the server stopped");
}

void Audits::take(const audit::SaleReport& report) {
  const std::scoped_lock lock(mutex_);
  ++sales_;
  sound_ = sound_ && report.sound();
  fair_ = fair_ && !report.unfair();
  for (const audit::Divergence& d : report.divergences) {
    add({report.sku, std::string(audit::name_of(d.check)), d.seq, d.expected, d.found});
  }
  if (report.failure) add({report.sku, "read", report.head.seq, {}, report.failure->message});
  if (!report.fairness) return;
  for (const audit::Breach& b : report.fairness->breaches) {
    add({report.sku, std::string(audit::name_of(b.promise)), b.seq, b.expected, b.found});
  }
}

void Audits::add(Finding finding) {
  ++findings_found_;
  if (findings_.size() < kMostFindings) findings_.push_back(std::move(finding));
}

std::string Audits::json() const {
  const std::scoped_lock lock(mutex_);
  static constexpr std::string_view kStates[] = {"none", "running", "done", "failed"};
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("state", kStates[static_cast<std::size_t>(state_)]);
  if (state_ != State::none) {
    json.member("fairness", fairness_)
        .member("began_at", began_at_)
        .member("events", events_.load())
        .member("events_in_all", events_in_all_)
        .member("sales", sales_);
    // Until it has seen everything nothing can be said.
    if (state_ == State::done) {
      json.member("sound", sound_);
      if (fairness_) json.member("fair", fair_);
    }
    json.key("findings").begin_array();
    for (const Finding& f : findings_) {
      json.begin_object()
          .member("sku", std::string_view(f.sku))
          .member("check", std::string_view(f.check))
          .member("position", f.position.value)
          .member("expected", std::string_view(f.expected))
          .member("found", std::string_view(f.found))
          .end_object();
    }
    json.end_array().member("findings_in_all", findings_found_);
    if (!error_.empty()) json.member("error", std::string_view(error_));
  }
  json.end_object();
  return out;
}

}  // namespace fairsale::api
