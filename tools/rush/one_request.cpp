#include "tools/rush/one_request.hpp"

#include "tools/rush/driver.hpp"

namespace fairsale::rush {

namespace {

class One final : public Driver::Work {
 public:
  explicit One(const std::string& request) : request_(request) {}

  Reply reply;

 private:
  void render(const Task&, std::string& out) override { out += request_; }
  void answered(const Task&, const Response& r, std::int64_t, std::int64_t) override {
    reply.status = r.status;
    reply.bytes.assign(r.body);
    reply.bytes.append(kJsonPadding, '\0');
  }
  bool tick(std::int64_t) override { return reply.status == 0; }

  const std::string& request_;
};

}  // namespace

Result<Reply> ask(const Endpoint& endpoint, const std::string& request, std::int64_t patience_us) {
  auto pool = HttpPool::open(endpoint, 1, patience_us);
  if (!pool) return tl::unexpected(pool.error());
  Driver driver(std::move(*pool), 1);
  driver.submit({});
  One one(request);
  if (auto ok = driver.run(one, patience_us); !ok) return tl::unexpected(ok.error());
  return std::move(one.reply);
}

}  // namespace fairsale::rush
