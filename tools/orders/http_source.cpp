#include <curl/curl.h>
#include <fmt/format.h>
#include <simdjson.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "core/domain/invariant.hpp"
#include "tools/http_client.hpp"
#include "tools/orders/event_stream.hpp"
#include "tools/orders/message.hpp"
#include "tools/orders/source.hpp"

namespace fairsale::orders {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxStreams = 256;   // sales that are followed at once
constexpr std::size_t kMaxBatch = 4'096;   // messages of one write
constexpr milliseconds kLookEvery{2'000};  // for new sales
constexpr milliseconds kRetryFirst{200};
constexpr milliseconds kRetryMost{10'000};
constexpr milliseconds kRoomPoll{100};
constexpr milliseconds kKeepCursor{5'000};  // how often a cursor is kept that passed no order
constexpr long kSilence = 45;               // seconds; heartbeats come every 15

// One sale's stream.
struct Stream {
  std::string sku;
  CURL* curl = nullptr;
  EventStreamReader reader;
  Batch batch;
  bool broken = false;  // what came is no event stream
  std::string kept;     // the cursor as it is in the store
  milliseconds pause{0};
  steady_clock::time_point again{};
  steady_clock::time_point kept_at{};
  bool told = false;  // that there is trouble

  void on_event(const std::string& id, std::string_view type, std::string_view data) {
    if (type != "ordered" && type != "refund_due") return;
    auto c = read_message(data);
    if (!c) {
      batch.dead.push_back({sku + ":" + id, c.error().message, std::string(data)});
    } else if (*c) {
      batch.cases.push_back(std::move(**c));
    }
  }
};

std::size_t on_bytes(char* data, std::size_t, std::size_t size, void* closure) {
  auto& stream = *static_cast<Stream*>(closure);
  long status = 0;
  curl_easy_getinfo(stream.curl, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) return size;
  // When there is much it waits in the socket until what came has been written.
  if (stream.batch.cases.size() >= kMaxBatch) return CURL_WRITEFUNC_PAUSE;
  const bool ok = stream.reader.read({data, size}, [&](const auto& id, auto type, auto event) {
    stream.on_event(id, type, event);
  });
  if (!ok) stream.broken = true;
  return ok ? size : 0;
}

class HttpSource final : public OrderSource {
 public:
  explicit HttpSource(HttpSourceOptions o) : options_(std::move(o)), client_(milliseconds(5'000)) {
    multi_ = curl_multi_init();
    FAIRSALE_INVARIANT(multi_ != nullptr, "libcurl can be used");
    const std::string authorization = "Authorization: Bearer " + options_.token;
    authorization_ = {authorization, "Accept: text/event-stream"};
  }
  ~HttpSource() override {
    for (auto& [sku, stream] : streams_) close(*stream);
    curl_multi_cleanup(multi_);
  }

  void stop() override {
    stopping_ = true;
    curl_multi_wakeup(multi_);
  }

  Result<void> run(Intake& intake) override {
    for (const auto& sku : options_.skus) {
      if (auto ok = add(sku, intake); !ok) return ok;
    }
    steady_clock::time_point next_look{};
    while (!stopping_) {
      if (!intake.room()) {
        wait(kRoomPoll, false);
        continue;
      }
      const auto now = steady_clock::now();
      if (options_.skus.empty() && now >= next_look) {
        if (auto ok = look(intake); !ok) return ok;
        next_look = steady_clock::now() + kLookEvery;
      }
      for (auto& [sku, stream] : streams_) {
        if (stream->curl == nullptr && now >= stream->again) open(*stream);
      }
      int running = 0;
      curl_multi_perform(multi_, &running);
      read_ends();
      for (auto& [sku, stream] : streams_) {
        if (auto ok = hand_over(*stream, intake); !ok) return ok;
      }
      wait(kRetryFirst, true);
    }
    return {};
  }

 private:
  void wait(milliseconds most, bool sockets) {
    if (sockets) {
      curl_multi_poll(multi_, nullptr, 0, static_cast<int>(most.count()), nullptr);
    } else {
      std::this_thread::sleep_for(most);
    }
  }

  Result<void> add(const std::string& sku, Intake& intake) {
    if (streams_.contains(sku)) return {};
    if (streams_.size() >= kMaxStreams) {
      if (!told_full_) {
        spdlog::error(
            "There are more than {} sales; name those to be followed by --sku, and start "
            "more processes for the others",
            kMaxStreams);
      }
      told_full_ = true;
      return {};
    }
    auto cursor = intake.cursor(sku);
    if (!cursor) return tl::unexpected(cursor.error());
    auto stream = std::make_unique<Stream>();
    stream->sku = sku;
    stream->kept = *cursor;
    stream->reader.start(cursor->empty() ? "0" : *cursor);  // from the beginning
    streams_.emplace(sku, std::move(stream));
    return {};
  }

  Result<void> look(Intake& intake) {
    const auto reply = client_.get(options_.server + "/v1/sales?limit=1000", authorization_);
    simdjson::dom::parser parser;
    simdjson::dom::element document;
    simdjson::dom::array sales;
    if (!reply || reply->status != 200 ||
        parser.parse(reply->body).get(document) != simdjson::SUCCESS ||
        document["sales"].get(sales) != simdjson::SUCCESS) {
      if (!told_look_) {
        spdlog::warn(
            "The list of sales cannot be read and is asked for again: {}",
            reply ? fmt::format("fairsaled answered {}", reply->status) : reply.error().message);
      }
      told_look_ = true;
      return {};
    }
    told_look_ = false;
    for (const simdjson::dom::element sale : sales) {
      std::string_view sku;
      if (sale["sku"].get(sku) != simdjson::SUCCESS) continue;
      if (auto ok = add(std::string(sku), intake); !ok) return ok;
    }
    return {};
  }

  void open(Stream& s) {
    s.curl = curl_easy_init();
    FAIRSALE_INVARIANT(s.curl != nullptr, "libcurl can be used");
    s.broken = false;
    // What was cut off comes again.
    s.reader.start(std::string(s.reader.last_id()));
    curl_slist* headers = nullptr;
    for (const auto& h : authorization_) headers = curl_slist_append(headers, h.c_str());
    headers = curl_slist_append(headers, ("Last-Event-ID: " + s.reader.last_id()).c_str());
    headers_[s.curl] = headers;
    const std::string url = fmt::format("{}/v1/sales/{}/decisions", options_.server, s.sku);
    curl_easy_setopt(s.curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(s.curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(s.curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s.curl, CURLOPT_PROXY, "");
    curl_easy_setopt(s.curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(s.curl, CURLOPT_CONNECTTIMEOUT_MS, 5'000L);
    curl_easy_setopt(s.curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(s.curl, CURLOPT_LOW_SPEED_TIME, kSilence);
    curl_easy_setopt(s.curl, CURLOPT_WRITEFUNCTION, &on_bytes);
    curl_easy_setopt(s.curl, CURLOPT_WRITEDATA, static_cast<void*>(&s));
    curl_easy_setopt(s.curl, CURLOPT_PRIVATE, static_cast<void*>(&s));
    curl_multi_add_handle(multi_, s.curl);
  }

  void close(Stream& s) {
    if (s.curl == nullptr) return;
    curl_multi_remove_handle(multi_, s.curl);
    curl_easy_cleanup(s.curl);
    curl_slist_free_all(headers_[s.curl]);
    headers_.erase(s.curl);
    s.curl = nullptr;
  }

  void read_ends() {
    int left = 0;
    while (const CURLMsg* m = curl_multi_info_read(multi_, &left)) {
      if (m->msg != CURLMSG_DONE) continue;
      void* of = nullptr;
      curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &of);
      auto& s = *static_cast<Stream*>(of);
      long status = 0;
      curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
      const CURLcode code = m->data.result;
      if (!s.told && (status != 200 || s.broken)) {
        spdlog::warn("The decisions of {} cannot be read, it is tried again: {}", s.sku,
                     s.broken      ? "what came is no stream of events"
                     : status != 0 ? fmt::format("fairsaled answered {}", status)
                                   : std::string(curl_easy_strerror(code)));
        s.told = true;
      }
      if (status == 200 && !s.broken) {
        s.told = false;
        s.pause = milliseconds(0);
      }
      close(s);
      s.pause = std::clamp(s.pause * 2, kRetryFirst, kRetryMost);
      s.again = steady_clock::now() + s.pause;
    }
  }

  Result<void> hand_over(Stream& s, Intake& intake) {
    const auto now = steady_clock::now();
    const std::string& at = s.reader.last_id();
    const bool news = !s.batch.cases.empty() || !s.batch.dead.empty();
    if (!news && (at == s.kept || now < s.kept_at + kKeepCursor)) return {};
    s.batch.cursor = SourceCursor{s.sku, at};
    if (auto ok = intake.take(s.batch); !ok) return ok;
    s.batch = {};
    s.kept = at;
    s.kept_at = now;
    if (s.curl != nullptr) curl_easy_pause(s.curl, CURLPAUSE_CONT);
    return {};
  }

  const HttpSourceOptions options_;
  HttpClient client_;
  CURLM* multi_ = nullptr;
  std::vector<std::string> authorization_;
  std::map<std::string, std::unique_ptr<Stream>> streams_;
  std::map<CURL*, curl_slist*> headers_;
  std::atomic<bool> stopping_{false};
  bool told_full_ = false;
  bool told_look_ = false;
};

}  // namespace

std::unique_ptr<OrderSource> http_source(HttpSourceOptions o) {
  return std::make_unique<HttpSource>(std::move(o));
}

}  // namespace fairsale::orders
