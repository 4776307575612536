// The cluster's way over NATS: the streams that order batches, and the subjects by which nodes
// talk.
//
//   stream FAIRSALE_LOG_P_G, subject fairsale.log.P.G   batches of partition P, generation G; and
//                                                       the promises that end the one before
//   fairsale.stored.ORIGIN.NUMBER                       JetStream's acknowledgements of batches
//   fairsale.answers.ORIGIN                             processors' answers to them
//   fairsale.queries.P                                  requests for any processor of P
//   fairsale.replies.ORIGIN.NUMBER                      its reply to one
//   fairsale.shown                                      how sales look
//   fairsale.show                                       a request to show all of them
//   fairsale.lacks.P                                    a request for messages of P's stream
//   fairsale.has.NODE                                   one of them
//   fairsale.unstored.P                                 a batch of P is not stored, for too long
//   fairsale.nodes                                      heartbeats
//
// Streams are made when they are not there, and never altered. Everything else is lost when nobody
// listens, or when a connection is: whoever needs an answer asks again.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/cluster/log_streams.hpp"
#include "api/cluster/wire.hpp"
#include "core/cluster/follower.hpp"
#include "core/log/result.hpp"

namespace fairsale::api {

struct BusOptions {
  std::string url;  // as in NatsOptions
  std::string credentials;
  std::string creds_file;
  std::string name;  // of this node, as NATS shows it
  LogStreamSettings streams{};
};

// Who hears what comes. Called by threads of the library, each kind by one at a time; a call that
// does not return holds back what comes next of its kind.
class BusListener {
 public:
  virtual void on_message(const cluster::Delivered&, std::uint64_t run) = 0;
  virtual void on_stored(cluster::NodeId origin, cluster::BatchNumber,
                         std::optional<cluster::Position>) = 0;  // nothing: it is not stored
  virtual void on_answers(cluster::NodeId origin, std::span<const std::byte>) = 0;
  virtual void on_query(cluster::PartitionId, std::span<const std::byte>,
                        std::string_view reply_to) = 0;
  virtual void on_reply(cluster::NodeId origin, std::uint64_t number,
                        std::span<const std::byte>) = 0;
  virtual void on_shown(std::span<const std::byte>) = 0;
  virtual void on_show() = 0;
  virtual void on_lacks(std::span<const std::byte>) = 0;
  virtual void on_has(std::span<const std::byte>) = 0;
  virtual void on_unstored(cluster::PartitionId) = 0;
  virtual void on_heartbeat(std::span<const std::byte>) = 0;
  virtual void on_connection(bool up) = 0;
  virtual void on_connection_lost() = 0;  // for good: nothing comes any more

 protected:
  ~BusListener() = default;
};

// Thread-safe. Nothing waits for the network but connect() and what gives a Result
// about streams.
class Bus {
 public:
  virtual ~Bus() = default;

  // Whether NATS can make streams and consumers now: for some seconds after a fault it cannot.
  virtual Result<void> available() = 0;
  // Makes the stream of that generation if it is not there.
  virtual Result<void> ensure_stream(cluster::PartitionId, std::uint16_t generation) = 0;
  // What it holds; nothing when it is not there.
  virtual Result<std::optional<LogStreamBounds>> bounds(cluster::PartitionId,
                                                        std::uint16_t generation) = 0;

  // Delivers a stream's messages from `next` on to the listener, instead of what was asked for
  // before; some of that may still come. `run` is told with each. Returns the server that delivers
  // them; empty when NATS is no cluster. `silent()` tells when it has stopped.
  virtual Result<std::string> follow(cluster::PartitionId, cluster::Position next,
                                     std::uint64_t run) = 0;
  // Ends that.
  virtual void leave(cluster::PartitionId, std::uint16_t generation) = 0;
  // Asks a stream that is followed whether it has a leader, who would take messages: it may have
  // none while what it has is delivered all the same. To be called some times a second.
  virtual void probe(cluster::PartitionId, std::uint16_t generation) = 0;
  // How long nothing was heard of a stream that is followed: neither from its consumer, which
  // speaks four times a second at least, nor from its leader, when it is probed. max() when either
  // has said nothing yet.
  virtual std::chrono::milliseconds silent(cluster::PartitionId,
                                           std::uint16_t generation) const = 0;
  // Whether messages of it were lost on the way here: what was under way when a connection broke
  // does not come again.
  virtual bool lost(cluster::PartitionId, std::uint16_t generation) const = 0;
  // How long no message came from it.
  virtual std::chrono::milliseconds quiet(cluster::PartitionId, std::uint16_t generation) const = 0;
  // How silent it is, in words, for the log.
  virtual std::string heard(cluster::PartitionId, std::uint16_t generation) const = 0;
  // The server that leads a stream; empty when there is none now, nothing when NATS is one server.
  virtual Result<std::optional<std::string>> leader(cluster::PartitionId,
                                                    std::uint16_t generation) = 0;
  // Asks for another one.
  virtual void step_down(cluster::PartitionId, std::uint16_t generation) = 0;
  // False: it is not certain to be gone.
  virtual bool remove_stream(cluster::PartitionId, std::uint16_t generation) = 0;
  // Messages up to this one have come some other way.
  virtual void found(cluster::PartitionId, std::uint16_t generation, std::uint64_t last) = 0;
  // One message of a stream. Nothing when it is not there.
  virtual Result<std::optional<LogStreamMessage>> fetch(cluster::PartitionId,
                                                        cluster::Position) = 0;

  // False: it was not sent.
  virtual bool publish_batch(cluster::PartitionId, std::uint16_t generation, cluster::NodeId origin,
                             cluster::BatchNumber, std::span<const std::byte>) = 0;
  // Into a stream too, and nobody is told whether it was stored.
  virtual void publish_message(cluster::PartitionId, std::uint16_t generation,
                               std::span<const std::byte>) = 0;
  virtual void publish_answers(cluster::NodeId origin, std::span<const std::byte>) = 0;
  virtual bool publish_query(cluster::PartitionId, cluster::NodeId origin, std::uint64_t number,
                             std::span<const std::byte>) = 0;
  virtual void publish_reply(std::string_view reply_to, std::span<const std::byte>) = 0;
  virtual void publish_shown(std::span<const std::byte>) = 0;
  virtual void ask_to_show() = 0;
  virtual void publish_lacks(cluster::PartitionId, std::span<const std::byte>) = 0;
  virtual void publish_has(cluster::NodeId, std::span<const std::byte>) = 0;
  virtual void publish_unstored(cluster::PartitionId) = 0;
  virtual void publish_heartbeat(std::span<const std::byte>) = 0;

  // What this node listens to.
  virtual Result<void> hear_origin(cluster::NodeId) = 0;  // acknowledgements, answers, replies
  virtual Result<void> hear_queries(cluster::PartitionId) = 0;
  virtual Result<void> hear_lacks(cluster::PartitionId) = 0;
  virtual Result<void> hear_has(cluster::NodeId) = 0;
  virtual Result<void> hear_shown() = 0;
  virtual Result<void> hear_show() = 0;
  virtual Result<void> hear_unstored(cluster::PartitionId) = 0;
  virtual Result<void> hear_heartbeats() = 0;

  // After this nobody is called any more.
  virtual void close() = 0;
};

// Connects. Fails when no server answers; later it reconnects by itself, unless it is refused.
Result<std::unique_ptr<Bus>> connect_nats(BusOptions, BusListener&);

}  // namespace fairsale::api
