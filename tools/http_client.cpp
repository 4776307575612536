#include "tools/http_client.hpp"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/domain/invariant.hpp"

namespace fairsale {

struct HttpClient::Impl {
  CURL* curl = curl_easy_init();
  std::chrono::milliseconds timeout;
  std::size_t most_bytes;
  std::string body;

  static std::size_t write(char* data, std::size_t, std::size_t size, void* self) {
    auto& body = static_cast<Impl*>(self)->body;
    if (body.size() + size > static_cast<Impl*>(self)->most_bytes) return 0;
    body.append(data, size);
    return size;
  }

  template <class T>
  void set(CURLoption option, T value) const {
    FAIRSALE_INVARIANT(curl_easy_setopt(curl, option, value) == CURLE_OK,
                       "libcurl knows the options that it is given");
  }

  Result<HttpReply> perform(const std::string& url, const std::vector<std::string>& headers) {
    curl_slist* list = nullptr;
    for (const auto& h : headers) list = curl_slist_append(list, h.c_str());
    body.clear();
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_HTTPHEADER, list);
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_PROXY, "");
    set(CURLOPT_WRITEFUNCTION, &Impl::write);
    set(CURLOPT_WRITEDATA, static_cast<void*>(this));
    const CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(list);
    if (code != CURLE_OK) {
      return fail(Fault::io, fmt::format("{}: {}", url, curl_easy_strerror(code)));
    }
    long status = 0;
    curl_off_t wait = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait);
    return HttpReply{static_cast<int>(status), body,
                     std::chrono::seconds(std::clamp<curl_off_t>(wait, 0, 3600))};
  }
};

HttpClient::HttpClient(std::chrono::milliseconds timeout, std::size_t most_bytes)
    : impl_(std::make_unique<Impl>()) {
  FAIRSALE_INVARIANT(impl_->curl != nullptr, "libcurl can be used");
  impl_->timeout = timeout;
  impl_->most_bytes = most_bytes;
}

HttpClient::~HttpClient() { curl_easy_cleanup(impl_->curl); }

Result<HttpReply> HttpClient::post(const std::string& url, const std::vector<std::string>& headers,
                                   std::string_view body) {
  curl_easy_reset(impl_->curl);
  impl_->set(CURLOPT_POST, 1L);
  impl_->set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  impl_->set(CURLOPT_COPYPOSTFIELDS, std::string(body).c_str());
  return impl_->perform(url, headers);
}

Result<HttpReply> HttpClient::get(const std::string& url, const std::vector<std::string>& headers) {
  curl_easy_reset(impl_->curl);
  impl_->set(CURLOPT_HTTPGET, 1L);
  return impl_->perform(url, headers);
}

void start_http_clients() {
  FAIRSALE_INVARIANT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK, "libcurl can be used");
}

std::string wrong_with_url(std::string_view url) {
  std::string_view rest = url;
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!rest.starts_with(scheme)) continue;
    rest.remove_prefix(scheme.size());
    const bool plain =
        std::all_of(rest.begin(), rest.end(), [](char c) { return c > ' ' && c < '\x7f'; });
    if (!rest.empty() && rest.front() != '/' && rest.front() != ':' && plain &&
        rest.find_first_of("@?#\\") == std::string_view::npos) {
      return {};
    }
  }
  // What may hold credentials is not repeated: complaints end up in logs.
  const bool tell = url.find('@') == std::string_view::npos;
  return fmt::format(
      "{} must be http://HOST:PORT or https://HOST:PORT, perhaps with a path; "
      "credentials go into a file",
      tell ? fmt::format("'{}'", url) : "what was given");
}

}  // namespace fairsale
