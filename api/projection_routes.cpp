#include "api/projection_routes.hpp"

#include <fmt/format.h>

namespace fairsale::api {

namespace {

using Answer = ProjectionRoutes::Answer;

Answer not_found(std::string detail) {
  return {404, {}, "not_found", "Not found", std::move(detail)};
}

void append(JsonWriter& json, std::string_view sku, const OrderEntry& e) {
  const std::string id = fmt::format("{}:{}", sku, e.order.purchase.value);
  json.begin_object()
      .member("purchase", std::string_view(id))
      .member("customer", e.order.customer.view())
      .member("quantity", e.order.quantity.value)
      .member("amount", e.order.amount)
      .member("reference", e.order.reference.view())
      .member("position", e.order.position.value)
      .member("time", e.order.at)
      .key("refunded");
  if (e.refund) {
    json.begin_object()
        .member("position", e.refund->position.value)
        .member("time", e.refund->at)
        .end_object();
  } else {
    json.null();
  }
  json.end_object();
}

Timestamp start_of(const TimelineRow& row) { return Timestamp{row.second * 1000}; }

void append(JsonWriter& json, const TimelineRow& row) {
  json.begin_object()
      .member("time", start_of(row))
      .member("position", row.position.value)
      .member("purchases", row.purchases)
      .member("customers", row.customers)
      .member("available", row.available.value)
      .member("held", row.held.value)
      .member("sold", row.sold.value)
      .member("waiting", row.waiting)
      .member("state", name_of(row.phase))
      .end_object();
}

void append(JsonWriter& json, const ProjectionStatus& s) {
  json.begin_object()
      .member("projection", name_of(s.projection))
      .member("version", version_of(s.projection))
      .member("state", name_of(s.state))
      .member("generation", s.generation)
      .member("lag", s.lag)
      .member("rows", s.rows)
      .key("progress")
      .raw(fmt::format("{:.4f}", s.progress))
      .key("generations")
      .begin_array();
  for (const Generation& g : s.generations) {
    json.begin_object()
        .member("generation", g.number)
        .member("state", name_of(g.state))
        .end_object();
  }
  json.end_array().key("mismatch");
  if (s.mismatch) {
    const std::string sku = fmt::format("{:016x}", s.mismatch->sku.value);
    const std::string current = to_hex(s.mismatch->current);
    const std::string built = to_hex(s.mismatch->built);
    json.begin_object()
        .member("generation", s.mismatch->generation)
        .member("sku_id", std::string_view(sku))
        .member("position", s.mismatch->position.value)
        .member("current_digest", std::string_view(current))
        .member("built_digest", std::string_view(built))
        .end_object();
  } else {
    json.null();
  }
  json.end_object();
}

}  // namespace

Answer ProjectionRoutes::unavailable(const Error& error) const {
  if (projector_ != nullptr) projector_->suspect(error);
  return unavailable();
}

Answer ProjectionRoutes::unavailable() const {
  return {503,
          {},
          "projection_unavailable",
          "Projection unavailable",
          projector_ == nullptr
              ? "This server keeps nothing on disk, so it stores no projections."
              : "The store of projections cannot be read just now; sales go on. Operators see why "
                "in GET /v1/projections and the server's log."};
}

Answer ProjectionRoutes::read(const Read& r) const {
  const auto store = projector_ != nullptr ? projector_->store() : nullptr;
  if (!store) return unavailable();
  Answer answer;
  JsonWriter json(answer.body);
  const SkuId sku = sku_id(r.sku.view());
  if (r.projection == StoredProjection::orders) {
    const auto page = store->orders(sku, r.after_position, r.limit);
    if (!page) return unavailable(page.error());
    json.begin_object().key("orders").begin_array();
    for (const OrderEntry& e : page->orders) append(json, r.sku.view(), e);
    json.end_array().key("next");
    if (page->more) {
      json.value(page->orders.back().order.position.value);
    } else {
      json.null();
    }
    json.member("position", page->position.value).end_object();
    return answer;
  }
  const auto page = store->timeline(sku, r.after_second, r.limit);
  if (!page) return unavailable(page.error());
  json.begin_object().key("timeline").begin_array();
  for (const TimelineRow& row : page->seconds) append(json, row);
  json.end_array().key("next");
  if (page->more) {
    json.value(start_of(page->seconds.back()));
  } else {
    json.null();
  }
  json.member("position", page->position.value).end_object();
  return answer;
}

std::optional<Seq> ProjectionRoutes::position(const Read& r) const {
  const auto store = projector_ != nullptr ? projector_->store() : nullptr;
  if (!store) return std::nullopt;
  const auto position = store->position(r.projection, sku_id(r.sku.view()));
  if (!position) return std::nullopt;
  return *position;
}

Answer ProjectionRoutes::list() const {
  if (projector_ == nullptr) return unavailable();
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object().key("projections").begin_array();
  for (const ProjectionStatus& s : projector_->status()) append(json, s);
  json.end_array().key("error");
  if (const auto error = projector_->error()) {
    json.value(std::string_view(error->message));
  } else {
    json.null();
  }
  json.end_object();
  return answer;
}

Answer ProjectionRoutes::rebuild(std::string_view projection, bool force) const {
  const auto p = stored_projection(projection);
  if (!p) return not_found("There is no such projection; GET /v1/projections lists them.");
  if (projector_ == nullptr) return unavailable();
  switch (projector_->rebuild(*p, force)) {
    case GenerationChange::done: break;
    case GenerationChange::under_way:
      return {409,
              {},
              "rebuild_under_way",
              "Rebuild under way",
              "A generation is being built already; GET /v1/projections shows how far it is."};
    case GenerationChange::too_many:
      return {409,
              {},
              "too_many_generations",
              "Too many generations",
              "As many generations as may be are kept: delete old ones first."};
    default: return unavailable();
  }
  for (const ProjectionStatus& s : projector_->status()) {
    if (s.projection != *p) continue;
    Answer answer{.status = 202};
    JsonWriter json(answer.body);
    append(json, s);
    return answer;
  }
  return unavailable();
}

Answer ProjectionRoutes::drop(std::string_view projection, std::string_view generation) const {
  const auto p = stored_projection(projection);
  const auto number = http::parse_number(generation);
  if (!p || !number || *number > ~std::uint32_t{0}) {
    return not_found("There is no such generation; GET /v1/projections lists them.");
  }
  if (projector_ == nullptr) return unavailable();
  switch (projector_->drop(*p, static_cast<std::uint32_t>(*number))) {
    case GenerationChange::done: return {.status = 204};
    case GenerationChange::unknown:
      return not_found("There is no such generation; GET /v1/projections lists them.");
    case GenerationChange::in_use:
      return {409,
              {},
              "generation_in_use",
              "Generation in use",
              "This generation answers reads. Rebuild the projection first."};
    default: return unavailable();
  }
}

}  // namespace fairsale::api
