// The outbox's way to NATS: messages are published to JetStream, and taken once it has acknowledged
// that they are stored.
//
//   stream FAIRSALE_ORDERS         fairsale.orders.SKU              ordered, refund_due
//   stream FAIRSALE_NOTIFICATIONS  fairsale.notifications.SKU.KIND  all others, reminders too
//
// Orders are a work queue: each is kept until a worker has acknowledged it. Notifications are kept
// for a week. Streams are made when they are not there, and never altered. The body is a
// CloudEvent, by whose id consumers drop repeats; the headers are Nats-Msg-Id (by which JetStream
// drops repeats within two minutes), traceparent and Content-Type.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/log/result.hpp"
#include "projections/outbox/dispatcher.hpp"

namespace fairsale {

struct NatsOptions {
  std::string url;          // nats://host:port or tls://host:port, several with commas between
  std::string credentials;  // "user:password" or a token; empty: none
  std::string creds_file;   // a .creds file of NATS, read at each connect; empty: none
  // What an operator should know, such as a stream that is not as it should be.
  std::function<void(const std::string&)> warn;
};

// Named "nats". Connects when there is something to publish, and again after trouble.
std::unique_ptr<Consumer> nats_consumer(NatsOptions);

// The Nats-Msg-Id of a message of this id: that, a slash and 16 hexadecimal digits of the SHA-256
// of its body. The same position of another log of the SKU (a restored or a second server's) is
// another message, and must not be taken for a repeat.
std::string nats_message_id(std::string_view id, std::string_view body);

// A SKU as a token of a subject: '.' and what else a token may not hold as %XX.
std::string nats_token(std::string_view sku);
std::string nats_subject(std::string_view sku, const MessageRow&);
std::string nats_subject(std::string_view sku, const Reminder&);

}  // namespace fairsale
