#include "selection.h"

#include <algorithm>
#include <bit>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_THREAD__)
#define RSTAR_X86 1
// GCC 12 takes the undefined vectors in its own header for a fault of ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#endif

namespace rstar {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr float kInfinityFloat = std::numeric_limits<float>::infinity();

// `taken`, here and below: how many choices before this one fell on each child, which it sees as virtual visits; null for none.

// The best of the children in `mask`, which begin at `base`, against the best so far. This defines what is chosen.
inline void decide(const Stats* stats, uint32_t base, uint32_t mask, double log_parent, const Uct& uct, const uint32_t* taken,
                   double& best_value, uint32_t& best) {
  while (mask != 0) {
    const uint32_t i = base + static_cast<uint32_t>(std::countr_zero(mask));
    mask &= mask - 1;
    const Word word = stats[i].word();
    const double value = uct_value(stats[i].sum(), word.visits(), word.in_flight() + (taken == nullptr ? 0 : taken[i]), log_parent, uct);
    if (value > best_value || best == kNone) {
      best_value = value;
      best = i;
    }
  }
}

uint32_t select_plain(const Stats* stats, uint32_t count, double log_parent, const Uct& uct, const uint32_t* taken) {
  double best_value = 0.0;
  uint32_t best = kNone;
  for (uint32_t i = 0; i < count; i += 32) {
    const uint32_t left = count - i;
    decide(stats, i, left >= 32 ? ~0u : (1u << left) - 1u, log_parent, uct, taken, best_value, best);
  }
  return best;
}

// Several choices, each by `kSelect`.
template <uint32_t kSelect(const Stats*, uint32_t, double, const Uct&, const uint32_t*)>
void select_in_turn(const Stats* stats, uint32_t count, uint64_t parent_visits, const LogTable& log, const Uct& uct, std::span<uint32_t> chosen) {
  thread_local std::vector<uint32_t> taken;
  taken.assign(count, 0);
  for (uint32_t& choice : chosen) {
    choice = kSelect(stats, count, log(parent_visits++), uct, taken.data());
    ++taken[choice];
  }
}

#ifdef RSTAR_X86

// How the vector code works: it finds the children that may be the best in single precision, with a bound on its error, and
// leaves the choice between them to `decide`. So it returns what select_plain does, ties included, whatever it rounds. (But where
// urgency is infinite, an untouched child comes before one whose sum is infinite: sums are finite.)
//
// The bound: of a reciprocal root's estimate that is good to 1.5 * 2^-12, Newton's step makes one good to 2^-22 (1.5 times the
// square, and roundings of 2^-24). q has it twice, with conversions and products of its own: together below 1e-6. The bound is
// twice that, and the smallest normal number, where relative errors end.
constexpr float kRelativeError = 2e-6f;
constexpr float kAbsoluteError = std::numeric_limits<float>::min();
// Values and their bounds stay finite; what is larger is left to the plain scan.
constexpr float kMostFloat = std::numeric_limits<float>::max() / 4;
constexpr uint32_t kMostVectorized = 64;

// What is left to do when every child has bounds: only those whose upper bound reaches the highest lower one may be the best.
inline uint32_t among(const Stats* stats, const uint64_t masks, double log_parent, const Uct& uct, const uint32_t* taken) {
  if ((masks & (masks - 1)) == 0) return static_cast<uint32_t>(std::countr_zero(masks));
  double best_value = 0.0;
  uint32_t best = kNone;
  decide(stats, 0, static_cast<uint32_t>(masks), log_parent, uct, taken, best_value, best);
  decide(stats, 32, static_cast<uint32_t>(masks >> 32), log_parent, uct, taken, best_value, best);
  return best;
}

#define RSTAR_AVX512 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw")))

// Sixteen siblings, a lane each.
struct Sixteen {
  __m512d sum_low, sum_high;
  __m512i visits, in_flight;
  __mmask16 valid;
};

RSTAR_AVX512 inline Sixteen load_sixteen(const Stats* stats, uint32_t left) {
  const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i third = _mm512_setr_epi32(2, 6, 10, 14, 18, 22, 26, 30, 2, 6, 10, 14, 18, 22, 26, 30);
  const __m512i fourth = _mm512_setr_epi32(3, 7, 11, 15, 19, 23, 27, 31, 3, 7, 11, 15, 19, 23, 27, 31);
  const __m512i low_half = _mm512_set1_epi32(0xFFFF);  // what stands above in_flight in the word
  const auto* at = reinterpret_cast<const double*>(stats);
  __m512d z[4];
  if (left >= 16) {
    for (int k = 0; k < 4; ++k) z[k] = _mm512_loadu_pd(at + 8 * k);
  } else {
    const uint32_t lanes = (1u << (2 * left)) - 1u;  // at most 30 lanes of 8 bytes
    for (int k = 0; k < 4; ++k) z[k] = _mm512_maskz_loadu_pd(static_cast<__mmask8>(lanes >> (8 * k)), at + 8 * k);
  }
  const __m512i a = _mm512_castpd_si512(z[0]), b = _mm512_castpd_si512(z[1]), c = _mm512_castpd_si512(z[2]), d = _mm512_castpd_si512(z[3]);
  const __m512i visits = _mm512_mask_mov_epi32(_mm512_permutex2var_epi32(a, third, b), 0xFF00, _mm512_permutex2var_epi32(c, third, d));
  const __m512i flying = _mm512_mask_mov_epi32(_mm512_permutex2var_epi32(a, fourth, b), 0xFF00, _mm512_permutex2var_epi32(c, fourth, d));
  return {_mm512_permutex2var_pd(z[0], even, z[1]), _mm512_permutex2var_pd(z[2], even, z[3]), visits, _mm512_and_si512(low_half, flying),
          left >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << left) - 1)};
}

// Those that an infinite urgency puts before all others.
RSTAR_AVX512 inline __mmask16 untouched_of(const Sixteen& family) {
  return _mm512_mask_testn_epi32_mask(family.valid, _mm512_or_si512(family.visits, family.in_flight), _mm512_set1_epi32(-1));
}

// UCT of sixteen siblings and bounds of its error; false where they are beyond this arithmetic.
RSTAR_AVX512 inline bool evaluate(const Sixteen& family, float exploration_of_parent, const Uct& uct, __m512& value, __m512& bound) {
  const __m512 exploration = _mm512_set1_ps(exploration_of_parent), half = _mm512_set1_ps(0.5f), three_halves = _mm512_set1_ps(1.5f);
  const __m512 error = _mm512_set1_ps(kRelativeError), least = _mm512_set1_ps(kAbsoluteError);
  const __m512i flying = family.in_flight;
  __m512d sum_low = family.sum_low, sum_high = family.sum_high;
  __m512i n = family.visits;
  if (_mm512_test_epi32_mask(flying, flying) != 0) {
    const __m512d loss = _mm512_set1_pd(uct.virtual_loss);
    n = _mm512_add_epi32(n, flying);
    sum_low = _mm512_sub_pd(sum_low, _mm512_mul_pd(_mm512_cvtepu32_pd(_mm512_castsi512_si256(flying)), loss));
    sum_high = _mm512_sub_pd(sum_high, _mm512_mul_pd(_mm512_cvtepu32_pd(_mm512_extracti64x4_epi64(flying, 1)), loss));
  }
  const __m512 sum = _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(sum_low)), _mm512_cvtpd_ps(sum_high), 1);
  const __m512 count_of = _mm512_cvtepu32_ps(n);
  __m512 root = _mm512_rsqrt14_ps(count_of);
  root = _mm512_mul_ps(root, _mm512_sub_ps(three_halves, _mm512_mul_ps(_mm512_mul_ps(half, count_of), _mm512_mul_ps(root, root))));
  const __m512 q = _mm512_mul_ps(_mm512_mul_ps(sum, root), root), u = _mm512_mul_ps(exploration, root);
  value = _mm512_add_ps(q, u);
  bound = _mm512_fmadd_ps(_mm512_add_ps(_mm512_abs_ps(q), _mm512_abs_ps(u)), error, least);
  const __mmask16 fresh = _mm512_mask_testn_epi32_mask(family.valid, family.visits, family.visits);
  if (fresh != 0) {
    const __m512 at_first = _mm512_set1_ps(static_cast<float>(uct.first_play_urgency));
    const __m512 urgency = _mm512_set1_ps(std::isinf(uct.first_play_urgency) ? 0.0f : static_cast<float>(uct.first_play_urgency));
    // The sum of an unvisited child is 0, so that `sum` is -in_flight * virtual_loss there.
    const __m512 unvisited = _mm512_mask_mov_ps(_mm512_add_ps(urgency, sum), untouched_of(family), at_first);
    value = _mm512_mask_mov_ps(value, fresh, unvisited);
    bound = _mm512_mask_mov_ps(bound, fresh, _mm512_fmadd_ps(_mm512_add_ps(_mm512_abs_ps(urgency), _mm512_abs_ps(sum)), error, least));
  }
  // The bound is finite where its terms are not too large; counts of 2^31 and more might wrap.
  const __m512 most = _mm512_set1_ps(kMostFloat);
  const __mmask16 finite = _mm512_mask_cmp_ps_mask(family.valid, _mm512_add_ps(_mm512_abs_ps(value), bound), most, _CMP_LE_OQ);
  return finite == family.valid && (_mm512_movepi32_mask(_mm512_or_si512(family.visits, n)) & family.valid) == 0;
}

// Upper bounds of sixteen, and the highest lower bound of those so far.
RSTAR_AVX512 inline __m512 upper_bounds(const Sixteen& family, __m512 value, __m512 bound, __m512& highest_lower) {
  highest_lower = _mm512_mask_max_ps(highest_lower, family.valid, highest_lower, _mm512_sub_ps(value, bound));
  return _mm512_mask_mov_ps(_mm512_set1_ps(-kInfinityFloat), family.valid, _mm512_add_ps(value, bound));
}

// Those of the siblings, sixteen in each group, that may be the best.
RSTAR_AVX512 inline uint64_t contenders(const __m512* upper, uint32_t groups, __m512 highest_lower) {
  const __m512 bar = _mm512_set1_ps(_mm512_reduce_max_ps(highest_lower));
  uint64_t masks = 0;
  for (uint32_t g = 0; g < groups; ++g) masks |= static_cast<uint64_t>(_mm512_cmp_ps_mask(upper[g], bar, _CMP_GE_OQ)) << (16 * g);
  return masks;
}

RSTAR_AVX512 uint32_t select_avx512(const Stats* stats, uint32_t count, double log_parent, const Uct& uct) {
  if (count > kMostVectorized) return select_plain(stats, count, log_parent, uct, nullptr);
  const float exploration = static_cast<float>(uct.c * std::sqrt(log_parent));
  const bool urgent = uct.first_play_urgency == kInfinity;
  const uint32_t groups = (count + 15) / 16;
  __m512 upper[kMostVectorized / 16], value, bound;
  __m512 highest_lower = _mm512_set1_ps(-kInfinityFloat);
  for (uint32_t g = 0; g < groups; ++g) {
    const Sixteen family = load_sixteen(stats + g * 16, count - g * 16);
    if (urgent) {
      const __mmask16 untouched = untouched_of(family);
      if (untouched != 0) return g * 16 + static_cast<uint32_t>(std::countr_zero(static_cast<uint32_t>(untouched)));
    }
    if (!evaluate(family, exploration, uct, value, bound)) return select_plain(stats, count, log_parent, uct, nullptr);
    upper[g] = upper_bounds(family, value, bound, highest_lower);
  }
  return among(stats, contenders(upper, groups, highest_lower), log_parent, uct, nullptr);
}

// The siblings are read once, and chosen among in registers.
RSTAR_AVX512 void select_several_avx512(const Stats* stats, uint32_t count, uint64_t parent_visits, const LogTable& log, const Uct& uct,
                                        std::span<uint32_t> chosen) {
  if (count > kMostVectorized) return select_in_turn<select_plain>(stats, count, parent_visits, log, uct, chosen);
  const bool urgent = uct.first_play_urgency == kInfinity;
  const uint32_t groups = (count + 15) / 16;
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), one = _mm512_set1_epi32(1);
  Sixteen families[kMostVectorized / 16];
  __m512 upper[kMostVectorized / 16], value, bound;
  for (uint32_t g = 0; g < groups; ++g) families[g] = load_sixteen(stats + g * 16, count - g * 16);
  uint32_t taken[kMostVectorized] = {};
  for (size_t k = 0; k < chosen.size(); ++k) {
    const double log_parent = log(parent_visits + k);
    const float exploration = static_cast<float>(uct.c * std::sqrt(log_parent));
    __m512 highest_lower = _mm512_set1_ps(-kInfinityFloat);
    uint32_t best = kNone;
    bool finite = true;
    for (uint32_t g = 0; g < groups && finite && best == kNone; ++g) {
      const __mmask16 untouched = urgent ? untouched_of(families[g]) : 0;
      if (untouched != 0) best = g * 16 + static_cast<uint32_t>(std::countr_zero(static_cast<uint32_t>(untouched)));
      finite = evaluate(families[g], exploration, uct, value, bound);
      upper[g] = upper_bounds(families[g], value, bound, highest_lower);
    }
    if (best == kNone) {
      const uint64_t masks = finite ? contenders(upper, groups, highest_lower) : ~uint64_t{0} >> (64 - count);
      best = among(stats, masks, log_parent, uct, taken);
    }
    chosen[k] = best;
    ++taken[best];
    Sixteen& family = families[best / 16];
    family.in_flight = _mm512_mask_add_epi32(family.in_flight, _mm512_cmpeq_epi32_mask(lanes, _mm512_set1_epi32(static_cast<int>(best % 16))),
                                             family.in_flight, one);
  }
}

__attribute__((target("avx2"))) uint32_t select_avx2(const Stats* stats, uint32_t count, double log_parent, const Uct& uct, const uint32_t* taken) {
  if (count > kMostVectorized) return select_plain(stats, count, log_parent, uct, taken);
  const __m256 exploration = _mm256_set1_ps(static_cast<float>(uct.c * std::sqrt(log_parent)));
  const bool urgent = uct.first_play_urgency == kInfinity;
  const __m256 urgency = _mm256_set1_ps(std::isinf(uct.first_play_urgency) ? 0.0f : static_cast<float>(uct.first_play_urgency));
  const __m256 at_first = _mm256_set1_ps(static_cast<float>(uct.first_play_urgency));
  const __m256 half = _mm256_set1_ps(0.5f), three_halves = _mm256_set1_ps(1.5f), error = _mm256_set1_ps(kRelativeError);
  const __m256 minus_infinity = _mm256_set1_ps(-kInfinityFloat), most = _mm256_set1_ps(kMostFloat), least = _mm256_set1_ps(kAbsoluteError);
  const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  const __m256i zero = _mm256_setzero_si256();
  __m256 upper[kMostVectorized / 8];
  __m256 highest_lower = minus_infinity;
  const uint32_t groups = (count + 7) / 8;
  for (uint32_t g = 0; g < groups; ++g) {
    const uint32_t left = std::min(8u, count - g * 8);
    alignas(32) Stats copy[8];
    const auto* at = reinterpret_cast<const double*>(stats + g * 8);
    if (left < 8) {  // the block may end where its memory does
      for (uint32_t i = 0; i < left; ++i) _mm_store_pd(reinterpret_cast<double*>(copy + i), _mm_loadu_pd(at + 2 * i));
      at = reinterpret_cast<const double*>(copy);
    }
    const __m256 valid = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(left)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
    // Two children a load: sum, counts, sum, counts. The sums of four come out in the order 0, 2, 1, 3, and so do the counts.
    const __m256d a = _mm256_loadu_pd(at), b = _mm256_loadu_pd(at + 4), c = _mm256_loadu_pd(at + 8), d = _mm256_loadu_pd(at + 12);
    __m256d sum_low = _mm256_permute4x64_pd(_mm256_unpacklo_pd(a, b), 0xD8), sum_high = _mm256_permute4x64_pd(_mm256_unpacklo_pd(c, d), 0xD8);
    const __m256 counts_low = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_unpackhi_pd(a, b), 0xD8));
    const __m256 counts_high = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_unpackhi_pd(c, d), 0xD8));
    // Each half in the order 0, 1, 4, 5 and 2, 3, 6, 7.
    const __m256i mixed_visits = _mm256_castps_si256(_mm256_shuffle_ps(counts_low, counts_high, 0x88));
    const __m256i mixed_flying = _mm256_castps_si256(_mm256_shuffle_ps(counts_low, counts_high, 0xDD));
    const __m256i visits = _mm256_permute4x64_epi64(mixed_visits, 0xD8);
    __m256i flying = _mm256_and_si256(_mm256_permute4x64_epi64(mixed_flying, 0xD8), _mm256_set1_epi32(0xFFFF));
    if (taken != nullptr) flying = _mm256_add_epi32(flying, _mm256_maskload_epi32(reinterpret_cast<const int*>(taken + g * 8), _mm256_castps_si256(valid)));
    const __m256i n = _mm256_add_epi32(visits, flying);
    // Counts of 2^31 and more would be taken for negative ones.
    if (_mm256_movemask_ps(_mm256_and_ps(valid, _mm256_castsi256_ps(_mm256_or_si256(visits, n)))) != 0)
      return select_plain(stats, count, log_parent, uct, taken);
    const __m256 fresh = _mm256_and_ps(valid, _mm256_castsi256_ps(_mm256_cmpeq_epi32(visits, zero)));
    const __m256 untouched = _mm256_and_ps(fresh, _mm256_castsi256_ps(_mm256_cmpeq_epi32(flying, zero)));
    if (urgent && _mm256_movemask_ps(untouched) != 0)
      return g * 8 + static_cast<uint32_t>(std::countr_zero(static_cast<uint32_t>(_mm256_movemask_ps(untouched))));
    const __m256d loss = _mm256_set1_pd(uct.virtual_loss);
    sum_low = _mm256_sub_pd(sum_low, _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(flying)), loss));
    sum_high = _mm256_sub_pd(sum_high, _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(flying, 1)), loss));
    const __m256 sum = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(sum_low)), _mm256_cvtpd_ps(sum_high), 1);
    const __m256 count_of = _mm256_cvtepi32_ps(n);
    __m256 root = _mm256_rsqrt_ps(count_of);
    root = _mm256_mul_ps(root, _mm256_sub_ps(three_halves, _mm256_mul_ps(_mm256_mul_ps(half, count_of), _mm256_mul_ps(root, root))));
    const __m256 q = _mm256_mul_ps(_mm256_mul_ps(sum, root), root), u = _mm256_mul_ps(exploration, root);
    __m256 value = _mm256_add_ps(q, u);
    __m256 bound = _mm256_add_ps(_mm256_mul_ps(_mm256_add_ps(_mm256_and_ps(q, no_sign), _mm256_and_ps(u, no_sign)), error), least);
    // The sum of an unvisited child is 0, so that `sum` is -in_flight * virtual_loss there.
    value = _mm256_blendv_ps(value, _mm256_add_ps(urgency, sum), fresh);
    value = _mm256_blendv_ps(value, at_first, untouched);
    const __m256 of_fresh = _mm256_mul_ps(_mm256_add_ps(_mm256_and_ps(urgency, no_sign), _mm256_and_ps(sum, no_sign)), error);
    bound = _mm256_blendv_ps(bound, _mm256_add_ps(of_fresh, least), fresh);
    const __m256 finite = _mm256_cmp_ps(_mm256_add_ps(_mm256_and_ps(value, no_sign), bound), most, _CMP_LE_OQ);
    if (_mm256_movemask_ps(_mm256_andnot_ps(finite, valid)) != 0) return select_plain(stats, count, log_parent, uct, taken);
    upper[g] = _mm256_blendv_ps(minus_infinity, _mm256_add_ps(value, bound), valid);
    highest_lower = _mm256_max_ps(highest_lower, _mm256_blendv_ps(minus_infinity, _mm256_sub_ps(value, bound), valid));
  }
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(highest_lower), _mm256_extractf128_ps(highest_lower, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  top = _mm_max_ss(top, _mm_shuffle_ps(top, top, 1));
  const __m256 bar = _mm256_set1_ps(_mm_cvtss_f32(top));
  uint64_t masks = 0;
  for (uint32_t g = 0; g < groups; ++g)
    masks |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(upper[g], bar, _CMP_GE_OQ)))) << (8 * g);
  return among(stats, masks, log_parent, uct, taken);
}

#endif

template <uint32_t kSelect(const Stats*, uint32_t, double, const Uct&, const uint32_t*)>
uint32_t select_one(const Stats* stats, uint32_t count, double log_parent, const Uct& uct) {
  return kSelect(stats, count, log_parent, uct, nullptr);
}

}  // namespace

std::span<const Selector> selectors() {
  static const std::vector<Selector> found = [] {
    std::vector<Selector> able;
#ifdef RSTAR_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
      able.push_back({"avx512", select_avx512, select_several_avx512});
    if (__builtin_cpu_supports("avx2")) able.push_back({"avx2", select_one<select_avx2>, select_in_turn<select_avx2>});
#endif
    able.push_back({"plain", select_one<select_plain>, select_in_turn<select_plain>});
    return able;
  }();
  return found;
}

const Selector selector = selectors().front();

uint32_t select_open_child(const Stats* stats, uint32_t count, double log_parent, const Uct& uct) {
  double best_value = 0.0;
  uint32_t best = kNone;
  for (uint32_t i = 0; i < count; ++i)
    if (stats[i].word().terminal() == Terminal::kNo) decide(stats, i, 1, log_parent, uct, nullptr, best_value, best);
  return best;
}

}  // namespace rstar
