#include "api/webhook_routes.hpp"

#include <fmt/format.h>

namespace fairsale::api {

namespace {

using Answer = ProjectionRoutes::Answer;

Answer unavailable() {
  return {503,
          {},
          "outbox_unavailable",
          "Outbox unavailable",
          "This server keeps nothing on disk, so it has no outbox and no webhooks."};
}

Answer not_found() {
  return {
      404, {}, "not_found", "Not found", "There is no such webhook; GET /v1/webhooks lists them."};
}

Answer failed(const Error& error) {
  switch (error.fault) {
    case Fault::not_found: return not_found();
    case Fault::invalid: return {400, {}, "bad_request", "Bad request", error.message};
    case Fault::full: return {409, {}, "too_many_webhooks", "Too many webhooks", error.message};
    default:
      return {503,
              {},
              "outbox_unavailable",
              "Outbox unavailable",
              fmt::format("It could not be done just now: {}. Sales go on.", error.message)};
  }
}

void append(JsonWriter& json, const Webhook& w, bool with_secret) {
  json.begin_object()
      .member("id", std::string_view(w.id))
      .member("url", std::string_view(w.url))
      .key("kinds")
      .begin_array();
  for (const std::string_view name : w.kinds.names()) json.value(name);
  json.end_array().key("sku");
  if (w.sku) {
    json.value(w.sku->view());
  } else {
    json.null();
  }
  json.member("past", w.past)
      .member("created", w.created)
      .member("enabled", w.enabled)
      .key("disabled_because");
  if (w.enabled) {
    json.null();
  } else {
    json.value(std::string_view(w.disabled_because));
  }
  json.key("failing_since");
  if (w.failing_since) {
    json.value(*w.failing_since);
  } else {
    json.null();
  }
  json.member("secrets", w.secrets.size());
  if (with_secret) json.member("secret", std::string_view(w.secrets.front()));
  json.end_object();
}

void append(JsonWriter& json, const WebhookAttempt& a) {
  json.begin_object()
      .member("message", std::string_view(a.message))
      .member("time", a.at)
      .member("duration_ms", a.duration_ms)
      .key("status");
  if (a.status != 0) {
    json.value(a.status);
  } else {
    json.null();
  }
  json.key("error");
  if (a.taken()) {
    json.null();
  } else {
    json.value(std::string_view(a.error));
  }
  json.end_object();
}

Answer answer(int status, const Webhook& w, bool with_secret = false) {
  Answer a{.status = status};
  JsonWriter json(a.body);
  append(json, w, with_secret);
  return a;
}

}  // namespace

Answer WebhookRoutes::outbox() const {
  if (dispatcher_ == nullptr) return unavailable();
  Answer a;
  JsonWriter json(a.body);
  json.begin_object().key("consumers").begin_array();
  for (const ConsumerStatus& s : dispatcher_->status()) {
    json.begin_object()
        .member("name", std::string_view(s.name))
        .member("taken", s.taken)
        .member("skus_behind", s.skus_behind)
        .member("failures", s.failures)
        .key("trouble");
    if (s.trouble) {
      json.value(std::string_view(s.trouble->message));
    } else {
      json.null();
    }
    json.end_object();
  }
  json.end_array().end_object();
  return a;
}

Answer WebhookRoutes::list() const {
  if (webhooks_ == nullptr) return unavailable();
  Answer a;
  JsonWriter json(a.body);
  json.begin_object().key("webhooks").begin_array();
  for (const Webhook& w : webhooks_->list()) append(json, w, false);
  json.end_array().end_object();
  return a;
}

Answer WebhookRoutes::get(std::string_view id) const {
  if (webhooks_ == nullptr) return unavailable();
  const auto w = webhooks_->find(id);
  return w ? answer(200, *w) : not_found();
}

Answer WebhookRoutes::attempts(std::string_view id) const {
  if (webhooks_ == nullptr) return unavailable();
  const auto attempts = webhooks_->attempts(id);
  if (!attempts) return not_found();
  Answer a;
  JsonWriter json(a.body);
  json.begin_object().key("attempts").begin_array();
  for (const WebhookAttempt& attempt : *attempts) append(json, attempt);
  json.end_array().end_object();
  return a;
}

Answer WebhookRoutes::add(const NewWebhook& wanted) const {
  if (webhooks_ == nullptr) return unavailable();
  const auto w = webhooks_->add(wanted);
  return w ? answer(201, *w, true) : failed(w.error());
}

Answer WebhookRoutes::change(std::string_view id, WebhookChange c) const {
  if (webhooks_ == nullptr) return unavailable();
  const auto changed = [&] {
    switch (c.action) {
      case WebhookChange::Action::rotate_secret: return webhooks_->rotate_secret(id);
      case WebhookChange::Action::drop_old_secret: return webhooks_->drop_old_secret(id);
      case WebhookChange::Action::enable: return webhooks_->enable(id);
      default: return webhooks_->disable(id);
    }
  }();
  if (!changed) return failed(changed.error());
  return answer(200, *changed, c.action == WebhookChange::Action::rotate_secret);
}

Answer WebhookRoutes::remove(std::string_view id) const {
  if (webhooks_ == nullptr) return unavailable();
  if (const auto ok = webhooks_->remove(id); !ok) return failed(ok.error());
  return {.status = 204};
}

Answer WebhookRoutes::redeliver(std::string_view id, const RedeliveryBody& r) const {
  if (webhooks_ == nullptr) return unavailable();
  if (!r.number) {
    if (const auto ok = webhooks_->redeliver(id, r.sku.view(), r.position); !ok) {
      return failed(ok.error());
    }
    const auto w = webhooks_->find(id);
    return w ? answer(202, *w) : not_found();
  }
  const auto attempt = webhooks_->redeliver(id, r.sku.view(), r.position, *r.number);
  if (!attempt) return failed(attempt.error());
  Answer a;
  JsonWriter json(a.body);
  append(json, *attempt);
  return a;
}

}  // namespace fairsale::api
