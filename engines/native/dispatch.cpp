// Chooses the kernel for this processor and shares a job among threads.
#include "kernel.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace dinorad {
namespace {

// Least output rows per thread: below that, rows converted twice at the seams cost more than is won.
constexpr int rows_per_thread = 16;

bool can_run(const Kernel &kernel) {
#ifdef DINORAD_X86
    __builtin_cpu_init();
    if (&kernel == &kernel_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (&kernel == &kernel_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
#endif
    return &kernel == &kernel_baseline;
}

// Memory that one thread keeps from call to call: fresh pages would cost more than the resize.
float *kept_scratch(std::size_t floats) {
    thread_local std::vector<float> scratch;
    if (scratch.size() < floats) scratch.resize(floats);
    return scratch.data();
}

template <class Work> void share(int outputs, int threads, Work work) {
    const int parts = std::max(1, std::min(threads, outputs / rows_per_thread));
    // Even borders: rows are computed in pairs, and a pair is never split.
    const auto border = [&](int part) {
        return part == parts ? outputs : outputs * part / parts / 2 * 2;
    };
    std::vector<std::exception_ptr> errors(parts);
    const auto guarded = [&](int part) {
        try {
            work(border(part), border(part + 1));
        } catch (...) {
            errors[part] = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(parts);
    int started = 1;
    try {
        for (; started < parts; ++started) others.emplace_back(guarded, started);
    } catch (const std::system_error &) {
        // No more threads to be had: this one does the rest.
    }
    guarded(0);
    for (int part = started; part < parts; ++part) guarded(part);
    for (std::thread &other : others) other.join();
    for (const std::exception_ptr &error : errors)
        if (error) std::rethrow_exception(error);
}

void write_blank_rows(const Kernel &kernel, const Job &job, float *scratch) {
    for (std::int32_t y = 0; y < job.target.side; ++y)
        if (y < job.rows.offset || y >= job.rows.offset + job.rows.outputs)
            kernel.write(job, y, nullptr, 0.0f, 0.0f, scratch);
}

// Resize into a plane, find its extrema, then write it stretched to [0, 1].
void run_stretched(const Kernel &kernel, const Job &job, int threads) {
    constexpr float constant = 1e-6f;  // reference.CONSTANT
    const std::size_t columns = static_cast<std::size_t>(job.columns.outputs);
    std::vector<float> plane(columns * job.rows.outputs);
    const std::size_t floats = kernel.scratch(job);
    share(job.rows.outputs, threads, [&](int begin, int end) {
        kernel.resize(job, begin, end, kept_scratch(floats), plane.data());
    });
    const auto [low, high] = std::minmax_element(plane.begin(), plane.end());
    const float range = *high - *low;
    const float gain = range > constant * static_cast<float>(job.grey.range) ? 1.0f / range : 0.0f;
    float *scratch = kept_scratch(floats);
    for (std::int32_t y = 0; y < job.rows.outputs; ++y)
        kernel.write(job, y + job.rows.offset, plane.data() + y * columns, *low, gain, scratch);
}

// Value of rank `rank` (from 0) among the counted ones.
double value_at(const std::uint32_t *counts, std::int64_t rank, double low) {
    std::int64_t seen = 0;
    for (std::size_t slot = 0;; ++slot) {
        seen += counts[slot];
        if (rank < seen) return low + static_cast<double>(slot);
    }
}

}  // namespace

const Kernel *choose_kernel(const char *wanted) {
    const Kernel *best_first[] = {
#ifdef DINORAD_X86
        &kernel_avx512, &kernel_avx2,
#endif
        &kernel_baseline};
    for (const Kernel *kernel : best_first)
        if (can_run(*kernel) && (wanted == nullptr || std::strcmp(wanted, kernel->name) == 0))
            return kernel;
    return nullptr;
}

void run(const Kernel &kernel, const Job &job, int threads) {
    const std::size_t floats = kernel.scratch(job);
    if (job.stretch) {
        run_stretched(kernel, job, threads);
    } else {
        share(job.rows.outputs, threads, [&](int begin, int end) {
            kernel.resize(job, begin, end, kept_scratch(floats), nullptr);
        });
    }
    write_blank_rows(kernel, job, kept_scratch(floats));
}

bool percentiles(const Kernel &kernel, const Image &image, const GreyMap &grey,
                 const double percent[2], double result[2]) {
    const Extrema edges = kernel.extrema(image, grey);
    if (edges.count == 0) return false;
    const auto low = static_cast<std::int32_t>(edges.low);
    const auto entries = static_cast<std::int32_t>(edges.high) - low + 1;
    std::vector<std::uint32_t> counts(2 * static_cast<std::size_t>(entries));
    kernel.histogram(image, grey, low, entries, counts.data());
    for (int i = 0; i < 2; ++i) {
        const double rank = percent[i] / 100.0 * static_cast<double>(edges.count - 1);
        const auto below = static_cast<std::int64_t>(std::floor(rank));
        const double a = value_at(counts.data(), below, low);
        const double b = value_at(counts.data(), std::min(below + 1, edges.count - 1), low);
        const double t = rank - static_cast<double>(below);
        result[i] = t >= 0.5 ? b - (b - a) * (1.0 - t) : a + (b - a) * t;
    }
    return true;
}

}  // namespace dinorad
