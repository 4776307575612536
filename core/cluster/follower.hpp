// A processor's side of the streams: takes the messages of its partitions in the order of their
// streams, and has the sequencer make blocks and decisions of them. It does so once for each
// position, however often a message is delivered, and it notices when a stream is not what it was:
// then the partition stops, for good, until somebody has looked at it.
//
// It also reads the stream that is to follow a partition's own (of the next generation), as far as
// it holds promises and a cut, and goes over to it when the cut says so: docs/cluster.md, "When a
// stream is silent".
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/cluster/message.hpp"
#include "core/engine/sequencer.hpp"

namespace fairsale::cluster {

// A message as a stream delivered it.
struct Delivered {
  PartitionId partition;
  Position position;
  Timestamp time;  // when the stream stored it
  std::span<const std::byte> bytes;
};

// Who waits for the answer to an event, as Answers of the sequencer are told: the origin, the batch
// and the event's place in it.
struct Asker {
  NodeId origin;
  BatchNumber number;
  std::uint32_t index = 0;

  Ticket pack() const { return {{origin.value, number.value, index}}; }
  static Asker of(const Ticket& t) {
    return {NodeId{t.words[0]}, BatchNumber{t.words[1]}, static_cast<std::uint32_t>(t.words[2])};
  }
};

// The positions of the last blocks of a log, by partition: where each goes on. Fails, naming what
// is damaged, when one of these cannot be read.
Result<std::map<PartitionId, Position>> last_positions(const EventLog&, Partitions);

// Whether the message made the last block of its SKU in this log. False also when it is no batch,
// and when it was stored at another time than the block says: then it is another at the same
// position.
Result<bool> made_last_block(const EventLog&, const Delivered&);

// Whether blocks beyond a cut may be taken back. `others` are where that generation was left by the
// other processors that are known to have left it. Nothing beyond was acknowledged when so many of
// them left it just there that, of any `durable_on` which had a block beyond, one would be among
// them. When one has left it elsewhere the streams are not what they were: an operator has to look.
bool may_take_back(std::uint64_t cut, const std::vector<std::uint64_t>& others,
                   std::size_t processors, std::size_t durable_on);

// What a log had of a partition beyond a position.
struct TakenBack {
  std::vector<SkuHead> heads;    // of the SKUs that had any, before it
  std::vector<std::byte> bytes;  // the blocks, as stored
  std::uint64_t blocks = 0;
  std::uint64_t events = 0;
};
Result<TakenBack> beyond(const EventLog&, Partitions, PartitionId, Position);

// Not thread-safe; of the thread that drives the sequencer.
class Follower {
 public:
  struct State {
    Position position;          // everything up to here is durable here
    Position anchor;            // the last of those that made a block
    Position began;             // as begin() said, or where it went over to this generation
    bool gap = false;           // messages are missing: nothing is taken until the next one comes
    bool look = false;          // nothing is taken until rewind(): the others may be elsewhere
    std::string stopped;        // why nothing more is taken; empty: it is
    std::uint64_t skipped = 0;  // messages that were no batches

    std::uint16_t promised_for = 0;  // the generation of the latest promise; 0: none
    bool was_there = false;  // when it promised: it comes to the next generation with the others
    // Of the stream of the next generation.
    std::uint64_t next_read = 0;                    // its messages up to here were read
    bool next_gap = false;                          // some are missing: none is read until reread()
    std::map<ProcessorId, std::uint64_t> promises;  // what each said that it has, the first time
    std::optional<std::uint64_t> cut;               // this generation is taken up to here
    // Where it left the generations before, the latest five.
    std::map<std::uint16_t, std::uint64_t> cuts;
    // This log has blocks beyond the cut: it stopped, and can go on in a process that starts from
    // it without them (beyond(), EventLog::shorten()).
    std::optional<Position> shorten_to;

    // Nothing more is taken of this generation before its cut is known.
    bool promised() const { return promised_for > position.generation; }
  };

  // The sequencer follows, and outlives this. `promises` make a cut, which is how many processors
  // must be asked to hear of all that was acknowledged (enough_to_know()); 0: streams
  // are never changed.
  Follower(Sequencer& sequencer, Partitions partitions, std::size_t promises = 0)
      : sequencer_(sequencer), spread_(partitions), promises_(promises) {}

  // Begins to take a partition's messages, those after `position`, which is that of its last block.
  void begin(PartitionId, Position position);
  void stop(PartitionId, std::string why);
  // To be called when a consumer of the stream begins anew, with its state's `anchor` + 1: what
  // came after the anchor left no trace, and a stream that has lost it may have other messages
  // there.
  void rewind(PartitionId);
  // Takes nothing more of the partition's generation before the cut is known. A later promise than
  // this, of the process before, is kept as well. Returns the position of the last block, for the
  // promise (what came after it left no trace anywhere); the caller publishes that once it can no
  // longer be forgotten.
  Position promise(PartitionId);
  // After begin(), in a process that starts: before, it had promised to leave the generation before
  // this one.
  void keep_promise(PartitionId, std::uint16_t generation);
  // Likewise: where the process before left other generations.
  void keep_cuts(PartitionId p, std::map<std::uint16_t, std::uint64_t> cuts) {
    partitions_[p].cuts = std::move(cuts);
  }
  // When a consumer of the next generation's stream begins anew, from its first message: what was
  // read may be there no more.
  void reread(PartitionId);

  // Takes as many of the messages as one commit holds and returns how many; those of partitions
  // that have stopped, or that were taken before, count as taken. Fails when the log does: then
  // the process has to end.
  // Tickets are Askers'; a batch whose origin is 0 has none.
  Result<std::size_t> take(std::span<const Delivered>, fairsale::Answers&);

  const std::map<PartitionId, State>& partitions() const { return partitions_; }
  const TurnReport& report() const { return report_; }  // of the last take()

 private:
  // A message that is under way to the sequencer.
  struct Source {
    std::size_t index;  // in what was delivered
    Position before;    // of the partition
  };

  static bool expected(State&, const Delivered&);
  void open(State&, const Delivered&);
  void read_next(State&, const Delivered&);
  static void begin(State&, Position, bool gap, bool look);
  void go_over();
  static void go_over(State&);

  Sequencer& sequencer_;
  const Partitions spread_;
  const std::size_t promises_;
  std::map<PartitionId, State> partitions_;
  std::vector<Batch> batches_;  // reused
  std::vector<std::vector<Ticket>> tickets_;
  std::vector<Ordered> ordered_;
  std::vector<Source> sources_;
  TurnReport report_;
};

}  // namespace fairsale::cluster
