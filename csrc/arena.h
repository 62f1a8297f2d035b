// Append-only chunked storage with stable 32-bit indices.
//
// Terms: an *index* names an element for ever; a *block* is a run of consecutive indices that never crosses a chunk, so
// that a family of siblings is contiguous in memory. An IndexSpace hands blocks out and takes them back; any number of
// Chunked<T> arrays share its indices (structure of arrays). Chunks never move and are never freed while the arena lives:
// a reader that holds an index may read while others allocate.
//
//   index  = chunk * kChunkSize + offset
//   table_ : [chunk 0*][chunk 1*][ ... ]     each chunk allocated once, by whoever first needs it
//
// Chunks of raw memory are written by whoever allocates a block, never before: memory that nobody asked for costs nothing,
// and fresh pages come as huge ones where the system has them (a walk over a large tree is bound by memory latency).
//
// All operations are lock-free and may be called from any thread.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <type_traits>

namespace rstar {

using Index = uint32_t;
inline constexpr size_t kHugePage = size_t{1} << 21;
inline constexpr Index kNone = 0xFFFFFFFFu;

inline constexpr uint32_t kIndexBits = 31;  // the sign bit stays free for signed columns

// Asks for the cache line at `at`; of no effect where the compiler has no word for it.
inline void prefetch([[maybe_unused]] const void* at) {
#if defined(__GNUC__)
  __builtin_prefetch(at);
#endif
}
inline void prefetch_to_write([[maybe_unused]] const void* at) {
#if defined(__GNUC__) && defined(__x86_64__)
  asm volatile("prefetchw %0" ::"m"(*static_cast<const char*>(at)));  // the compiler's word for it is an ordinary prefetch here
#elif defined(__GNUC__)
  __builtin_prefetch(at, 1);
#endif
}

// kRaw: elements are not constructed; the owner writes each before it is read.
template <typename T, uint32_t kChunkBits, bool kRaw = false>
class Chunked {
 public:
  static constexpr uint32_t kChunkSize = 1u << kChunkBits;
  static constexpr uint32_t kChunkMask = kChunkSize - 1;
  static constexpr uint32_t kMaxChunks = 1u << (kIndexBits - kChunkBits);

  // small_chunks: how many of the first ones ask for no huge pages. A small forest needs no more than one, and would pay for
  // memory that it never writes.
  explicit Chunked(uint32_t small_chunks = 1) : table_(std::make_unique<std::atomic<T*>[]>(kMaxChunks)), small_chunks_(small_chunks) {}
  Chunked(const Chunked&) = delete;
  Chunked& operator=(const Chunked&) = delete;
  ~Chunked() {
    for (uint32_t i = 0; i < kMaxChunks; ++i) {
      T* chunk = table_[i].load(std::memory_order_relaxed);
      if (chunk == nullptr) break;  // chunks are created in order
      discard(chunk);
    }
  }

  T& operator[](Index i) { return table_[i >> kChunkBits].load(std::memory_order_acquire)[i & kChunkMask]; }
  const T& operator[](Index i) const {
    return table_[i >> kChunkBits].load(std::memory_order_acquire)[i & kChunkMask];
  }

  // Elements that exist; any index below may be read.
  uint32_t available() const { return chunks_.load(std::memory_order_acquire) << kChunkBits; }

  // Makes every chunk up to that of `last` exist. Two threads may build the same chunk; the loser deletes its own.
  void ensure(Index last) {
    for (uint32_t have = chunks_.load(std::memory_order_acquire); have <= last >> kChunkBits;) {
      T* fresh = make(have >= small_chunks_);
      T* absent = nullptr;
      if (!table_[have].compare_exchange_strong(absent, fresh, std::memory_order_acq_rel)) discard(fresh);
      // On failure `have` becomes the count another thread has reached.
      if (chunks_.compare_exchange_strong(have, have + 1, std::memory_order_acq_rel)) ++have;
    }
  }

 private:
  static constexpr size_t kBytes = sizeof(T) * kChunkSize;
  static constexpr size_t kAlignment = kBytes >= kHugePage ? kHugePage : alignof(std::max_align_t);

  static T* make([[maybe_unused]] bool huge) {
    T* chunk = static_cast<T*>(::operator new(kBytes, std::align_val_t{kAlignment}));
#if defined(__linux__)
    if (kBytes >= kHugePage && huge) madvise(chunk, kBytes, MADV_HUGEPAGE);  // advice: without it, only slower
#endif
    if constexpr (!kRaw) std::uninitialized_value_construct_n(chunk, kChunkSize);
    return chunk;
  }
  static void discard(T* chunk) {
    static_assert(std::is_trivially_destructible_v<T>);
    ::operator delete(chunk, std::align_val_t{kAlignment});
  }

  const std::unique_ptr<std::atomic<T*>[]> table_;
  const uint32_t small_chunks_;
  std::atomic<uint32_t> chunks_{0};
};

// Hands out blocks of consecutive indices, each of which begins at a multiple of kStep, and recycles them by size.
template <uint32_t kChunkBits, uint32_t kStep>
class IndexSpace {
 public:
  static constexpr uint32_t kChunkSize = 1u << kChunkBits;
  static constexpr uint32_t kChunkMask = kChunkSize - 1;

  IndexSpace() {
    for (auto& head : free_) head.store(kNone, std::memory_order_relaxed);
  }

  // Sizes up to 64 are rounded to whole steps; above, to the next power of two. All blocks of a class have one size, so that
  // recycling never fragments it.
  static uint32_t rounded(uint32_t size) { return size <= 64 ? (size + kStep - 1) / kStep * kStep : std::bit_ceil(size); }

  // The first index of a block of `size` elements, 1 <= size <= kChunkSize. `link(i)` is where a free block keeps the
  // index of the next one. Throws std::length_error when 2^31 elements are in use.
  template <typename Link>
  Index allocate(uint32_t size, Link&& link) {
    const Index free = recycle(size, link);
    return free != kNone ? free : fresh(size);
  }

  // A block that was released; kNone where there is none.
  template <typename Link>
  Index recycle(uint32_t size, Link&& link) {
    std::atomic<uint64_t>& head = free_[class_of(size)];
    uint64_t top = head.load(std::memory_order_acquire);
    while (index_of(top) != kNone) {
      // The block may be taken by another thread between the two loads; then its link is stale, and the tag in the
      // upper half, which changes with every push and pop, makes the exchange fail.
      Index next = link(index_of(top)).load(std::memory_order_relaxed);
      if (head.compare_exchange_weak(top, pack(next, tag_of(top) + 1), std::memory_order_acq_rel,
                                     std::memory_order_acquire))
        return index_of(top);
    }
    return kNone;
  }

  template <typename Link>
  void release(Index first, uint32_t size, Link&& link) {
    std::atomic<uint64_t>& head = free_[class_of(size)];
    uint64_t top = head.load(std::memory_order_relaxed);
    do {
      link(first).store(index_of(top), std::memory_order_relaxed);
    } while (!head.compare_exchange_weak(top, pack(first, tag_of(top) + 1), std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  }

  // Indices ever handed out; recycled blocks are not counted twice.
  uint32_t high_water() const { return next_.load(std::memory_order_relaxed); }

  static constexpr uint32_t kSmall = 64 / kStep;  // the class of 64
  static constexpr uint32_t kClasses = kSmall + 16;
  static uint32_t class_of(uint32_t size) {
    return size <= 64 ? (size + kStep - 1) / kStep : kSmall + static_cast<uint32_t>(std::bit_width(size - 1)) - 6;
  }
  static uint32_t size_of(uint32_t c) { return c <= kSmall ? c * kStep : 64u << (c - kSmall); }

  // A block that was never handed out.
  Index fresh(uint32_t size) {
    size = rounded(size);
    Index at = next_.load(std::memory_order_relaxed);
    Index first;
    do {
      first = (at & kChunkMask) + size > kChunkSize ? (at | kChunkMask) + 1 : at;  // a block stays in one chunk
      if (first >= (1u << kIndexBits) - size) throw std::length_error("the forest is full: 2^31 places are taken");
    } while (!next_.compare_exchange_weak(at, first + size, std::memory_order_relaxed));
    return first;
  }

 private:
  static uint64_t pack(Index i, uint32_t tag) { return static_cast<uint64_t>(tag) << 32 | i; }
  static Index index_of(uint64_t head) { return static_cast<Index>(head); }
  static uint32_t tag_of(uint64_t head) { return static_cast<uint32_t>(head >> 32); }

  std::atomic<Index> next_{0};
  std::array<std::atomic<uint64_t>, kClasses> free_;  // by class: index of the first free block, tag above it
};

}  // namespace rstar
