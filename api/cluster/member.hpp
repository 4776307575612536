// One desk's part in a cluster, on the desk's thread: as an origin it makes batches of what its
// clients ask and holds answers back until they may be given; as a processor it follows the streams
// of its partitions and answers the origins.
//
// What comes over the network waits in an inbox; the desk takes it once per turn.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "api/cluster/bus.hpp"
#include "api/cluster/wire.hpp"
#include "api/query.hpp"
#include "core/cluster/agreement.hpp"
#include "core/cluster/answer_gate.hpp"
#include "core/cluster/crowd.hpp"
#include "core/cluster/follower.hpp"

namespace fairsale::api {

struct MemberOptions {
  bool processor = false;
  cluster::ProcessorId me;  // who answers, if it is a processor
  cluster::NodeId origin;   // of this desk
  cluster::Partitions partitions;
  std::size_t durable_on = 2;
  std::size_t processors = 3;
  std::size_t inbox_limit = 8'192;  // events that wait for a batch
  // Of a SKU. What comes meanwhile becomes the next one. One that is late holds up no other.
  std::size_t batches_under_way = 1;
  Duration late{250};
  std::size_t late_batches = 8;  // with them
  std::size_t queries_under_way = 4'096;
  Duration patience{4'000};  // for an answer
};

// The desk's side of it.
class MemberDesk : public fairsale::Answers {
 public:
  // To whoever waits.
  virtual void give(const Reply&, const Rendered&) = 0;
  // It was not sent, or it is not known what became of it.
  virtual void give_up(const Reply&, bool sent) = 0;
  // A request of another node's client. The answer goes to Member::reply_forwarded(slot).
  virtual void take_forwarded(Query, http::Ticket slot) = 0;
  // How a sale looks now; nothing when there is none.
  virtual std::shared_ptr<const Availability> look_of(SkuId) = 0;

 protected:
  ~MemberDesk() = default;
};

class Member {
 public:
  // Wakes the desk.
  using Wake = std::function<void()>;

  Member(Bus& bus, Sequencer& shard, const Clock& clock, MemberOptions options, Wake wake);

  // Before the desk's thread begins: this processor has a partition's messages up to here, and has
  // promised to leave the generation before `promised`, and has left others at `cuts`.
  void begin(cluster::PartitionId p, cluster::Position at, std::uint16_t promised,
             std::map<std::uint16_t, std::uint64_t> cuts) {
    follower_.begin(p, at);
    begun_[p] = at;
    follower_.keep_promise(p, promised);
    follower_.keep_cuts(p, std::move(cuts));
  }

  // ---- For the desk's thread

  // Into the next batch of the SKU. False: too many wait.
  bool submit(SkuId, const Event&, const Reply&);
  // To a processor, and to another when that one does not answer soon: whatever a query leads to
  // happens once. False: too many are under way, or there is no connection.
  bool forward(const Query&);

  // A turn of everything; fails when the log does.
  Result<TurnReport> turn(MemberDesk&);
  // How long turn() may be left uncalled when nothing comes.
  Duration next_turn_in() const;

  // While turn() decides: the answer to the event that was just decided, and the end of its batch.
  void tell(const Rendered&);
  void told(const Ordered&, const Head& after);

  // The last message of a SKU that is here, or with which its partition began when none has come.
  cluster::Position last_of(SkuId) const;

  void reply_forwarded(http::Ticket slot, const Rendered&);
  void drop_forwarded(http::Ticket slot);  // it gets no reply from here

  // ---- For any thread

  void arrived(const cluster::Delivered&, std::uint64_t run);  // waits while the inbox is full
  void stored(cluster::BatchNumber, std::optional<cluster::Position>);
  void answered(std::span<const std::byte>);
  void asked(std::span<const std::byte> query, std::string_view reply_to);
  void lacked(const Lacks&);
  void lent(const cluster::Delivered&);  // by another processor
  void replied(std::uint64_t number, std::span<const std::byte>);
  // Somebody wants to see all sales.
  void show_all();
  // NATS was gone, or is back: what was sent before may be lost, or its acknowledgement.
  void reconnected() { reconnected_at_ = clock_.now().steady.value; }
  // Batches of a partition go to this generation from now on.
  void set_generation(cluster::PartitionId, std::uint16_t);
  // How many processors are before this one to say that time has passed.
  void set_rank(std::uint32_t rank) { rank_ = rank; }

  // A consumer is to begin anew: nothing of the partition is taken until resume(). Returns where it
  // has to go on; nothing when the desk did not come to it in time.
  std::optional<cluster::Position> rewind(cluster::PartitionId p) { return ask(p, rewinds_); }
  void resume(cluster::PartitionId, std::uint16_t generation, std::uint64_t run);
  // A consumer of the next generation's stream begins anew, with its first message.
  void reread(cluster::PartitionId, std::uint16_t generation, std::uint64_t run);
  // As Follower::promise(), to go over to `next`. Nothing as above, or when it is there already.
  std::optional<cluster::Position> promise(cluster::PartitionId p, std::uint16_t next) {
    const auto has = ask(p, promises_, next);
    return has && has->generation + 1 == next ? has : std::nullopt;
  }
  void stop_partition(cluster::PartitionId, std::string why);

  // As of the last turn.
  std::map<cluster::PartitionId, cluster::Follower::State> partitions() const;
  // Of this member's clients: what waits for a batch, for the answers to one, or for a reply.
  std::size_t requests_under_way() const { return requests_under_way_; }
  std::optional<cluster::Follower::State> partition(cluster::PartitionId) const;

  // Nobody waits in arrived() any more.
  void close();

 private:
  struct Message {
    cluster::PartitionId partition;
    cluster::Position position;
    Timestamp time;
    std::uint64_t run = 0;
    Bytes bytes;
  };
  struct Stored {
    cluster::BatchNumber number;
    std::optional<cluster::Position> position;
  };
  struct Asked {
    Bytes query;
    std::string reply_to;
  };
  struct Replied {
    std::uint64_t number = 0;
    Bytes bytes;
  };
  struct Rewind {
    cluster::PartitionId partition;
  };
  struct PromiseNow {
    cluster::PartitionId partition;
    std::uint16_t next = 0;
  };
  struct Resume {
    cluster::PartitionId partition;
    std::uint16_t generation = 0;
    std::uint64_t run = 0;
    bool reread = false;
  };
  struct Stop {
    cluster::PartitionId partition;
    std::string why;
  };
  // In the order in which it came.
  struct Inbox {
    std::vector<Message> messages;
    std::vector<
        std::variant<Stored, Bytes, Asked, Replied, Lacks, Rewind, PromiseNow, Resume, Stop>>
        others;
    std::size_t bytes = 0;
  };

  struct Queue {
    std::vector<std::pair<Event, Reply>> waiting;
    std::size_t under_way = 0;
    std::size_t late = 0;  // of these
    cluster::Crowd crowd;
    Mark known;           // of what was released; what one processor has alone may be taken back
    bool listed = false;  // in ready_
  };
  struct Batch {
    SkuId sku;
    std::uint16_t generation = 0;
    Duration published;
    bool stored = false;
    bool late = false;
    std::vector<Reply> replies;
  };
  struct Forwarded {
    Reply reply;
    cluster::PartitionId partition;
    Bytes query;
    Duration deadline;
    Duration ask_again;
  };

  void handle(const Stored&, MemberDesk&);
  void handle(const Bytes& answers, MemberDesk&);
  void handle(const Asked&, MemberDesk&);
  void handle(const Replied&, MemberDesk&);
  void handle(const Lacks&, MemberDesk&);
  void handle(const Rewind&, MemberDesk&);
  void handle(const PromiseNow&, MemberDesk&);
  void handle(const Resume&, MemberDesk&);
  void handle(const Stop&, MemberDesk&);
  void heard(cluster::BatchNumber, cluster::AnswerGate::Heard, MemberDesk&);
  void release(cluster::BatchNumber, MemberDesk&);
  // A batch that is over: the next one of its SKU may go. If it was answered, and in time, its
  // clients are expected again.
  std::optional<Batch> take_back(cluster::BatchNumber, bool answered);
  void lose(cluster::BatchNumber, bool sent, MemberDesk&);
  template <class Which>
  void lose_all(Which&&, MemberDesk&);
  void list(SkuId, Queue&);
  void forget_if_made_up(SkuId, const Queue&);
  void publish(MemberDesk&);
  void ask_again(MemberDesk&);
  void look_after_batches();
  void lose_broken(MemberDesk&);
  void tick();
  Result<void> feed(std::span<const cluster::Delivered>, MemberDesk&, TurnReport&);
  Result<void> feed_ahead(MemberDesk&, TurnReport&);
  bool current(const Message&) const;
  void keep(std::size_t from, std::size_t to);
  void keep(Message);
  void follow_generations(MemberDesk&);
  void let_see();
  void show(MemberDesk&);
  Result<TurnReport> take(MemberDesk&);
  using Positions = std::map<cluster::PartitionId, cluster::Position>;
  std::optional<cluster::Position> ask(cluster::PartitionId, Positions&, std::uint16_t next = 0);
  void answer(Positions&, cluster::PartitionId, cluster::Position);
  template <class T>
  void put(T what, std::size_t bytes = 0);

  Bus& bus_;
  Sequencer& shard_;
  const Clock& clock_;
  const MemberOptions options_;
  const Wake wake_;

  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable told_;
  Inbox inbox_;
  bool closed_ = false;
  bool show_all_ = false;
  std::map<cluster::PartitionId, cluster::Follower::State> seen_;  // as of the last turn
  Positions rewinds_;                                              // that were asked for
  Positions promises_;                                             // likewise
  std::atomic<std::uint32_t> rank_{0};
  std::atomic<std::int64_t> reconnected_at_{0};  // in the clock's steady time
  std::atomic<std::size_t> requests_under_way_{0};
  std::vector<std::atomic<std::uint16_t>> generations_;  // by partition

  // Of the desk's thread.
  Inbox taken_;
  std::size_t next_message_ = 0;  // of taken_
  cluster::AnswerGate gate_;
  cluster::BatchBuilder builder_;
  std::unordered_map<std::uint64_t, Queue> queues_;  // by SKU
  std::vector<SkuId> ready_;                         // with something to publish
  bool submitted_ = false;                           // since the last turn
  std::size_t waiting_ = 0;
  std::unordered_map<std::uint64_t, Batch> batches_;  // by number
  std::size_t in_batches_ = 0;                        // events
  std::vector<cluster::Delivered> delivered_;
  cluster::Follower follower_;
  std::map<std::pair<cluster::PartitionId, std::uint16_t>, std::uint64_t> runs_;  // by generation
  struct Kept {
    std::deque<Message> messages;
    std::size_t bytes = 0;
  };
  std::map<cluster::PartitionId, Kept> kept_;  // the last ones, for others that lack them
  // Those that came before what they follow, which the others have.
  std::map<cluster::PartitionId, std::map<cluster::Position, Message>> ahead_;
  std::vector<std::uint16_t> published_in_;  // generation, by partition
  Bytes content_;                            // of the batch that is decided, or let out
  Bytes packed_;
  Bytes message_;
  std::vector<Bytes> own_;                                     // answers to batches of this member
  std::unordered_map<std::uint64_t, cluster::Position> last_;  // message, by SKU that exists
  std::map<cluster::PartitionId, cluster::Position> begun_;
  std::uint64_t query_number_ = 0;
  std::map<std::uint64_t, Forwarded> forwarded_;  // by number, which is by time
  std::vector<std::string> slots_;                // reply subjects of queries from elsewhere
  std::vector<std::uint32_t> free_slots_;
  std::uint32_t slot_generation_ = 0;
  std::vector<std::uint32_t> slot_generations_;
  std::map<SkuId, Duration> shown_;  // when they were shown last
  std::set<SkuId> to_show_;
  bool shows_all_ = false;  // and says so once to_show_ is empty
  bool seen_is_old_ = false;
  std::vector<SkuId> overdue_;
  Duration next_tick_{0};
  Duration next_look_{0};
  std::int64_t broken_until_ = 0;  // what was lost with a connection was given up
};

}  // namespace fairsale::api
