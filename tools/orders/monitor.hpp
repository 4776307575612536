// What a processor tells about itself over HTTP: GET /metrics (Prometheus) and /livez.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "api/http/worker.hpp"
#include "core/log/result.hpp"
#include "tools/orders/processor.hpp"

namespace fairsale::orders {

class Monitor {
 public:
  // `where` is ADDRESS:PORT, port 0 for any; null when it is empty. The processor must outlive it.
  static Result<std::unique_ptr<Monitor>> start(const std::string& where, const Processor&);
  ~Monitor();

  std::uint16_t port() const { return port_; }

 private:
  class Service;
  Monitor(http::Listener, std::uint16_t port, const Processor&);

  std::uint16_t port_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<http::Worker> worker_;
  std::thread thread_;
};

}  // namespace fairsale::orders
