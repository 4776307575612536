// When an origin may answer: a batch's answers are held back until the batch is stored by what
// orders it, and enough processors have said that they have it durable, at the same place in the
// same log. So whatever an origin lets through survives the loss of all processors but as many as
// must be asked to find it again. When `durable_on` is more than half of a partition's processors,
// two logs that have parted never both get a purchase acknowledged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "core/cluster/message.hpp"

namespace fairsale::cluster {

// Not thread-safe.
class AnswerGate {
 public:
  struct Options {
    std::size_t durable_on = 2;  // processors
    std::size_t limit = 4'096;   // batches that may be waited for
    Duration patience{4'000};    // for one
  };

  enum class Heard : std::uint8_t {
    unawaited,  // of no batch that is waited for: late, or repeated
    held,       // more is needed
    released,   // `content` may be answered now
    disagreed,  // as held, and processors differ: their logs have parted
  };

  explicit AnswerGate(Options options) : options_(options) {}

  // The number for the next batch, which is waited for from now on; nothing when too many are.
  std::optional<BatchNumber> await(Duration now);

  // What orders batches has stored it there, and will not lose it alone.
  Heard stored(BatchNumber, Position);
  // A processor has it. Its content is kept while it may be needed. One that starts again, perhaps
  // without its disk, is the same: it counts once.
  Heard answered(const Answers&);
  // After released: what the first of the processors that agree has sent. Valid until the next
  // call.
  std::span<const std::byte> content() const { return released_; }

  // Gives up a batch that was never sent.
  void forget(BatchNumber);
  // Gives up batches that have waited for longer than `patience`: their outcome is not known here.
  // Calls `lost` for each.
  void expire(Duration now, const std::function<void(BatchNumber)>& lost);
  // When to call expire() again; nothing when nothing is waited for.
  std::optional<Duration> next_expiry() const;

  std::size_t waiting() const { return waiting_; }

 private:
  // Processors that say the same.
  struct Opinion {
    Epoch position;
    Mark mark;
    std::vector<ProcessorId> processors;
    std::vector<std::byte> content;  // of the first
  };
  struct Awaited {
    bool open = false;
    Duration deadline;
    std::optional<Position> stored;
    std::vector<Opinion> opinions;
  };

  Awaited* find(BatchNumber);
  Heard judge(Awaited&);
  void close(Awaited&);

  Options options_;
  std::deque<Awaited> awaited_;  // by number, from first_
  BatchNumber first_{1};
  std::size_t waiting_ = 0;
  std::vector<std::byte> released_;
};

}  // namespace fairsale::cluster
