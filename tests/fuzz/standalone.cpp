// A target without libFuzzer: feeds it the kept inputs, the made seeds and seeded mutations of
// both. For every build, in a second or so each.
//
//   fuzz_TARGET [--mutations N] [--seed S] [--dictionary FILE] FILE_OR_DIRECTORY...
//
// When an input ends the process, it is said which one it was, and the bytes are left in
// fuzz-failure in the working directory; the program given that file alone repeats it.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/fuzz/target.hpp"

extern "C" void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));

namespace {

using fairsale::fuzz::judge;

struct Named {
  std::string name;
  std::string bytes;
};

struct Options {
  unsigned long mutations = 200;
  std::uint64_t seed = 1;
  std::vector<std::string> words;
  std::vector<Named> inputs;
};

std::string under_way;         // what the input is called
std::string_view under_judge;  // and its bytes

void leave_the_input() {
  const auto say = [](int fd, std::string_view s) {
    [[maybe_unused]] const auto n = ::write(fd, s.data(), s.size());
  };
  say(2, "\nThe input was ");
  say(2, under_way);
  say(2, ", kept as fuzz-failure\n");
  const int fd = ::open("fuzz-failure", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  say(fd, under_judge);
}

void on_signal(int number) {
  leave_the_input();
  ::signal(number, SIG_DFL);
  ::raise(number);
}

void feed(const std::string& name, std::string_view bytes) {
  under_way = name;
  under_judge = bytes;
  judge(bytes);
}

std::string content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The quoted words of a libFuzzer dictionary.
std::vector<std::string> words_of(const std::string& path) {
  std::vector<std::string> words;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const auto begin = line.find('"');
    const auto end = line.rfind('"');
    if (line.empty() || line[0] == '#' || begin == std::string::npos || begin == end) continue;
    std::string word;
    for (std::size_t i = begin + 1; i < end; ++i) {
      if (line[i] != '\\') {
        word += line[i];
      } else if (line[i + 1] == 'x') {
        word += fairsale::fuzz::from_hex(line.substr(i + 2, 2));
        i += 3;
      } else {
        word += line[++i];
      }
    }
    words.push_back(word);
  }
  return words;
}

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t n) { return n == 0 ? 0 : random() % n; }

// One change of the kinds that find most: a bit, a byte, a number, a piece cut, copied or put in.
void mutate(Random& random, std::string& s, const Options& o) {
  static constexpr std::uint64_t kNumbers[] = {
      0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, ~0ULL >> 1, ~0ULL};
  const std::size_t at = below(random, s.size() + 1);
  const std::size_t length = 1 + below(random, below(random, 2) == 0 ? 4 : 64);
  switch (below(random, 8)) {
    case 0:
      if (at < s.size()) s[at] = static_cast<char>(s[at] ^ 1 << below(random, 8));
      return;
    case 1:
      if (at < s.size()) s[at] = static_cast<char>(random());
      return;
    case 2: s.erase(at, length); return;
    case 3: s.insert(at, s.substr(below(random, s.size() + 1), length)); return;
    case 4: s.insert(at, length, static_cast<char>(random())); return;
    case 5: {
      const std::uint64_t number = kNumbers[below(random, std::size(kNumbers))];
      const std::size_t n =
          std::min<std::size_t>(std::size_t{1} << below(random, 4), s.size() - at);
      std::memcpy(s.data() + at, &number, n);
      return;
    }
    case 6:
      if (!o.words.empty()) s.insert(at, o.words[below(random, o.words.size())]);
      return;
    default: {
      const std::string& other = o.inputs[below(random, o.inputs.size())].bytes;
      s.insert(at, other.substr(below(random, other.size() + 1), 1 + below(random, 200)));
    }
  }
}

void add(Options& o, const std::filesystem::path& path) {
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(path)) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry);
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  for (const auto& file : files) o.inputs.push_back({file.string(), content_of(file)});
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  const std::vector<std::string> args(argv + 1, argv + argc);
  for (std::size_t i = 0; i < args.size(); ++i) {
    const bool valued = i + 1 < args.size();
    if (args[i] == "--mutations" && valued) {
      o.mutations = std::stoul(args[++i]);
    } else if (args[i] == "--seed" && valued) {
      o.seed = std::stoull(args[++i]);
    } else if (args[i] == "--dictionary" && valued) {
      o.words = words_of(args[++i]);
    } else {
      add(o, args[i]);
    }
  }
  const bool one_file = args.size() == 1 && !std::filesystem::is_directory(args[0]);
  if (one_file) {
    o.mutations = 0;
  } else {
    std::size_t number = 0;
    for (std::string& s : fairsale::fuzz::seeds()) {
      o.inputs.push_back({"made seed " + std::to_string(++number), std::move(s)});
    }
  }
  for (const int fatal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) {
    ::signal(fatal, on_signal);
  }
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(leave_the_input);

  for (const Named& input : o.inputs) feed(input.name, input.bytes);
  Random random(o.seed);
  for (std::size_t i = 0; i < o.inputs.size(); ++i) {
    for (unsigned long n = 0; n < o.mutations; ++n) {
      std::string s = o.inputs[i].bytes;
      // One change is seen clearly; many together reach further.
      std::size_t changes = n % 2 == 0 ? 1 : 2 + below(random, 4);
      for (; changes > 0; --changes) mutate(random, s, o);
      feed("mutation " + std::to_string(n) + " of " + o.inputs[i].name + " with seed " +
               std::to_string(o.seed),
           s);
    }
  }
  std::printf("%zu inputs and %zu mutations with seed %llu\n", o.inputs.size(),
              o.inputs.size() * o.mutations, static_cast<unsigned long long>(o.seed));
  return o.inputs.empty() ? 1 : 0;
}
