// Who goes first when a machine has fewer cores than threads that could run. All of this is asked
// of Linux, and it is as well if it is not allowed or not known there.
#pragma once

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace fairsale {

// For threads that may wait while somebody buys.
inline void work_in_background() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 10);
}

// For threads that somebody waits for and that work in short pieces: since Linux 6.12 a thread that
// asks for short slices need not wait for the end of another's, which may be milliseconds away.
inline void work_promptly() {
  struct {  // sched_attr, as sched_setattr(2) has it
    std::uint32_t size = 48;
    std::uint32_t policy = 0;  // SCHED_OTHER
    std::uint64_t flags = 0;
    std::int32_t nice = 0;
    std::uint32_t priority = 0;
    std::uint64_t runtime = 100'000;  // ns, the least that is possible
    std::uint64_t deadline = 0;
    std::uint64_t period = 0;
  } attributes;
  ::syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace fairsale
