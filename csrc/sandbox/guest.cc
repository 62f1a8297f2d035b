#include "guest.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <system_error>

namespace rstar {
namespace {

// Where the C library keeps the number of this thread: a raw clone has to write it anew. Null where the kernel does not tell.
int* thread_number = nullptr;

void say(Message about, std::string_view text) {
  std::string message(1, static_cast<char>(about));
  message += text;
  while (write(kGuestReports, message.data(), message.size()) < 0) {
    if (errno != EINTR) _exit(70);  // the program has closed it: nobody will hear of this guest again
  }
}

std::string read_program() {
  uint64_t size = 0;
  if (pread(kGuestProgram, &size, sizeof size, 0) != sizeof size) _exit(71);
  std::string program(size, '\0');
  for (size_t have = 0; have < size;) {
    const ssize_t got = pread(kGuestProgram, program.data() + have, size - have, static_cast<off_t>(sizeof size + have));
    if (got <= 0) _exit(71);
    have += static_cast<size_t>(got);
  }
  return program;
}

long clone_sibling() {
  const unsigned long with_number = thread_number != nullptr ? CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID : 0;
#ifdef __x86_64__
  return syscall(__NR_clone, kForkFlags | with_number, nullptr, nullptr, thread_number, nullptr);
#else
  return syscall(__NR_clone, kForkFlags | with_number, nullptr, nullptr, nullptr, thread_number);
#endif
}

}  // namespace

const unsigned long kForkFlags = CLONE_PARENT | SIGCHLD;

void prepare_guest() {
  prctl(PR_SET_NAME, "sandbox-guest", 0, 0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);  // no fork inherits it
  constexpr int kGetTidAddress = 40;
  int* address = nullptr;
  if (prctl(kGetTidAddress, &address, 0, 0, 0) == 0) thread_number = address;
  sigset_t wake;
  sigemptyset(&wake);
  sigaddset(&wake, SIGUSR1);
  if (sigprocmask(SIG_BLOCK, &wake, nullptr) != 0) throw std::system_error(errno, std::generic_category(), "sigprocmask");
}

void await_supervisor() {
  sigset_t wake;
  sigemptyset(&wake);
  sigaddset(&wake, SIGUSR1);
  while (sigwaitinfo(&wake, nullptr) != SIGUSR1) {
  }
}

std::string next_program() {
  for (;;) {
    await_supervisor();
    const long child = clone_sibling();
    if (child == 0) break;
    if (child < 0) say(Message::kFailure, std::strerror(errno));
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  say(Message::kHello, {});
  return read_program();
}

void report_value(std::string_view piece) { say(Message::kValue, piece); }

void report(std::string_view result) { say(Message::kReport, result); }

}  // namespace rstar
