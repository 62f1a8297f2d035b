// What the sandbox uses of Linux, by number: build machines have older headers than the kernels that the module runs on.
#pragma once

#include <linux/filter.h>
#include <sys/syscall.h>

#include <cstdint>

namespace rstar::kernel {

// Calls that have one number on every machine, as all since 424 have.
inline constexpr int kPidfdSendSignal = 424, kPidfdOpen = 434, kClone3 = 435, kCloseRange = 436, kOpenat2 = 437, kPidfdGetfd = 438,
                     kFaccessat2 = 439, kMountSetattr = 442, kLandlockCreateRuleset = 444, kLandlockAddRule = 445,
                     kLandlockRestrictSelf = 446;
#ifdef __x86_64__
inline constexpr int kStatx = 332;
#else
inline constexpr int kStatx = 291;
#endif

// seccomp(2)
inline constexpr unsigned kSetModeFilter = 1, kFlagNewListener = 1u << 3;
inline constexpr uint32_t kReturnKillProcess = 0x80000000, kReturnErrno = 0x00050000, kReturnAsk = 0x7fc00000, kReturnAllow = 0x7fff0000;
inline constexpr uint32_t kContinue = 1;  // the answer that lets a call go on

struct Call {
  int number;
  uint32_t machine;
  uint64_t instruction_pointer;
  uint64_t arguments[6];
};

struct Question {
  uint64_t id;
  uint32_t pid;  // of the asking thread, as the listener's process numbers it
  uint32_t flags;
  Call call;
};

struct Answer {
  uint64_t id;
  int64_t value;
  int32_t error;  // negative errno
  uint32_t flags;
};

static_assert(sizeof(Call) == 64 && sizeof(Question) == 80 && sizeof(Answer) == 24);
inline constexpr unsigned long kReceive = 0xc0502100, kSend = 0xc0182101;  // ioctl(2) on the listener

// landlock(7)
struct Ruleset {
  uint64_t files;
  uint64_t network;  // since version 4
  uint64_t scoped;   // since version 6
};

struct __attribute__((packed)) PathRule {
  uint64_t allowed;
  int32_t parent;
};

inline constexpr unsigned kVersion = 1, kPathBeneath = 1;
inline constexpr uint64_t kExecute = 1 << 0, kWriteFile = 1 << 1, kReadFile = 1 << 2, kReadFolder = 1 << 3, kRemoveFolder = 1 << 4,
                          kRemoveFile = 1 << 5, kMakeFolder = 1 << 7, kMakeFile = 1 << 8, kTruncate = 1 << 14;

// mount_setattr(2)
struct MountAttributes {
  uint64_t set, clear, propagation, user_namespace;
};

inline constexpr uint64_t kMountReadOnly = 1, kMountNoSuid = 2, kMountNoDevices = 4;
inline constexpr unsigned kRecursive = 0x8000;

}  // namespace rstar::kernel
