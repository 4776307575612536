#include "tools/rush/claim.hpp"

#include <simdjson.h>

#include <charconv>

namespace fairsale::rush {

namespace {

static_assert(kJsonPadding >= simdjson::SIMDJSON_PADDING);

using simdjson::ondemand::object;
using simdjson::ondemand::value;

constexpr std::string_view kProblem = "urn:fairsale:problem:";

// Numbers that do not fit or are of another type leave `out` as it was.
template <class Number>
void take(value& v, Number& out) {
  std::int64_t n = 0;
  if (v.get_int64().get(n) == simdjson::SUCCESS) out = static_cast<Number>(n);
}

std::string_view text(value& v) {
  std::string_view s;
  return v.get_string().get(s) == simdjson::SUCCESS ? s : std::string_view{};
}

// Calls visit(key, value) for each member; false when the object is broken.
template <class Visit>
bool each_member(object& o, Visit&& visit) {
  for (auto member : o) {
    simdjson::ondemand::field field;
    if (std::move(member).get(field) != simdjson::SUCCESS) return false;
    std::string_view key;
    if (field.unescaped_key().get(key) != simdjson::SUCCESS) return false;
    visit(key, field.value());
  }
  return true;
}

}  // namespace

struct AnswerReader::Impl {
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;

  bool open(std::string_view body, object& out) {
    const simdjson::padded_string_view padded(body, body.size() + kJsonPadding);
    return parser.iterate(padded).get(document) == simdjson::SUCCESS &&
           document.get_object().get(out) == simdjson::SUCCESS;
  }
};

AnswerReader::AnswerReader() : impl_(std::make_unique<Impl>()) {}
AnswerReader::~AnswerReader() = default;
AnswerReader::AnswerReader(AnswerReader&&) noexcept = default;

bool AnswerReader::read(std::string_view body, std::string_view sku, Answer& out) {
  out = Answer{};
  object o;
  if (!impl_->open(body, o)) return false;
  return each_member(o, [&](std::string_view key, value& v) {
    if (key == "purchase") {
      out.seq = purchase_seq(text(v), sku);
    } else if (key == "position") {
      take(v, out.position);
    } else if (key == "place") {
      take(v, out.place);
    } else if (key == "quantity") {
      take(v, out.quantity);
    } else if (key == "status") {
      out.status = text(v);
    } else if (key == "reason") {
      out.reason = reason_named(text(v)).value_or(Reason::none);
    } else if (key == "type") {
      out.type = text(v);
      if (out.type.starts_with(kProblem)) out.type.remove_prefix(kProblem.size());
    }
  });
}

bool AnswerReader::read(std::string_view body, SaleFacts& out) {
  out = SaleFacts{};
  object o;
  if (!impl_->open(body, o)) return false;
  bool whole = true;
  whole = each_member(o,
                      [&](std::string_view key, value& v) {
                        if (key == "stock") {
                          take(v, out.stock);
                        } else if (key == "available") {
                          take(v, out.available);
                        } else if (key == "held") {
                          take(v, out.held);
                        } else if (key == "sold") {
                          take(v, out.sold);
                        } else if (key == "waiting") {
                          take(v, out.waiting);
                        } else if (key == "limit_per_customer") {
                          take(v, out.limit_per_customer);
                        } else if (key == "line_limit") {
                          take(v, out.line_limit);
                        } else if (key == "position") {
                          take(v, out.position);
                        } else if (key == "state") {
                          out.state = text(v);
                        } else if (key == "line_policy") {
                          out.strict = text(v) != "skip_if_unfit";
                        } else if (key == "price") {
                          object price;
                          whole = v.get_object().get(price) == simdjson::SUCCESS &&
                                  each_member(price, [&](std::string_view name, value& member) {
                                    if (name == "amount") {
                                      take(member, out.price);
                                    } else if (name == "currency") {
                                      out.currency = text(member);
                                    }
                                  });
                        }
                      }) &&
          whole;
  return whole && !out.state.empty();
}

bool AnswerReader::read(std::string_view body, std::string_view sku, std::vector<Listed>& out) {
  out.clear();
  object o;
  if (!impl_->open(body, o)) return false;
  bool whole = true;
  const bool outer = each_member(o, [&](std::string_view key, value& v) {
    if (key != "purchases") return;
    simdjson::ondemand::array list;
    if (v.get_array().get(list) != simdjson::SUCCESS) {
      whole = false;
      return;
    }
    for (auto element : list) {
      object purchase;
      Listed listed;
      if (element.get_object().get(purchase) != simdjson::SUCCESS) {
        whole = false;
        return;
      }
      whole = whole && each_member(purchase, [&](std::string_view name, value& member) {
                if (name == "purchase") {
                  listed.seq = purchase_seq(text(member), sku);
                } else if (name == "status") {
                  listed.status = status_named(text(member)).value_or(PurchaseStatus::refused);
                }
              });
      out.push_back(listed);
    }
  });
  return outer && whole;
}

std::uint64_t purchase_seq(std::string_view id, std::string_view sku) {
  if (id.size() < sku.size() + 2 || !id.starts_with(sku) || id[sku.size()] != ':') return 0;
  id.remove_prefix(sku.size() + 1);
  std::uint64_t seq = 0;
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), seq);
  return error == std::errc{} && end == id.data() + id.size() ? seq : 0;
}

std::optional<Reason> reason_named(std::string_view name) {
  for (unsigned i = 1; i <= static_cast<unsigned>(Reason::event_unsupported); ++i) {
    if (name == name_of(static_cast<Reason>(i))) return static_cast<Reason>(i);
  }
  return std::nullopt;
}

std::optional<PurchaseStatus> status_named(std::string_view name) {
  for (unsigned i = 0; i <= static_cast<unsigned>(PurchaseStatus::refunded); ++i) {
    if (name == name_of(static_cast<PurchaseStatus>(i))) return static_cast<PurchaseStatus>(i);
  }
  return std::nullopt;
}

int documented_status(Reason r) {
  switch (r) {
    case Reason::not_started: return 425;
    case Reason::over_limit: return 403;
    case Reason::quantity_invalid:
    case Reason::key_reused:
    case Reason::terms_invalid:
    case Reason::reference_reused: return 422;
    case Reason::unknown_sale:
    case Reason::unknown_purchase: return 404;
    case Reason::paused:
    case Reason::ended:
    case Reason::closed:
    case Reason::sold_out:
    case Reason::insufficient_stock:
    case Reason::line_full:
    case Reason::sale_exists:
    case Reason::not_changeable:
    case Reason::stock_committed:
    case Reason::not_held:
    case Reason::not_offered:
    case Reason::already_ordered:
    case Reason::not_ordered:
    case Reason::too_many_payments:
    case Reason::sale_full: return 409;
    case Reason::none:
    case Reason::already_paid:
    case Reason::hold_expired:
    case Reason::cancelled:
    case Reason::amount_mismatch:
    case Reason::event_unsupported: return 0;
  }
  return 0;
}

std::uint64_t digest_of(std::string_view body) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : body) {
    h ^= static_cast<unsigned char>(c);
    h *= 0x100000001b3ULL;
  }
  return h;
}

}  // namespace fairsale::rush
