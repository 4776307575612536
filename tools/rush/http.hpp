// A thin HTTP/1.1 client for load: non-blocking sockets on one epoll, one request at a time on
// each connection, no allocation per request once warm. Plain http only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"

namespace fairsale::rush {

// Microseconds on the monotonic clock.
std::int64_t now_us();

struct Endpoint {
  std::string host;  // as given; a name or an address
  std::uint16_t port = 80;
  std::string authority;  // for the Host header
};

// Reads "http://host[:port]" (a trailing slash is allowed, a path is not).
Result<Endpoint> parse_url(std::string_view);

// Bytes that may be read (not used) after the body of a response from a pool, for simdjson.
inline constexpr std::size_t kJsonPadding = 64;

// What the bytes of a response say. Views into the buffer that was parsed.
struct Response {
  int status = 0;
  std::string_view body;
  std::string_view content_type;
  int retry_after = -1;   // seconds; -1 when absent or not a number
  bool replayed = false;  // Idempotent-Replayed: true
  bool keep_alive = true;
};

enum class Parsed { incomplete, complete, malformed };

// Parses one response from the start of `bytes`; `used` is its length when complete. A body needs
// Content-Length (chunked is refused as malformed: the server does not send it).
Parsed parse_response(std::string_view bytes, Response& response, std::size_t& used);

// What a request is about; the meaning of kind and index is the owner's.
struct Task {
  std::uint32_t index = 0;
  std::uint8_t kind = 0;
  std::uint8_t tries = 0;  // failed sends so far, saturating
  bool urgent = false;     // goes before those who are not

  friend bool operator==(const Task&, const Task&) = default;
};

// Why a request got no response.
enum class Lost : std::uint8_t {
  refused,    // could not connect
  reset,      // the connection closed or broke before the response was whole
  timeout,    // no response in time
  malformed,  // what came is not HTTP as expected
};

struct WireCounters {
  std::uint64_t connects = 0;
  std::uint64_t refused = 0;
  std::uint64_t resets = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t malformed = 0;
};

// A fixed number of connections to one endpoint. Not thread-safe.
class HttpPool {
 public:
  class Owner {
   public:
    // Appends the whole request.
    virtual void render(const Task&, std::string& out) = 0;
    // The response's views are valid during the call. May call send().
    virtual void on_response(const Task&, const Response&, std::int64_t sent_us) = 0;
    virtual void on_lost(const Task&, Lost) = 0;

   protected:
    ~Owner() = default;
  };

  // Resolves the endpoint and raises the limit of open files if it must. Connects on demand.
  static Result<HttpPool> open(const Endpoint&, std::size_t connections, std::int64_t timeout_us);

  HttpPool(HttpPool&&) noexcept;
  HttpPool& operator=(HttpPool&&) = delete;
  ~HttpPool();

  // Sends the request on a free connection. Returns false, having sent nothing, when none is free
  // or the server refuses connections (it is tried again after a pause).
  bool send(const Task&, Owner&);

  // Waits up to `wait_us` for anything to happen and tells the owner.
  void poll(std::int64_t wait_us, Owner&);

  // When send() may next succeed although it just failed: a time on the monotonic clock.
  // kNoRetry when only a response can free a connection.
  static constexpr std::int64_t kNoRetry = INT64_MAX;
  std::int64_t retry_at() const;

  const WireCounters& counters() const { return counters_; }

 private:
  enum class State : std::uint8_t { closed, connecting, idle, busy };

  struct Connection {
    int fd = -1;
    State state = State::closed;
    std::uint32_t generation = 0;  // tells events of an earlier socket from those of this one
    Task task;
    std::int64_t sent_us = 0;
    std::string out;
    std::size_t written = 0;
    std::vector<char> in;
    std::size_t received = 0;
  };

  HttpPool() = default;
  bool connect(std::uint32_t index);
  void close(Connection&);
  void lose(Connection&, Lost, Owner&);
  void flush(std::uint32_t index, Owner&);
  void receive(std::uint32_t index, Owner&);
  void want_write(std::uint32_t index, bool);
  void expire(Owner&);
  bool wait(std::int64_t wait_us, int& ready);

  int epoll_ = -1;
  std::vector<char> address_;
  std::int64_t timeout_us_ = 0;
  std::vector<Connection> connections_;
  std::deque<std::uint32_t> idle_;     // may hold entries that are idle no more
  std::vector<std::uint32_t> closed_;  // exact
  std::vector<char> events_;
  std::int64_t connect_after_us_ = 0;
  std::int64_t connect_pause_us_ = 0;
  std::int64_t next_expiry_us_ = 0;
  bool coarse_wait_ = false;  // the kernel has no epoll_pwait2
  WireCounters counters_;
};

}  // namespace fairsale::rush
