// The pages that people watch: a shopper's at /s/{sku}, the operator's at /console, an index at /,
// and their assets. They are part of the program, talk to the API like any other client, and need
// nothing from elsewhere.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace fairsale::api {

// A file of api/web, as embedded. `name` is its path there: "shop.html", "vendor/uplot.min.js".
struct WebFile {
  std::string_view name;
  std::string_view bytes;
};
std::span<const WebFile> web_files();

// Rendered once; reading is thread-safe.
class Pages {
 public:
  // In a demo the pages make themselves guests and pay through the demo gateway. `pay_url` is where
  // else shoppers pay, with "{purchase}" in it; empty: they are sent back to their shop.
  Pages(bool demo, std::string_view pay_url);

  // A whole response, with its tag and what a browser may do with it.
  struct Page {
    std::string etag;          // quoted
    std::string response;      // of 200
    std::string not_modified;  // the fields of 304
  };

  // By the path of the request; null when nothing is there.
  const Page* find(std::string_view path) const;

 private:
  std::map<std::string, Page, std::less<>> pages_;  // by path; the shopper's is at "/s/"
};

}  // namespace fairsale::api
