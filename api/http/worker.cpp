#include "api/http/worker.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <deque>
#include <limits>
#include <new>
#include <utility>

#include <fmt/compile.h>
#include <fmt/format.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include "api/http/problem.hpp"
#include "api/http/request_reader.hpp"
#include "core/domain/invariant.hpp"

namespace fairsale::http {

namespace asio = boost::asio;

namespace {

using SteadyClock = std::chrono::steady_clock;
using TimePoint = SteadyClock::time_point;
using boost::system::error_code;
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<asio::ip::tcp, Executor>;
using EventDescriptor = asio::posix::basic_stream_descriptor<Executor>;

constexpr TimePoint kNeverDue = TimePoint::max();
constexpr std::size_t kIdleBufferBytes = 2048;
constexpr std::size_t kMaxReadBuffer = 16'384;  // grown to when reads keep filling the buffer
constexpr std::size_t kKeptOutputBytes = 4096;  // output capacity a quiet connection may keep
constexpr std::size_t kKeptStreamBytes = 1024;  // likewise, of a stream
constexpr std::size_t kPressingBytes = 16'384;  // unsent by a stream that does not wait its turn
constexpr int kAcceptsPerEvent = 64;
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

// The readers' lane. While turns are long, connections that only read are looked at apart from the
// crowd and answered between others, so that "is there any left?" costs no wait in the queue. A
// write gains nothing by coming on such a connection: it goes back into the queue unread.
constexpr auto kLongTurn = std::chrono::milliseconds(2);
constexpr std::size_t kCrowd = 64;  // requests of a turn that are not reads; readers alone queue
constexpr auto kCrowdedFor = std::chrono::seconds(1);  // after the latest long turn
constexpr std::uint8_t kReaderAfter = 3;               // reads in succession
constexpr int kReadersAtOnce = 64;
constexpr std::size_t kReadersEvery = 16;  // connections handled or flushed

// Memory for the one outstanding operation of a kind, so that starting one allocates nothing.
class OperationMemory {
 public:
  void* take(std::size_t bytes) {
    if (!used_ && bytes <= sizeof storage_) {
      used_ = true;
      return storage_;
    }
    return ::operator new(bytes);
  }
  void give_back(void* p) {
    if (p == storage_) {
      used_ = false;
    } else {
      ::operator delete(p);
    }
  }

 private:
  alignas(std::max_align_t) std::byte storage_[192];
  bool used_ = false;
};

template <class T>
class OperationAllocator {
 public:
  using value_type = T;
  explicit OperationAllocator(OperationMemory* memory) : memory_(memory) {}
  template <class U>
  OperationAllocator(const OperationAllocator<U>& other) : memory_(other.memory()) {}
  T* allocate(std::size_t n) { return static_cast<T*>(memory_->take(n * sizeof(T))); }
  void deallocate(T* p, std::size_t) { memory_->give_back(p); }
  OperationMemory* memory() const { return memory_; }
  template <class U>
  bool operator==(const OperationAllocator<U>& other) const {
    return memory_ == other.memory();
  }

 private:
  OperationMemory* memory_;
};

// A handler that calls a member of its target, with the target's memory for the operation.
template <class Target, auto Member>
struct Handler {
  using allocator_type = OperationAllocator<char>;
  Target* target;
  OperationMemory* memory;
  allocator_type get_allocator() const { return allocator_type(memory); }
  template <class... Args>
  void operator()(Args... args) const {
    (target->*Member)(args...);
  }
};

// The received and not yet consumed bytes of a connection.
class ReadBuffer {
 public:
  char* data() { return bytes_.get() + begin_; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  bool begins_with(std::string_view s) { return std::string_view(data(), size()).starts_with(s); }
  void shrink_to(std::size_t size) { end_ = begin_ + size; }
  void clear() { begin_ = end_ = 0; }

  // Room for at least one more byte, at most `limit` bytes in all. Views into the buffer are lost.
  asio::mutable_buffer prepare(std::size_t limit) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (!bytes_) allocate(kIdleBufferBytes);
    if (begin_ > 0 && capacity_ - end_ < capacity_ / 2) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, size());
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ == capacity_) allocate(std::min(capacity_ * 2, std::max(limit, capacity_ + 1)));
    return {bytes_.get() + end_, capacity_ - end_};
  }

  void commit(std::size_t n) {
    end_ += n;
    filled_ = end_ == capacity_;
    const bool small = capacity_ > kIdleBufferBytes && n < capacity_ / 8;
    small_reads_ = small ? small_reads_ + 1 : 0;
  }
  void consume(std::size_t n) { begin_ += n; }

  // Between reads: a client that fills the buffer again and again (by pipelining) gets a larger
  // one, and a buffer grown for one large request goes back.
  void adapt() {
    if (filled_ && capacity_ < kMaxReadBuffer) {
      allocate(capacity_ * 2);
    } else if (empty() && (capacity_ > kMaxReadBuffer || small_reads_ > kSmallReads)) {
      release();
    }
    filled_ = false;
  }

  void release() {
    bytes_.reset();
    capacity_ = begin_ = end_ = 0;
    small_reads_ = 0;
    filled_ = false;
  }

 private:
  static constexpr unsigned kSmallReads = 16;

  void allocate(std::size_t capacity) {
    std::unique_ptr<char[]> wider(new char[capacity]);
    if (size() != 0) std::memcpy(wider.get(), bytes_.get() + begin_, size());
    end_ -= begin_;
    begin_ = 0;
    bytes_ = std::move(wider);
    capacity_ = capacity;
  }

  std::unique_ptr<char[]> bytes_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  unsigned small_reads_ = 0;  // in succession
  bool filled_ = false;
};

// Written by the worker alone, read by anybody: no read-modify-write is needed.
class Counter {
 public:
  void add(std::uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void set(std::uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 425: return "Too Early";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    default: return "";
  }
}

bool is_read(Method m) { return m == Method::get || m == Method::head; }

void append_number(std::string& out, std::uint64_t n) {
  const fmt::format_int digits(n);
  out.append(digits.data(), digits.size());
}

ClientAddress address_of(const sockaddr_storage& peer) {
  ClientAddress out;
  if (peer.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &peer, sizeof v6);
    std::memcpy(out.bytes.data(), &v6.sin6_addr, 16);
  } else if (peer.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &peer, sizeof v4);
    out.bytes[10] = out.bytes[11] = 0xff;
    std::memcpy(out.bytes.data() + 12, &v4.sin_addr, 4);
  }
  return out;
}

}  // namespace

bool ClientAddress::is_v4() const {
  return std::all_of(bytes.begin(), bytes.begin() + 10, [](auto b) { return b == 0; }) &&
         bytes[10] == 0xff && bytes[11] == 0xff;
}

bool ClientAddress::is_loopback() const {
  if (is_v4()) return bytes[12] == 127;
  return std::all_of(bytes.begin(), bytes.end() - 1, [](auto b) { return b == 0; }) &&
         bytes[15] == 1;
}

// ---- listening

Listener::~Listener() {
  if (fd_ >= 0) ::close(fd_);
}

Listener::Listener(Listener&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Listener& Listener::operator=(Listener&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

int Listener::release() { return std::exchange(fd_, -1); }

namespace {

Result<Listener> bind_to(const addrinfo& where, const std::string& name, bool shared) {
  Listener socket(::socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.fd() < 0) {
    return fail(Fault::io, fmt::format("cannot open a socket: {}", std::strerror(errno)));
  }
  const int on = 1;
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (shared) ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (::bind(socket.fd(), where.ai_addr, where.ai_addrlen) != 0) {
    const bool taken = errno == EADDRINUSE;
    return fail(taken ? Fault::busy : Fault::io,
                fmt::format("cannot listen on {}: {}{}", name, std::strerror(errno),
                            taken ? " (another server runs there; choose another --listen)" : ""));
  }
  return socket;
}

}  // namespace

Result<Listening> listen(const std::string& address, std::uint16_t port, std::size_t count) {
  const std::string name = fmt::format("{}:{}", address, port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    return fail(Fault::invalid, fmt::format("cannot listen on {}: '{}' is not an IPv4 or IPv6 "
                                            "address, such as 127.0.0.1, 0.0.0.0 or ::",
                                            name, address));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);

  // Sockets with SO_REUSEPORT share their port with any other such process of the same user. A
  // first bind without it finds out whether one is there.
  if (port != 0) {
    if (auto alone = bind_to(*found, name, false); !alone) {
      return tl::unexpected(std::move(alone.error()));
    }
  }
  Listening out;
  sockaddr_storage bound{};
  std::memcpy(&bound, found->ai_addr, found->ai_addrlen);
  addrinfo where = *found;
  where.ai_addr = reinterpret_cast<sockaddr*>(&bound);
  for (std::size_t i = 0; i < count; ++i) {
    auto socket = bind_to(where, name, true);
    if (!socket) return tl::unexpected(std::move(socket.error()));
    if (::listen(socket->fd(), SOMAXCONN) != 0) {
      return fail(Fault::io, fmt::format("cannot listen on {}: {}", name, std::strerror(errno)));
    }
    if (i == 0) {
      socklen_t size = sizeof bound;
      ::getsockname(socket->fd(), where.ai_addr, &size);
    }
    out.listeners.push_back(std::move(*socket));
  }
  // The port stands at the same place in both families' addresses.
  out.port = ntohs(reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
  return out;
}

// ---- the worker

// Members stand together by meaning; there is one for each thread.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding)
class Worker::Impl {
 public:
  Impl(Listener listener, const Limits& limits);
  ~Impl();

  void run(Service&);
  void wake();
  void drain(std::chrono::milliseconds patience);
  bool draining() const { return stage_ != Stage::serving; }
  bool respond(Ticket, const Answer&);
  bool respond_raw(Ticket, std::string_view response);
  bool begin_stream(Ticket, const Answer&);
  std::size_t unsent(Ticket);
  bool send(Ticket, std::string_view piece);
  void end(Ticket);
  TimePoint now() const { return now_; }
  WorkerStats stats() const;

 private:
  enum class Stage {
    serving,
    closing_listener,  // one more round for requests that have arrived already
    draining,
    closing,
  };

  // A request that awaits its answer.
  struct Slot {
    std::unique_ptr<std::string> kept;  // the answer, while an earlier one is missing
    bool answered = false;
    bool head = false;
    bool http10 = false;  // with keep-alive, which has to be confirmed
    bool close = false;   // no answer after this one
    bool stream = false;  // an answer that goes on; what it has sent before its turn is kept
  };

  struct Connection {
    Connection(Impl* w, std::uint32_t i)
        : worker(w), index(i), socket(w->io_), reader(w->limits_) {}

    void on_readable(error_code ec, std::size_t n) { worker->on_read(*this, ec, n); }
    void on_ready(error_code ec) { worker->on_ready(*this, ec); }
    void on_writable(error_code ec) { worker->on_writable(*this, ec); }
    std::uint32_t pending() const { return next - first; }
    Slot& slot(std::uint32_t request) { return slots[request & (slots.size() - 1)]; }
    bool sent_all() const { return sent == out.size(); }

    Impl* worker;
    std::uint32_t index;
    std::uint32_t generation = 1;
    Socket socket;
    ClientAddress address;
    RequestReader reader;
    ReadBuffer in;
    std::string out;
    std::size_t sent = 0;
    std::uint32_t first = 0;  // requests first .. next-1 await their answers
    std::uint32_t next = 0;
    std::vector<Slot> slots;  // a ring; its size is a power of two
    TimePoint part_since{};   // when the header, then the body, of a partial request began
    TimePoint write_due = kNeverDue;
    TimePoint linger_due = kNeverDue;
    bool open = false;
    bool reading = false;       // an operation is outstanding
    bool writing = false;       // likewise
    bool eof = false;           // the client will send no more
    bool last = false;          // no further request is begun
    bool linger = false;        // unread bytes may follow: let the client read before closing
    bool lingering = false;     // everything is sent, what comes is discarded
    bool partial = false;       // some of a request has come
    bool partial_body = false;  // its header too
    bool continued = false;     // 100 Continue was sent
    bool held = false;          // bytes wait in the buffer until there is room
    bool paused = false;        // a partial request is not read on until there is room
    bool dirty = false;         // in dirty_
    bool resumable = false;     // in resume_
    bool rearm = false;         // in rearm_
    bool in_lane = false;       // awaited by the readers' lane
    bool stream = false;        // its last answer is a stream
    bool chunked = false;       // likewise, and is sent in chunks
    bool slow = false;          // a stream that is to be cut off
    bool stream_due = false;    // in stream_due_
    std::uint8_t reads = 0;     // in succession, up to kReaderAfter
    OperationMemory read_memory;
    OperationMemory write_memory;
  };

  void touch() {
    if (!touched_) now_ = SteadyClock::now();
    touched_ = true;
  }

  // Accepting.
  void wait_for_connections();
  void on_acceptable(error_code);
  void accept_all();
  void adopt(int fd, const sockaddr_storage& peer);
  Connection* obtain();

  void wait_for_wake();
  void on_wake(error_code);

  // The readers' lane.
  bool may_use_lane(const Connection&) const;
  void arm_lane(Connection&);
  void wait_for_readers();
  void on_readers(error_code);
  void serve_readers();
  void read_in_lane(Connection&);
  void leave_lane(Connection&);
  std::size_t lane_bound() const { return limits_.requests_per_turn / 4 + 1; }

  // A connection's life.
  void on_read(Connection&, error_code, std::size_t);
  void on_ready(Connection&, error_code);
  void on_writable(Connection&, error_code);
  void process(Connection&);
  void dispatch(Connection&);
  void refuse(Connection&, const Refusal&);
  Slot& begin_request(Connection&, bool head);
  bool room(const Connection& c) const {
    return c.pending() < limits_.pipeline && c.out.size() - c.sent <= limits_.output_bytes;
  }
  std::size_t most_buffered() const {
    return limits_.header_bytes + limits_.body_bytes + RequestReader::kChunkSlack;
  }
  void mark_dirty(Connection&);
  void mark_stream(Connection&);
  void flush_streams();
  void finish(Connection&, Slot&, std::uint32_t request);
  void flush(Connection&);
  void flush_dirty(std::size_t i);
  void send_more(Connection&);
  void settle(Connection&);
  void arm_read(Connection&);
  void queue_read(Connection&);
  void arm_reads(std::size_t from = 0);  // those of rearm_ from there on
  void expire(Connection&);
  void begin_linger(Connection&);
  void close(Connection&);
  void release_if_done(Connection&);

  // Answers.
  Connection* find(Ticket, Slot*& slot);
  std::string& place(Connection&, Slot&, std::uint32_t request);
  void placed(Connection&, Slot&, std::uint32_t request);
  void append_fields(std::string& out, const Slot&);
  void append_answer(std::string& out, const Slot&, const Answer&);
  void append_status(std::string& out, const Slot&, int status);
  std::string_view date_line();

  void end_of_turn();
  void check_deadlines();
  void advance_drain();

  asio::io_context io_{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE};  // one thread; others only wake()
  Limits limits_;
  Acceptor acceptor_;
  EventDescriptor event_;
  EventDescriptor lane_;  // an epoll set of the connections of the readers' lane
  int event_fd_ = -1;
  OperationMemory accept_memory_;
  OperationMemory event_memory_;
  OperationMemory lane_memory_;
  std::size_t lane_size_ = 0;
  std::size_t lane_requests_ = 0;  // of this turn
  bool waiting_for_readers_ = false;
  bool handed_late_ = false;  // a request came after this turn's on_turn()
  TimePoint crowded_until_{};
  bool accepting_ = false;
  bool waiting_for_wake_ = false;
  TimePoint accept_again_ = kNeverDue;
  Service* service_ = nullptr;

  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<TimePoint> deadlines_;  // by connection; dense, since all are looked at every tick
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> dirty_;
  std::vector<std::uint32_t> resume_;
  std::vector<std::uint32_t> resuming_;
  std::vector<std::uint32_t> rearm_;
  struct StreamDue {
    std::uint32_t index;
    std::uint32_t generation;
  };
  std::deque<StreamDue> stream_due_;  // streams that have something to send
  std::size_t open_ = 0;
  std::size_t operations_ = 0;  // outstanding, of all connections

  TimePoint now_ = SteadyClock::now();
  bool touched_ = false;
  TimePoint next_tick_{};
  std::chrono::milliseconds tick_{1000};
  std::size_t turn_requests_ = 0;
  std::size_t turn_writes_ = 0;
  bool cut_ = false;  // the latest turn had more to do than it may
  std::string date_line_;
  std::time_t date_second_ = -1;
  bool date_fresh_ = false;  // looked at in this turn
  std::string scratch_;

  Stage stage_ = Stage::serving;
  TimePoint drain_due_ = kNeverDue;
  std::atomic<bool> woken_{false};
  std::atomic<std::int64_t> drain_asked_{-1};  // milliseconds of patience

  struct {
    Counter connections, accepted, over_capacity, accept_errors, requests, refused, timeouts,
        slow_streams, turns, bytes_in, bytes_out;
  } count_;
};

Worker::Impl::Impl(Listener listener, const Limits& limits)
    : limits_(limits), acceptor_(io_), event_(io_), lane_(io_) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  ::getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&bound), &size);
  acceptor_.assign(bound.ss_family == AF_INET6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(),
                   listener.release());
  event_fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  FAIRSALE_INVARIANT(event_fd_ >= 0, "a descriptor is left for the worker's wake-ups");
  event_.assign(event_fd_);
  const int lane = ::epoll_create1(EPOLL_CLOEXEC);
  FAIRSALE_INVARIANT(lane >= 0, "a descriptor is left for the readers' lane");
  lane_.assign(lane);
  const auto shortest = std::min(
      {limits_.header_timeout, limits_.body_timeout, limits_.idle_timeout, limits_.write_timeout});
  tick_ = std::clamp(shortest / 8, std::chrono::milliseconds(5), std::chrono::milliseconds(1000));
}

Worker::Impl::~Impl() {
  // Outstanding operations live in the memory of their connections and must end before them.
  error_code ignored;
  acceptor_.close(ignored);
  event_.close(ignored);
  lane_.close(ignored);
  for (auto& c : connections_) {
    if (c->open) close(*c);
  }
  io_.restart();
  io_.poll();
}

void Worker::Impl::run(Service& service) {
  service_ = &service;
  wait_for_connections();
  wait_for_wake();
  wait_for_readers();
  TimePoint service_due = SteadyClock::now();
  next_tick_ = service_due + tick_;
  while (stage_ != Stage::closing) {
    touched_ = false;
    date_fresh_ = false;
    turn_requests_ = 0;
    lane_requests_ = 0;
    turn_writes_ = 0;
    if (!waiting_for_readers_) wait_for_readers();
    std::size_t events = 0;
    const TimePoint due = std::min({service_due, next_tick_, accept_again_, drain_due_});
    if (resume_.empty() && stream_due_.empty() && dirty_.empty() &&
        stage_ != Stage::closing_listener && due > now_) {
      events = io_.run_one_until(due);
    }
    touch();
    resuming_.swap(resume_);
    for (const std::uint32_t index : resuming_) {
      Connection& c = *connections_[index];
      c.resumable = false;
      if (c.open) process(c);
    }
    resuming_.clear();
    while (turn_requests_ < limits_.requests_per_turn && events < limits_.requests_per_turn &&
           io_.poll_one() != 0) {
      if (++events % kReadersEvery == 0) serve_readers();
    }
    cut_ = turn_requests_ >= limits_.requests_per_turn || events >= limits_.requests_per_turn;
    woken_.store(false, std::memory_order_seq_cst);
    const TimePoint begun = now_;
    handed_late_ = false;
    service_due = service.on_turn();
    end_of_turn();
    // on_turn() may have taken long; what is due next is judged by the time now.
    touched_ = false;
    touch();
    if (turn_writes_ >= kCrowd && now_ - begun >= kLongTurn) crowded_until_ = now_ + kCrowdedFor;
    if (handed_late_) service_due = now_;
  }
  service_ = nullptr;
  error_code ignored;
  acceptor_.close(ignored);
  for (auto& c : connections_) {
    if (c->open) close(*c);
  }
  event_.cancel(ignored);
  lane_.cancel(ignored);
  while (operations_ != 0 || accepting_ || waiting_for_wake_ || waiting_for_readers_) {
    if (io_.poll() == 0) break;
  }
}

void Worker::Impl::end_of_turn() {
  count_.turns.add();
  // Flushing may mark others dirty never, but settling may: so by index.
  for (std::size_t i = 0; i < dirty_.size(); ++i) {
    flush_dirty(i);
    if ((i + 1) % kReadersEvery == 0) serve_readers();
  }
  dirty_.clear();
  flush_streams();
  // Reading goes on only after all answers are out: by then the first clients have often sent their
  // next request, which is then read at once.
  arm_reads();
  if (now_ >= accept_again_) {
    accept_again_ = kNeverDue;
    wait_for_connections();
  }
  if (now_ >= next_tick_) {
    next_tick_ = now_ + tick_;
    check_deadlines();
  }
  advance_drain();
}

void Worker::Impl::flush_dirty(std::size_t i) {
  Connection& c = *connections_[dirty_[i]];
  c.dirty = false;
  if (c.open) flush(c);
}

void Worker::Impl::arm_reads(std::size_t from) {
  for (std::size_t i = from; i < rearm_.size(); ++i) {
    Connection& c = *connections_[rearm_[i]];
    c.rearm = false;
    if (c.open) arm_read(c);
  }
  rearm_.resize(from);
}

void Worker::Impl::wake() {
  if (!woken_.exchange(true, std::memory_order_seq_cst)) {
    const std::uint64_t one = 1;
    // The counter cannot overflow, and a full one would wake the worker just as well.
    [[maybe_unused]] const auto written = ::write(event_fd_, &one, sizeof one);
  }
}

void Worker::Impl::wait_for_wake() {
  waiting_for_wake_ = true;
  event_.async_wait(EventDescriptor::wait_read,
                    Handler<Impl, &Impl::on_wake>{this, &event_memory_});
}

void Worker::Impl::on_wake(error_code ec) {
  waiting_for_wake_ = false;
  if (ec) return;
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(event_fd_, &count, sizeof count);
  wait_for_wake();
}

void Worker::Impl::drain(std::chrono::milliseconds patience) {
  drain_asked_.store(patience.count(), std::memory_order_release);
  wake();
}

// ---- accepting

void Worker::Impl::wait_for_connections() {
  if (accepting_ || !acceptor_.is_open()) return;
  accepting_ = true;
  acceptor_.async_wait(Acceptor::wait_read,
                       Handler<Impl, &Impl::on_acceptable>{this, &accept_memory_});
}

void Worker::Impl::on_acceptable(error_code ec) {
  accepting_ = false;
  if (ec) return;
  touch();
  accept_all();
  if (accept_again_ == kNeverDue) wait_for_connections();
}

void Worker::Impl::accept_all() {
  for (int i = 0; i < kAcceptsPerEvent; ++i) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const int fd = ::accept4(acceptor_.native_handle(), reinterpret_cast<sockaddr*>(&peer), &size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      adopt(fd, peer);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    // No descriptors or no memory: the clients wait in the backlog until some are given back.
    count_.accept_errors.add();
    accept_again_ = now_ + kAcceptPause;
    return;
  }
}

Worker::Impl::Connection* Worker::Impl::obtain() {
  if (free_.empty()) {
    const auto index = static_cast<std::uint32_t>(connections_.size());
    connections_.push_back(std::make_unique<Connection>(this, index));
    deadlines_.push_back(kNeverDue);
    return connections_.back().get();
  }
  Connection* c = connections_[free_.back()].get();
  free_.pop_back();
  return c;
}

void Worker::Impl::adopt(int fd, const sockaddr_storage& peer) {
  const bool over = open_ >= limits_.connections;
  if (over) count_.over_capacity.add();
  if (open_ >= limits_.connections + kRefusedConnections) {
    ::close(fd);
    return;
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  Connection* c = obtain();
  error_code ec;
  c->socket.assign(peer.ss_family == AF_INET6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(), fd, ec);
  if (ec) {
    ::close(fd);
    free_.push_back(c->index);
    count_.accept_errors.add();
    return;
  }
  count_.accepted.add();
  count_.connections.set(++open_);
  c->address = address_of(peer);
  c->open = true;
  if (over) {
    // Answered without a request, which it would only have to read to refuse it.
    begin_request(*c, false).close = true;
    c->last = c->linger = true;
    scratch_.clear();
    append_problem(scratch_, {503, "overloaded", {}, "Too many connections; try again shortly."});
    append_answer(c->out, c->slot(c->first), {503, kProblemJson, "Retry-After: 1\r\n", scratch_});
    ++c->first;
    mark_dirty(*c);
    return;
  }
  settle(*c);
}

// ---- reading

void Worker::Impl::arm_read(Connection& c) {
  if (c.reading || c.in_lane) return;
  // Of a stream's client nothing is wanted but to hear that it has gone.
  if (c.stream) {
    c.in.release();
    return queue_read(c);
  }
  if (!c.lingering && (c.eof || c.last || c.resumable || !room(c))) return;
  c.in.adapt();
  if (may_use_lane(c)) return arm_lane(c);
  // Others have been ready for longer. To read at once what has come meanwhile would serve the same
  // few connections again and again.
  if (cut_) return queue_read(c);
  c.reading = true;
  ++operations_;
  c.socket.async_read_some(c.in.prepare(most_buffered()),
                           Handler<Connection, &Connection::on_readable>{&c, &c.read_memory});
}

// Reads when the connection's turn comes: behind all that are ready now.
void Worker::Impl::queue_read(Connection& c) {
  c.reading = true;
  ++operations_;
  c.socket.async_wait(Socket::wait_read,
                      Handler<Connection, &Connection::on_ready>{&c, &c.read_memory});
}

// Reads what has come, from the socket itself.
void Worker::Impl::on_ready(Connection& c, error_code ec) {
  ssize_t n = 0;
  if (!ec && c.open && c.stream) {
    char unwanted[2048];
    n = ::recv(c.socket.native_handle(), unwanted, sizeof unwanted, MSG_DONTWAIT);
    c.reading = false;
    --operations_;
    touch();
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))) {
      if (n > 0) count_.bytes_in.add(static_cast<std::uint64_t>(n));
      return queue_read(c);
    }
    return close(c);
  }
  if (!ec && c.open) {
    const auto room = c.in.prepare(most_buffered());
    n = ::recv(c.socket.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
    if (n == 0) ec = asio::error::eof;
    if (n < 0) ec = error_code(errno, boost::system::system_category());
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
      c.reading = false;
      --operations_;
      return arm_read(c);
    }
  }
  on_read(c, ec, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
}

void Worker::Impl::on_read(Connection& c, error_code ec, std::size_t n) {
  touch();
  c.reading = false;
  --operations_;
  if (!c.open) return release_if_done(c);
  if (ec && ec != asio::error::eof) return close(c);
  count_.bytes_in.add(n);
  if (c.stream && ec) return close(c);
  if (c.stream) c.in.clear();
  if (c.lingering || c.stream) {
    if (ec) return close(c);
    c.rearm = true;
    rearm_.push_back(c.index);
    return;
  }
  if (ec) {
    c.eof = true;
  } else {
    c.in.commit(n);
  }
  process(c);
}

// ---- the readers' lane

bool Worker::Impl::may_use_lane(const Connection& c) const {
  return c.reads == kReaderAfter && now_ < crowded_until_ && stage_ == Stage::serving &&
         !c.lingering && !c.partial && c.in.empty();
}

void Worker::Impl::arm_lane(Connection& c) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT;
  event.data.u64 = std::uint64_t{c.generation} << 32 | c.index;
  const int fd = c.socket.native_handle();
  // Known from an earlier read, mostly.
  if (::epoll_ctl(lane_.native_handle(), EPOLL_CTL_MOD, fd, &event) != 0 &&
      ::epoll_ctl(lane_.native_handle(), EPOLL_CTL_ADD, fd, &event) != 0) {
    c.reads = 0;  // the kernel has no room: like everybody else
    return arm_read(c);
  }
  c.in_lane = true;
  ++lane_size_;
}

void Worker::Impl::wait_for_readers() {
  waiting_for_readers_ = true;
  lane_.async_wait(EventDescriptor::wait_read,
                   Handler<Impl, &Impl::on_readers>{this, &lane_memory_});
}

void Worker::Impl::on_readers(error_code ec) {
  waiting_for_readers_ = false;
  if (ec) return;
  touch();
  serve_readers();
  if (lane_requests_ < lane_bound()) wait_for_readers();  // else in the next turn
}

// Reads, answers and sends at once, whatever else this turn has to do: one request of each who is
// ready, and of all no more than a part of what a turn may take, so that writers are not kept
// waiting either.
void Worker::Impl::serve_readers() {
  if (lane_size_ == 0 || lane_requests_ >= lane_bound()) return;
  epoll_event ready[kReadersAtOnce];
  const std::size_t most = std::min<std::size_t>(kReadersAtOnce, lane_bound() - lane_requests_);
  const int n = ::epoll_wait(lane_.native_handle(), ready, static_cast<int>(most), 0);
  if (n <= 0) return;
  lane_requests_ += static_cast<std::size_t>(n);
  // What others of this turn have to send or read comes in its time.
  const std::size_t others = dirty_.size();
  const std::size_t others_rearm = rearm_.size();
  const std::size_t counted = std::exchange(turn_requests_, 0);
  for (int i = 0; i < n; ++i) {
    const auto index = static_cast<std::uint32_t>(ready[i].data.u64);
    Connection& c = *connections_[index];
    if (!c.open || !c.in_lane || c.generation != ready[i].data.u64 >> 32) continue;
    leave_lane(c);
    read_in_lane(c);
  }
  handed_late_ = handed_late_ || turn_requests_ != 0;
  turn_requests_ = counted;
  for (std::size_t i = others; i < dirty_.size(); ++i) flush_dirty(i);
  dirty_.resize(others);
  arm_reads(others_rearm);
}

void Worker::Impl::leave_lane(Connection& c) {
  if (c.in_lane) --lane_size_;
  c.in_lane = false;
}

// Takes one request out of the socket, and only if it reads: whatever follows it is looked at anew.
void Worker::Impl::read_in_lane(Connection& c) {
  if (c.lingering || c.stream) return arm_read(c);
  const int fd = c.socket.native_handle();
  const auto room = c.in.prepare(most_buffered());
  const ssize_t seen = ::recv(fd, room.data(), room.size(), MSG_PEEK | MSG_DONTWAIT);
  const std::string_view next(static_cast<const char*>(room.data()),
                              seen > 0 ? static_cast<std::size_t>(seen) : 0);
  const std::size_t end = next.find("\r\n\r\n");
  const bool reads = next.starts_with("GET ") || next.starts_with("HEAD ");
  const bool whole = reads && end != std::string_view::npos;
  const ssize_t n = whole ? ::recv(fd, room.data(), end + 4, MSG_DONTWAIT) : 0;
  if (n <= 0) {
    c.reads = 0;
    return queue_read(c);
  }
  count_.bytes_in.add(static_cast<std::uint64_t>(n));
  c.in.commit(static_cast<std::size_t>(n));
  process(c);
}

// Hands over the whole requests in the buffer, as far as the bounds allow.
void Worker::Impl::process(Connection& c) {
  c.held = false;
  while (!c.last && !c.in.empty()) {
    if (!room(c)) {
      c.held = true;
      break;
    }
    if (turn_requests_ >= limits_.requests_per_turn) {
      if (!c.resumable) resume_.push_back(c.index);
      c.resumable = true;
      break;
    }
    // Empty lines before the request line are tolerated, as RFC 9112 advises.
    while (!c.reader.started() && c.in.begins_with("\r\n")) c.in.consume(2);
    if (c.in.empty()) break;
    auto progress = RequestReader::Progress::more;
    const bool half_a_line = !c.reader.started() && c.in.size() == 1 && c.in.begins_with("\r");
    if (!half_a_line) {
      std::size_t size = c.in.size();
      progress = c.reader.read(c.in.data(), size);
      c.in.shrink_to(size);
    }
    if (progress == RequestReader::Progress::complete) {
      dispatch(c);
      continue;
    }
    if (progress == RequestReader::Progress::refused) {
      refuse(c, c.reader.refusal());
      break;
    }
    if (!c.partial) {
      c.partial = true;
      c.part_since = now_;
    }
    if (c.reader.header_done() && !c.partial_body) {
      c.partial_body = true;
      c.part_since = now_;
    }
    break;
  }
  settle(c);
}

void Worker::Impl::dispatch(Connection& c) {
  ++turn_requests_;
  count_.requests.add();
  c.partial = c.partial_body = c.continued = false;
  const bool keep = c.reader.keeps_alive();
  const std::uint32_t request = c.next;
  Slot& slot = begin_request(c, c.reader.is_head());
  slot.http10 = !c.reader.http11();
  if (!keep || draining()) c.last = slot.close = true;
  Request r = c.reader.request(c.in.data());
  if (!is_read(r.method)) {
    c.reads = 0;
    ++turn_writes_;
  } else if (c.reads < kReaderAfter) {
    ++c.reads;
  }
  r.address = c.address;
  service_->on_request(r, {c.index, c.generation, request});
  c.in.consume(c.reader.length());
  c.reader.reset();
}

Worker::Impl::Slot& Worker::Impl::begin_request(Connection& c, bool head) {
  if (c.pending() == c.slots.size()) {
    std::vector<Slot> wider(std::max<std::size_t>(2, c.slots.size() * 2));
    for (std::uint32_t i = c.first; i != c.next; ++i) {
      wider[i & (wider.size() - 1)] = std::move(c.slot(i));
    }
    c.slots = std::move(wider);
  }
  Slot& slot = c.slot(c.next++);
  slot.answered = slot.http10 = slot.close = slot.stream = false;
  slot.head = head;
  return slot;
}

// Answers in the edge's own name, in its turn, and ends the connection.
void Worker::Impl::refuse(Connection& c, const Refusal& refusal) {
  count_.refused.add();
  const std::uint32_t request = c.next;
  Slot& slot = begin_request(c, c.reader.is_head());
  slot.close = true;
  c.last = c.linger = true;
  c.partial = c.partial_body = false;
  scratch_.clear();
  append_problem(scratch_, {refusal.status, refusal.name, {}, refusal.detail});
  append_answer(place(c, slot, request), slot, {refusal.status, kProblemJson, {}, scratch_});
  placed(c, slot, request);
  c.in.clear();
}

// ---- answering

Worker::Impl::Connection* Worker::Impl::find(Ticket t, Slot*& slot) {
  if (t.connection >= connections_.size()) return nullptr;
  Connection& c = *connections_[t.connection];
  if (!c.open || c.generation != t.generation) return nullptr;
  if (t.request - c.first >= c.pending()) return nullptr;
  slot = &c.slot(t.request);
  return slot->answered || c.slow ? nullptr : &c;
}

// Where the answer is to be written: the connection's output if it is this request's turn.
std::string& Worker::Impl::place(Connection& c, Slot& slot, std::uint32_t request) {
  if (c.last && request + 1 == c.next) slot.close = true;
  if (request == c.first) return c.out;
  if (!slot.kept) slot.kept = std::make_unique<std::string>();
  slot.kept->clear();
  return *slot.kept;
}

void Worker::Impl::placed(Connection& c, Slot& slot, std::uint32_t request) {
  slot.answered = true;
  if (request != c.first) return;
  for (++c.first; c.first != c.next && c.slot(c.first).answered; ++c.first) {
    c.out += *c.slot(c.first).kept;
  }
  if (c.first != c.next && c.slot(c.first).stream) {
    c.out += *c.slot(c.first).kept;
    c.slot(c.first).kept.reset();
  }
  mark_dirty(c);
}

void Worker::Impl::mark_dirty(Connection& c) {
  if (c.dirty) return;
  c.dirty = true;
  dirty_.push_back(c.index);
}

std::string_view Worker::Impl::date_line() {
  if (!date_fresh_) {
    date_fresh_ = true;
    const std::time_t second = std::time(nullptr);
    if (second != date_second_) {
      date_second_ = second;
      static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
      static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
      std::tm t{};
      ::gmtime_r(&second, &t);
      date_line_.clear();
      fmt::format_to(std::back_inserter(date_line_),
                     "Date: {}, {:02} {} {:04} {:02}:{:02}:{:02} GMT\r\n", kDays[t.tm_wday],
                     t.tm_mday, kMonths[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
    }
  }
  return date_line_;
}

void Worker::Impl::append_fields(std::string& out, const Slot& slot) {
  out += date_line();
  if (slot.close) {
    out += "Connection: close\r\n";
  } else if (slot.http10) {
    out += "Connection: keep-alive\r\n";
  }
}

void Worker::Impl::append_status(std::string& out, const Slot& slot, int status) {
  out += "HTTP/1.1 ";
  append_number(out, static_cast<std::uint64_t>(status));
  out += ' ';
  out += reason_phrase(status);
  out += "\r\n";
  append_fields(out, slot);
}

void Worker::Impl::append_answer(std::string& out, const Slot& slot, const Answer& a) {
  append_status(out, slot, a.status);
  const bool bodiless = a.status == 204 || a.status == 304;
  if (!bodiless) {
    if (!a.content_type.empty()) {
      out += "Content-Type: ";
      out += a.content_type;
      out += "\r\n";
    }
    out += "Content-Length: ";
    append_number(out, a.body.size());
    out += "\r\n";
  }
  out += a.headers;
  out += "\r\n";
  if (!bodiless && !slot.head) out += a.body;
}

bool Worker::Impl::respond(Ticket ticket, const Answer& answer) {
  Slot* slot = nullptr;
  Connection* c = find(ticket, slot);
  if (c == nullptr || slot->stream) return false;
  append_answer(place(*c, *slot, ticket.request), *slot, answer);
  placed(*c, *slot, ticket.request);
  return true;
}

bool Worker::Impl::respond_raw(Ticket ticket, std::string_view response) {
  Slot* slot = nullptr;
  Connection* c = find(ticket, slot);
  if (c == nullptr || slot->stream) return false;
  const std::size_t end = response.find("\r\n\r\n");
  FAIRSALE_INVARIANT(end != std::string_view::npos, "a rendered response has a whole header");
  std::string& out = place(*c, *slot, ticket.request);
  if (slot->head) response = response.substr(0, end + 4);
  const std::size_t line = response.find("\r\n") + 2;
  out += response.substr(0, line);
  append_fields(out, *slot);
  out += response.substr(line);
  placed(*c, *slot, ticket.request);
  return true;
}

// ---- streams

bool Worker::Impl::begin_stream(Ticket ticket, const Answer& head) {
  Slot* slot = nullptr;
  Connection* c = find(ticket, slot);
  if (c == nullptr || slot->stream) return false;
  c->next = ticket.request + 1;
  c->last = slot->close = true;
  c->held = c->partial = c->partial_body = false;
  std::string& out = place(*c, *slot, ticket.request);
  append_status(out, *slot, head.status);
  out += "Content-Type: ";
  out += head.content_type;
  out += "\r\n";
  const bool chunked = !slot->http10;
  if (chunked) out += "Transfer-Encoding: chunked\r\n";
  out += head.headers;
  out += "\r\n";
  if (slot->head) {
    placed(*c, *slot, ticket.request);
    return false;
  }
  c->stream = slot->stream = true;
  c->chunked = chunked;
  mark_stream(*c);
  if (!head.body.empty()) send(ticket, head.body);
  if (draining()) end(ticket);
  return true;
}

std::size_t Worker::Impl::unsent(Ticket ticket) {
  Slot* slot = nullptr;
  const Connection* c = find(ticket, slot);
  if (c == nullptr || !slot->stream) return 0;
  return ticket.request == c->first ? c->out.size() - c->sent : slot->kept->size();
}

bool Worker::Impl::send(Ticket ticket, std::string_view piece) {
  Slot* slot = nullptr;
  Connection* c = find(ticket, slot);
  if (c == nullptr || !slot->stream) return false;
  const bool its_turn = ticket.request == c->first;
  std::string& out = its_turn ? c->out : *slot->kept;
  const std::size_t unsent = out.size() - (its_turn ? c->sent : 0) + piece.size();
  if (unsent > limits_.stream_bytes) {
    c->slow = true;
    count_.slow_streams.add();
    mark_stream(*c);
    return false;
  }
  if (c->chunked) {
    fmt::format_to(std::back_inserter(out), FMT_COMPILE("{:x}\r\n"), piece.size());
    out += piece;
    out += "\r\n";
  } else {
    out += piece;
  }
  if (its_turn && unsent > kPressingBytes && !c->writing) {
    mark_dirty(*c);
  } else {
    mark_stream(*c);
  }
  return true;
}

void Worker::Impl::end(Ticket ticket) {
  Slot* slot = nullptr;
  Connection* c = find(ticket, slot);
  if (c == nullptr || !slot->stream) return;
  finish(*c, *slot, ticket.request);
}

void Worker::Impl::finish(Connection& c, Slot& slot, std::uint32_t request) {
  if (c.chunked) (request == c.first ? c.out : *slot.kept) += "0\r\n\r\n";
  placed(c, slot, request);
}

void Worker::Impl::mark_stream(Connection& c) {
  if (c.stream_due) return;
  c.stream_due = true;
  stream_due_.push_back({c.index, c.generation});
}

void Worker::Impl::flush_streams() {
  for (std::size_t n = 0; n < limits_.stream_writes_per_turn && !stream_due_.empty(); ++n) {
    const StreamDue due = stream_due_.front();
    stream_due_.pop_front();
    Connection& c = *connections_[due.index];
    if (!c.open || c.generation != due.generation) continue;
    c.stream_due = false;
    if (c.slow) {
      close(c);
    } else {
      flush(c);
    }
  }
}

// ---- writing

void Worker::Impl::flush(Connection& c) {
  if (!c.writing) send_more(c);
  if (!c.open) return;
  // Room may have come for requests that wait in the buffer.
  if (c.held && !c.resumable && room(c)) {
    c.resumable = true;
    resume_.push_back(c.index);
  }
  settle(c);
}

void Worker::Impl::send_more(Connection& c) {
  while (!c.sent_all()) {
    const ssize_t n = ::send(c.socket.native_handle(), c.out.data() + c.sent, c.out.size() - c.sent,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return close(c);
      if (c.write_due == kNeverDue) c.write_due = now_ + limits_.write_timeout;
      c.writing = true;
      ++operations_;
      c.socket.async_wait(Socket::wait_write,
                          Handler<Connection, &Connection::on_writable>{&c, &c.write_memory});
      return;
    }
    count_.bytes_out.add(static_cast<std::uint64_t>(n));
    c.sent += static_cast<std::size_t>(n);
    c.write_due = kNeverDue;
  }
  c.out.clear();
  c.sent = 0;
  if (c.stream && c.out.capacity() > kKeptStreamBytes) std::string().swap(c.out);
}

void Worker::Impl::on_writable(Connection& c, error_code ec) {
  touch();
  c.writing = false;
  --operations_;
  if (!c.open) return release_if_done(c);
  if (ec) return close(c);
  // What was sent makes way for what is appended meanwhile.
  if (c.sent > 0) {
    c.out.erase(0, c.sent);
    c.sent = 0;
  }
  if (c.stream) return mark_stream(c);
  mark_dirty(c);
}

// ---- the connection's state

// Decides what the connection waits for next, after anything has happened to it.
void Worker::Impl::settle(Connection& c) {
  if (!c.open || c.lingering) return;
  // A half-closed connection is done when what it has sent is answered.
  if (c.eof && !c.resumable && !c.held) c.last = true;
  if (c.last && c.pending() == 0 && c.sent_all() && !c.dirty && !c.stream_due) {
    if (c.linger && !c.eof) return begin_linger(c);
    return close(c);
  }
  if (c.stream && !c.reading && !c.in_lane && !c.rearm) {
    c.rearm = true;
    rearm_.push_back(c.index);
  }
  const bool reads = !c.eof && !c.last && !c.resumable && room(c);
  if (reads && c.partial_body && !c.continued && c.pending() == 0 && c.reader.wants_continue()) {
    c.continued = true;
    c.out += "HTTP/1.1 100 Continue\r\n\r\n";
    mark_dirty(c);
  }
  // The time in which the client was not listened to is not the client's.
  if (reads && c.paused) c.part_since = now_;
  c.paused = !reads && c.partial;
  if (reads && !c.reading && !c.in_lane && !c.rearm) {
    c.rearm = true;
    rearm_.push_back(c.index);
  }
  TimePoint due = c.write_due;
  if (reads && c.partial) {
    due = std::min(due,
                   c.part_since + (c.partial_body ? limits_.body_timeout : limits_.header_timeout));
  }
  if (reads && !c.partial && c.in.empty() && c.pending() == 0 && c.sent_all()) {
    due = std::min(due, now_ + limits_.idle_timeout);
  }
  deadlines_[c.index] = due;
}

void Worker::Impl::begin_linger(Connection& c) {
  error_code ignored;
  c.socket.shutdown(Socket::shutdown_send, ignored);
  c.lingering = true;
  c.in.clear();
  deadlines_[c.index] = now_ + limits_.linger_timeout;
  if (!c.reading && !c.rearm) {
    c.rearm = true;
    rearm_.push_back(c.index);
  }
}

void Worker::Impl::close(Connection& c) {
  if (c.stream && service_ != nullptr) {
    service_->on_stream_closed({c.index, c.generation, c.next - 1});
  }
  error_code ignored;
  c.socket.close(ignored);
  c.open = false;
  leave_lane(c);  // the set has forgotten the socket with its closing
  ++c.generation;
  deadlines_[c.index] = kNeverDue;
  count_.connections.set(--open_);
  release_if_done(c);
}

// Makes the place free once no operation refers to it.
void Worker::Impl::release_if_done(Connection& c) {
  if (c.reading || c.writing) return;
  c.reader.reset();
  c.in.release();
  std::string().swap(c.out);
  std::vector<Slot>().swap(c.slots);
  c.sent = 0;
  c.first = c.next = 0;
  c.write_due = kNeverDue;
  c.reads = 0;
  c.eof = c.last = c.linger = c.lingering = false;
  c.stream = c.chunked = c.slow = c.stream_due = false;
  c.partial = c.partial_body = c.continued = c.held = c.paused = false;
  free_.push_back(c.index);
}

// All deadlines are looked at in one pass over an array: 20,000 take some ten microseconds, once a
// second, and keeping one current is a store.
void Worker::Impl::check_deadlines() {
  const TimePoint quiet_from = now_ + limits_.idle_timeout - 4 * tick_;
  const TimePoint quiet_to = now_ + limits_.idle_timeout - 2 * tick_;
  for (std::size_t i = 0; i < deadlines_.size(); ++i) {
    if (deadlines_[i] <= now_) {
      expire(*connections_[i]);
    } else if (deadlines_[i] > quiet_from && deadlines_[i] <= quiet_to) {
      // Idle for a few ticks: what it needed for its largest answer is given back.
      Connection& c = *connections_[i];
      if (c.sent_all() && c.out.capacity() > kKeptOutputBytes) std::string().swap(c.out);
    }
  }
}

void Worker::Impl::expire(Connection& c) {
  if (!c.lingering) count_.timeouts.add();
  if (c.lingering || c.write_due <= now_ || !c.partial) return close(c);
  refuse(c, {408, "timeout", "The request did not arrive in time; send it again."});
  settle(c);
}

// ---- stopping

void Worker::Impl::advance_drain() {
  switch (stage_) {
    case Stage::serving: {
      const std::int64_t patience = drain_asked_.load(std::memory_order_acquire);
      if (patience < 0) return;
      drain_due_ = now_ + std::chrono::milliseconds(patience);
      // Those in the backlog would be reset; they are served like the others.
      accept_again_ = kNeverDue;
      accept_all();
      accept_again_ = kNeverDue;
      arm_reads();
      error_code ignored;
      acceptor_.close(ignored);
      stage_ = Stage::closing_listener;
      return;
    }
    case Stage::closing_listener:
      stage_ = Stage::draining;
      for (auto& c : connections_) {
        if (!c->open || c->lingering) continue;
        if (c->stream && c->pending() > 0) {
          finish(*c, c->slot(c->next - 1), c->next - 1);
        } else if (c->pending() > 0 || !c->sent_all()) {
          // What still comes is not read, and must not make the kernel drop the answers.
          if (!c->partial && !c->resumable) c->last = c->linger = true;
        } else if (!c->partial && !c->resumable) {
          close(*c);
        }
      }
      [[fallthrough]];
    case Stage::draining:
      if (open_ == 0 || now_ >= drain_due_) stage_ = Stage::closing;
      return;
    case Stage::closing: return;
  }
}

WorkerStats Worker::Impl::stats() const {
  return {.connections = count_.connections.get(),
          .accepted = count_.accepted.get(),
          .over_capacity = count_.over_capacity.get(),
          .accept_errors = count_.accept_errors.get(),
          .requests = count_.requests.get(),
          .refused = count_.refused.get(),
          .timeouts = count_.timeouts.get(),
          .slow_streams = count_.slow_streams.get(),
          .turns = count_.turns.get(),
          .bytes_in = count_.bytes_in.get(),
          .bytes_out = count_.bytes_out.get()};
}

Worker::Worker(Listener listener, const Limits& limits)
    : impl_(std::make_unique<Impl>(std::move(listener), limits)) {}
Worker::~Worker() = default;
void Worker::run(Service& service) { impl_->run(service); }
void Worker::wake() { impl_->wake(); }
void Worker::drain(std::chrono::milliseconds patience) { impl_->drain(patience); }
bool Worker::draining() const { return impl_->draining(); }
bool Worker::respond(Ticket ticket, const Answer& answer) { return impl_->respond(ticket, answer); }
bool Worker::respond_raw(Ticket ticket, std::string_view response) {
  return impl_->respond_raw(ticket, response);
}
bool Worker::begin_stream(Ticket ticket, const Answer& head) {
  return impl_->begin_stream(ticket, head);
}
bool Worker::send(Ticket ticket, std::string_view piece) { return impl_->send(ticket, piece); }
std::size_t Worker::unsent(Ticket ticket) const { return impl_->unsent(ticket); }
void Worker::end(Ticket ticket) { impl_->end(ticket); }
SteadyClock::time_point Worker::now() const { return impl_->now(); }
WorkerStats Worker::stats() const { return impl_->stats(); }

}  // namespace fairsale::http
