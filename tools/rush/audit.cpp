#include "tools/rush/audit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace fairsale::rush {

namespace {

enum Kind : std::uint8_t { read_sale = 100, read_purchase, repeat, list };

class Audit final : public Driver::Work {
 public:
  Audit(Driver& driver, const Requests& requests, const RunInfo& info,
        std::span<const Claim> claims, const AuditOptions& options, Violations& violations)
      : driver_(driver),
        requests_(requests),
        info_(info),
        claims_(claims),
        options_(options),
        violations_(violations) {
    report_.observed.resize(claims.size());
    for (const Claim& c : claims_) {
      min_seq_ = std::max({min_seq_, c.position, c.waiting_at, c.offered_at});
    }
  }

  Result<AuditReport> run() {
    violations_.ran("kept");
    if (auto ok = reach_the_claims(); !ok) return tl::unexpected(ok.error());
    if (!sale_read_) return std::move(report_);
    // The sale may move while so much is read (a hold expires); a second look is then at rest.
    constexpr int kLooks = 3;
    bool at_rest = false;
    for (int look = 0; look < kLooks && !at_rest; ++look) {
      if (auto ok = read_the_sale(); !ok) return tl::unexpected(ok.error());
      const std::uint64_t before = report_.sale.position;
      if (auto ok = read_purchases(look == 0); !ok) return tl::unexpected(ok.error());
      if (auto ok = read_the_sale(); !ok) return tl::unexpected(ok.error());
      at_rest = report_.sale.position == before;
      if (look == 0) {
        // After the reading, since a repeat has a place in the log although it changes nothing. A
        // server that has lost attempts would take their repeats for new ones, so it gets none.
        if (min_seq_ != 0) sample();
        if (auto ok = finish(); !ok) return tl::unexpected(ok.error());
      }
    }
    check_evidence({.claims = claims_,
                    .observed = report_.observed,
                    .sale = report_.sale,
                    .at_rest = at_rest,
                    .alone = info_.alone},
                   violations_);
    return std::move(report_);
  }

 private:
  Result<void> finish() { return driver_.run(*this, options_.patience_us); }

  // Waits until the sale has come to the last position that was acknowledged. A sale that does not
  // has lost some of its log.
  Result<void> reach_the_claims() {
    constexpr std::int64_t kWaitUs = 5'000'000;
    const std::uint64_t wanted = std::exchange(min_seq_, 0);
    const std::int64_t end = now_us() + kWaitUs;
    do {
      driver_.submit({.kind = read_sale, .urgent = true});
      if (auto ok = finish(); !ok) return ok;
      if (sale_status_ == 404) {
        violations_.add("kept", fmt::format("the server knows no sale {}", info_.sku));
        return {};
      }
    } while ((!sale_read_ || report_.sale.position < wanted) && now_us() < end);
    if (sale_read_ && report_.sale.position >= wanted) {
      min_seq_ = std::max<std::uint64_t>(wanted, 1);
    } else {
      violations_.add("kept", fmt::format("position {} was acknowledged, but the sale is at {}",
                                          wanted, report_.sale.position));
    }
    return {};
  }

  Result<void> read_the_sale() {
    driver_.submit({.kind = read_sale, .urgent = true});
    if (auto ok = finish(); !ok) return ok;
    if (!sale_read_) {
      return fail(Fault::io,
                  fmt::format("GET /v1/sales/{} was answered with {}", info_.sku, sale_status_));
    }
    // What is read next is compared with it, whoever answers.
    if (min_seq_ != 0) min_seq_ = std::max(min_seq_, report_.sale.position);
    return {};
  }

  Result<void> read_purchases(bool all) {
    for (std::uint32_t i = 0; i < claims_.size(); ++i) {
      if (claims_[i].first == First::none || claims_[i].seq == 0) continue;
      // What has reached its end cannot have changed since the first look.
      if (!all && !may_change(report_.observed[i])) continue;
      driver_.submit({.index = i, .kind = read_purchase});
    }
    return finish();
  }

  static bool may_change(const Observed& o) {
    return o.read != Observed::Read::found || o.status == PurchaseStatus::reserved ||
           o.status == PurchaseStatus::offered || o.status == PurchaseStatus::waiting;
  }

  void sample() {
    Random random(options_.seed);
    std::vector<std::uint32_t> answered;
    for (std::uint32_t i = 0; i < claims_.size(); ++i) {
      if (claims_[i].first != First::none) answered.push_back(i);
    }
    if (options_.repeats > 0) violations_.ran("repeats");
    if (options_.listings > 0) violations_.ran("listing");
    const std::size_t repeats = std::min(options_.repeats, answered.size());
    for (std::size_t i = 0; i < std::max(repeats, options_.listings) && i < answered.size(); ++i) {
      std::swap(answered[i], answered[i + random.below(answered.size() - i)]);
    }
    for (std::size_t i = 0; i < repeats; ++i) {
      driver_.submit({.index = answered[i], .kind = repeat});
    }
    for (std::size_t i = 0; i < std::min(options_.listings, answered.size()); ++i) {
      const std::uint32_t customer = claims_[answered[i]].customer;
      if (!expected_.emplace(customer, std::vector<std::uint64_t>{}).second) continue;
      driver_.submit({.index = customer, .kind = list});
    }
    for (const Claim& c : claims_) {
      if (c.first != First::reserved && c.first != First::waiting) continue;
      if (const auto e = expected_.find(c.customer); e != expected_.end()) {
        e->second.push_back(c.seq);
      }
    }
  }

  void render(const Task& task, std::string& out) override {
    switch (task.kind) {
      case read_sale: return requests_.read_sale(min_seq_, out);
      case read_purchase: return requests_.read_purchase(claims_[task.index], min_seq_, out);
      case repeat: return requests_.purchase(task.index, claims_[task.index], out);
      default: return requests_.list_purchases(task.index, out);
    }
  }

  void answered(const Task& task, const Response& r, std::int64_t, std::int64_t) override {
    switch (task.kind) {
      case read_sale:
        sale_status_ = r.status;
        sale_read_ = r.status == 200 && reader_.read(r.body, report_.sale);
        break;
      case read_purchase: observe(task.index, r); break;
      case repeat: compare(task.index, r); break;
      default: compare_listing(task.index, r);
    }
  }

  void observe(std::uint32_t i, const Response& r) {
    ++report_.read;
    Observed& o = report_.observed[i];
    Answer a;
    o.read = Observed::Read::wrong;
    if (r.status == 404) {
      o.read = Observed::Read::missing;
    } else if (r.status == 200 && reader_.read(r.body, info_.sku, a)) {
      const auto status = status_named(a.status);
      if (!status || a.seq != claims_[i].seq) return;
      o = {Observed::Read::found, *status, a.reason, a.quantity};
    }
  }

  void compare(std::uint32_t i, const Response& r) {
    ++report_.repeated;
    const Claim& c = claims_[i];
    if (r.status != c.status || digest_of(r.body) != c.digest) {
      violations_.add("repeats",
                      fmt::format("attempt {} was first answered with {} and is now with {}: {}", i,
                                  c.status, r.status, r.body.substr(0, 200)));
    } else if (!r.replayed) {
      violations_.add("repeats", fmt::format("attempt {} was answered again without "
                                             "Idempotent-Replayed",
                                             i));
    }
  }

  void compare_listing(std::uint32_t customer, const Response& r) {
    ++report_.listed;
    if (r.status != 200 || !reader_.read(r.body, info_.sku, listed_)) {
      violations_.add("listing", fmt::format("customer {}'s purchases cannot be listed (status {})",
                                             customer, r.status));
      return;
    }
    for (const std::uint64_t seq : expected_[customer]) {
      if (std::none_of(listed_.begin(), listed_.end(),
                       [&](const Listed& l) { return l.seq == seq; })) {
        violations_.add("listing",
                        fmt::format("customer {}'s listing lacks purchase {}", customer, seq));
      }
    }
  }

  bool tick(std::int64_t) override { return driver_.unanswered() > 0; }

  Driver& driver_;
  const Requests& requests_;
  const RunInfo& info_;
  std::span<const Claim> claims_;
  const AuditOptions options_;
  Violations& violations_;
  AuditReport report_;
  AnswerReader reader_;
  std::vector<Listed> listed_;
  std::unordered_map<std::uint32_t, std::vector<std::uint64_t>> expected_;
  std::uint64_t min_seq_ = 0;
  bool sale_read_ = false;
  int sale_status_ = 0;
};

}  // namespace

Result<AuditReport> audit(Driver& driver, const Requests& requests, const RunInfo& info,
                          std::span<const Claim> claims, const AuditOptions& options,
                          Violations& violations) {
  return Audit(driver, requests, info, claims, options, violations).run();
}

}  // namespace fairsale::rush
