// What a process gives up, layer by layer. Each function is one layer and throws std::system_error where the kernel has it not
// or does not allow it; which layers a sandbox can do without is not decided here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rstar {

// Leaves the namespaces that `flags` (CLONE_NEW*) name for new ones.
void leave_namespaces(int flags);

// Mounts, in a mount namespace of its own, a file system in memory over the existing folder `base`, with an empty folder
// base/root and one base/scratch, which holds at most `scratch_bytes` in at most `scratch_files` files.
void mount_base(const std::string& base, uint64_t scratch_bytes, uint32_t scratch_files);

// Makes base/root the root of a mount namespace of its own: the `readable` paths lie in it under their own names, read-only, the
// scratch folder as /scratch and, if nothing else is there, /tmp, some devices, nothing else. The working folder is /scratch then.
void change_root(const std::string& base, const std::vector<std::string>& readable);

// Landlock: beneath `readable` reading, beneath `writable` (may be empty) also making, changing and removing files; anything
// else that the kernel's version knows of, TCP and signals included, is refused. Returns the version.
int restrict_files(const std::vector<std::string>& readable, const std::string& writable);

void drop_capabilities();

// Bytes of address space are counted on top of what is mapped now.
struct Limits {
  uint64_t memory_bytes, file_bytes;
  uint32_t processor_seconds, descriptors;
};
void limit_resources(const Limits& limits);

}  // namespace rstar
