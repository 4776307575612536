// What the API says of the outbox's ways out of the server, and how webhooks are registered,
// changed and watched. Knows nothing of connections. Changes write to disk and may wait for a
// request to a webhook, so all of it is for a thread that may wait (clerk.hpp).
#pragma once

#include <string_view>

#include "api/bodies.hpp"
#include "api/projection_routes.hpp"
#include "projections/delivery/webhooks.hpp"
#include "projections/outbox/dispatcher.hpp"

namespace fairsale::api {

class WebhookRoutes {
 public:
  using Answer = ProjectionRoutes::Answer;

  // Neither is there when nothing is kept on disk.
  WebhookRoutes(const Dispatcher* dispatcher, Webhooks* webhooks)
      : dispatcher_(dispatcher), webhooks_(webhooks) {}

  Answer outbox() const;

  Answer list() const;
  Answer get(std::string_view id) const;
  Answer attempts(std::string_view id) const;
  Answer add(const NewWebhook&) const;
  Answer change(std::string_view id, WebhookChange) const;
  Answer remove(std::string_view id) const;
  Answer redeliver(std::string_view id, const RedeliveryBody&) const;

 private:
  const Dispatcher* dispatcher_;
  Webhooks* webhooks_;
};

}  // namespace fairsale::api
