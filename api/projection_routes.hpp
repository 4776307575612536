// What the API says of and from the stored projections. Knows nothing of connections: the desk
// authenticates, parses and sends.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "api/http/problem.hpp"
#include "projections/stored/projector.hpp"

namespace fairsale::api {

class ProjectionRoutes {
 public:
  static constexpr std::uint32_t kMaxPage = 100;  // rows that one read takes from the store

  // Nothing is stored without a projector.
  explicit ProjectionRoutes(Projector* projector) : projector_(projector) {}

  // An answer, or a problem when that has a name. Texts are literals or the answer's own.
  struct Answer {
    int status = 200;
    std::string body;
    std::string_view problem;
    std::string_view title;
    std::string detail;
  };

  // Rows of a sale after a position or time (in seconds).
  struct Read {
    StoredProjection projection = StoredProjection::orders;
    SkuName sku;
    Seq after_position;
    std::int64_t after_second = -1;
    std::uint32_t limit = kMaxPage;
  };
  Answer read(const Read&) const;
  // Up to where the rows of a sale are complete; nothing when they cannot be read.
  std::optional<Seq> position(const Read&) const;

  Answer list() const;
  Answer rebuild(std::string_view projection, bool force) const;
  Answer drop(std::string_view projection, std::string_view generation) const;

 private:
  Answer unavailable() const;
  Answer unavailable(const Error&) const;

  Projector* projector_;
};

}  // namespace fairsale::api
