// What one processor has taken upon itself and what has become of it, in a RocksDB database. Every
// write is durable when it returns. A case is never removed: it is the memory by which a message
// that comes again is known.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"
#include "tools/orders/fulfilment.hpp"

namespace rocksdb {
class Env;
}

namespace fairsale::orders {

// A message that cannot be understood, or that contradicts one that was taken.
struct DeadLetter {
  std::string id;  // of the message as its carrier names it
  std::string why;
  std::string content;  // the beginning of it
};

// Where a source stands, by its own name ("sku" of a stream), in its own words.
struct SourceCursor {
  std::string source;
  std::string position;
};

// What is taken in one write.
struct Batch {
  std::vector<Case> cases;
  std::vector<DeadLetter> dead;
  std::optional<SourceCursor> cursor;
};

// What came of a batch.
struct Taken {
  std::vector<Case> fresh;  // those that were not known
  // Kept as dead letters, since their ids are known with another payment: they are of another log,
  // say of one that was restored from an older copy, and must not pass for repeats.
  std::vector<DeadLetter> strange;
};

// Thread-safe.
class OrderStore {
 public:
  // Makes the directory. Fails (busy) while another process has it. `env` is what the I/O goes
  // through; null for the system.
  static Result<std::unique_ptr<OrderStore>> open(const std::filesystem::path&,
                                                  rocksdb::Env* env = nullptr);
  // To read a store that a processor may have open: as it was a moment ago.
  static Result<std::unique_ptr<OrderStore>> look(const std::filesystem::path&);
  ~OrderStore();

  // Takes what is not known yet; all of the batch or nothing of it.
  Result<Taken> take(const Batch&);

  // Writes a case that was taken, after a step.
  Result<void> put(const Case&);

  // Empty when there is none.
  Result<std::string> cursor(std::string_view source) const;

  // In the order of their purchases. Stops when `visit` returns false.
  Result<void> each(const std::function<bool(const Case&)>& visit) const;
  Result<void> each_open(const std::function<bool(const Case&)>& visit) const;
  Result<void> each_of(std::string_view purchase,
                       const std::function<bool(const Case&)>& visit) const;
  Result<void> each_dead(const std::function<bool(const DeadLetter&)>& visit) const;

 private:
  struct Impl;
  explicit OrderStore(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fairsale::orders
