// A server's membership in a cluster: the connection, who else is there, and that the streams are
// followed. Its desks do the rest, each through its Member.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "api/cluster/bus.hpp"
#include "api/cluster/member.hpp"
#include "core/engine/engine.hpp"

namespace fairsale::api {

struct ClusterOptions {
  BusOptions bus;
  bool processor = false;
  std::uint32_t partitions = 4;  // a multiple of the workers; the same on all nodes
  std::size_t durable_on = 2;    // processors
};

class Cluster final : public BusListener {
 public:
  // Connects. Of a processor, `log` is what its engine follows, of an edge it is null. All of it
  // must outlive this; `wake` is for any thread.
  static Result<std::unique_ptr<Cluster>> join(ClusterOptions, Engine&, const Clock&,
                                               AvailabilityBoard&, const EventLog* log,
                                               std::function<void(std::size_t desk)> wake);
  ~Cluster();  // as stop()
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  Member& member(std::size_t desk) { return *members_[desk]; }
  bool processor() const { return options_.processor; }

  // Once the desks run.
  void start();
  // Once they do not any more: nothing comes and nothing goes from then on.
  void stop();

  // Why this node should get no traffic now; empty: it should.
  std::string why_not_ready() const;
  // {"node":…,"role":…,"partitions":[…],"nodes":[…]}
  std::string json() const;

  void on_message(const cluster::Delivered&, std::uint64_t run) override;
  void on_stored(cluster::NodeId, cluster::BatchNumber, std::optional<cluster::Position>) override;
  void on_answers(cluster::NodeId, std::span<const std::byte>) override;
  void on_query(cluster::PartitionId, std::span<const std::byte>, std::string_view) override;
  void on_reply(cluster::NodeId, std::uint64_t, std::span<const std::byte>) override;
  void on_shown(std::span<const std::byte>) override;
  void on_show() override;
  void on_heartbeat(std::span<const std::byte>) override;
  void on_connection(bool up) override;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  struct Peer {
    Heartbeat said;
    TimePoint heard;
  };
  struct Attachment {
    bool attached = false;
    bool told = false;  // that it has stopped
    std::uint64_t run = 0;
    TimePoint tried{};
  };

  Cluster(ClusterOptions, Engine&, AvailabilityBoard&, const EventLog*);
  Member& member_of(cluster::PartitionId p) { return *members_[p.value % members_.size()]; }
  Member* member_of(cluster::NodeId origin);
  void keep();
  void beat();
  void watch(cluster::PartitionId);
  Result<void> attach(cluster::PartitionId, Attachment&);
  Result<std::uint16_t> newest_generation(cluster::PartitionId, std::uint16_t from);
  std::vector<Heartbeat> alive() const;

  const ClusterOptions options_;
  Engine& engine_;
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
  std::map<std::uint64_t, Peer> peers_;  // by node
  std::thread keeper_;
  // Of the keeper.
  std::map<cluster::PartitionId, Attachment> attachments_;
  std::map<cluster::PartitionId, std::uint16_t> generations_;
};

}  // namespace fairsale::api
