// Histories of real servers, judged. FAIRSALE_SEED repeats what clients choose, though not who
// comes first; FAIRSALE_HISTORIES and FAIRSALE_KILLS say how many histories there are.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <random>

#include "tests/linear/clients.hpp"
#include "tests/server/running_server.hpp"

namespace fairsale::linear {
namespace {

std::size_t number_from(const char* variable, std::size_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::stoull(text) : otherwise;
}

std::uint64_t seed() { return number_from("FAIRSALE_SEED", std::random_device{}()); }

void figure(std::string_view what, std::size_t count) {
  const char* path = std::getenv("FAIRSALE_FIGURES");
  const bool many = std::getenv("FAIRSALE_HISTORIES") != nullptr;
  if (path != nullptr && many) {
    std::ofstream(path, std::ios::app) << what << '\t' << count << '\n';
  }
}

class Linear : public ::testing::Test {
 protected:
  void judge(const History& h, std::uint64_t with_seed) {
    ++histories_;
    operations_ += h.operations.size();
    for (const auto& wrong : {judge_positions(h), judge_linearizable(h)}) {
      ASSERT_FALSE(wrong) << *wrong << "\nFAIRSALE_SEED=" << with_seed << "\n" << describe(h);
    }
  }

  Plan plan(std::uint64_t with_seed) const {
    return {.seed = with_seed,
            .name = fmt::format("h{}", histories_),
            .stock = static_cast<std::uint32_t>(2 + with_seed % 5),
            .line_policy = with_seed % 2 == 0 ? LinePolicy::strict : LinePolicy::skip_if_unfit};
  }

  std::size_t histories_ = 0;
  std::size_t operations_ = 0;
};

TEST_F(Linear, HistoriesOfARunningServer) {
  const std::uint64_t first = seed();
  fmt::print("FAIRSALE_SEED={}\n", first);
  test::RunningServer server(2);
  Host host;
  host.port = server.port();
  const std::size_t count = number_from("FAIRSALE_HISTORIES", 25);
  for (std::uint64_t s = first; s < first + count; ++s) {
    const History h = record(host, plan(s));
    ASSERT_NO_FATAL_FAILURE(judge(h, s));
    ASSERT_FALSE(HasFailure());
  }
  figure("histories checked for linearizability", histories_);
  figure("operations checked for linearizability", operations_);
}

// The real program, to be killed.
class Program {
 public:
  Program() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "fairsale-linear-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~Program() {
    if (pid_ != 0) kill();
    std::filesystem::remove_all(directory_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Returns the port once it serves; 0 when it does not start.
  std::uint16_t start(std::uint16_t port) {
    const std::vector<std::string> args = {FAIRSALED,
                                           "--data=" + directory_ + "/data",
                                           fmt::format("--listen=127.0.0.1:{}", port),
                                           "--workers=2",
                                           "--customer-rate=0",
                                           "--log-level=error"};
    const std::vector<std::string> environment = {
        fmt::format("FAIRSALE_OPERATOR_TOKEN={}", test::kOperator),
        fmt::format("FAIRSALE_SHOP_TOKEN={}", test::kShop),
        "FAIRSALE_CUSTOMER_KEY=customer-key-0123456789abc"};
    const auto pointers = [](const std::vector<std::string>& strings) {
      std::vector<char*> out;
      for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
      out.push_back(nullptr);
      return out;
    };
    int output[2];
    if (::pipe2(output, O_CLOEXEC) != 0) return 0;
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
    const int failed = ::posix_spawn(&pid_, FAIRSALED, &actions, nullptr, pointers(args).data(),
                                     pointers(environment).data());
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(output[1]);
    // "fairsaled 0.1.0 listens on http://127.0.0.1:PORT", once it is ready.
    std::string line;
    char c = 0;
    while (failed == 0 && ::read(output[0], &c, 1) == 1 && c != '\n') line += c;
    ::close(output[0]);
    const auto colon = line.rfind(':');
    if (failed != 0) pid_ = 0;
    return colon == std::string::npos
               ? std::uint16_t{0}
               : static_cast<std::uint16_t>(std::stoi(line.substr(colon + 1)));
  }

  void kill() {
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, 0), nullptr, 0);
  }

 private:
  std::string directory_;
  pid_t pid_ = 0;
};

TEST_F(Linear, HistoriesAcrossKills) {
  const std::uint64_t first = seed();
  fmt::print("FAIRSALE_SEED={}\n", first);
  Program program;
  Host host;
  host.port = program.start(0);
  ASSERT_NE(host.port, 0) << "fairsaled does not start";
  const std::size_t count = number_from("FAIRSALE_KILLS", 4);
  std::size_t lost = 0;
  for (std::uint64_t s = first; s < first + count; ++s) {
    Plan p = plan(s);
    p.clients = 5;
    p.operations = 15;
    const std::size_t kill_at = host.answers + 10 + s % 50;
    std::atomic<bool> over{false};
    std::thread killer([&] {
      while (host.answers < kill_at && !over) std::this_thread::yield();
      if (over) return;
      program.kill();
      EXPECT_EQ(program.start(host.port), host.port) << "it does not come back";
      ++host.lives;
      host.lives.notify_all();
    });
    const History h = record(host, p);
    over = true;
    killer.join();
    for (const Operation& o : h.operations) lost += o.answered() ? 0 : 1;
    ASSERT_NO_FATAL_FAILURE(judge(h, s));
    ASSERT_FALSE(HasFailure());
  }
  figure("histories across a kill -9 checked for linearizability", histories_);
  figure("operations in histories across a kill -9", operations_);
  figure("operations cut off by a kill -9", lost);
}

}  // namespace
}  // namespace fairsale::linear
