#include "projections/stored/compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace fairsale {

namespace {

constexpr std::uint64_t kPiece = 65'536;  // events whose rows are in memory at once
constexpr std::string_view kNothing = "nothing";

// Compares one generation's rows of one SKU with those that the log makes, piece by piece: both
// come in the order of their keys, except for refunds, which are looked up.
class Comparer {
 public:
  Comparer(const ProjectionStore& store, GenerationId generation, SkuId sku,
           const Coverage& claimed)
      : store_(&store), generation_(generation), sku_(sku), claimed_(claimed) {}

  Seq position() const { return claimed_.position; }
  GenerationId generation() const { return generation_; }
  const std::optional<ProjectionDifference>& difference() const { return difference_; }

  // What is wrong is in difference() then; nothing more is to be checked.
  Result<void> check(const Stretch& s) {
    std::vector<StoredRow> rows;
    switch (generation_.projection) {
      case StoredProjection::availability: return {};  // only the last document is stored
      case StoredProjection::timeline:
        // A second may go on in the next piece.
        for (const TimelineRow& row : s.seconds) {
          if (last_ && last_->second != row.second) rows.push_back(encode(*last_));
          last_ = row;
        }
        return walk({}, rows, false);
      case StoredProjection::outbox:
        for (const MessageRow& row : s.messages) rows.push_back(encode(row));
        return walk({}, rows, false);
      case StoredProjection::orders: {
        for (const OrderRow& row : s.orders) rows.push_back(encode(row));
        if (auto ok = walk(kOrderKeys, rows, false); !ok) return ok;
        for (const RefundRow& row : s.refunds) {
          if (difference_) return {};
          if (auto ok = look_up(encode(row)); !ok) return ok;
        }
        return {};
      }
    }
    return {};
  }

  // When the fold has come to position().
  Result<void> finish(const Sale& sale) {
    std::vector<StoredRow> rows;
    if (generation_.projection == StoredProjection::availability && sale.exists()) {
      rows.push_back({{}, render_sale(sale)});
    }
    if (last_) rows.push_back(encode(*last_));
    const bool orders = generation_.projection == StoredProjection::orders;
    if (auto ok = walk(orders ? kOrderKeys : std::string_view{}, rows, true); !ok) return ok;
    if (orders && !difference_) {
      if (auto ok = find_extra_refund(sale); !ok) return ok;
    }
    if (difference_) return {};
    if (claimed_.rows != rows_) {
      differ("the number of rows", fmt::format("{}", rows_), fmt::format("{}", claimed_.rows));
    } else if (claimed_.digest != sum_.digest()) {
      differ("the digest", to_hex(sum_.digest()), to_hex(claimed_.digest));
    }
    return {};
  }

  void differ(std::string row, std::string expected, std::string found) {
    difference_ = ProjectionDifference{.generation = generation_,
                                       .position = claimed_.position,
                                       .row = std::move(row),
                                       .expected = std::move(expected),
                                       .found = std::move(found)};
  }

 private:
  void count(const StoredRow& row) {
    ++rows_;
    sum_.add(row_hash(generation_.projection, sku_, row.key, row.value));
  }

  void differ(std::string_view key, const std::string* expected, const std::string_view* found) {
    const auto text = [&](std::string_view value) {
      return describe_row(generation_.projection, key, value);
    };
    differ(describe_key(generation_.projection, key),
           expected != nullptr ? text(*expected) : std::string(kNothing),
           found != nullptr ? text(*found) : std::string(kNothing));
  }

  // The stored rows that follow those of the last walk must be these; at the end, none follow.
  Result<void> walk(std::string_view prefix, const std::vector<StoredRow>& rows, bool end) {
    if (difference_ || (rows.empty() && !end)) return {};
    std::size_t i = 0;
    const auto read = store_->each_row(generation_, sku_, prefix, next_,
                                       [&](std::string_view key, std::string_view value) {
                                         if (i == rows.size() || key < rows[i].key) {
                                           if (i == rows.size() && !end) return false;
                                           differ(key, nullptr, &value);
                                           return false;
                                         }
                                         if (key > rows[i].key) return false;  // it is missing
                                         if (value != rows[i].value) {
                                           differ(key, &rows[i].value, &value);
                                           return false;
                                         }
                                         count(rows[i]);
                                         ++i;
                                         return end || i < rows.size();
                                       });
    if (!read) return read;
    if (!difference_ && i < rows.size()) differ(rows[i].key, &rows[i].value, nullptr);
    if (!rows.empty()) next_ = rows.back().key + '\0';
    return {};
  }

  Result<void> look_up(const StoredRow& row) {
    const auto found = store_->row(generation_, sku_, row.key);
    if (!found) return tl::unexpected(found.error());
    if (*found == row.value) {
      count(row);
      return {};
    }
    const std::string_view other = *found ? std::string_view(**found) : std::string_view{};
    differ(row.key, &row.value, *found ? &other : nullptr);
    return {};
  }

  Result<void> find_extra_refund(const Sale& sale) {
    return store_->each_row(
        generation_, sku_, kRefundKeys, {}, [&](std::string_view key, std::string_view value) {
          const auto refund = decode_refund(key, value);
          const auto purchase = refund ? sale.find_purchase(refund->purchase) : std::nullopt;
          if (purchase && sale.purchase(*purchase).status == PurchaseStatus::refunded) return true;
          differ(key, nullptr, &value);
          return false;
        });
  }

  const ProjectionStore* store_;
  GenerationId generation_;
  SkuId sku_;
  Coverage claimed_;
  RowSum sum_;
  std::uint64_t rows_ = 0;
  std::string next_;                 // rows before this key have been walked over
  std::optional<TimelineRow> last_;  // not yet compared
  std::optional<ProjectionDifference> difference_;
};

}  // namespace

struct ProjectionCheck::Impl {
  // Compares the rows since the last time. Those whose position this is are done with.
  Result<void> compare(const Sale& sale) {
    for (std::size_t i = done; i < comparers.size(); ++i) {
      if (auto ok = comparers[i].check(stretch); !ok) return ok;
    }
    stretch = {.sku = stretch.sku, .from = sale.seq(), .to = sale.seq()};
    for (; done < comparers.size() && comparers[done].position() <= sale.seq(); ++done) {
      Comparer& due = comparers[done];
      if (due.position() < sale.seq()) {
        due.differ("the position", "where a block ends",
                   fmt::format("{}, which is within a block", due.position().value));
      } else if (auto ok = due.finish(sale); !ok) {
        return ok;
      }
    }
    return {};
  }

  std::vector<Comparer> comparers;  // by position
  std::size_t done = 0;             // of them, the first
  std::size_t taken = 0;
  bool outbox = false;  // it is among them
  Stretch stretch;
};

ProjectionCheck::ProjectionCheck(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ProjectionCheck::~ProjectionCheck() = default;
ProjectionCheck::ProjectionCheck(ProjectionCheck&&) noexcept = default;
ProjectionCheck& ProjectionCheck::operator=(ProjectionCheck&&) noexcept = default;

Result<ProjectionCheck> ProjectionCheck::open(const ProjectionStore& store, SkuId sku) {
  auto impl = std::make_unique<Impl>();
  impl->stretch.sku = sku;
  for (const StoredProjection p : kStoredProjections) {
    const auto entry = store.catalog(p);
    if (!entry) return tl::unexpected(entry.error());
    if (!*entry || (*entry)->version != version_of(p)) continue;
    const GenerationId generation{p, (*entry)->current()};
    const auto claimed = store.coverage(generation, sku);
    if (!claimed) return tl::unexpected(claimed.error());
    impl->comparers.emplace_back(store, generation, sku, *claimed);
    impl->outbox = impl->outbox || p == StoredProjection::outbox;
  }
  std::stable_sort(
      impl->comparers.begin(), impl->comparers.end(),
      [](const Comparer& a, const Comparer& b) { return a.position() < b.position(); });
  // Those that have nothing of the SKU yet.
  if (auto ok = impl->compare(Sale()); !ok) return tl::unexpected(ok.error());
  return ProjectionCheck(std::move(impl));
}

void ProjectionCheck::on(const Sale& sale, const Decision& d) {
  if (impl_->done == impl_->comparers.size()) return;
  collect(impl_->stretch, sale, d);
  if (impl_->outbox) collect_message(impl_->stretch, sale, d);
}

Result<void> ProjectionCheck::after_block(const Sale& sale) {
  Impl& i = *impl_;
  if (i.done == i.comparers.size()) return {};
  collect_second(i.stretch, sale);
  const bool due = i.comparers[i.done].position() <= sale.seq();
  if (!due && sale.seq().value - i.stretch.from.value < kPiece) return {};
  return i.compare(sale);
}

std::vector<ProjectionDifference> ProjectionCheck::take_differences() {
  std::vector<ProjectionDifference> all;
  for (; impl_->taken < impl_->done; ++impl_->taken) {
    const auto& d = impl_->comparers[impl_->taken].difference();
    if (d) all.push_back(*d);
  }
  return all;
}

std::uint64_t ProjectionCheck::compared() const { return impl_->done; }

std::vector<std::pair<GenerationId, Seq>> ProjectionCheck::left() const {
  std::vector<std::pair<GenerationId, Seq>> all;
  for (std::size_t i = impl_->done; i < impl_->comparers.size(); ++i) {
    all.emplace_back(impl_->comparers[i].generation(), impl_->comparers[i].position());
  }
  return all;
}

}  // namespace fairsale
