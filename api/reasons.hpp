// How the API words the domain's reasons: a status, a title and what to do.
#pragma once

#include <string_view>

#include "core/domain/types.hpp"

namespace fairsale::api {

struct Wording {
  int status;
  std::string_view title;
  std::string_view detail;
};

Wording wording_of(Reason);

}  // namespace fairsale::api
