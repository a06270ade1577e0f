// dinorad_rt._native: the kernel as seen from Python. Checks shapes and types; the numbers are
// prepared by dinorad_rt/preprocessing/native.py.
#include "kernel.hpp"
#include "png.hpp"
#if defined(DINORAD_CUDA)
#include "cuda.hpp"
#endif

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;
using namespace dinorad;

namespace {

using Pixels = nb::ndarray<nb::ro, nb::device::cpu>;
using Indices = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Buffer = nb::ndarray<nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Padding = std::optional<std::pair<double, double>>;

// The taps of one axis, packed once per geometry.
struct PackedAxis {
    PackedAxis(Indices first, Indices count, Weights weights, int outputs, int size, int offset)
        : first(first), count(count), weights(weights),
          axis{first.data(), count.data(), weights.data(),
               static_cast<std::int32_t>(weights.shape(1)), outputs, size, offset} {
        const std::size_t rows = weights.shape(0);
        if (first.shape(0) != rows || count.shape(0) != rows || rows % lane_limit != 0 ||
            axis.stride % lane_limit != 0 || axis.stride == 0 || outputs < 1 || size < 1 ||
            static_cast<std::size_t>(outputs) > rows || offset < 0)
            throw std::invalid_argument("taps: rows and taps must be padded to multiples of 16");
        for (std::size_t i = 0; i < rows; ++i)
            if (axis.first[i] < 0 || axis.count[i] < 0 || axis.count[i] > axis.stride ||
                axis.first[i] > size - axis.count[i])
                throw std::invalid_argument("taps: an output reads beyond its axis");
        for (int i = 1; i < outputs; ++i)
            if (axis.first[i] < axis.first[i - 1])
                throw std::invalid_argument("taps: outputs must go up the axis");
    }
    Indices first, count;
    Weights weights;
    Axis axis;
};

// The kernel is a property of the machine; tests choose another by name.
const Kernel &kernel_named(const std::optional<std::string> &name) {
    static const Kernel *best = choose_kernel(nullptr);
    const Kernel *chosen = name ? choose_kernel(name->c_str()) : best;
    if (chosen == nullptr)
        throw std::invalid_argument("no kernel named " + *name + " on this processor");
    return *chosen;
}

Pixel pixel_type(const nb::dlpack::dtype &type) {
    if (type == nb::dtype<std::uint8_t>()) return Pixel::u8;
    if (type == nb::dtype<std::uint16_t>()) return Pixel::u16;
    if (type == nb::dtype<std::int16_t>()) return Pixel::i16;
    if (type == nb::dtype<std::int32_t>()) return Pixel::i32;
    if (type == nb::dtype<float>()) return Pixel::f32;
    if (type == nb::dtype<double>()) return Pixel::f64;
    throw std::invalid_argument("pixels: u8, u16, i16, i32, f32 or f64 expected");
}

Image image_of(const Pixels &pixels) {
    const Pixel type = pixel_type(pixels.dtype());
    const bool colour = pixels.ndim() == 3;
    if ((pixels.ndim() != 2 && !colour) || pixels.size() == 0)
        throw std::invalid_argument("pixels: (height, width) or (height, width, 3) expected");
    if (pixels.shape(0) > (1 << 28) || pixels.shape(1) > (1 << 28))
        throw std::invalid_argument("pixels: a side is longer than 2**28");
    Layout layout = Layout::plain;
    if (colour) {
        if (type != Pixel::u8 || pixels.shape(2) != 3 || pixels.stride(2) != 1 ||
            pixels.stride(1) != 3)
            throw std::invalid_argument("colour pixels: contiguous uint8 RGB expected");
        layout = Layout::luma;
    } else if (pixels.stride(1) == 3 && (type == Pixel::u8 || type == Pixel::u16)) {
        layout = Layout::strided;
    } else if (pixels.stride(1) != 1) {
        throw std::invalid_argument("pixels: neighbours in a row must be adjacent");
    }
    const auto bytes = static_cast<std::ptrdiff_t>(pixels.itemsize());
    return {pixels.data(), type, layout, static_cast<std::int32_t>(pixels.shape(0)),
            static_cast<std::int32_t>(pixels.shape(1)),
            static_cast<std::ptrdiff_t>(pixels.stride(0)) * bytes};
}

GreyMap padding_only(const Padding &padding) {
    GreyMap grey{0.0, 1.0, 1.0, padding.has_value(), 0.0, 0.0, nullptr, 0};
    if (padding) grey.pad_low = padding->first, grey.pad_high = padding->second;
    return grey;
}

GreyMap grey_map(double low, double high, const Padding &padding,
                 const std::optional<Table> &table, int first, Pixel type) {
    GreyMap grey = padding_only(padding);
    if (table) {
        const bool narrow = type == Pixel::u8 || type == Pixel::u16 || type == Pixel::i16;
        const std::size_t entries = type == Pixel::u8 ? 256 : 65536;
        const int least = type == Pixel::i16 ? -32768 : 0;
        if (!narrow || table->shape(0) != entries || first != least)
            throw std::invalid_argument("table: one entry per value of an 8 or 16-bit type");
        grey.table = table->data(), grey.first = first;
        return grey;
    }
    if (low == high) throw std::invalid_argument("grey map: low and high are equal");
    grey.base = low, grey.sign = high > low ? 1.0 : -1.0, grey.range = (high - low) * grey.sign;
    return grey;
}

template <class Out>
Target target_of(const Out &out, const std::vector<float> &mean, const std::vector<float> &std) {
    Target target{out.data(), Number::f32, static_cast<std::int32_t>(out.shape(0)),
                  static_cast<std::int32_t>(out.shape(1)), {}, {}};
    const auto channels = out.shape(0);
    if (out.shape(1) != out.shape(2) || channels < 1 || channels > 3 || mean.size() != channels ||
        std.size() != channels)
        throw std::invalid_argument("out: (channels, side, side) with a mean and std per channel");
    const nb::dlpack::dtype type = out.dtype();
    if (type == nb::dtype<std::uint16_t>())
        target.type = Number::bf16;
    else if (type.code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat))
        target.type = Number::bf16;
    else if (type.code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float) &&
             type.bits == 16)
        target.type = Number::f16;
    else if (type != nb::dtype<float>())
        throw std::invalid_argument("out: float32, float16 or uint16 (bfloat16 bits) expected");
    for (std::size_t c = 0; c < channels; ++c)
        target.scale[c] = 1.0f / std[c], target.shift[c] = -mean[c] / std[c];
    return target;
}

void check_fit(const Job &job) {
    if (job.rows.size != job.image.height || job.columns.size != job.image.width ||
        job.rows.offset + job.rows.outputs > job.target.side ||
        job.columns.offset + job.columns.outputs > job.target.side)
        throw std::invalid_argument("the taps do not fit the image or the buffer");
}

void preprocess(const Pixels &pixels, std::pair<double, double> edges, const Padding &padding,
                const std::optional<Table> &table, int first, const PackedAxis &rows,
                const PackedAxis &columns, const Buffer &out, const std::vector<float> &mean,
                const std::vector<float> &std, bool stretch, int threads,
                const std::optional<std::string> &kernel) {
    const Image image = image_of(pixels);
    if (table && image.layout != Layout::plain)
        throw std::invalid_argument("table: plain pixels expected");
    const Job job{image,
                  grey_map(edges.first, edges.second, padding, table, first, image.type),
                  rows.axis,
                  columns.axis,
                  target_of(out, mean, std),
                  stretch};
    check_fit(job);
    if (threads < 1) throw std::invalid_argument("threads: at least 1");
    const Kernel &chosen = kernel_named(kernel);
    nb::gil_scoped_release release;
    run(chosen, job, threads);
}

#if defined(DINORAD_CUDA)
using DeviceBuffer = nb::ndarray<nb::ndim<3>, nb::c_contig, nb::device::cuda>;

// The taps of one axis on one GPU.
struct OnDevice {
    OnDevice(const PackedAxis &packed, int device) : axis(packed.axis, device) {}
    cuda::DeviceAxis axis;
};

void cuda_preprocess(const Pixels &pixels, std::pair<double, double> edges, const Padding &padding,
                     const std::optional<Table> &table, int first, const OnDevice &rows,
                     const OnDevice &columns, const DeviceBuffer &out,
                     const std::vector<float> &mean, const std::vector<float> &std, bool stretch,
                     std::uintptr_t stream) {
    const Image image = image_of(pixels);
    if (table && image.layout != Layout::plain)
        throw std::invalid_argument("table: plain pixels expected");
    if (image.row_bytes < 0) throw std::invalid_argument("pixels: rows must go downwards");
    const Job job{image,
                  grey_map(edges.first, edges.second, padding, table, first, image.type),
                  rows.axis.axis(),
                  columns.axis.axis(),
                  target_of(out, mean, std),
                  stretch};
    check_fit(job);
    const int device = out.device_id();
    nb::gil_scoped_release release;
    cuda::run(job, rows.axis, columns.axis, device, reinterpret_cast<void *>(stream));
}
#endif

std::pair<double, double> extrema(const Pixels &pixels, const Padding &padding) {
    const Image image = image_of(pixels);
    if (image.layout != Layout::plain) throw std::invalid_argument("plain pixels expected");
    nb::gil_scoped_release release;
    const Extrema found = kernel_named({}).extrema(image, padding_only(padding));
    return found.count ? std::pair{found.low, found.high} : std::pair{0.0, 0.0};
}

std::pair<double, double> percentiles_of(const Pixels &pixels, std::pair<double, double> percent,
                                         const Padding &padding) {
    const Image image = image_of(pixels);
    if (image.layout != Layout::plain || image.type > Pixel::i16)
        throw std::invalid_argument("plain 8 or 16-bit integers expected");
    const double asked[2] = {percent.first, percent.second};
    double found[2] = {0.0, 0.0};
    nb::gil_scoped_release release;
    percentiles(kernel_named({}), image, padding_only(padding), asked, found);
    return {found[0], found[1]};
}

std::vector<std::string> kernels() {
    std::vector<std::string> names;
    for (const char *name : {"avx512", "avx2", "baseline"})
        if (choose_kernel(name) != nullptr) names.emplace_back(name);
    return names;
}

using Rows = nb::ndarray<std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

bool unfilter(const nb::bytes &filtered, const Rows &out, std::size_t step) {
    const std::size_t height = out.shape(0), row_bytes = out.shape(1);
    if (filtered.size() != height * (row_bytes + 1) || step == 0 || row_bytes % step != 0)
        throw std::invalid_argument("filtered: one filter byte and one row for each row of out");
    const auto *source = reinterpret_cast<const std::uint8_t *>(filtered.c_str());
    nb::gil_scoped_release unlocked;
    return unfilter_png(source, height, row_bytes, step, out.data());
}

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "Native preprocessing kernel of dinorad-rt (engines/native).";
    nb::class_<PackedAxis>(module, "PackedAxis")
        .def(nb::init<Indices, Indices, Weights, int, int, int>(), "first"_a, "count"_a,
             "weights"_a, "outputs"_a, "size"_a, "offset"_a);
    module.def("preprocess", &preprocess, "pixels"_a, "edges"_a, "padding"_a.none(),
               "table"_a.none(), "first"_a, "rows"_a, "columns"_a, "out"_a.noconvert(), "mean"_a,
               "std"_a, "stretch"_a, "threads"_a, "kernel"_a.none() = nb::none());
    module.def("extrema", &extrema, "pixels"_a, "padding"_a.none());
    module.def("percentiles", &percentiles_of, "pixels"_a, "percent"_a, "padding"_a.none());
    module.def("unfilter_png", &unfilter, "filtered"_a, "out"_a.noconvert(), "step"_a,
               "Undo PNG's row filters; False for a filter that does not exist.");
    module.def("kernels", &kernels, "Kernels that this processor can run, best first.");
#if defined(DINORAD_CUDA)
    nb::class_<OnDevice>(module, "DeviceAxis")
        .def(nb::init<const PackedAxis &, int>(), "axis"_a, "device"_a);
    module.def("cuda_preprocess", &cuda_preprocess, "pixels"_a, "edges"_a, "padding"_a.none(),
               "table"_a.none(), "first"_a, "rows"_a, "columns"_a, "out"_a.noconvert(), "mean"_a,
               "std"_a, "stretch"_a, "stream"_a);
    module.def("cuda_devices", &cuda::device_count, "Usable NVIDIA GPUs; 0 without a driver.");
#endif
    module.attr("LANE_LIMIT") = static_cast<int>(lane_limit);
    module.attr("INTERFACE") = 1;
}
