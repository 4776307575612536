// The way from libFuzzer to a target. --seeds=DIR writes the target's made seeds there first, as
// files for libFuzzer to begin with.
#include "tests/fuzz/target.hpp"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace fairsale::fuzz;
  constexpr std::string_view kOption = "--seeds=";
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument = (*argv)[i];
    if (!argument.starts_with(kOption)) continue;
    const std::string directory(argument.substr(kOption.size()));
    std::size_t number = 0;
    for (const std::string& seed : seeds()) {
      write_file(directory + "/made-" + std::to_string(++number), seed);
    }
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fairsale::fuzz::judge({reinterpret_cast<const char*>(data), size});
  return 0;
}
