#include "projections/availability.hpp"

#include <fmt/format.h>

#include "core/json/sale_json.hpp"

namespace fairsale {

std::shared_ptr<const Availability> AvailabilityBoard::find(std::string_view sku) const {
  const std::shared_lock lock(mutex_);
  const auto found = slots_.find(sku);
  if (found == slots_.end()) return nullptr;
  const std::scoped_lock slot(mutex_of(found->second));
  return found->second.current;
}

std::vector<std::shared_ptr<const Availability>> AvailabilityBoard::list(std::string_view after,
                                                                         std::size_t limit) const {
  std::vector<std::shared_ptr<const Availability>> out;
  const std::shared_lock lock(mutex_);
  for (auto it = by_name_.upper_bound(after); it != by_name_.end() && out.size() < limit; ++it) {
    const std::scoped_lock slot(mutex_of(*it->second));
    if (it->second->current) out.push_back(it->second->current);
  }
  return out;
}

bool AvailabilityBoard::swap(std::string_view sku, std::shared_ptr<const Availability>& next) {
  const std::shared_lock lock(mutex_);
  const auto found = slots_.find(sku);
  if (found == slots_.end()) return false;
  const std::scoped_lock slot(mutex_of(found->second));
  found->second.current.swap(next);
  version_.fetch_add(1, std::memory_order_release);
  return true;
}

void AvailabilityBoard::publish(std::string_view sku, std::shared_ptr<const Availability> next) {
  if (swap(sku, next)) return;
  const std::unique_lock lock(mutex_);
  const auto entered = slots_.try_emplace(std::string(sku)).first;
  entered->second.current = std::move(next);
  by_name_.emplace(entered->first, &entered->second);
  version_.fetch_add(1, std::memory_order_release);
}

void AvailabilityBoard::withdraw(std::string_view sku) {
  std::shared_ptr<const Availability> none;
  swap(sku, none);
}

std::string render_sale(const Sale& sale) {
  std::string out;
  out.reserve(512);
  JsonWriter json(out);
  json.begin_object().member("sku", sale.sku()).member("state", name_of(sale.phase()));
  append_counters(json, sale.counters());
  append_terms(json, sale.terms());
  json.member("position", sale.seq().value).end_object();
  return out;
}

Seq AvailabilityProjection::cursor(SkuId sku) const {
  const auto found = latest_.find(sku.value);
  return found == latest_.end() ? Seq{0} : found->second->position;
}

std::shared_ptr<const Availability> AvailabilityProjection::latest(SkuId sku) const {
  const auto found = latest_.find(sku.value);
  return found == latest_.end() ? nullptr : found->second;
}

Digest AvailabilityProjection::digest(SkuId sku) const {
  DigestWriter w;
  w.text(name());
  w.number(version());
  const auto found = latest_.find(sku.value);
  if (found != latest_.end()) w.text(found->second->json());
  return w.finish();
}

void AvailabilityProjection::seed(SkuId sku, const Sale& sale) { on_commit(sku, sale); }

void AvailabilityProjection::on_commit(SkuId sku, const Sale& sale) {
  if (!sale.exists()) return;
  auto next = std::make_shared<Availability>();
  next->sku = sku;
  next->name = *SkuName::from(sale.sku());
  next->position = sale.seq();
  auto& latest = latest_[sku.value];
  if (latest) next->previous = latest->position;
  next->terms = sale.terms();
  next->terms.stock = sale.counters().stocked;
  const std::string json = render_sale(sale);
  constexpr std::string_view kHeader =
      "HTTP/1.1 200 OK\r\n"
      "Content-Type: application/json\r\n"
      "Cache-Control: public, max-age=1\r\n"
      "ETag: \"{}\"\r\n"
      "Content-Length: {}\r\n\r\n";
  next->response.reserve(kHeader.size() + 20 + json.size());
  fmt::format_to(std::back_inserter(next->response), kHeader, sale.seq().value, json.size());
  next->header_size = next->response.size();
  next->response += json;
  latest = next;
  board_.publish(sale.sku(), std::move(next));
}

}  // namespace fairsale
