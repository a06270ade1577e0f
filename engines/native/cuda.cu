// Four short kernels on one stream: rows (grey and vertical taps), columns (horizontal taps), the
// extrema where the result is stretched, and the write into normalised channels. Intermediate
// results stay on the device; nothing waits for the host.
#include "cuda.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <type_traits>

namespace dinorad::cuda {
namespace {

constexpr int threads = 128;
constexpr int reducers = 1024;
constexpr float constant = 1e-6f;  // reference.CONSTANT

void check(cudaError_t status, const char *doing) {
    if (status != cudaSuccess)
        throw std::runtime_error(std::string(doing) + ": " + cudaGetErrorString(status));
}

// Memory of the stream: given back to the device's pool when the work before it is done.
class Scratch {
  public:
    Scratch(std::size_t bytes, cudaStream_t stream) : stream_(stream) {
        check(cudaMallocAsync(&data_, bytes, stream), "allocating on the GPU");
    }
    ~Scratch() { cudaFreeAsync(data_, stream_); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    template <class T> T *as() const { return static_cast<T *>(data_); }

  private:
    void *data_ = nullptr;
    cudaStream_t stream_;
};

struct Line {
    double base, sign;
    float range;
    bool padded;
    double pad_low, pad_high;
    const float *table;
    std::int32_t first;
};

template <class T> struct Wide { using type = float; };
template <> struct Wide<std::int32_t> { using type = double; };
template <> struct Wide<double> { using type = double; };

// Values of up to 24 bits are exact in float; wider ones take the difference in double.
__device__ float along(float value, const Line &line) {
    return value * static_cast<float>(line.sign) - static_cast<float>(line.base * line.sign);
}
__device__ float along(double value, const Line &line) {
    return static_cast<float>((value - line.base) * line.sign);
}

// Elements from pixel to pixel; three of them are weighted to their brightness if `luma`.
template <class T, int step, bool luma> struct Read {
    using Value = std::conditional_t<luma, float, typename Wide<T>::type>;
    __device__ static Value at(const T *row, int x) {
        if constexpr (luma)
            return 0.299f * row[3 * x] + 0.587f * row[3 * x + 1] + 0.114f * row[3 * x + 2];
        else
            return static_cast<Value>(row[step * x]);
    }
};

template <class T, class R> __device__ float grey_at(const T *row, int x, const Line &line) {
    const auto stored = R::at(row, x);
    if (line.padded && stored >= line.pad_low && stored <= line.pad_high) return 0.0f;
    if (line.table != nullptr) return line.table[static_cast<std::int32_t>(stored) - line.first];
    const float value = along(stored, line);
    return value > 0.0f ? fminf(value, line.range) : 0.0f;  // NaN gives 0
}

// Vertical taps: one thread for one column of one output row.
template <class T, int step, bool luma>
__global__ void rows_kernel(const T *pixels, int width, Line line, Axis axis, float *to) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y;
    if (x >= width) return;
    const std::size_t row = static_cast<std::size_t>(width) * step;
    const T *from = pixels + axis.first[i] * row;
    const float *weights = axis.weights + static_cast<std::size_t>(i) * axis.stride;
    float sum = 0.0f;
    for (int t = 0; t < axis.count[i]; ++t)
        sum += weights[t] * grey_at<T, Read<T, step, luma>>(from + t * row, x, line);
    to[static_cast<std::size_t>(i) * width + x] = sum;
}

// Horizontal taps: one thread for one output.
__global__ void columns_kernel(const float *from, int width, Axis axis, float *plane) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y;
    if (x >= axis.outputs) return;
    const float *row = from + static_cast<std::size_t>(i) * width + axis.first[x];
    const float *weights = axis.weights + static_cast<std::size_t>(x) * axis.stride;
    float sum = 0.0f;
    for (int t = 0; t < axis.count[x]; ++t) sum += weights[t] * row[t];
    plane[static_cast<std::size_t>(i) * axis.outputs + x] = sum;
}

// {low, gain} of the stretch, by one block.
__global__ void extrema_kernel(const float *plane, int size, float range, float *result) {
    __shared__ float low[reducers], high[reducers];
    float least = plane[0], greatest = plane[0];
    for (int i = threadIdx.x; i < size; i += reducers) {
        least = fminf(least, plane[i]);
        greatest = fmaxf(greatest, plane[i]);
    }
    low[threadIdx.x] = least, high[threadIdx.x] = greatest;
    for (int half = reducers / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x >= half) continue;
        low[threadIdx.x] = fminf(low[threadIdx.x], low[threadIdx.x + half]);
        high[threadIdx.x] = fmaxf(high[threadIdx.x], high[threadIdx.x + half]);
    }
    if (threadIdx.x != 0) return;
    const float found = high[0] - low[0];
    result[0] = low[0];
    result[1] = found > constant * range ? 1.0f / found : 0.0f;
}

__device__ void put(float *to, float value) { *to = value; }
__device__ void put(__half *to, float value) { *to = __float2half_rn(value); }
__device__ void put(__nv_bfloat16 *to, float value) { *to = __float2bfloat16_rn(value); }

struct Channels {
    float scale[3], shift[3];
};

// One thread for one pixel of the target, padding included. `stretch` is {low, gain} or null.
template <class T>
__global__ void write_kernel(const float *plane, Axis rows, Axis columns, float gain,
                             const float *stretch, Channels channels, int count, int side, T *to) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;
    if (x >= side) return;
    const int i = y - rows.offset, j = x - columns.offset;
    float grey = 0.0f;
    if (i >= 0 && i < rows.outputs && j >= 0 && j < columns.outputs) {
        const float raw = plane[static_cast<std::size_t>(i) * columns.outputs + j];
        grey = stretch == nullptr ? raw * gain : (raw - stretch[0]) * stretch[1];
        grey = fminf(fmaxf(grey, 0.0f), 1.0f);
    }
    for (int c = 0; c < count; ++c) {
        const std::size_t at = (static_cast<std::size_t>(c) * side + y) * side + x;
        put(to + at, grey * channels.scale[c] + channels.shift[c]);
    }
}

dim3 grid(int across, int down) { return dim3((across + threads - 1) / threads, down); }

template <class T, int step, bool luma>
void enqueue_rows(const Image &image, const Line &line, const Axis &axis, float *to,
                  cudaStream_t stream) {
    const std::size_t used = luma ? 3 * image.width : step * (image.width - 1) + 1;
    const std::size_t row = sizeof(T) * step * image.width;
    const Scratch pixels(row * image.height, stream);
    check(cudaMemcpy2DAsync(pixels.as<void>(), row, image.data, image.row_bytes, used * sizeof(T),
                            image.height, cudaMemcpyHostToDevice, stream),
          "copying pixels to the GPU");
    rows_kernel<T, step, luma><<<grid(image.width, axis.outputs), threads, 0, stream>>>(
        pixels.as<T>(), image.width, line, axis, to);
}

void enqueue_rows_of(const Image &image, const Line &line, const Axis &axis, float *to,
                     cudaStream_t stream) {
    const auto go = [&](auto function) { function(image, line, axis, to, stream); };
    if (image.layout == Layout::luma) return go(enqueue_rows<std::uint8_t, 3, true>);
    if (image.layout == Layout::strided)
        return image.type == Pixel::u8 ? go(enqueue_rows<std::uint8_t, 3, false>)
                                       : go(enqueue_rows<std::uint16_t, 3, false>);
    switch (image.type) {
        case Pixel::u8: return go(enqueue_rows<std::uint8_t, 1, false>);
        case Pixel::u16: return go(enqueue_rows<std::uint16_t, 1, false>);
        case Pixel::i16: return go(enqueue_rows<std::int16_t, 1, false>);
        case Pixel::i32: return go(enqueue_rows<std::int32_t, 1, false>);
        case Pixel::f32: return go(enqueue_rows<float, 1, false>);
        default: return go(enqueue_rows<double, 1, false>);
    }
}

template <class T>
void enqueue_write(const Job &job, const float *plane, const float *stretch, const Axis &rows,
                   const Axis &columns, cudaStream_t stream) {
    const Target &target = job.target;
    Channels channels;
    for (int c = 0; c < target.channels; ++c)
        channels.scale[c] = target.scale[c], channels.shift[c] = target.shift[c];
    write_kernel<<<grid(target.side, target.side), threads, 0, stream>>>(
        plane, rows, columns, static_cast<float>(1.0 / job.grey.range), stretch, channels,
        target.channels, target.side, static_cast<T *>(target.data));
}

template <class T> T *copied(const T *from, std::size_t count) {
    void *to = nullptr;
    check(cudaMalloc(&to, count * sizeof(T)), "allocating on the GPU");
    check(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice), "copying to the GPU");
    return static_cast<T *>(to);
}

void freed(const void *pointer) { cudaFree(const_cast<void *>(pointer)); }

}  // namespace

int device_count() {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

DeviceAxis::DeviceAxis(const Axis &axis, int device) : axis_(axis), device_(device) {
    check(cudaSetDevice(device), "choosing the GPU");
    axis_.first = copied(axis.first, axis.outputs);
    axis_.count = copied(axis.count, axis.outputs);
    axis_.weights = copied(axis.weights, static_cast<std::size_t>(axis.outputs) * axis.stride);
}

DeviceAxis::~DeviceAxis() {
    if (cudaSetDevice(device_) != cudaSuccess) return;
    freed(axis_.first), freed(axis_.count), freed(axis_.weights);
}

void run(const Job &job, const DeviceAxis &row_axis, const DeviceAxis &column_axis, int device,
         void *stream_handle) {
    check(cudaSetDevice(device), "choosing the GPU");
    const auto stream = static_cast<cudaStream_t>(stream_handle);
    const Axis &rows = row_axis.axis(), &columns = column_axis.axis();
    const GreyMap &grey = job.grey;
    Line line{grey.base, grey.sign, static_cast<float>(grey.range), grey.padded, grey.pad_low,
              grey.pad_high, nullptr, grey.first};
    std::unique_ptr<Scratch> table;
    if (grey.table != nullptr) {
        const std::size_t bytes = (job.image.type == Pixel::u8 ? 256 : 65536) * sizeof(float);
        table = std::make_unique<Scratch>(bytes, stream);
        check(cudaMemcpyAsync(table->as<void>(), grey.table, bytes, cudaMemcpyHostToDevice, stream),
              "copying the table to the GPU");
        line.table = table->as<float>();
    }
    const std::size_t between = static_cast<std::size_t>(rows.outputs) * job.image.width;
    const Scratch vertical(between * sizeof(float), stream);
    enqueue_rows_of(job.image, line, rows, vertical.as<float>(), stream);
    const int size = rows.outputs * columns.outputs;
    const Scratch plane((size + 2) * sizeof(float), stream);
    columns_kernel<<<grid(columns.outputs, rows.outputs), threads, 0, stream>>>(
        vertical.as<float>(), job.image.width, columns, plane.as<float>());
    float *stretch = job.stretch ? plane.as<float>() + size : nullptr;
    if (job.stretch)
        extrema_kernel<<<1, reducers, 0, stream>>>(plane.as<float>(), size, line.range, stretch);
    if (job.target.type == Number::f32)
        enqueue_write<float>(job, plane.as<float>(), stretch, rows, columns, stream);
    else if (job.target.type == Number::f16)
        enqueue_write<__half>(job, plane.as<float>(), stretch, rows, columns, stream);
    else
        enqueue_write<__nv_bfloat16>(job, plane.as<float>(), stretch, rows, columns, stream);
    check(cudaGetLastError(), "starting the GPU kernels");
}

void synchronise(int device, void *stream) {
    check(cudaSetDevice(device), "choosing the GPU");
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for the GPU");
}

}  // namespace dinorad::cuda
