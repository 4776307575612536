#include "core/log/sale_name.hpp"

#include <fmt/format.h>

namespace fairsale {

Result<std::string> sale_name(const EventLog& log, SkuId sku) {
  std::string name;
  std::optional<Error> error;
  const auto read = log.read(sku, Seq{1}, [&](const BlockView& block) {
    const auto decoded = block.for_each([&name](Seq, const Event& e) {
      const auto* scheduled = std::get_if<SaleScheduled>(&e);
      if (scheduled != nullptr && name.empty()) name = scheduled->sku.view();
    });
    if (!decoded) error = decoded.error();
    return false;
  });
  if (!read) return tl::unexpected(read.error());
  if (error) {
    return fail(error->fault, fmt::format("SKU {:016x}: {}", sku.value, error->message));
  }
  if (sku_id(name) != sku) name.clear();
  return name;
}

}  // namespace fairsale
