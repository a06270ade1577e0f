// What the kernel does, in plain types: stored pixels -> grey -> antialiased resize -> normalised
// channels. `dinorad_rt/preprocessing/reference.py` defines the numbers; this reproduces them in
// float32.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dinorad {

enum class Pixel : std::int32_t { u8, u16, i16, i32, f32, f64 };
enum class Number : std::int32_t { f32, f16, bf16 };

// How the values of one pixel become one number.
enum class Layout : std::int32_t {
    plain,   // one value per pixel, neighbours adjacent
    strided, // one value out of three per pixel (u8 and u16 only)
    luma,    // three values per pixel, weighted to their brightness (u8 only)
};

struct Image {
    const void *data;
    Pixel type;
    Layout layout;
    std::int32_t height, width;
    std::ptrdiff_t row_bytes;
};

// grey * range = clamp((stored - base) * sign, 0, range); NaN and padding give 0.
struct GreyMap {
    double base, range, sign;
    bool padded;
    double pad_low, pad_high;  // stored values, inclusive
    const float *table;        // instead of the line: grey of stored value `first` and up; range 1
    std::int32_t first;
};

// One axis of the resize. Rows of `weights` are `stride` long, zero beyond `count`; `stride` is a
// multiple of `lane_limit`, and first[i] + stride may pass the end of the axis by that much.
struct Axis {
    const std::int32_t *first, *count;
    const float *weights;
    std::int32_t stride, outputs, size, offset;
};

struct Target {
    void *data;  // (channels, side, side)
    Number type;
    std::int32_t channels, side;
    float scale[3], shift[3];  // out = grey * scale + shift
};

struct Job {
    Image image;
    GreyMap grey;
    Axis rows, columns;  // both arrays hold `outputs` rounded up to a multiple of lane_limit
    Target target;
    bool stretch;  // min-max after the resize
};

struct Extrema {
    double low, high;
    std::int64_t count;  // finite values outside the padding
};

constexpr std::int32_t lane_limit = 16;

// One instruction set's version of everything that runs over pixels.
struct Kernel {
    const char *name;
    // Floats that `resize` needs for itself.
    std::size_t (*scratch)(const Job &);
    // Output rows [begin, end): into the target, or, if `plane` is not null, raw into
    // plane[rows.outputs][columns.outputs].
    void (*resize)(const Job &, std::int32_t begin, std::int32_t end, float *scratch, float *plane);
    // One row of the target from raw values: grey = clamp((raw - low) * gain, 0, 1).
    void (*write)(const Job &, std::int32_t row, const float *raw, float low, float gain,
                  float *scratch);
    Extrema (*extrema)(const Image &, const GreyMap &);
    // counts[value - low] of 8 and 16-bit integers; `counts` holds two tables of `entries` each.
    void (*histogram)(const Image &, const GreyMap &, std::int32_t low, std::int32_t entries,
                      std::uint32_t *counts);
};

extern const Kernel kernel_baseline;
#ifdef DINORAD_X86
extern const Kernel kernel_avx2;
extern const Kernel kernel_avx512;
#endif

// The best kernel for this processor; `wanted` (a name, or null) narrows the choice.
// Null if `wanted` is unknown or this processor cannot run it.
const Kernel *choose_kernel(const char *wanted);

// Carry out a job with `threads` threads. The result does not depend on their number.
void run(const Kernel &kernel, const Job &job, int threads);

// Percentiles (linear interpolation, NumPy's formula) of 8 and 16-bit integers outside the padding.
// False if no value is left.
bool percentiles(const Kernel &kernel, const Image &image, const GreyMap &grey,
                 const double percent[2], double result[2]);

}  // namespace dinorad
