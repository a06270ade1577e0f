// The shared table of cases (cases.csv) as jobs: pixels, taps and truth by code of its own, so that
// it checks dinorad_rt/preprocessing as well as the kernels.
#pragma once

#include "kernel.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace cases {

using namespace dinorad;

constexpr int probes = 6;
using Row = std::map<std::string, std::string>;

inline std::vector<std::string> split(const std::string &line) {
    std::vector<std::string> fields;
    std::stringstream stream(line);
    for (std::string field; std::getline(stream, field, ',');) fields.push_back(field);
    if (!line.empty() && line.back() == ',') fields.emplace_back();
    return fields;
}

inline std::vector<Row> read(const char *path) {
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line)) throw std::runtime_error(std::string("cannot read ") + path);
    const std::vector<std::string> names = split(line);
    std::vector<Row> rows;
    while (std::getline(file, line)) {
        const std::vector<std::string> fields = split(line);
        if (fields.size() != names.size()) throw std::runtime_error("fields missing: " + line);
        Row row;
        for (std::size_t i = 0; i < names.size(); ++i) row[names[i]] = fields[i];
        rows.push_back(row);
    }
    return rows;
}

// Filter weights by their textbook formulas: Keys' cubic with a, or the triangle.
inline double filter(bool cubic, double a, double x) {
    x = std::abs(x);
    if (!cubic) return std::max(0.0, 1.0 - x);
    if (x < 1) return (a + 2) * x * x * x - (a + 3) * x * x + 1;
    return x < 2 ? a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a : 0.0;
}

// Taps of one axis: `size` -> `resized`, then the central `side` of it, or centred in it.
struct Taps {
    std::vector<std::int32_t> first, count;
    std::vector<float> weights;
    Axis axis;

    Taps(int size, int resized, int side, bool cubic, bool antialias) {
        const int outputs = std::min(resized, side);
        // Half to even, as Python rounds.
        const int start = resized > side ? static_cast<int>(std::nearbyint((resized - side) / 2.0)) : 0;
        const double scale = static_cast<double>(size) / resized;
        const double wide = antialias ? std::max(scale, 1.0) : 1.0;
        const double reach = (cubic ? 2.0 : 1.0) * wide, a = antialias ? -0.5 : -0.75;
        const int rows = (outputs + lane_limit - 1) / lane_limit * lane_limit;
        const int stride =
            (static_cast<int>(2 * reach) + 3 + lane_limit - 1) / lane_limit * lane_limit;
        first.assign(rows, 0), count.assign(rows, 0);
        weights.assign(static_cast<std::size_t>(rows) * stride, 0.0f);
        for (int i = 0; i < outputs; ++i) {
            const double centre = (start + i + 0.5) * scale - 0.5;
            const int from = static_cast<int>(std::ceil(centre - reach));
            const int to = static_cast<int>(std::floor(centre + reach));
            first[i] = std::min(std::max(from, 0), size - 1);
            count[i] = std::min(std::max(to, 0), size - 1) - first[i] + 1;
            std::vector<double> taps(count[i], 0.0);
            double sum = 0;
            for (int t = from; t <= to; ++t) {
                const double weight = filter(cubic, a, (t - centre) / wide);
                if (antialias && (t < 0 || t >= size)) continue;  // cut off, the rest is scaled up
                taps[std::min(std::max(t, 0), size - 1) - first[i]] += weight;  // else: the edge
                sum += weight;
            }
            for (int t = 0; t < count[i]; ++t)
                weights[static_cast<std::size_t>(i) * stride + t] =
                    static_cast<float>(taps[t] / (antialias ? sum : 1.0));
        }
        axis = {first.data(), count.data(), weights.data(), stride, outputs, size,
                (side - outputs) / 2};
    }
};

struct Case {
    std::string name;
    int height, width, side, layers;
    Layout layout;
    Pixel type;
    std::vector<char> bytes;    // the pixels, all layers
    std::vector<double> flat;   // what one pixel stands for
    std::vector<float> table;
    GreyMap grey;
    bool stretch, constant;
    Taps rows, columns;
    double expected[probes];

    explicit Case(const Row &row)
        : name(row.at("name")), height(whole(row, "height")), width(whole(row, "width")),
          side(whole(row, "side")), layers(row.at("layout") == "plain" ? 1 : 3),
          layout(row.at("layout") == "luma"      ? Layout::luma
                 : row.at("layout") == "strided" ? Layout::strided
                                                 : Layout::plain),
          type(type_of(row.at("type"))), grey{}, stretch(row.at("stretch") == "1"), constant(false),
          rows(height, resized(row, height), side, is_cubic(row), row.at("antialias") == "1"),
          columns(width, resized(row, width), side, is_cubic(row), row.at("antialias") == "1") {
        make_pixels(whole(row, "start"), whole(row, "span"));
        make_map(row);
        for (int i = 0; i < probes; ++i) expected[i] = real(row, "probe" + std::to_string(i));
    }
    Case(const Case &) = delete;
    Case(Case &&) = delete;

    Job job(Target target) const {
        const std::size_t size = bytes.size() / (static_cast<std::size_t>(height) * width * layers);
        const std::size_t skip = layout == Layout::strided ? size : 0;
        const Image image{bytes.data() + skip, type, layout, height, width,
                          static_cast<std::ptrdiff_t>(size * width * layers)};
        return {image, grey, rows.axis, columns.axis, target, stretch};
    }

    // (side, side) grey in double precision.
    std::vector<double> truth() const {
        const int down = rows.axis.outputs, across = columns.axis.outputs;
        std::vector<double> inner;
        for (int i = 0; i < down; ++i)
            for (int j = 0; j < across; ++j) inner.push_back(output(i, j));
        const auto [least, greatest] = std::minmax_element(inner.begin(), inner.end());
        const double low = *least, range = *greatest - *least;
        std::vector<double> outer(static_cast<std::size_t>(side) * side, 0.0);
        for (int i = 0; i < down; ++i)
            for (int j = 0; j < across; ++j) {
                double value = inner[static_cast<std::size_t>(i) * across + j];
                if (stretch) value = range > 1e-6 ? (value - low) / range : 0.0;
                outer[static_cast<std::size_t>(i + rows.axis.offset) * side + j +
                      columns.axis.offset] = std::min(std::max(value, 0.0), 1.0);
            }
        return outer;
    }

    // Where the probes lie in a (side, side) plane.
    std::size_t place(int probe) const {
        const int at = side * (2 * probe + 1) / (2 * probes);
        return static_cast<std::size_t>(at) * side + (probe % 2 ? at : side - 1 - at);
    }

  private:
    static int whole(const Row &row, const std::string &name) { return std::stoi(row.at(name)); }
    static double real(const Row &row, const std::string &name) { return std::stod(row.at(name)); }
    static bool is_cubic(const Row &row) { return row.at("interpolation") == "bicubic"; }

    static int resized(const Row &row, int size) {
        const int to = whole(row, "resize_to"), side = whole(row, "side");
        const int height = whole(row, "height"), width = whole(row, "width");
        if (row.at("resize") == "squash") return to;
        if (row.at("resize") == "shortest")
            return static_cast<int>(static_cast<double>(to) * size / std::min(height, width));
        const double by = static_cast<double>(side) / std::max(height, width);
        return std::max(1, static_cast<int>(std::nearbyint(size * by)));
    }

    static Pixel type_of(const std::string &name) {
        const char *names[] = {"u8", "u16", "i16", "i32", "f32", "f64"};
        for (int i = 0; i < 6; ++i)
            if (name == names[i]) return static_cast<Pixel>(i);
        throw std::runtime_error("unknown type " + name);
    }

    void make_pixels(int start, int span) {
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x) {
                double layer[3];
                for (int c = 0; c < layers; ++c) {
                    const int value = (y * 73 + x * 151 + c * 57 + (y * x) % 97 * 13) % span + start;
                    layer[c] = append(value);
                }
                flat.push_back(layout == Layout::luma
                                   ? static_cast<float>(0.299 * layer[0] + 0.587 * layer[1] +
                                                        0.114 * layer[2])
                                   : layer[layers == 3 ? 1 : 0]);
            }
    }

    // Add one stored value; what it is after the type's own rounding.
    double append(int value) {
        const double nan = std::numeric_limits<double>::quiet_NaN();
        const double wanted = bytes.empty() ? nan : value + 0.25;
        switch (type) {
            case Pixel::u8: return put(static_cast<std::uint8_t>(value));
            case Pixel::u16: return put(static_cast<std::uint16_t>(value));
            case Pixel::i16: return put(static_cast<std::int16_t>(value));
            case Pixel::i32: return put(static_cast<std::int32_t>(value));
            case Pixel::f32: return put(static_cast<float>(wanted));
            default: return put(wanted);
        }
    }
    template <class T> double put(T value) {
        const char *from = reinterpret_cast<const char *>(&value);
        bytes.insert(bytes.end(), from, from + sizeof value);
        return static_cast<double>(value);
    }

    void make_map(const Row &row) {
        const double low = real(row, "low"), high = real(row, "high");
        grey = {low, std::abs(high - low), high > low ? 1.0 : -1.0, !row.at("pad_low").empty(),
                0.0, 0.0, nullptr, 0};
        if (grey.padded) grey.pad_low = real(row, "pad_low"), grey.pad_high = real(row, "pad_high");
        if (row.at("curve") != "sigmoid") return;
        const int entries = type == Pixel::u8 ? 256 : 65536, least = type == Pixel::i16 ? -32768 : 0;
        for (int i = 0; i < entries; ++i)
            table.push_back(
                static_cast<float>(1.0 / (1.0 + std::exp(-4.0 * (least + i - low) / high))));
        grey.base = 0, grey.range = 1, grey.sign = 1, grey.table = table.data(), grey.first = least;
    }

    double grey_of(double stored) const {
        if (grey.padded && stored >= grey.pad_low && stored <= grey.pad_high) return 0.0;
        if (grey.table != nullptr) return table[static_cast<int>(stored) - grey.first];
        const double value = (stored - grey.base) * grey.sign / grey.range;
        return value > 0.0 ? std::min(value, 1.0) : 0.0;
    }

    double output(int i, int j) const {
        double sum = 0;
        for (int a = 0; a < rows.count[i]; ++a) {
            double line = 0;
            for (int b = 0; b < columns.count[j]; ++b)
                line += static_cast<double>(
                            columns.weights[static_cast<std::size_t>(j) * columns.axis.stride + b]) *
                        grey_of(flat[static_cast<std::size_t>(rows.first[i] + a) * width +
                                     columns.first[j] + b]);
            sum += rows.weights[static_cast<std::size_t>(i) * rows.axis.stride + a] * line;
        }
        return sum;
    }
};

// Compare a (side, side) plane of grey with the truth and with the table's probes; failures so far.
inline int compare(const Case &one, const std::vector<float> &grey, double tolerance,
                   const std::string &who) {
    double worst = 0, at_probes = 0;
    const std::vector<double> truth = one.truth();
    for (std::size_t i = 0; i < truth.size(); ++i) {
        const double difference = std::abs(truth[i] - grey[i]);
        worst = difference <= worst ? worst : difference;  // NaN counts as worst
    }
    for (int i = 0; i < probes; ++i) {
        const double difference = std::abs(one.expected[i] - grey[one.place(i)]);
        at_probes = difference <= at_probes ? at_probes : difference;
    }
    if (worst <= tolerance && at_probes <= tolerance) return 0;
    std::printf("FAILED: %s, %s: differs by %g, at the probes by %g\n", who.c_str(),
                one.name.c_str(), worst, at_probes);
    return 1;
}

}  // namespace cases
