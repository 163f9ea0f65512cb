// kept: the numbers that keys and values are kept as in their pages: f32 under weights of f32, under others halves, 11 bits of each, so that a
// page, and what a step reads of it, is half as large. Biases stay f32: which keys a window drops hangs on their last bit.
//
// A token's key and value are the numbers that stand in its page, for itself as for all that follow it: who has its own from the projections
// rounds them before use (as_kept). So it does not matter which kernel reads a key, or where it had it from.
#pragma once
#include <type_traits>
#include "half.cuh"
#include "pages.cuh"

namespace doge {

/** Half precision; not bits of bf16, which weights are. */
struct Half {
  unsigned short bits;
};
/** What models keep whose weights are of a type. */
template <Type type>
using KeptUnder = std::conditional_t<type == Type::F32, float, Half>;
inline bool keeps_halves(Type type) { return type != Type::F32; }

__device__ __forceinline__ float value_of(float kept) { return kept; }
__device__ __forceinline__ float value_of(Half kept) { return half_value(kept.bits); }
template <class Kept>
__device__ __forceinline__ Kept kept_of(float value) {
  if constexpr (std::is_same_v<Kept, float>)
    return value;
  else
    return Kept{half_of(value)};
}
/** A number as it is once it is kept. */
template <class Kept>
__device__ __forceinline__ float as_kept(float value) {
  return value_of(kept_of<Kept>(value));
}

/** Keys and values of a layer. */
template <class Kept>
__device__ __forceinline__ Kept* kept_in(float* layer) {
  return reinterpret_cast<Kept*>(layer);
}
/** To number `at` of them, whatever they are kept as. */
__device__ __forceinline__ void put_kept(float* layer, const PageShape& page, int at, float value) {
  if (page.halves)
    kept_in<Half>(layer)[at] = kept_of<Half>(value);
  else
    layer[at] = value;
}

/** Four numbers beside each other, from a multiple of four on, as they stand there. */
template <class Kept>
using FourKept = std::conditional_t<std::is_same_v<Kept, float>, float4, uint2>;
template <class Kept>
__device__ __forceinline__ FourKept<Kept> four_kept(const Kept* from) {
  return *reinterpret_cast<const FourKept<Kept>*>(from);
}
template <class Kept>
__device__ __forceinline__ FourKept<Kept> four_as_kept(const float4& four) {
  if constexpr (std::is_same_v<Kept, float>)
    return four;
  else
    return {half_pair(four.x, four.y), half_pair(four.z, four.w)};
}
__device__ __forceinline__ float4 values_of(const float4& four) { return four; }
__device__ __forceinline__ float4 values_of(const uint2& four) {
  return {half_value(four.x & 0xffffu), half_value(four.x >> 16), half_value(four.y & 0xffffu), half_value(four.y >> 16)};
}

}  // namespace doge
