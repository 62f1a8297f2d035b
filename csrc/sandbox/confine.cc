#include "confine.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <system_error>

#include "kernel.h"

namespace rstar {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

void check(bool done, const std::string& what) {
  if (!done) fail(what);
}

// Makes the folders above a path, and the path itself as a folder or an empty file.
void make_place(const std::string& path, bool is_folder) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string above = path.substr(0, slash);
    check(mkdir(above.c_str(), 0755) == 0 || errno == EEXIST, above);
  }
  if (is_folder) {
    check(mkdir(path.c_str(), 0755) == 0 || errno == EEXIST, path);
  } else {
    const int file = open(path.c_str(), O_CREAT | O_CLOEXEC | O_WRONLY, 0644);
    check(file >= 0, path);
    close(file);
  }
}

void bind(const std::string& from, const std::string& to, uint64_t attributes) {
  check(mount(from.c_str(), to.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0, "mount " + from);
  kernel::MountAttributes set{attributes, 0, 0, 0};
  check(syscall(kernel::kMountSetattr, AT_FDCWD, to.c_str(), kernel::kRecursive, &set, sizeof set) == 0, "mount_setattr " + from);
}

// A path may be a link, or lie beneath one; what is bound is what it leads to, under the name that is asked for.
void show(const std::string& path, const std::string& root) {
  struct stat found;
  if (stat(path.c_str(), &found) != 0) return;  // not on this machine
  make_place(root + path, S_ISDIR(found.st_mode));
  bind(path, root + path, kernel::kMountReadOnly | kernel::kMountNoSuid | kernel::kMountNoDevices);
}

void set_limit(int kind, rlim_t value) {
  const rlimit limit{value, value};
  check(setrlimit(static_cast<__rlimit_resource_t>(kind), &limit) == 0, "setrlimit");
}

}  // namespace

void leave_namespaces(int flags) { check(unshare(flags) == 0, "unshare"); }

void mount_base(const std::string& base, uint64_t scratch_bytes, uint32_t scratch_files) {
  check(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "mount /");
  check(mount("tmpfs", base.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,nr_inodes=4096,mode=755") == 0, "mount tmpfs");
  for (const char* name : {"/root", "/scratch"}) make_place(base + name, true);
  char options[96];
  // One file more than asked for: the folder itself counts.
  std::snprintf(options, sizeof options, "size=%llu,nr_inodes=%u,mode=700", static_cast<unsigned long long>(scratch_bytes),
                scratch_files + 1);
  check(mount("tmpfs", (base + "/scratch").c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) == 0, "mount tmpfs");
}

void change_root(const std::string& base, const std::vector<std::string>& readable) {
  const std::string root = base + "/root";
  check(mount(root.c_str(), root.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0, "mount " + root);
  for (const std::string& path : readable) show(path, root);
  for (const char* device : {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}) {
    make_place(root + device, false);
    bind(device, root + device, kernel::kMountNoSuid);
  }
  make_place(root + "/scratch", true);
  bind(base + "/scratch", root + "/scratch", kernel::kMountNoSuid | kernel::kMountNoDevices);
  // Where programs look for it; there may be a library beneath.
  check(symlink("/scratch", (root + "/tmp").c_str()) == 0 || errno == EEXIST, "/tmp");
  kernel::MountAttributes read_only{kernel::kMountReadOnly, 0, 0, 0};
  check(syscall(kernel::kMountSetattr, AT_FDCWD, root.c_str(), 0, &read_only, sizeof read_only) == 0, "mount_setattr " + root);
  check(chdir(root.c_str()) == 0, root);
  check(syscall(__NR_pivot_root, ".", ".") == 0, "pivot_root");
  check(umount2(".", MNT_DETACH) == 0, "umount");
  check(chdir("/scratch") == 0, "/scratch");
}

int restrict_files(const std::vector<std::string>& readable, const std::string& writable) {
  const long version = syscall(kernel::kLandlockCreateRuleset, nullptr, 0, kernel::kVersion);
  check(version >= 1, "landlock");
  // All rights that a version knows of are handled, and so refused but where a rule allows them.
  kernel::Ruleset rules{(1ull << 13) - 1, 0, 0};
  if (version >= 2) rules.files |= 1ull << 13;  // moving between folders
  if (version >= 3) rules.files |= kernel::kTruncate;
  if (version >= 5) rules.files |= 1ull << 15;  // ioctl on devices
  if (version >= 4) rules.network = 3;          // TCP: bind, connect
  if (version >= 6) rules.scoped = 3;           // abstract sockets, signals
  const size_t size = version >= 6 ? sizeof rules : version >= 4 ? 16 : 8;
  const int set = static_cast<int>(syscall(kernel::kLandlockCreateRuleset, &rules, size, 0));
  check(set >= 0, "landlock");
  const auto allow = [&](const std::string& path, uint64_t rights) {
    const int place = open(path.c_str(), O_PATH | O_CLOEXEC);
    if (place < 0) return;  // not on this machine
    struct stat found;
    const bool is_folder = fstat(place, &found) == 0 && S_ISDIR(found.st_mode);
    const uint64_t of_files = kernel::kExecute | kernel::kWriteFile | kernel::kReadFile | kernel::kTruncate;
    kernel::PathRule rule{rights & rules.files & (is_folder ? ~0ull : of_files), place};
    const long added = syscall(kernel::kLandlockAddRule, set, kernel::kPathBeneath, &rule, 0);
    close(place);
    check(added == 0, "landlock " + path);
  };
  const uint64_t read = kernel::kReadFile | kernel::kReadFolder;
  for (const std::string& path : readable) allow(path, read);
  for (const char* device : {"/dev/null", "/dev/zero", "/dev/full"}) allow(device, read | kernel::kWriteFile);
  for (const char* device : {"/dev/random", "/dev/urandom"}) allow(device, read);
  if (!writable.empty()) {
    allow(writable, read | kernel::kWriteFile | kernel::kTruncate | kernel::kMakeFile | kernel::kMakeFolder | kernel::kRemoveFile |
                        kernel::kRemoveFolder);
  }
  check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
  check(syscall(kernel::kLandlockRestrictSelf, set, 0) == 0, "landlock");
  close(set);
  return static_cast<int>(version);
}

void drop_capabilities() {
  struct {
    uint32_t version;
    int pid;
  } header{0x20080522, 0};
  struct {
    uint32_t effective, permitted, inheritable;
  } none[2] = {};
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);  // refused where there are none to begin with
  }
  check(syscall(__NR_capset, &header, none) == 0, "capset");
}

void limit_resources(const Limits& limits) {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  check(static_cast<bool>(file >> pages), "/proc/self/statm");
  set_limit(RLIMIT_AS, pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) + limits.memory_bytes);
  set_limit(RLIMIT_FSIZE, limits.file_bytes);
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_NOFILE, limits.descriptors);
  set_limit(RLIMIT_MEMLOCK, 0);
  set_limit(RLIMIT_MSGQUEUE, 0);
  set_limit(RLIMIT_RTPRIO, 0);
  set_limit(RLIMIT_SIGPENDING, 64);
  // On top of what this process has used. A fork begins at nothing, and so has more: its supervisor looks closer.
  const auto used = static_cast<rlim_t>(std::clock() / CLOCKS_PER_SEC) + 1;
  const rlim_t most = used + limits.processor_seconds;
  const rlimit processor{most, most + 1};  // a signal first, which may be heard
  check(setrlimit(RLIMIT_CPU, &processor) == 0, "setrlimit");
}

}  // namespace rstar
