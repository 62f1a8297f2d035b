#include "filter.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <system_error>
#include <vector>

#include "kernel.h"

namespace rstar {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kMachine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kMachine = AUDIT_ARCH_AARCH64;
#else
#error "the filter knows x86-64 and AArch64: add the machine's audit architecture, and read the list of calls for it"
#endif

// Harmless: they read, or change only the process's own memory, descriptors, signals and time.
constexpr int kHarmless[] = {
    // files: what may be opened is decided where it is opened
    __NR_read, __NR_pread64, __NR_readv, __NR_preadv, __NR_write, __NR_pwrite64, __NR_writev, __NR_pwritev, __NR_close, __NR_fstat,
    __NR_newfstatat, __NR_lseek, __NR_faccessat, __NR_getdents64, __NR_readlinkat, __NR_getcwd, __NR_chdir, __NR_fchdir, __NR_umask,
    __NR_statfs, __NR_fstatfs, __NR_dup, __NR_dup3, __NR_fsync, __NR_fdatasync, kernel::kStatx, kernel::kCloseRange,
    kernel::kFaccessat2,
    // memory
    __NR_munmap, __NR_mremap, __NR_mprotect, __NR_brk, __NR_mincore, __NR_msync,
    // threads and time
    __NR_futex, __NR_set_robust_list, __NR_get_robust_list, __NR_set_tid_address, __NR_sched_yield, __NR_sched_getaffinity,
    __NR_sched_getparam, __NR_sched_getscheduler, __NR_sched_get_priority_max, __NR_sched_get_priority_min, __NR_getpriority, __NR_getcpu,
    __NR_membarrier, __NR_clock_gettime, __NR_clock_getres, __NR_clock_nanosleep, __NR_nanosleep, __NR_gettimeofday, __NR_times,
    __NR_getitimer, __NR_exit, __NR_exit_group, __NR_restart_syscall, __NR_ppoll, __NR_pselect6,
    // signals of its own
    __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigreturn, __NR_rt_sigpending, __NR_rt_sigtimedwait, __NR_rt_sigsuspend,
    __NR_sigaltstack,
    // what it is
    __NR_getpid, __NR_gettid, __NR_getppid, __NR_getuid, __NR_geteuid, __NR_getgid, __NR_getegid, __NR_getresuid, __NR_getresgid,
    __NR_getgroups, __NR_getpgid, __NR_getsid, __NR_getrusage, __NR_sysinfo, __NR_uname, __NR_getrandom, __NR_capget,
#ifdef __NR_rseq
    __NR_rseq,
#endif
#ifdef __x86_64__
    __NR_stat, __NR_lstat, __NR_access, __NR_getdents, __NR_readlink, __NR_dup2, __NR_poll, __NR_select, __NR_time, __NR_getpgrp,
    __NR_arch_prctl, __NR_getrlimit,
#endif
};

// Change the file system; of use where there is a scratch folder.
constexpr int kWriting[] = {
    __NR_mkdirat, __NR_unlinkat, __NR_renameat2, __NR_ftruncate, __NR_truncate, __NR_fallocate,
#ifdef __NR_renameat
    __NR_renameat,
#endif
#ifdef __x86_64__
    __NR_creat, __NR_mkdir, __NR_rmdir, __NR_unlink, __NR_rename,
#endif
};

// Leave behind what would go off in a snapshot, or is not copied by a fork.
constexpr int kLasting[] = {
    __NR_setitimer, __NR_timer_create, __NR_timer_settime, __NR_timer_gettime, __NR_timer_delete, __NR_timer_getoverrun,
#ifdef __x86_64__
    __NR_alarm,
#endif
};
constexpr int kSignalling[] = {__NR_kill, __NR_tgkill, __NR_tkill};

constexpr uint32_t kOpenedToWrite = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);

class Program {
 public:
  Program() {
    load(offsetof(kernel::Call, machine));
    add(BPF_JMP | BPF_JEQ | BPF_K, kMachine, 1, 0);
    answer(kernel::kReturnKillProcess);
    load(0);
#ifdef __x86_64__  // the x32 numbering, under which every call has a second number
    add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
    answer(kernel::kReturnKillProcess);
#endif
  }

  void when(int call, uint32_t then) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1);
    answer(then);
  }

  // A call judged by the low half of an argument: `then` where (argument & mask) == value, else `otherwise`.
  void when(int call, uint32_t argument, uint32_t mask, uint32_t value, uint32_t then, uint32_t otherwise) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 5);
    load(static_cast<uint32_t>(offsetof(kernel::Call, arguments)) + 8 * argument);
    add(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(then);
    answer(otherwise);
  }

  // A call that is allowed where an argument is zero in both halves, else refused.
  void when_zero(int call, uint32_t argument) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 6);
    load(static_cast<uint32_t>(offsetof(kernel::Call, arguments)) + 8 * argument);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    load(static_cast<uint32_t>(offsetof(kernel::Call, arguments)) + 8 * argument + 4);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    answer(kernel::kReturnAllow);
    answer(kernel::kReturnErrno | EPERM);
  }

  // A call whose argument is one of some values, else refused.
  template <size_t n>
  void when_one_of(int call, uint32_t argument, const uint32_t (&values)[n]) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, static_cast<uint8_t>(2 * n + 2));
    load(static_cast<uint32_t>(offsetof(kernel::Call, arguments)) + 8 * argument);
    for (const uint32_t value : values) {
      add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
      answer(kernel::kReturnAllow);
    }
    answer(kernel::kReturnErrno | EPERM);
  }

  void answer(uint32_t with) { add(BPF_RET | BPF_K, with, 0, 0); }

  sock_fprog view() { return {static_cast<unsigned short>(code_.size()), code_.data()}; }

 private:
  void load(uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
  void add(int code, uint32_t value, uint8_t if_true, uint8_t if_false) {
    code_.push_back({static_cast<uint16_t>(code), if_true, if_false, value});
  }

  std::vector<sock_filter> code_;
};

Program program_of(const FilterRules& rules) {
  using namespace kernel;
  const uint32_t refuse = kReturnErrno | EPERM;
  const uint32_t ask = rules.supervised ? kReturnAsk : kReturnAllow;
  const uint32_t write = rules.may_write ? ask : refuse;
  Program program;
  for (const int call : kHarmless) program.when(call, kReturnAllow);
  for (const int call : kWriting) program.when(call, write);
  for (const int call : kLasting) program.when(call, ask);
  for (const int call : kSignalling) {
    if (rules.supervised) {
      program.when(call, kReturnAsk);
    } else {
      program.when(call, 0, 0xffffffff, static_cast<uint32_t>(getpid()), kReturnAllow, refuse);
    }
  }
  // Shared memory would be seen by all that are forked later.
  program.when(__NR_mmap, 3, MAP_SHARED, 0, kReturnAllow, ask);
  program.when(__NR_openat, 2, kOpenedToWrite, 0, kReturnAllow, write);
#ifdef __NR_open
  program.when(__NR_open, 1, kOpenedToWrite, 0, kReturnAllow, write);
#endif
  if (rules.supervised) {
    program.when(__NR_clone, kReturnAsk);
  } else {
    program.when(__NR_clone, 0, CLONE_THREAD, CLONE_THREAD, kReturnAllow, refuse);
  }
  program.when(kClone3, kReturnErrno | ENOSYS);  // its flags are in memory; the C library falls back to clone
  program.when(kOpenat2, kReturnErrno | ENOSYS);
  // No advice that makes pages cold or huge: who sleeps in a page fault seems to wait, and a huge page is a single fault.
  program.when_one_of(__NR_madvise, 2, {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE});
  // Not F_SETFL: flags of the output pipe are shared with every other program of the worker.
  program.when_one_of(__NR_fcntl, 1, {F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC});
  program.when_one_of(__NR_prctl, 0, {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_PDEATHSIG, 0x53564d41 /* PR_SET_VMA */});
  program.when_zero(__NR_prlimit64, 2);                                   // limits are read, not set
  program.when(__NR_ioctl, kReturnErrno | ENOTTY);
  program.answer(refuse);
  return program;
}

}  // namespace

int install_filter(const FilterRules& rules) {
  Program program = program_of(rules);
  sock_fprog view = program.view();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) throw std::system_error(errno, std::generic_category(), "no_new_privs");
  const unsigned flags = rules.supervised ? kernel::kFlagNewListener : 0;
  const long listener = syscall(__NR_seccomp, kernel::kSetModeFilter, flags, &view);
  if (listener < 0) throw std::system_error(errno, std::generic_category(), "seccomp filter");
  return rules.supervised ? static_cast<int>(listener) : -1;
}

}  // namespace rstar
