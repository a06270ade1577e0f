// Every kernel that this processor can run, against a plain loop in double precision.
#include "kernel.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace dinorad;

namespace {

int failures = 0;

void expect(bool holds, const std::string &what) {
    if (holds) return;
    ++failures;
    std::printf("FAILED: %s\n", what.c_str());
}

// A triangle filter (antialiased when shrinking): enough to exercise taps of every length.
struct Taps {
    std::vector<std::int32_t> first, count;
    std::vector<float> weights;
    Axis axis;

    Taps(int size, int outputs, int offset) {
        const double scale = static_cast<double>(size) / outputs, reach = std::max(scale, 1.0);
        const int rows = (outputs + lane_limit - 1) / lane_limit * lane_limit;
        const int most = static_cast<int>(2 * reach) + 2;
        const int stride = (most + lane_limit - 1) / lane_limit * lane_limit;
        first.assign(rows, 0), count.assign(rows, 0), weights.assign(rows * stride, 0.0f);
        for (int i = 0; i < outputs; ++i) {
            const double centre = (i + 0.5) * scale;
            first[i] = std::max(0, static_cast<int>(std::floor(centre - reach + 0.5)));
            const int last = std::min(size, static_cast<int>(std::floor(centre + reach + 0.5)));
            count[i] = last - first[i];
            double sum = 0;
            for (int t = 0; t < count[i]; ++t) sum += weight(first[i] + t, centre, reach);
            for (int t = 0; t < count[i]; ++t)
                weights[i * stride + t] =
                    static_cast<float>(weight(first[i] + t, centre, reach) / sum);
        }
        axis = {first.data(), count.data(), weights.data(), stride, outputs, size, offset};
    }

    static double weight(int tap, double centre, double reach) {
        return std::max(0.0, 1.0 - std::abs((tap + 0.5 - centre) / reach));
    }
};

template <class T> struct Case {
    std::string name;
    int height, width, side;
    GreyMap grey;
    bool stretch;
    std::vector<T> pixels;
};

template <class T> double grey_of(const Case<T> &one, T stored) {
    const GreyMap &grey = one.grey;
    if (grey.padded && stored >= grey.pad_low && stored <= grey.pad_high) return 0.0;
    const double value = (static_cast<double>(stored) - grey.base) * grey.sign / grey.range;
    return value > 0.0 ? std::min(value, 1.0) : 0.0;
}

template <class T> std::vector<double> plain_loop(const Case<T> &one, const Taps &y, const Taps &x) {
    std::vector<double> result;
    for (int i = 0; i < y.axis.outputs; ++i)
        for (int j = 0; j < x.axis.outputs; ++j) {
            double sum = 0;
            for (int a = 0; a < y.count[i]; ++a)
                for (int b = 0; b < x.count[j]; ++b)
                    sum += static_cast<double>(y.weights[i * y.axis.stride + a]) *
                           x.weights[j * x.axis.stride + b] *
                           grey_of(one, one.pixels[(y.first[i] + a) * one.width + x.first[j] + b]);
            result.push_back(sum);
        }
    const auto [low, high] = std::minmax_element(result.begin(), result.end());
    const double least = *low, range = *high - *low;
    for (double &value : result)
        value = one.stretch ? (range > 0 ? (value - least) / range : 0.0)
                            : std::min(std::max(value, 0.0), 1.0);
    return result;
}

template <class T> void check(const Kernel &kernel, Pixel type, const Case<T> &one) {
    const std::string name = std::string(kernel.name) + ", " + one.name;
    const int rows = one.side - 5, top = 2, left = 1, columns = one.side - 3;  // padded on all sides
    const Taps y(one.height, rows, top), x(one.width, columns, left);
    std::vector<float> out(3 * one.side * one.side, -7.0f), again(out);
    const Image image{one.pixels.data(), type, Layout::plain, one.height, one.width,
                      static_cast<std::ptrdiff_t>(one.width * sizeof(T))};
    Job job{image, one.grey, y.axis, x.axis,
            {out.data(), Number::f32, 3, one.side, {2.0f, 3.0f, 4.0f}, {-1.0f, 0.0f, 0.5f}},
            one.stretch};
    run(kernel, job, 1);
    job.target.data = again.data();
    run(kernel, job, 3);
    expect(out == again, name + ": one and three threads differ");
    const std::vector<double> truth = plain_loop(one, y, x);
    double worst = 0;
    for (int c = 0; c < 3; ++c)
        for (int i = 0; i < one.side; ++i)
            for (int j = 0; j < one.side; ++j) {
                const int row = i - top, column = j - left;
                const bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
                const double grey = inside ? truth[row * columns + column] : 0.0;
                const double wanted = grey * job.target.scale[c] + job.target.shift[c];
                worst = std::max(worst, std::abs(wanted - out[(c * one.side + i) * one.side + j]));
            }
    expect(worst < 1e-5, name + ": differs by " + std::to_string(worst));
}

template <class T> void check_type(const Kernel &kernel, Pixel type, const char *name) {
    std::mt19937 random(7);
    std::uniform_int_distribution<int> values(0, 250);
    const int shapes[][3] = {{97, 203, 40}, {40, 31, 64}, {1, 1, 48}, {700, 9, 37}};
    for (const auto &[height, width, side] : shapes)
        for (const double sign : {1.0, -1.0})
            for (const bool padded : {false, true}) {
                const GreyMap grey{sign > 0 ? 20.0 : 220.0, 200.0, sign, padded, 5, 60, nullptr, 0};
                Case<T> one{std::string(name) + " " + std::to_string(height) + "x" +
                                std::to_string(width) + (padded ? " padded" : ""),
                            height, width, side, grey, sign < 0, {}};
                for (int i = 0; i < height * width; ++i)
                    one.pixels.push_back(static_cast<T>(values(random)));
                if (std::numeric_limits<T>::has_quiet_NaN)
                    one.pixels[0] = std::numeric_limits<T>::quiet_NaN();
                check(kernel, type, one);
            }
}

void check_percentiles(const Kernel &kernel) {
    const std::vector<std::uint16_t> pixels{9, 1, 4000, 2, 3, 65535, 7, 7};
    const Image image{pixels.data(), Pixel::u16, Layout::plain, 2, 4, 8};
    const GreyMap grey{0, 1, 1, true, 65535, 65535, nullptr, 0};
    const double percent[2] = {25.0, 50.0};
    double found[2];
    expect(percentiles(kernel, image, grey, percent, found), "percentiles: no value found");
    // Sorted without padding: 1 2 3 7 7 9 4000; ranks 1.5 and 3.
    expect(found[0] == 2.5 && found[1] == 7.0, "percentiles of seven values");
}

}  // namespace

int main() {
    for (const char *name : {"baseline", "avx2", "avx512"}) {
        const Kernel *kernel = choose_kernel(name);
        if (kernel == nullptr) continue;
        std::printf("kernel %s\n", name);
        check_type<std::uint8_t>(*kernel, Pixel::u8, "u8");
        check_type<std::uint16_t>(*kernel, Pixel::u16, "u16");
        check_type<std::int16_t>(*kernel, Pixel::i16, "i16");
        check_type<std::int32_t>(*kernel, Pixel::i32, "i32");
        check_type<float>(*kernel, Pixel::f32, "f32");
        check_type<double>(*kernel, Pixel::f64, "f64");
        check_percentiles(*kernel);
    }
    expect(choose_kernel("unknown") == nullptr, "an unknown kernel was found");
    std::printf("%d failed\n", failures);
    return failures != 0;
}
