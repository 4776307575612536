// What an audit found, for people (text, one HTML page) and for programs (JSON).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "projections/audit/audit.hpp"

namespace fairsale::audit {

// What is kept of a sale whose details are left out.
struct SaleSummary {
  std::size_t number = 0;  // of its task
  SkuId id;
  std::string sku;
  Head head;
  Digest state;
  Seq provisional;
  std::uint64_t events = 0;
  std::uint64_t divergences = 0;
  std::uint64_t breaches = 0;
  bool read = true;
  bool complete = true;

  bool sound() const { return read && divergences == 0; }
  bool troubled() const { return !sound() || breaches > 0; }
};

// However many sales there are, the details of no more than kMostDetailed are kept: of those in
// which something is wrong before all others. Of the rest a summary.
class StoreReport {
 public:
  static constexpr std::size_t kMostDetailed = 100;

  std::string store;    // the data directory as it was named
  std::string program;  // "fairsale 1.2.3"
  bool fairness = false;
  std::optional<Error> damage;     // of the store as a whole, see Plan
  std::vector<std::string> notes;  // what was passed over
  double seconds = 0;

  void add(SaleReport);
  // Puts the sales in order, those in which something is wrong first. Call when all are added.
  void finish();

  const std::vector<SaleReport>& sales() const { return sales_; }
  const std::vector<SaleSummary>& others() const { return others_; }
  std::uint64_t audited() const { return sales_.size() + others_.size(); }
  std::uint64_t events() const { return events_; }
  std::uint64_t diverging() const { return diverging_; }
  std::uint64_t unfair() const { return unfair_; }
  std::uint64_t unread() const { return unread_; }
  std::uint64_t incomplete() const { return incomplete_; }

  // Everything was read and checks out.
  bool sound() const { return !damage && diverging_ == 0 && unread_ == 0; }
  // Every promise was kept, to the end of every sale.
  bool fair() const { return unfair_ == 0 && incomplete_ == 0; }
  // Something that was read is wrong, whatever else could not be read.
  bool found_wrong() const { return damage || diverging_ > 0 || unfair_ > 0; }

 private:
  std::vector<SaleReport> sales_;
  std::vector<SaleSummary> others_;
  std::uint64_t events_ = 0;
  std::uint64_t diverging_ = 0;
  std::uint64_t unfair_ = 0;
  std::uint64_t unread_ = 0;
  std::uint64_t incomplete_ = 0;
};

// Called after each sale; may take away what has been appended by then. An error ends the report.
using Pass = std::function<Result<void>()>;

// Each appends a report to `out`, sale by sale.

// One paragraph a sale, one line for each of the others; a list that is long is cut short and says
// so.
Result<void> write_text(const StoreReport&, std::string& out, const Pass&);

// One object. Each sale has the members of GET /v1/sales/{sku}/audit-head, so that it can be kept
// as a saved head.
Result<void> write_json(const StoreReport&, std::string& out, const Pass&);

// A page without scripts or anything from elsewhere. Charts and tables are bounded: the page of a
// store with very many sales or interventions says what it leaves out.
Result<void> write_html(const StoreReport&, std::string& out, const Pass&);

}  // namespace fairsale::audit
