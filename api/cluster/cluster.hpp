// A server's membership in a cluster: the connection, who else is there, and that the streams are
// followed. Its desks do the rest, each through its Member.
//
// Two threads: the keeper never waits for NATS; it says that this node is alive, and sees to it
// that partitions whose stream is silent go over to the next one. The attacher has consumers made,
// and keeps a next stream ready, which waits.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "api/cluster/bus.hpp"
#include "api/cluster/figures.hpp"
#include "api/cluster/member.hpp"
#include "api/cluster/partition_records.hpp"
#include "core/cluster/partition_set.hpp"
#include "core/engine/engine.hpp"

namespace fairsale::api {

struct ClusterOptions {
  BusOptions bus;
  bool processor = false;
  std::uint32_t partitions = 4;  // a multiple of the workers; the same on all nodes
  cluster::PartitionSet takes;   // of a processor
  std::size_t durable_on = 2;    // processors
  std::size_t processors = 3;    // that take each partition; the same on all nodes
  std::filesystem::path data;    // of a processor
  // Has the process end and start again; for any thread, returns at once. Empty: it cannot.
  std::function<void()> begin_anew;
};

class Cluster final : public BusListener {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Connects. Of a processor, `log` is what its engine follows, of an edge it is null. All of it
  // must outlive this; `wake` is for any thread.
  static Result<std::unique_ptr<Cluster>> join(ClusterOptions, Engine&, const Clock&,
                                               AvailabilityBoard&, const EventLog* log,
                                               const std::function<void(std::size_t desk)>& wake);
  ~Cluster();  // as stop()
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  Member& member(std::size_t desk) { return *members_[desk]; }
  bool processor() const { return options_.processor; }
  // Whether this is a processor of that SKU's partition. What it is not it is an edge of.
  bool takes(SkuId sku) const { return takes(cluster::Partitions{options_.partitions}.of(sku)); }
  // Whatever of a SKU was acknowledged before that is known here, and not only on its way: enough
  // processors have said since that they know no more of its partition (an edge: enough have
  // spoken, who show it what they know before). A moment ago, as long as the cluster is whole.
  // Supposes that a heartbeat is under way for 150 ms at most. For any thread.
  TimePoint knows_until(SkuId sku) const {
    return TimePoint(TimePoint::duration(
        knows_until_[cluster::Partitions{options_.partitions}.of(sku).value].load()));
  }
  // Whether `durable_on` processors have a SKU's partition up to here, this one among them: then it
  // stays so. By what they say of themselves, so a moment later than it is. For any thread.
  bool agreed(SkuId sku, cluster::Position at) const {
    const auto p = cluster::Partitions{options_.partitions}.of(sku);
    return options_.durable_on == 1 || at <= cluster::Position::of(Epoch{agreed_[p.value].load()});
  }

  // Once the desks run.
  void start();
  // Once they do not any more: nothing comes and nothing goes from then on.
  void stop();

  // Why this node should get no traffic now; empty: it should.
  std::string why_not_ready() const;
  // A line of text for each partition: how far it has come here, how far that is behind the others,
  // and how many processors take it. Of an edge: how far the furthest of them has come.
  std::string where() const;
  ClusterFigures figures() const;
  // {"node":…,"role":…,"partitions":[…],"others":[…]}
  std::string json() const;

  void on_message(const cluster::Delivered&, std::uint64_t run) override;
  void on_stored(cluster::NodeId, cluster::BatchNumber, std::optional<cluster::Position>) override;
  void on_answers(cluster::NodeId, std::span<const std::byte>) override;
  void on_query(cluster::PartitionId, std::span<const std::byte>, std::string_view) override;
  void on_reply(cluster::NodeId, std::uint64_t, std::span<const std::byte>) override;
  void on_shown(std::span<const std::byte>) override;
  void on_show() override;
  void on_lacks(std::span<const std::byte>) override;
  void on_has(std::span<const std::byte>) override;
  void on_unstored(cluster::PartitionId) override;
  void on_heartbeat(std::span<const std::byte>) override;
  void on_connection(bool up) override;
  void on_connection_lost() override;

 private:
  struct Peer {
    Heartbeat said;
    TimePoint heard;
    // What it said of its partitions, the last times, and when: the newest first.
    std::deque<std::pair<TimePoint, std::vector<Heartbeat::OfPartition>>> past{};
  };
  // One of a partition's streams, as this processor follows it.
  struct Consumer {
    bool attached = false;
    bool was = false;   // attached, some time
    TimePoint since{};  // it is so
    TimePoint tried{};
    TimePoint mute{};  // its stream has said nothing since, to whoever followed it
    std::string server;
    std::string trouble;  // why it is not, the last time
  };
  struct Attachment {
    std::uint16_t generation = 0;
    Consumer now;
    Consumer next;         // of the next generation
    TimePoint looked{};    // at who leads its streams
    TimePoint unstored{};  // somebody's batch was, the last time
    cluster::Position position;
    TimePoint moved{};          // that position
    int fetched = 0;            // times that what it lacks was fetched, one after another
    cluster::Position doubted;  // whether the stream still has what was made of it
    TimePoint doubted_since{};
    std::uint64_t changes = 0;  // of the generation

    Consumer* of(std::uint16_t g) {
      return g == generation ? &now : g == generation + 1 ? &next : nullptr;
    }
  };
  // What the attacher is to do about a partition.
  struct Wants {
    struct Stream {
      std::uint16_t generation = 0;
      bool anew = false;         // to be followed
      bool only_silent = false;  // for no other reason
      std::string server;        // that delivers
    };
    Stream own, next;
    bool lacks = false;    // messages, which may be fetched instead
    bool leaders = false;  // to be looked for
  };
  // What the keeper has done about a partition, and when.
  struct Change {
    bool told = false;  // that it has stopped
    bool begins_anew = false;
    TimePoint warned{};
    TimePoint warned_of_next{};
    TimePoint counted{};
    TimePoint suspected{};
    TimePoint promised{};
    TimePoint enough{};  // promises were there
    TimePoint cut{};
    TimePoint asked{};  // for messages that lack
    TimePoint tried_next{};
    std::uint64_t next_read = 0;
    TimePoint next_stored{};
    TimePoint stores_since{};
  };

  Cluster(ClusterOptions, AvailabilityBoard&, const EventLog*);
  bool takes(cluster::PartitionId p) const {
    return options_.processor && p.value < options_.partitions && options_.takes.contains(p);
  }
  Member& member_of(cluster::PartitionId p) { return *members_[p.value % members_.size()]; }
  Member* member_of(cluster::NodeId origin);
  void keep();
  void beat(bool due);
  void watch(cluster::PartitionId, bool probes);
  bool remember(cluster::PartitionId, const PartitionRecord&);
  bool may_take_back(cluster::PartitionId, cluster::Position) const;
  bool begin_without(cluster::PartitionId, const cluster::Follower::State&);
  bool stores(cluster::PartitionId, const cluster::Follower::State&);
  void change_stream(cluster::PartitionId, const cluster::Follower::State&, const Attachment&);
  void attach_all();
  void attach(cluster::PartitionId);
  std::optional<Wants> wants_of(cluster::PartitionId, const cluster::Follower::State&);
  void look_for_leaders(cluster::PartitionId, const cluster::Follower::State&, Wants&);
  void report(cluster::PartitionId, const Wants&, const Wants::Stream&,
              const Result<std::string>& done);
  void warn_of_too_many(cluster::PartitionId);
  // Both return the server that delivers, as Bus::follow().
  Result<std::string> attach_now(cluster::PartitionId);
  Result<std::string> attach_next(cluster::PartitionId, std::uint16_t generation);
  Result<std::string> follow_at_leader(cluster::PartitionId, cluster::Position from,
                                       std::uint64_t run);
  void replace_mute_leader(cluster::PartitionId, std::uint16_t generation);
  bool fetch_lacking(cluster::PartitionId);
  Result<bool> has_last(cluster::PartitionId, cluster::Position anchor);
  Result<void> make_stream(cluster::PartitionId, cluster::Position at);
  Result<void> part(cluster::PartitionId, std::uint16_t generation);
  void give_up(cluster::PartitionId, std::uint16_t generation);
  Result<std::string> stop_when_sure(cluster::PartitionId, cluster::Position anchor,
                                     std::string why);
  void remove_old(cluster::PartitionId, std::uint16_t generation);
  Result<std::optional<LogStreamBounds>> bounds_of_later(cluster::PartitionId,
                                                         std::uint16_t generation);
  Result<std::uint16_t> newest_generation(cluster::PartitionId, std::uint16_t from);
  std::string why_waits(cluster::PartitionId) const;
  cluster::Position furthest_of_others(cluster::PartitionId) const;
  ClusterFigures::Partition figures_of(cluster::PartitionId, const cluster::Follower::State&) const;
  std::vector<ClusterFigures::Partition> figures_of_partitions() const;
  bool replicated(std::uint16_t generation) const {
    return options_.bus.streams.replicas > 1 && !is_bridge(generation);
  }
  std::vector<Heartbeat> alive() const;
  bool heard_enough(cluster::PartitionId) const;
  std::size_t others_of(cluster::PartitionId) const;
  struct Takers {
    std::size_t alive = 0;
    std::size_t hear_this = 0;  // of these, who say that they hear this node
  };
  Takers takers_of(cluster::PartitionId) const;
  bool first_of(cluster::PartitionId) const;
  std::optional<cluster::Follower::State> state_of(cluster::PartitionId) const;
  TimePoint hears_until(cluster::PartitionId) const;
  cluster::Position agreed_until(cluster::PartitionId) const;

  const ClusterOptions options_;
  AvailabilityBoard& board_;
  const EventLog* const log_;
  const cluster::NodeId me_;  // its lowest 8 bits are 0; a desk's origin has its number there
  std::unique_ptr<Bus> bus_;
  std::vector<std::unique_ptr<Member>> members_;

  mutable std::mutex mutex_;
  std::condition_variable stopping_now_;
  bool stopping_ = false;
  bool up_ = true;
  bool ask_to_show_ = true;
  // All of whose sales an edge was told of; and this since NATS was back, the last time.
  std::set<cluster::PartitionId> shown_;
  std::set<cluster::PartitionId> shown_since_;
  struct ShownSale {
    std::uint16_t generation = 0;
    SkuName name;
  };
  std::map<SkuId, ShownSale> shown_in_;  // of the thread that calls on_shown()
  std::map<std::uint64_t, Peer> peers_;  // by node
  TimePoint heard_itself_{};             // by way of NATS
  TimePoint processor_heard_{};          // some other one, the last time
  std::map<cluster::PartitionId, Attachment> attachments_;
  std::atomic<std::uint64_t> run_{0};  // of consumers
  std::atomic<bool> started_{false};
  TimePoint begun_{};  // before the threads
  mutable std::atomic<bool> served_all_{false};
  std::vector<std::atomic<TimePoint::rep>> knows_until_;  // by partition
  std::vector<std::atomic<std::uint64_t>> agreed_;        // likewise: a position
  std::size_t takes_not_ = 0;                             // partitions
  // Of the attacher: the last generation whose stream was removed.
  std::map<cluster::PartitionId, std::uint16_t> removed_;
  std::thread keeper_;
  std::thread attacher_;
  // Of the keeper.
  std::optional<PartitionRecords> records_;
  std::map<cluster::PartitionId, cluster::Position> told_;  // in the last heartbeat
  std::map<cluster::PartitionId, Change> changes_;
};

}  // namespace fairsale::api
