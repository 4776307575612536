#include "projections/stored/compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "projections/stored/sale_fold.hpp"

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
      : store_(store), generation_(generation), sku_(sku), claimed_(claimed) {}

  Seq position() const { return claimed_.position; }
  GenerationId generation() const { return generation_; }
  std::uint64_t rows() const { return rows_; }
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
    difference_ = ProjectionDifference{.projection = generation_.projection,
                                       .generation = generation_.number,
                                       .sku = sku_,
                                       .name = {},
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
    const auto read = store_.each_row(generation_, sku_, prefix, next_,
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
    const auto found = store_.row(generation_, sku_, row.key);
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
    return store_.each_row(
        generation_, sku_, kRefundKeys, {}, [&](std::string_view key, std::string_view value) {
          const auto refund = decode_refund(key, value);
          const auto purchase = refund ? sale.find_purchase(refund->purchase) : std::nullopt;
          if (purchase && sale.purchase(*purchase).status == PurchaseStatus::refunded) return true;
          differ(key, nullptr, &value);
          return false;
        });
  }

  const ProjectionStore& store_;
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

Result<ProjectionComparison> compare_projections(const EventLog& log, const ProjectionStore& store,
                                                 SkuId sku) {
  std::vector<std::pair<GenerationId, Coverage>> stored;
  for (const StoredProjection p : kStoredProjections) {
    const auto entry = store.catalog(p);
    if (!entry) return tl::unexpected(entry.error());
    // Rows of another version are not to be read, and are dropped by the next server.
    if (!*entry || (*entry)->version != version_of(p)) continue;
    const GenerationId generation{p, (*entry)->current()};
    const auto claimed = store.coverage(generation, sku);
    if (!claimed) return tl::unexpected(claimed.error());
    stored.emplace_back(generation, *claimed);
  }
  std::stable_sort(stored.begin(), stored.end(), [](const auto& a, const auto& b) {
    return a.second.position < b.second.position;
  });
  std::vector<Comparer> comparers;
  for (const auto& [generation, claimed] : stored) {
    comparers.emplace_back(store, generation, sku, claimed);
  }

  SaleFold fold(sku);
  ProjectionComparison out;
  for (std::size_t i = 0; i < comparers.size() && !out.difference; ++i) {
    Comparer& due = comparers[i];
    while (fold.position() < due.position()) {
      const auto piece = fold.next(log, kPiece, Seq{0}, due.position());
      if (!piece) return tl::unexpected(piece.error());
      for (std::size_t j = i; j < comparers.size(); ++j) {
        if (auto ok = comparers[j].check(piece->stretch); !ok) return tl::unexpected(ok.error());
      }
      if (piece->at_end) break;
    }
    if (fold.position() < due.position()) {
      due.differ("the position",
                 fmt::format("where a block ends, such as {}", fold.position().value),
                 fmt::format("{}", due.position().value));
    } else if (auto ok = due.finish(fold.sale()); !ok) {
      return tl::unexpected(ok.error());
    }
    out.difference = due.difference();
    out.checked.push_back(
        {due.generation().projection, due.generation().number, due.position(), due.rows()});
  }
  if (out.difference) out.difference->name = fold.sale().sku();
  return out;
}

Result<ProjectionComparison> compare_projections(const EventLog& log,
                                                 const std::filesystem::path& data, SkuId sku) {
  const auto store = ProjectionStore::open_view(projections_directory(data));
  if (!store && store.error().fault == Fault::not_found) return ProjectionComparison{};
  if (!store) return tl::unexpected(store.error());
  return compare_projections(log, **store, sku);
}

}  // namespace fairsale
