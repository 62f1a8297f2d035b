#include "supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <system_error>

#include "guest.h"
#include "kernel.h"
#include "process.h"

namespace rstar {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint32_t kMostThreads = 64;
constexpr size_t kReadBytes = 1 << 16;
// Making a child is not the program's time: it takes milliseconds, or as long as a crowded machine lets it wait. A guest that has
// run a program may not do it at all, and can be made anew.
constexpr std::chrono::seconds kMostForFirst{60}, kMostForFork{4};
// From its report on a guest has so long to come to where it waits.
constexpr std::chrono::milliseconds kMostToSettle{200};
// A child that ends before it says hello is looked for so often, and output so often read while nothing else happens.
constexpr std::chrono::milliseconds kLookForChild{100}, kLookForOutput{4};
// What a pipe holds, several times over: a thread that goes on printing is not listened to for ever.
constexpr int kMostReadsAtEnd = 16;

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

}  // namespace

Channels open_channels() {
  Channels channels;
  int pipe_ends[2], socket_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) fail("pipe");
  channels.output = pipe_ends[0];
  channels.guest_output = pipe_ends[1];
  if (fcntl(channels.output, F_SETFL, O_NONBLOCK) != 0) fail("fcntl");
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socket_ends) != 0) fail("socketpair");
  channels.reports = socket_ends[0];
  channels.guest_reports = socket_ends[1];
  const int yes = 1;
  if (setsockopt(channels.reports, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) != 0) fail("setsockopt");
  if (shutdown(channels.guest_reports, SHUT_RD) != 0) fail("shutdown");  // guests speak, and hear nobody
  channels.program = static_cast<int>(syscall(__NR_memfd_create, "program", MFD_CLOEXEC));
  if (channels.program < 0) fail("memfd_create");
  const std::string path = "/proc/self/fd/" + std::to_string(channels.program);
  channels.guest_program = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (channels.guest_program < 0) fail("open");
  return channels;
}

std::string hear(int reports) {
  std::string message(kReadBytes, '\0');
  ssize_t size;
  do {
    size = recv(reports, message.data(), message.size(), 0);
  } while (size < 0 && errno == EINTR);
  if (size < 0) fail("recv");
  message.resize(static_cast<size_t>(size));
  return message.substr(std::min<size_t>(1, message.size()));
}

void Output::add(std::string_view data) {
  total_ += data.size();
  const size_t room = std::min(from_begin_ - head_.size(), data.size());
  head_ += data.substr(0, room);
  tail_ += data.substr(room);
  if (tail_.size() > 4 * from_end_ + kReadBytes) tail_.erase(0, tail_.size() - from_end_);
}

// Of a process that lives; 0 where it does not, or the kernel does not tell.
double used_processor_s(pid_t process) {
  // As clock_getcpuclockid, which asks the kernel whether the process is there: it does so anyway.
  const auto clock = static_cast<clockid_t>((~static_cast<unsigned>(process) << 3) | 2);
  timespec used{};
  if (clock_gettime(clock, &used) != 0) return 0;
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

// A run under way.
struct Supervisor::Run {
  pid_t guest;
  Outcome outcome;
  Clock::duration time;
  Clock::time_point deadline;
  int child_ended = -1;  // descriptor that tells
  bool forked = false;   // the one fork has been allowed
  bool leaves = false;   // it did something that a fork does not copy
  bool reported = false, failed = false;
  bool ended = false, ended_unheard = false;  // the child: after it was known, and before
  bool timed_out = false;

  bool is_over() const { return reported || failed || ended || ended_unheard || timed_out; }
};

Supervisor::Supervisor(const Ends& ends) : ends_(ends) { prctl(PR_SET_NAME, "sandbox", 0, 0, 0); }

// False where the process is gone.
bool Supervisor::try_to_adopt(pid_t guest) {
  const int descriptor = static_cast<int>(syscall(kernel::kPidfdOpen, guest, 0));
  if (descriptor < 0) return false;
  guests_.emplace(guest, descriptor);
  return true;
}

void Supervisor::adopt(pid_t guest) {
  if (!try_to_adopt(guest)) fail("pidfd_open");
  if (files_.empty()) {
    first_ = guest;
    const Process process(guest);
    for (int at = 0; at < kGuestEnd; ++at) files_.push_back(process.link(at));
  }
}

void Supervisor::end(pid_t guest) {
  if (guests_.contains(guest)) reap(guest, nullptr);  // else its number may be another's by now
}

void Supervisor::end_kept(pid_t guest) {
  if (strike(guest)) dying_.push_back(guest);
}

// Kills a guest, which is none from now on; false where it was none.
bool Supervisor::strike(pid_t guest) {
  const auto found = guests_.find(guest);
  if (found == guests_.end()) return false;
  syscall(kernel::kPidfdSendSignal, found->second, SIGKILL, nullptr, 0);
  close(found->second);
  guests_.erase(found);
  return true;
}

void Supervisor::end_all() {
  if (ends_.keeper > 0) kill(ends_.keeper, SIGKILL);
  for (const auto& [guest, descriptor] : guests_) syscall(kernel::kPidfdSendSignal, descriptor, SIGKILL, nullptr, 0);
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
  }
}

// Waits for those that have ended meanwhile.
void Supervisor::bury() {
  std::erase_if(dying_, [](pid_t process) { return waitpid(process, nullptr, WNOHANG) != 0; });
}

void Supervisor::reap(pid_t guest, Outcome* outcome) {
  if (!strike(guest)) kill(guest, SIGKILL);
  int status = 0;
  rusage usage{};
  while (wait4(guest, &status, 0, &usage) < 0) {
    if (errno != EINTR) return;
  }
  if (outcome == nullptr) return;
  outcome->status = status;
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec); };
  outcome->processor_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Throws away what came when nobody was to speak; it ends, as all guests wait now.
void Supervisor::settle() {
  char buffer[kReadBytes];
  while (read(ends_.output, buffer, sizeof buffer) > 0) {
  }
  for (pid_t speaker; hear_next(buffer, sizeof buffer, speaker) >= 0;) {
  }
}

// The next report and who the kernel says sent it, -1 where there is none; a report may be empty.
ssize_t Supervisor::hear_next(char* buffer, size_t size, pid_t& speaker) const {
  iovec data{buffer, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(ends_.reports, &message, MSG_DONTWAIT);
  const cmsghdr* header = got < 0 ? nullptr : CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_CREDENTIALS) return -1;  // nothing, or all guests are gone
  ucred sender;
  std::memcpy(&sender, CMSG_DATA(header), sizeof sender);
  speaker = sender.pid;
  return got;
}

void Supervisor::put(std::string_view program) {
  const uint64_t size = program.size();
  if (ftruncate(ends_.program, 0) != 0) fail("ftruncate");
  if (pwrite(ends_.program, &size, sizeof size, 0) != sizeof size) fail("pwrite");
  for (size_t done = 0; done < size;) {
    const ssize_t written = pwrite(ends_.program, program.data() + done, size - done, static_cast<off_t>(sizeof size + done));
    if (written <= 0) fail("pwrite");
    done += static_cast<size_t>(written);
  }
  // The position is the guests' in common, and nothing is to pass from one to another.
  if (lseek(ends_.guest_program, 0, SEEK_SET) != 0) fail("lseek");
}

// False when there is nothing more to read now.
bool Supervisor::read_output(Output& output) {
  char buffer[kReadBytes];
  const ssize_t size = read(ends_.output, buffer, sizeof buffer);
  if (size > 0) output.add({buffer, static_cast<size_t>(size)});
  return size > 0;
}

// False when there is nothing more to read now.
bool Supervisor::read_report(Run& run, size_t most_value) {
  char buffer[kReadBytes];
  pid_t speaker = -1;
  const ssize_t size = hear_next(buffer, sizeof buffer, speaker);
  if (size < 0) return false;
  if (size == 0) return true;
  const std::string_view text(buffer + 1, static_cast<size_t>(size) - 1);
  Outcome& outcome = run.outcome;
  switch (static_cast<Message>(buffer[0])) {
    case Message::kHello:
      if (run.forked && outcome.child < 0 && is_stray(speaker) && try_to_adopt(speaker)) {
        outcome.child = speaker;
        run.child_ended = guests_.at(speaker);
        run.deadline = Clock::now() + run.time;
      }
      break;
    case Message::kValue:
      if (speaker == outcome.child && !run.reported && outcome.value.size() + text.size() <= most_value) outcome.value += text;
      break;
    case Message::kReport:
      if (speaker == outcome.child && !run.reported) {
        outcome.report = text;
        run.reported = true;
      }
      break;
    case Message::kFailure:
      if (speaker == run.guest && outcome.child < 0) run.failed = true;
      break;
  }
  return true;
}

// Answers one call that the filter put to the supervisor.
void Supervisor::decide(Run& run) {
  kernel::Question question{};
  if (ioctl(ends_.listener, kernel::kReceive, &question) != 0) {
    if (errno == EINTR || errno == ENOENT || errno == EAGAIN) return;  // the caller has ended
    fail("seccomp listener");
  }
  const auto& call = question.call;
  const auto thread = static_cast<pid_t>(question.pid);
  const pid_t child = run.outcome.child;
  // Whom nobody asked to run has nothing to ask for.
  const bool is_child = child > 0 && (thread == child || Process(thread).status("Tgid:") == child);
  int error = EPERM;
  if (call.number == __NR_clone) {
    const uint64_t flags = call.arguments[0];
    if ((flags & ~static_cast<uint64_t>(CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID)) == kForkFlags) {
      if (thread == run.guest && !run.forked && !run.failed) {
        run.forked = true;
        error = 0;
      }
    } else if (is_child && (flags & CLONE_THREAD) != 0) {
      error = Process(child).threads() < kMostThreads ? 0 : EAGAIN;
      run.leaves = true;
    }
  } else if (call.number == __NR_kill || call.number == __NR_tgkill || call.number == __NR_tkill) {
    // The target is numbered as the guests see it: the last of the numbers that a process has.
    if (is_child && static_cast<int32_t>(call.arguments[0]) == Process(child).status("NSpid:")) error = 0;
  } else if (is_child) {
    run.leaves = true;
    error = 0;
  }
  kernel::Answer answer{question.id, 0, -error, error == 0 ? kernel::kContinue : 0};
  if (ioctl(ends_.listener, kernel::kSend, &answer) != 0 && errno != ENOENT) fail("seccomp listener");
}

bool Supervisor::settles(const Process& process) const {
  for (const auto latest = Clock::now() + kMostToSettle; !process.waits(); sched_yield()) {
    if (Clock::now() > latest) return false;
  }
  return true;
}

bool Supervisor::may_be_kept(const Process& process) const {
  if (!settles(process) || process.threads() != 1 || process.descriptors() != kGuestEnd) return false;
  for (int at = 0; at < kGuestEnd; ++at) {
    if (process.link(at) != files_[static_cast<size_t>(at)]) return false;
  }
  return true;
}

// Whether a process of ours is the child of a run that has not said hello: it is none that is known.
bool Supervisor::is_stray(pid_t process) const {
  return process > 0 && process != ends_.keeper && !guests_.contains(process) && std::ranges::find(dying_, process) == dying_.end();
}

std::vector<pid_t> Supervisor::strays() const {
  const std::string path = "/proc/self/task/" + std::to_string(gettid()) + "/children";
  std::ifstream file(path);
  if (!file) throw std::system_error(ENOENT, std::generic_category(), path);
  std::vector<pid_t> found;
  for (pid_t process; file >> process;) {
    if (is_stray(process)) found.push_back(process);
  }
  return found;
}

// The child of a run has ended before it said hello.
bool Supervisor::ended_early(Run& run) {
  for (const pid_t process : strays()) {
    siginfo_t ended{};
    if (waitid(P_PID, static_cast<id_t>(process), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == process) {
      reap(process, &run.outcome);
      return true;
    }
  }
  return false;
}

// Ends a child that never said hello, whose number is therefore not known.
void Supervisor::end_strays() {
  for (const pid_t process : strays()) reap(process, nullptr);
}

Outcome Supervisor::run(pid_t guest, std::string_view program, double timeout_s, double processor_s, Output& output) {
  const auto time = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::min(timeout_s, 1e8)));
  Run run{guest, {}, time, Clock::now() + (guest == first_ ? kMostForFirst : kMostForFork)};
  bury();
  run.forked = ends_.listener < 0;  // nobody is asked then
  settle();
  put(program);
  const int guest_descriptor = guests_.at(guest);
  if (syscall(kernel::kPidfdSendSignal, guest_descriptor, SIGUSR1, nullptr, 0) != 0) run.failed = true;
  while (!run.is_over()) {
    watch(run, guest_descriptor, output.limit());
    read_output(output);
    run.outcome.used_up = !run.is_over() && run.outcome.child >= 0 && used_processor_s(run.outcome.child) > processor_s;
    run.timed_out = !run.reported && (run.outcome.used_up || Clock::now() >= run.deadline);
  }
  conclude(run);
  for (int reads = 0; reads < kMostReadsAtEnd && read_output(output); ++reads) {
  }
  // What was woken has to sleep again before another program runs: it shares the channels.
  run.outcome.guest_waits = ends_.listener < 0 || guest == first_ || (guests_.contains(guest) && settles(Process(guest)));
  return run.outcome;
}

// Waits until something happens, or output has to be looked for, and sees to it.
void Supervisor::watch(Run& run, int guest_descriptor, size_t most_value) {
  const Outcome& outcome = run.outcome;
  std::array<pollfd, 4> watched{{{ends_.reports, POLLIN, 0},
                                 {ends_.listener, POLLIN, 0},  // a negative one is passed over
                                 {ends_.owner, 0, 0},
                                 {outcome.child < 0 ? guest_descriptor : run.child_ended, POLLIN, 0}}};
  using Milliseconds = std::chrono::milliseconds;
  auto wait = std::max(Milliseconds(0), std::chrono::ceil<Milliseconds>(run.deadline - Clock::now()));
  const bool awaits_hello = run.forked && outcome.child < 0;
  // Output alone wakes nobody: programs print in many small pieces, and the pipe holds 64 KiB of them.
  wait = std::min(wait, awaits_hello ? kLookForChild : kLookForOutput);
  const int ready = poll(watched.data(), watched.size(), static_cast<int>(wait.count()));
  if (ready < 0 && errno != EINTR) fail("poll");
  if (ready == 0 && awaits_hello) run.ended_unheard = ended_early(run);
  if (ready <= 0) return;
  if (watched[2].revents != 0) {
    end_all();
    _exit(0);
  }
  if (watched[0].revents != 0) read_report(run, most_value);  // first: a child is known before its calls are judged
  if (watched[1].revents != 0) decide(run);
  if (watched[3].revents == 0) return;
  if (outcome.child < 0) {
    while (outcome.child < 0 && read_report(run, most_value)) {
    }
    run.failed = outcome.child < 0;
  } else if (watched[3].fd == run.child_ended) {
    while (!run.reported && read_report(run, most_value)) {
    }
    run.ended = true;
  }
}

// Says how a run has ended, and ends what is not to go on.
void Supervisor::conclude(Run& run) {
  Outcome& outcome = run.outcome;
  if (run.ended_unheard) {
    outcome.end = End::kDied;
  } else if (outcome.child < 0) {
    outcome.end = End::kNoChild;
    // First who might be making a child at this moment.
    if (run.guest != first_) reap(run.guest, nullptr);
    if (run.forked) end_strays();
  } else if (run.reported) {
    const Process base(run.guest);
    outcome.end = End::kReported;
    if (ends_.listener >= 0 && !run.leaves && !run.ended) {
      const Process process(outcome.child);
      outcome.may_be_kept = may_be_kept(process);
      const uint64_t all = process.anonymous_bytes(), shared = base.anonymous_bytes();
      outcome.private_bytes = std::min(all, process.faulted_bytes() + all - std::min(all, shared));
    }
  } else {
    outcome.end = run.timed_out ? End::kTimedOut : End::kDied;
    reap(outcome.child, &outcome);
    outcome.child = -1;
  }
}

}  // namespace rstar
