// Requests to other servers, one after the other, over libcurl.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"

namespace fairsale {

struct HttpReply {
  int status = 0;
  std::string body;
  std::chrono::seconds retry_after{0};  // as the server asks; 0 when it does not
};

// Keeps its connections. One for each thread. Redirects are not followed; only http and https.
class HttpClient {
 public:
  // The whole of a request takes no longer than `timeout`; an answer over `most_bytes` is a
  // failure.
  explicit HttpClient(std::chrono::milliseconds timeout, std::size_t most_bytes = 1 << 20);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // `headers` are whole fields, "Name: value". Fails when there was no whole answer: then the
  // request may have been carried out or not.
  Result<HttpReply> post(const std::string& url, const std::vector<std::string>& headers,
                         std::string_view body);
  Result<HttpReply> get(const std::string& url, const std::vector<std::string>& headers);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Once, before any thread is started.
void start_http_clients();

// Nothing when `url` is http[s]://host[:port][/path] without user, query or blanks, else what is
// wrong with it.
std::string wrong_with_url(std::string_view url);

}  // namespace fairsale
