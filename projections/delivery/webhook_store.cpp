#include "projections/delivery/webhook_store.hpp"

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <simdjson.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "core/json/json.hpp"
#include "core/log/little_endian.hpp"
#include "core/log/rocks_database.hpp"
#include "projections/outbox/message.hpp"

namespace fairsale {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kFormatKey = "V";
constexpr std::string_view kFormat = "fairsale webhooks 1";
constexpr unsigned kKinds = static_cast<unsigned>(DecisionKind::noted) + 1;

rocksdb::Slice slice(std::string_view s) { return {s.data(), s.size()}; }

std::string webhook_key(std::string_view id) { return "E" + std::string(id); }

std::string attempt_prefix(std::string_view id) {
  std::string key = "A" + std::string(id);
  key += '\0';
  return key;
}

std::string attempt_key(std::string_view id, std::uint64_t number) {
  std::string key = attempt_prefix(id);
  append_be(key, number);
  return key;
}

std::string encode(const Webhook& w) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("url", std::string_view(w.url)).key("kinds").begin_array();
  for (const std::string_view name : w.kinds.names()) json.value(name);
  json.end_array();
  if (w.sku) json.member("sku", w.sku->view());
  json.member("past", w.past).member("created", w.created.value).member("enabled", w.enabled);
  json.member("disabled_because", std::string_view(w.disabled_because));
  if (w.failing_since) json.member("failing_since", w.failing_since->value);
  json.key("secrets").begin_array();
  for (const std::string& s : w.secrets) json.value(std::string_view(s));
  json.end_array().end_object();
  return out;
}

std::string encode(const WebhookAttempt& a) {
  std::string out;
  JsonWriter(out)
      .begin_object()
      .member("message", std::string_view(a.message))
      .member("at", a.at.value)
      .member("duration_ms", a.duration_ms)
      .member("status", a.status)
      .member("error", std::string_view(a.error))
      .end_object();
  return out;
}

// Reads the members of a stored object; remembers whether one was missing or of another type.
class Members {
 public:
  explicit Members(std::string_view json) {
    good_ = parser_.parse(json.data(), json.size()).get(object_) == simdjson::SUCCESS;
  }

  bool good() const { return good_; }
  bool has(const char* name) const { return good_ && object_[name].error() == simdjson::SUCCESS; }
  std::string text(const char* name) { return std::string(get<std::string_view>(name)); }
  std::int64_t number(const char* name) { return get<std::int64_t>(name); }
  bool flag(const char* name) { return get<bool>(name); }
  std::vector<std::string> texts(const char* name) {
    std::vector<std::string> out;
    for (const auto item : get<simdjson::dom::array>(name)) {
      std::string_view text;
      if (item.get(text) != simdjson::SUCCESS) good_ = false;
      out.emplace_back(text);
    }
    return out;
  }

 private:
  template <class T>
  T get(const char* name) {
    T value{};
    if (good_ && object_[name].get(value) != simdjson::SUCCESS) good_ = false;
    return value;
  }

  simdjson::dom::parser parser_;
  simdjson::dom::object object_;
  bool good_ = false;
};

std::optional<Webhook> decode_webhook(std::string_view id, std::string_view json) {
  Members m(json);
  // An empty array is not to be looked into.
  if (!m.has("kinds") || !m.has("secrets")) return std::nullopt;
  Webhook w{.id = std::string(id), .url = m.text("url")};
  for (const std::string& name : m.texts("kinds")) {
    if (!w.kinds.add(name)) return std::nullopt;
  }
  if (m.has("sku")) {
    w.sku = SkuName::from(m.text("sku"));
    if (!w.sku) return std::nullopt;
  }
  w.past = m.flag("past");
  w.created = Timestamp{m.number("created")};
  w.enabled = m.flag("enabled");
  w.disabled_because = m.text("disabled_because");
  if (m.has("failing_since")) w.failing_since = Timestamp{m.number("failing_since")};
  w.secrets = m.texts("secrets");
  if (!m.good() || w.secrets.empty() || w.secrets.size() > Webhook::kSecrets) return std::nullopt;
  return w;
}

std::optional<WebhookAttempt> decode_attempt(std::string_view json) {
  Members m(json);
  WebhookAttempt a{.message = m.text("message"), .at = Timestamp{m.number("at")}};
  a.duration_ms = static_cast<std::uint32_t>(m.number("duration_ms"));
  a.status = static_cast<int>(m.number("status"));
  a.error = m.text("error");
  if (!m.good()) return std::nullopt;
  return a;
}

}  // namespace

bool KindSet::add(std::string_view name) {
  if (name == kReminderKind) {
    add_reminders();
    return true;
  }
  for (unsigned i = 1; i < kKinds; ++i) {
    const auto kind = static_cast<DecisionKind>(i);
    if (!becomes_message(kind) || name_of(kind) != name) continue;
    add(kind);
    return true;
  }
  return false;
}

std::vector<std::string_view> KindSet::names() const {
  std::vector<std::string_view> out;
  for (unsigned i = 1; i < kKinds; ++i) {
    if (has(static_cast<DecisionKind>(i))) out.push_back(name_of(static_cast<DecisionKind>(i)));
  }
  if (has_reminders()) out.push_back(kReminderKind);
  return out;
}

KindSet all_message_kinds() {
  KindSet all;
  for (unsigned i = 1; i < kKinds; ++i) {
    if (becomes_message(static_cast<DecisionKind>(i))) all.add(static_cast<DecisionKind>(i));
  }
  all.add_reminders();
  return all;
}

struct WebhookStore::Impl {
  std::string directory;
  std::unique_ptr<rocksdb::DB> db;

  tl::unexpected<Error> unreadable(const rocksdb::Status& s) const {
    return rocks_failure(fmt::format("{} cannot be read", directory), s);
  }
  tl::unexpected<Error> illegible() const {
    return fail(Fault::damaged,
                fmt::format("{} is damaged. Restore it from a backup, or move it away and register "
                            "the webhooks again",
                            directory));
  }
  Result<void> write(rocksdb::WriteBatch& batch, bool sync) const {
    rocksdb::WriteOptions o;
    o.sync = sync;
    const auto s = db->Write(o, &batch);
    if (!s.ok()) return rocks_failure(fmt::format("{} cannot be written", directory), s);
    return {};
  }
};

WebhookStore::WebhookStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WebhookStore::~WebhookStore() = default;

Result<std::unique_ptr<WebhookStore>> WebhookStore::open(const fs::path& directory) {
  auto impl = std::make_unique<Impl>();
  impl->directory = directory.string();
  // Before anything is in it.
  if ((::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) ||
      ::chmod(directory.c_str(), 0700) != 0) {
    return fail(Fault::io,
                fmt::format("{} cannot be made: {}", directory.string(), std::strerror(errno)));
  }
  rocksdb::Options o;
  o.create_if_missing = true;
  o.info_log_level = rocksdb::FATAL_LEVEL;
  o.write_buffer_size = std::size_t{4} << 20;
  o.max_total_wal_size = std::size_t{16} << 20;
  o.keep_log_file_num = 1;
  o.max_open_files = 64;
  rocksdb::DB* db = nullptr;
  rocksdb::Status s = rocksdb::DB::Open(o, directory.string(), &db);
  if (s.IsCorruption()) return impl->illegible();
  if (!s.ok()) return rocks_failure(fmt::format("{} cannot be opened", directory.string()), s);
  impl->db.reset(db);
  std::string format;
  s = db->Get({}, slice(kFormatKey), &format);
  if (s.IsNotFound()) {
    format = kFormat;
    s = db->Put({}, slice(kFormatKey), slice(kFormat));
  }
  if (!s.ok()) return impl->unreadable(s);
  if (format != kFormat) {
    return fail(Fault::unsupported, fmt::format("{} was written by a newer fairsale; use that one",
                                                directory.string()));
  }
  return std::unique_ptr<WebhookStore>(new WebhookStore(std::move(impl)));
}

Result<std::vector<Webhook>> WebhookStore::webhooks() const {
  std::vector<Webhook> all;
  const std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator({}));
  for (it->Seek("E"); it->Valid() && it->key().starts_with("E"); it->Next()) {
    auto w = decode_webhook(it->key().ToStringView().substr(1), it->value().ToStringView());
    if (!w) return impl_->illegible();
    all.push_back(std::move(*w));
  }
  if (!it->status().ok()) return impl_->unreadable(it->status());
  return all;
}

Result<void> WebhookStore::put(const Webhook& w) {
  rocksdb::WriteBatch batch;
  batch.Put(slice(webhook_key(w.id)), slice(encode(w))).PermitUncheckedError();
  return impl_->write(batch, true);
}

Result<void> WebhookStore::erase(std::string_view id) {
  const std::string from = attempt_prefix(id);
  std::string to = from;
  to.back() = 1;
  rocksdb::WriteBatch batch;
  batch.Delete(slice(webhook_key(id))).PermitUncheckedError();
  batch.DeleteRange(slice(from), slice(to)).PermitUncheckedError();
  return impl_->write(batch, true);
}

Result<std::vector<NumberedAttempt>> WebhookStore::attempts(std::string_view id) const {
  std::vector<NumberedAttempt> all;
  const std::string prefix = attempt_prefix(id);
  const std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator({}));
  for (it->Seek(slice(prefix)); it->Valid() && it->key().starts_with(slice(prefix)); it->Next()) {
    auto a = decode_attempt(it->value().ToStringView());
    if (!a || it->key().size() != prefix.size() + 8) return impl_->illegible();
    all.push_back({get_be64(it->key().data() + prefix.size()), std::move(*a)});
  }
  if (!it->status().ok()) return impl_->unreadable(it->status());
  return all;
}

Result<void> WebhookStore::add(std::string_view id, const NumberedAttempt& a,
                               std::uint64_t oldest) {
  rocksdb::WriteBatch batch;
  batch.Put(slice(attempt_key(id, a.number)), slice(encode(a.attempt))).PermitUncheckedError();
  if (oldest != 0) batch.Delete(slice(attempt_key(id, oldest))).PermitUncheckedError();
  return impl_->write(batch, false);
}

fs::path webhooks_directory(const fs::path& data) { return data / "webhooks"; }

}  // namespace fairsale
