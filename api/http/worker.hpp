// The HTTP edge: one Worker is one thread's event loop with its own listening socket, connections
// and timeouts. It knows HTTP/1.1 and nothing of the domain; a Service answers the requests.
//
// A turn is: wait until something is ready or the Service's time has come; hand over every request
// that has arrived (up to a bound); Service::on_turn(); write all answers, one write for each
// connection. So whatever arrived while the last turn was syncing to disk becomes one batch.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"

namespace fairsale::http {

// Connections over capacity that a worker keeps open for a moment, to tell them so.
inline constexpr std::size_t kRefusedConnections = 64;

// The bounds of the edge. Each has a status: what goes over it is answered, not left hanging.
struct Limits {
  std::size_t header_bytes = 8'192;    // request line and fields; over it 431
  std::size_t target_bytes = 1'024;    // over it 414
  std::size_t body_bytes = 16'384;     // decoded; over it 413
  std::size_t connections = 20'000;    // of one worker; over it 503 and close
  std::size_t pipeline = 64;           // unanswered requests of a connection; then reading stops
  std::size_t output_bytes = 262'144;  // unsent bytes at which no new request is begun
  std::size_t requests_per_turn = 1024;
  std::size_t stream_bytes = 262'144;      // unsent bytes of a stream; over it it is ended
  std::size_t stream_writes_per_turn = 8;  // streams written to in a turn; others wait for theirs
  std::chrono::milliseconds header_timeout{10'000};  // from a request's first byte; then 408
  std::chrono::milliseconds body_timeout{10'000};    // from the end of the header; then 408
  std::chrono::milliseconds idle_timeout{75'000};    // between requests; then closed
  std::chrono::milliseconds write_timeout{10'000};   // without progress; then closed
  std::chrono::milliseconds linger_timeout{1'000};   // after a refusal, for the client to read it
};

enum class Method : std::uint8_t { get, head, post, put, patch, del, options, other };

// IPv4 addresses are held in their IPv6-mapped form (::ffff:a.b.c.d).
struct ClientAddress {
  std::array<std::uint8_t, 16> bytes{};
  bool is_v4() const;
  bool is_loopback() const;
  friend bool operator==(const ClientAddress&, const ClientAddress&) = default;
};

// One whole, well-formed request. Views are valid until on_request() returns. A header that was
// not sent and one sent empty are told apart by data() == nullptr.
struct Request {
  Method method = Method::other;
  std::string_view method_name;
  std::string_view target;  // as sent, without scheme and authority
  std::string_view path;    // percent-encoded still; starts with '/' (or is "*" for OPTIONS)
  std::string_view query;   // after '?', percent-encoded still
  std::string_view host;
  std::string_view authorization;
  std::string_view idempotency_key;
  std::string_view content_type;
  std::string_view accept;
  std::string_view if_none_match;
  std::string_view webhook_id;  // these three sign what is sent by a webhook
  std::string_view webhook_timestamp;
  std::string_view webhook_signature;
  std::string_view last_event_id;
  std::string_view body;  // decoded when it came in chunks
  ClientAddress address;
  bool has_body = false;  // a Content-Length (0 too) or chunks were sent
};

// Names one awaited answer. May travel to other threads and back; a ticket of a connection that
// has gone since is harmless.
struct Ticket {
  std::uint32_t connection = 0;
  std::uint32_t generation = 0;
  std::uint32_t request = 0;
};

struct Answer {
  int status = 200;
  std::string_view content_type;  // empty: no Content-Type
  std::string_view headers;       // further fields, each ending in CRLF
  std::string_view body;
};

// What the edge asks of the application: one Service per worker, every call on the worker's thread.
class Service {
 public:
  virtual ~Service() = default;

  // Answers by Worker::respond(ticket, ...) now or in a later turn, once.
  virtual void on_request(const Request&, Ticket) = 0;

  // Called in every turn, after the requests and after wake(): the place to commit a block and
  // answer. Returns when it wants to be called even if nothing arrives (max(): never).
  virtual std::chrono::steady_clock::time_point on_turn() = 0;

  // A stream that was begun is over: its client has gone or was too slow, or end() was called.
  // Told once for each stream, except for those that run()'s end cuts off.
  virtual void on_stream_closed(Ticket) {}
};

// A bound, listening TCP socket.
class Listener {
 public:
  explicit Listener(int fd) : fd_(fd) {}
  ~Listener();
  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&& other) noexcept;

  int fd() const { return fd_; }
  int release();  // the caller closes it

 private:
  int fd_ = -1;
};

struct Listening {
  std::vector<Listener> listeners;
  std::uint16_t port = 0;  // the one that was bound, when 0 was asked for
};

// `count` listeners on one port (SO_REUSEPORT), one for each worker; the kernel spreads connections
// over them. Fails when the address is taken, also by another process that would share it.
Result<Listening> listen(const std::string& address, std::uint16_t port, std::size_t count);

// Counters of a worker since its start; `connections` is the present number.
struct WorkerStats {
  std::uint64_t connections = 0;
  std::uint64_t accepted = 0;
  std::uint64_t over_capacity = 0;  // refused with 503
  std::uint64_t accept_errors = 0;  // out of file descriptors, mostly
  std::uint64_t requests = 0;       // handed to the Service
  std::uint64_t refused = 0;        // malformed or over a bound: answered by the edge
  std::uint64_t timeouts = 0;       // 408s, idle closes and stalled writes
  std::uint64_t slow_streams = 0;   // ended, since their clients did not keep up
  std::uint64_t turns = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
};

class Worker {
 public:
  Worker(Listener, const Limits&);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Serves on the calling thread until drain() has done its work.
  void run(Service&);

  // Any thread: a turn is begun soon (now, if the worker waits).
  void wake();

  // Any thread: stops in stages. The listener is closed, idle connections too; requests still
  // arriving on open ones are handed to the Service; each connection is closed after its last
  // awaited answer (Connection: close). After `patience` everything is closed and run() returns.
  void drain(std::chrono::milliseconds patience);

  // The rest: on the worker's thread only.

  bool draining() const;

  // Answers leave in the order of their requests whatever the order of these calls. For a HEAD
  // request the body is measured but not sent. False when nobody waits for it any more.
  bool respond(Ticket, const Answer&);

  // A whole response rendered before: status line, fields with Content-Length, empty line, body.
  // The edge adds Date and, where needed, Connection.
  bool respond_raw(Ticket, std::string_view response);

  // An answer without an end. Status line and fields are sent as respond() would; its body is what
  // send() appends until end(): chunked in HTTP/1.1, till the connection's end in HTTP/1.0. It is
  // the connection's last answer: requests pipelined behind it are not answered. Returns false when
  // nobody waits for it, and for a HEAD request, which is answered then: no stream has begun.
  //
  // Streams never hold up the answers of a turn: they are written to after those, so many in a
  // turn, in the order in which they got something to send. One whose client takes nothing for
  // Limits::write_timeout, or leaves more than Limits::stream_bytes unsent, is cut off without an
  // end, which tells the client that more was to come. drain() ends all streams.
  bool begin_stream(Ticket, const Answer& head);
  // Whole pieces: either all of it is sent in the end or the stream is over. False when it is.
  bool send(Ticket, std::string_view piece);
  // Bytes of a stream that the network has not taken yet.
  std::size_t unsent(Ticket) const;
  void end(Ticket);

  // The time at which this turn began.
  std::chrono::steady_clock::time_point now() const;

  // Any thread.
  WorkerStats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fairsale::http
