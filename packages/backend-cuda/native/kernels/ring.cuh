// ring: the weights of decode_kernel on their way through shared memory. Weights do not depend on tokens, so each warp has the rows that it
// multiplies brought in their order, this layer's, the next one's, the head's, and those of the next step, as far ahead as its ring of units
// is long; memory works while blocks wait for each other.
//
// From compute capability 9.0 on the device brings them by itself (bulk.cuh). Elsewhere, and for q8, whose scales stand apart, each lane
// copies exactly what it will read: asynchronously from 8.0 on, one group a unit, at once on 7.5.
#pragma once
#include "bulk.cuh"
#include "decode_plan.cuh"

namespace doge {

#if !defined(DOGE_SHIM) && !DOGE_TENSOR
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
  *static_cast<uint4*>(to) = valid ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
}
__device__ __forceinline__ void copy_async_word(void* to, const void* from, bool valid) {
  *static_cast<unsigned*>(to) = valid ? *static_cast<const unsigned*>(from) : 0;
}
__device__ __forceinline__ void copy_commit() {}
template <int PENDING>
__device__ __forceinline__ void copy_wait() {}
#endif

/** How a kernel deals each matrix of MATRICES: rows of a turn; outputs of it: a gated unit has two rows for each; and slots of each row in a
 *  unit. */
struct OverBlocks {
  __device__ static __forceinline__ constexpr int rows(int which) { return 0x41412 >> 4 * which & 15; }
  __device__ static __forceinline__ constexpr int outputs(int which) { return 0x41212 >> 4 * which & 15; }
  __device__ static __forceinline__ constexpr int depth(int which) { return 0x14142 >> 4 * which & 15; }
  /** Whether the same warps take turns at all matrices; and whether all lanes that hold an output of one get it, not the first alone. */
  static constexpr bool ALIKE = true;
  __device__ static __forceinline__ constexpr bool every(int) { return false; }
  /** Where row `its` of those that are dealt stands. */
  __device__ static __forceinline__ int row(const DecodeShared&, int, int its) { return its; }
};
/** This warp among those that take turns. */
struct Team {
  int warp, warps;
};

/** What stands in a slot, as its format holds it. */
template <Type type>
__device__ __forceinline__ typename Format<type>::Raw raw_of(const uint4& slot) {
  if constexpr (type == Type::F32)
    return {__int_as_float(static_cast<int>(slot.x)), __int_as_float(static_cast<int>(slot.y)), __int_as_float(static_cast<int>(slot.z)), __int_as_float(static_cast<int>(slot.w))};
  else if constexpr (type == Type::BF16)
    return slot;
  else
    return {{slot.x, slot.y}, __int_as_float(static_cast<int>(slot.z))};
}

/** Bytes of a number. */
template <Type type>
constexpr int WIDTH_OF = type == Type::F32 ? 4 : type == Type::BF16 ? 2 : 1;

/** One warp's ring; every lane holds the same. A unit is four slots, stretches of 16 bytes for each lane, of as many rows as the turn has. */
template <Type type, class Deal>
class Ring {
 public:
  static constexpr int CHUNK = Format<type>::CHUNK;
  /** Numbers of a row in a slot, and bytes of a number. */
  static constexpr int STRETCH = WARP * CHUNK, WIDTH = WIDTH_OF<type>;

  /** Units lie at `memory`. */
  __device__ __forceinline__ Ring(const Decoding& of, DecodeShared& shared, unsigned char* memory, const Team& layers, const Team& head)
      : shared_(shared), memory_(memory), layers_team_(layers), head_team_(head), units_(of.units), layers_(of.layer_count), steps_(of.steps) {
#if defined(DOGE_SHIM)
    bulk_ = type != Type::Q8 && of.bulk;
#endif
    for (int which = 0; which < MATRICES; which++) works_ |= team(which).warp * Deal::outputs(which) < shared.dealt[which].count ? 1 << which : 0;
    which_ = HEAD;
    step_ = -1;
    turn();
    arrivals_ = shared.arrivals[own_warp()];
    if (bulk() && own_thread() % WARP == 0)
      for (int unit = 0; unit < units_; unit++) arrival_start(&arrivals_[unit]);
    owed = units_;
    refill();
  }

  /** The next unit, from this lane's 16 bytes of its first slot on, once it is there. */
  __device__ __forceinline__ const unsigned char* next() {
    if (bulk())
      arrival_wait(&arrivals_[get_], parity_);
    else if (units_ == LANE_UNITS)
      copy_wait<LANE_UNITS - 1>();
    else if (units_ == FEW_LANE_UNITS)
      copy_wait<FEW_LANE_UNITS - 1>();
    else
      copy_wait<0>();
    return memory_ + get_ * UNIT_BYTES + own_thread() % WARP * 16;
  }
  /** It has been read. */
  __device__ __forceinline__ void read() {
    owed++;
    flying_--;
    if (++get_ < units_) return;
    get_ = 0;
    parity_ ^= 1;
  }
  /** Whether so many units stand empty that they should be asked for before the turn's end, while others are still under way. Only bulk
   *  copies can be left for later: the others' groups are counted. */
  __device__ __forceinline__ bool hungry() const { return owed >= (bulk() ? max(1, min(8, units_ - 3)) : 1); }
  /** Ask for what goes where units have been read. */
  __device__ __forceinline__ void refill() {
    if (bulk() && owed > 0) bulk_fence();
#pragma unroll 1
    for (; owed > 0; owed--) fill();
  }
  /** What was asked for and will not be read is no longer under way. */
  __device__ __forceinline__ void drain() {
    if (!bulk()) return copy_wait<0>();
    while (flying_ > 0) {
      next();
      read();
    }
  }

  /** Who takes turns at a matrix, which of these warps has an output of it, and where row `its` of what they have stands. */
  __device__ __forceinline__ const Team& team(int which) const { return Deal::ALIKE || which != HEAD ? layers_team_ : head_team_; }
  __device__ __forceinline__ int turn_at(int which, int output) const { return output / Deal::outputs(which) % team(which).warps; }
  __device__ __forceinline__ int row(int which, int its) const { return Deal::row(shared_, which, its); }

 private:
  __device__ __forceinline__ bool bulk() const {
#if defined(DOGE_SHIM)
    return bulk_;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    return type != Type::Q8;
#else
    return false;
#endif
  }
  /** The first turn of the next matrix of which this warp has one. */
  __device__ __forceinline__ void turn() {
    if ((works_ & ~(1 << HEAD)) == 0) {
      step_ = works_ == 0 ? steps_ : step_ + 1;
    } else {
      do {
        if (which_ == HEAD) {
          which_ = depth_ = 0;
          step_++;
        } else if (++which_ == HEAD && ++depth_ < layers_) {
          which_ = 0;
        }
      } while ((works_ >> which_ & 1) == 0);
    }
    first_ = team(which_).warp * Deal::outputs(which_);
  }
  /** Ask for one unit, and go on to the one after. */
  __device__ __forceinline__ void fill() {
    if (step_ < steps_) {
      const Matrix& from = which_ == HEAD ? shared_.head : shared_.layers[depth_].matrices[which_];
      const Dealt& part = shared_.dealt[which_];
      const int rows = Deal::rows(which_), own = Deal::outputs(which_), deep = Deal::depth(which_);
      const auto row_at = [&](int each) {
        const int its = each < own ? first_ + each : part.second + first_ + each - own;
        return static_cast<size_t>(row(which_, its < part.rows ? its : first_));
      };
      unsigned char* const to = memory_ + put_ * UNIT_BYTES;
      const int lane = own_thread() % WARP;
      if (bulk()) {
        __syncwarp();  // everybody has read what stood there
        if (lane == 0) {
          const int row_bytes = from.stride * WIDTH;
          const int bytes = min(deep * SLOT_BYTES, (part.columns - column_) * WIDTH);
          const char* const data = static_cast<const char*>(from.data) + column_ * WIDTH;
          // Rows that fill their slots, one behind the other, are one stretch.
          const int at_once = row_bytes == deep * SLOT_BYTES && part.columns == from.stride && first_ + own <= part.rows ? own : 1;
          arrival_expect(&arrivals_[put_], static_cast<unsigned>(bytes * rows));
#pragma unroll 1
          for (int each = 0; each < rows; each += at_once)
            bulk_copy(to + each * deep * SLOT_BYTES, data + row_at(each) * static_cast<size_t>(row_bytes), static_cast<unsigned>(bytes * at_once), &arrivals_[put_]);
        }
      } else {
#pragma unroll 1
        for (int slot = 0; slot < UNIT_SLOTS; slot++) {
          const int each = slot * rows / UNIT_SLOTS;
          const int column = column_ + (slot - each * deep) * STRETCH + lane * CHUNK;
          const bool valid = column < part.columns;
          const size_t at = row_at(each) * static_cast<size_t>(from.stride) + static_cast<size_t>(valid ? column : 0);
          const char* const numbers = static_cast<const char*>(from.data) + at * WIDTH;
          unsigned char* const its = to + slot * SLOT_BYTES + lane * 16;
          if constexpr (type == Type::Q8) {
            copy_async_word(its, numbers, valid);
            copy_async_word(its + 4, numbers + 4, valid);
            copy_async_word(its + 8, from.scales + at / BLOCK, valid);
          } else {
            copy_async(its, numbers, valid);
          }
        }
      }
      flying_++;
      column_ += deep * STRETCH;
      if (column_ >= part.columns) {
        column_ = 0;
        first_ += team(which_).warps * own;
        if (first_ >= part.count) turn();
      }
    }
    if (!bulk()) copy_commit();
    if (++put_ == units_) put_ = 0;
  }

 public:
  /** Units that have been read and not asked for again. */
  int owed;

 private:
  DecodeShared& shared_;
  unsigned char* const memory_;
  const Team layers_team_, head_team_;
  Arrival* arrivals_;
  const int units_, layers_, steps_;
  int get_ = 0, put_ = 0, flying_ = 0;  // units: to be read, to be asked for, asked for and not read
  unsigned parity_ = 0, works_ = 0;
  int step_, which_, depth_ = 0, first_, column_ = 0;  // of the next unit to be asked for
#if defined(DOGE_SHIM)
  bool bulk_;
#endif
};

}  // namespace doge
