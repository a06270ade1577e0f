// The kernel for one instruction set. CMake compiles this file once per set with DINORAD_ISA naming
// it. Only code with internal linkage may be used here: a shared inline function could be linked
// from the copy that the processor at hand cannot run.
#include "kernel.hpp"

#if defined(__F16C__)
#include <immintrin.h>
#endif

#define DINORAD_JOIN2(a, b) a##b
#define DINORAD_JOIN(a, b) DINORAD_JOIN2(a, b)
#define DINORAD_TEXT2(a) #a
#define DINORAD_TEXT(a) DINORAD_TEXT2(a)
#if defined(_MSC_VER)
#define DINORAD_RESTRICT __restrict
#else
#define DINORAD_RESTRICT __restrict__
#endif

namespace dinorad {
namespace {

#include "lanes.hpp"

constexpr int block = 4 * lanes;  // columns that the vertical pass holds in registers

// ---------------------------------------------------------------- stored row -> clipped float row

struct Line {
    double base, sign;
    float range;
};

// Values of up to 24 bits are exact in float; wider ones take the difference in double.
inline float along(float value, const Line &line) {
    return value * static_cast<float>(line.sign) - static_cast<float>(line.base * line.sign);
}
inline float along(double value, const Line &line) {
    return static_cast<float>((value - line.base) * line.sign);
}

template <class T> struct Wide { using type = float; };
template <> struct Wide<std::int32_t> { using type = double; };
template <> struct Wide<double> { using type = double; };

struct Plain {
    template <class T> static typename Wide<T>::type at(const T *row, int x) {
        return static_cast<typename Wide<T>::type>(row[x]);
    }
};
struct Strided {
    template <class T> static float at(const T *row, int x) {
        return static_cast<float>(row[3 * x]);
    }
};
struct Luma {
    template <class T> static float at(const T *row, int x) {
        return 0.299f * row[3 * x] + 0.587f * row[3 * x + 1] + 0.114f * row[3 * x + 2];
    }
};

template <class T, class Read, bool padded>
void clip_row(const void *row, const GreyMap &grey, int width, float *DINORAD_RESTRICT to) {
    const T *DINORAD_RESTRICT from = static_cast<const T *>(row);
    using Value = decltype(Read::at(from, 0));
    const Line line{grey.base, grey.sign, static_cast<float>(grey.range)};
    const Value pad_low = static_cast<Value>(grey.pad_low);
    const Value pad_high = static_cast<Value>(grey.pad_high);
    for (int x = 0; x < width; ++x) {
        const Value stored = Read::at(from, x);
        float value = along(stored, line);
        value = value > 0.0f ? value : 0.0f;  // NaN falls to 0 here
        value = value < line.range ? value : line.range;
        if (padded) value = (stored >= pad_low) & (stored <= pad_high) ? 0.0f : value;
        to[x] = value;
    }
}

template <class T>
void table_row(const void *row, const GreyMap &grey, int width, float *DINORAD_RESTRICT to) {
    const T *DINORAD_RESTRICT from = static_cast<const T *>(row);
    const float *DINORAD_RESTRICT table = grey.table;
    for (int x = 0; x < width; ++x) to[x] = table[from[x] - grey.first];
    if (!grey.padded) return;
    for (int x = 0; x < width; ++x)
        to[x] = (from[x] >= grey.pad_low) & (from[x] <= grey.pad_high) ? 0.0f : to[x];
}

using RowReader = void (*)(const void *, const GreyMap &, int, float *);

template <class T, class Read> RowReader clipper(bool padded) {
    return padded ? clip_row<T, Read, true> : clip_row<T, Read, false>;
}

RowReader row_reader(const Image &image, const GreyMap &grey) {
    if (grey.table != nullptr) {
        if (image.type == Pixel::u8) return table_row<std::uint8_t>;
        return image.type == Pixel::u16 ? table_row<std::uint16_t> : table_row<std::int16_t>;
    }
    if (image.layout == Layout::luma) return clipper<std::uint8_t, Luma>(grey.padded);
    if (image.layout == Layout::strided)
        return image.type == Pixel::u8 ? clipper<std::uint8_t, Strided>(grey.padded)
                                       : clipper<std::uint16_t, Strided>(grey.padded);
    switch (image.type) {
        case Pixel::u8: return clipper<std::uint8_t, Plain>(grey.padded);
        case Pixel::u16: return clipper<std::uint16_t, Plain>(grey.padded);
        case Pixel::i16: return clipper<std::int16_t, Plain>(grey.padded);
        case Pixel::i32: return clipper<std::int32_t, Plain>(grey.padded);
        case Pixel::f32: return clipper<float, Plain>(grey.padded);
        default: return clipper<double, Plain>(grey.padded);
    }
}

// ------------------------------------------------------------------------------------------ resize

// Scratch of `resize`: a ring of clipped input rows; `lanes` output rows after the vertical pass, and
// the same transposed; the weights of two output rows; the finished rows, transposed and not; and
// one row for `write`.
struct Layouts {
    std::int32_t ring_rows;
    std::size_t stride, weights, outputs;
};

inline std::int32_t least(std::int32_t a, std::int32_t b) { return a < b ? a : b; }
inline std::int32_t most(std::int32_t a, std::int32_t b) { return a > b ? a : b; }

Layouts layouts(const Job &job) {
    const Axis &rows = job.rows;
    std::int32_t longest = 1;
    for (std::int32_t i = 0; i < rows.outputs; ++i) {
        const std::int32_t next = least(i + 1, rows.outputs - 1);
        longest = most(longest, rows.first[next] + rows.count[next] - rows.first[i]);
    }
    // Whole blocks, and 16 more to keep rows off the same cache sets.
    const std::size_t blocks = (job.image.width + block - 1) / block;
    return {longest, blocks * block + 16, static_cast<std::size_t>((longest + 15) / 16 * 16),
            static_cast<std::size_t>((job.columns.outputs + lanes - 1) / lanes * lanes)};
}

std::size_t scratch_floats(const Job &job) {
    const Layouts shape = layouts(job);
    return (shape.ring_rows + 2 * lanes) * shape.stride + 2 * shape.weights +
           2 * lanes * shape.outputs + job.target.side;
}

// sums of two output rows over the same input rows, one block of columns
inline void two_sums(const float *const *rows, const float *first, const float *second,
                     std::int32_t count, std::size_t x, float *to_first, float *to_second) {
    Lanes a0 = spread(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    for (std::int32_t t = 0; t < count; ++t) {
        const float *from = rows[t] + x;
        const Lanes wa = spread(first[t]), wb = spread(second[t]);
        const Lanes v0 = load(from), v1 = load(from + lanes);
        const Lanes v2 = load(from + 2 * lanes), v3 = load(from + 3 * lanes);
        a0 += wa * v0, a1 += wa * v1, a2 += wa * v2, a3 += wa * v3;
        b0 += wb * v0, b1 += wb * v1, b2 += wb * v2, b3 += wb * v3;
    }
    put(to_first + x, a0), put(to_first + x + lanes, a1);
    put(to_first + x + 2 * lanes, a2), put(to_first + x + 3 * lanes, a3);
    put(to_second + x, b0), put(to_second + x + lanes, b1);
    put(to_second + x + 2 * lanes, b2), put(to_second + x + 3 * lanes, b3);
}

// `lanes` rows at once, transposed (columns x lanes), through the column taps.
void horizontal(const Axis &columns, const float *from, float *to) {
    for (std::int32_t x = 0; x < columns.outputs; ++x) {
        const float *values = from + static_cast<std::size_t>(columns.first[x]) * lanes;
        const float *weights = columns.weights + static_cast<std::size_t>(x) * columns.stride;
        Lanes even = spread(0), odd = even;
        std::int32_t t = 0;
        for (; t + 2 <= columns.count[x]; t += 2) {
            even += spread(weights[t]) * load(values + t * lanes);
            odd += spread(weights[t + 1]) * load(values + (t + 1) * lanes);
        }
        if (t < columns.count[x]) even += spread(weights[t]) * load(values + t * lanes);
        put(to + static_cast<std::size_t>(x) * lanes, even + odd);
    }
}

void write_row(const Job &, std::int32_t, const float *, float, float, float *);

// Everything `resize` keeps while it walks down the image.
struct Walk {
    const Job &job;
    Layouts shape;
    RowReader read;
    float *ring, *vertical, *turned, *weights, *finished, *rows, *outer;
    std::int32_t ready;  // input rows below this are in the ring

    Walk(const Job &job, float *scratch)
        : job(job), shape(layouts(job)), read(row_reader(job.image, job.grey)), ring(scratch),
          vertical(ring + shape.ring_rows * shape.stride), turned(vertical + lanes * shape.stride),
          weights(turned + lanes * shape.stride), finished(weights + 2 * shape.weights),
          rows(finished + lanes * shape.outputs), outer(rows + lanes * shape.outputs), ready(0) {}

    float *ring_row(std::int32_t y) const {
        return ring + static_cast<std::size_t>(y % shape.ring_rows) * shape.stride;
    }

    void fill(std::int32_t from, std::int32_t to) {
        for (std::int32_t y = most(ready, from); y < to; ++y) {
            const char *stored = static_cast<const char *>(job.image.data) + y * job.image.row_bytes;
            read(stored, job.grey, job.image.width, ring_row(y));
        }
        ready = most(ready, to);
    }

    // Vertical pass of output rows i and j (equal for a lone last row) into lines of `vertical`.
    void vertical_pass(std::int32_t i, std::int32_t j, float *line_i, float *line_j) {
        const Axis &axis = job.rows;
        const std::int32_t from = axis.first[i];
        const std::int32_t to = most(from + axis.count[i], axis.first[j] + axis.count[j]);
        fill(from, to);
        float *first = weights, *second = weights + shape.weights;
        for (std::int32_t t = 0; t < to - from; ++t) first[t] = second[t] = 0.0f;
        for (std::int32_t t = 0; t < axis.count[i]; ++t)
            first[t] = axis.weights[static_cast<std::size_t>(i) * axis.stride + t];
        for (std::int32_t t = 0; t < axis.count[j]; ++t)
            second[axis.first[j] - from + t] =
                axis.weights[static_cast<std::size_t>(j) * axis.stride + t];
        sum_rows(from, to - from, line_i, line_j);
    }

    void sum_rows(std::int32_t from, std::int32_t count, float *first, float *second) {
        constexpr std::int32_t group = 256;  // input rows summed in one go; more are rare
        if (count > group) return sum_many(from, count, first, second);
        const float *inputs[group];
        for (std::int32_t t = 0; t < count; ++t) inputs[t] = ring_row(from + t);
        for (std::size_t x = 0; x < static_cast<std::size_t>(job.image.width); x += block)
            two_sums(inputs, weights, weights + shape.weights, count, x, first, second);
    }

    void sum_many(std::int32_t from, std::int32_t count, float *DINORAD_RESTRICT first,
                  float *DINORAD_RESTRICT second) {
        const std::int32_t width = job.image.width;
        for (std::int32_t x = 0; x < width; ++x) first[x] = second[x] = 0.0f;
        for (std::int32_t t = 0; t < count; ++t) {
            const float *DINORAD_RESTRICT values = ring_row(from + t);
            const float wa = weights[t], wb = weights[shape.weights + t];
            for (std::int32_t x = 0; x < width; ++x) {
                first[x] += wa * values[x];
                second[x] += wb * values[x];
            }
        }
    }

    // Output rows [begin, end), at most `lanes` of them, out of `vertical`.
    void emit(std::int32_t begin, std::int32_t end, float *plane) {
        const std::size_t outputs = static_cast<std::size_t>(job.columns.outputs);
        for (std::size_t x = 0; x < static_cast<std::size_t>(job.image.width); x += lanes)
            transpose(vertical + x, shape.stride, turned + x * lanes, lanes);
        horizontal(job.columns, turned, finished);
        for (std::size_t x = 0; x < outputs; x += lanes)
            transpose(finished + x * lanes, lanes, rows + x, shape.outputs);
        for (std::int32_t y = begin; y < end; ++y) {
            const float *row = rows + (y - begin) * shape.outputs;
            if (plane == nullptr) {
                const float gain = static_cast<float>(1.0 / job.grey.range);
                write_row(job, y + job.rows.offset, row, 0.0f, gain, outer);
            } else {
                for (std::size_t x = 0; x < outputs; ++x) plane[y * outputs + x] = row[x];
            }
        }
    }
};

// Rows of `vertical` beyond `end` and columns beyond the image hold anything; no sum mixes them with
// what is written.
void resize(const Job &job, std::int32_t begin, std::int32_t end, float *scratch, float *plane) {
    Walk walk(job, scratch);
    for (std::int32_t top = begin; top < end; top += lanes) {
        const std::int32_t bottom = least(top + lanes, end);
        for (std::int32_t i = top; i < bottom; i += 2) {
            const std::int32_t j = least(i + 1, job.rows.outputs - 1);
            float *line = walk.vertical + (i - top) * walk.shape.stride;
            walk.vertical_pass(i, j, line, line + walk.shape.stride);
        }
        walk.emit(top, bottom, plane);
    }
}

// ------------------------------------------------------------------------------------------- write

inline std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

// IEEE half, round to nearest even. Normalised pixels never overflow it.
inline std::uint16_t half_of(float value) {
    const std::uint32_t bits = bits_of(value), sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7C00u);
    if (magnitude < 0x38800000u) {  // subnormal: let the addition round
        float shifted;
        __builtin_memcpy(&shifted, &magnitude, sizeof shifted);
        return static_cast<std::uint16_t>(sign | (bits_of(shifted + 0.5f) - 0x3F000000u));
    }
    const std::uint32_t rounded = magnitude - 0x38000000u + 0x0FFFu + ((magnitude >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

inline std::uint16_t bfloat_of(float value) {
    const std::uint32_t bits = bits_of(value);
    return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

void write_f32(const float *DINORAD_RESTRICT grey, float *DINORAD_RESTRICT to, int n, float scale,
               float shift) {
    for (int x = 0; x < n; ++x) to[x] = grey[x] * scale + shift;
}

void write_bf16(const float *DINORAD_RESTRICT grey, std::uint16_t *DINORAD_RESTRICT to, int n,
                float scale, float shift) {
    for (int x = 0; x < n; ++x) to[x] = bfloat_of(grey[x] * scale + shift);
}

void write_f16(const float *DINORAD_RESTRICT grey, std::uint16_t *DINORAD_RESTRICT to, int n,
               float scale, float shift) {
    int x = 0;
#if defined(__F16C__)
    for (; x + 8 <= n; x += 8) {
        const __m256 value = _mm256_fmadd_ps(_mm256_loadu_ps(grey + x), _mm256_set1_ps(scale),
                                             _mm256_set1_ps(shift));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + x),
                         _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    for (; x < n; ++x) to[x] = half_of(grey[x] * scale + shift);
}

void write_row(const Job &job, std::int32_t row, const float *raw, float low, float gain,
               float *grey) {
    const Target &target = job.target;
    const Axis &columns = job.columns;
    const std::int32_t inside = raw == nullptr ? 0 : columns.outputs;
    for (std::int32_t x = 0; x < target.side; ++x) grey[x] = 0.0f;
    float *DINORAD_RESTRICT to = grey + columns.offset;
    const float *DINORAD_RESTRICT from = raw;
    for (std::int32_t x = 0; x < inside; ++x) {
        float value = (from[x] - low) * gain;
        value = value > 0.0f ? value : 0.0f;
        to[x] = value < 1.0f ? value : 1.0f;
    }
    const std::size_t side = static_cast<std::size_t>(target.side);
    for (std::int32_t c = 0; c < target.channels; ++c) {
        const std::size_t at = (c * side + row) * side;
        const float scale = target.scale[c], shift = target.shift[c];
        if (target.type == Number::f32)
            write_f32(grey, static_cast<float *>(target.data) + at, target.side, scale, shift);
        else if (target.type == Number::f16)
            write_f16(grey, static_cast<std::uint16_t *>(target.data) + at, target.side, scale,
                      shift);
        else
            write_bf16(grey, static_cast<std::uint16_t *>(target.data) + at, target.side, scale,
                       shift);
    }
}

// -------------------------------------------------------------------------------------- statistics

template <class T> inline bool finite(T) { return true; }
template <> inline bool finite(float value) { return value - value == 0.0f; }
template <> inline bool finite(double value) { return value - value == 0.0; }

template <class T, bool padded> Extrema extrema_of(const Image &image, const GreyMap &grey) {
    T low = 0, high = 0;
    std::int64_t count = 0;
    for (std::int32_t y = 0; y < image.height; ++y) {
        const T *row = reinterpret_cast<const T *>(static_cast<const char *>(image.data) +
                                                   y * image.row_bytes);
        std::int32_t x = 0, kept = 0;
        for (; count == 0 && x < image.width; ++x) {  // the first valid value
            if (!finite(row[x]) || (padded && row[x] >= grey.pad_low && row[x] <= grey.pad_high))
                continue;
            low = high = row[x];
            count = 1;
        }
        T row_low = low, row_high = high;
        for (; x < image.width; ++x) {
            const T value = row[x];
            bool use = finite(value);
            if (padded) use = use & !((value >= grey.pad_low) & (value <= grey.pad_high));
            const T safe = use ? value : low;
            row_low = safe < row_low ? safe : row_low;
            row_high = safe > row_high ? safe : row_high;
            kept += use;
        }
        low = row_low, high = row_high, count += kept;
    }
    return {static_cast<double>(low), static_cast<double>(high), count};
}

template <class T> Extrema either_extrema(const Image &image, const GreyMap &grey) {
    return grey.padded ? extrema_of<T, true>(image, grey) : extrema_of<T, false>(image, grey);
}

Extrema extrema(const Image &image, const GreyMap &grey) {
    switch (image.type) {
        case Pixel::u8: return either_extrema<std::uint8_t>(image, grey);
        case Pixel::u16: return either_extrema<std::uint16_t>(image, grey);
        case Pixel::i16: return either_extrema<std::int16_t>(image, grey);
        case Pixel::i32: return either_extrema<std::int32_t>(image, grey);
        case Pixel::f32: return either_extrema<float>(image, grey);
        default: return either_extrema<double>(image, grey);
    }
}

// Two tables, so that equal neighbours do not wait for each other. Values outside [low, low +
// entries) are padding.
template <class T>
void count_values(const Image &image, const GreyMap &grey, std::int32_t low, std::int32_t entries,
                  std::uint32_t *counts) {
    const std::uint32_t limit = static_cast<std::uint32_t>(entries);
    for (std::int32_t y = 0; y < image.height; ++y) {
        const T *row = reinterpret_cast<const T *>(static_cast<const char *>(image.data) +
                                                   y * image.row_bytes);
        for (std::int32_t x = 0; x < image.width; ++x) {
            const std::uint32_t slot = static_cast<std::uint32_t>(row[x] - low);
            if (slot < limit) ++counts[(x & 1) * limit + slot];
        }
    }
    for (std::uint32_t slot = 0; slot < limit; ++slot) {
        counts[slot] += counts[limit + slot];
        const double value = static_cast<double>(low) + slot;
        if (grey.padded && value >= grey.pad_low && value <= grey.pad_high) counts[slot] = 0;
    }
}

void histogram(const Image &image, const GreyMap &grey, std::int32_t low, std::int32_t entries,
               std::uint32_t *counts) {
    if (image.type == Pixel::u8)
        count_values<std::uint8_t>(image, grey, low, entries, counts);
    else if (image.type == Pixel::u16)
        count_values<std::uint16_t>(image, grey, low, entries, counts);
    else
        count_values<std::int16_t>(image, grey, low, entries, counts);
}

}  // namespace

extern const Kernel DINORAD_JOIN(kernel_, DINORAD_ISA);
const Kernel DINORAD_JOIN(kernel_, DINORAD_ISA) = {
    DINORAD_TEXT(DINORAD_ISA), scratch_floats, resize, write_row, extrema, histogram};

}  // namespace dinorad
