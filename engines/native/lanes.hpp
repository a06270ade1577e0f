// A few float lanes at once, by the compiler's vector types where it has them. Included by
// kernel.cpp only, inside its unnamed namespace: each instruction set gets its own copy.

#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

#if defined(__GNUC__) && !defined(DINORAD_SCALAR)

typedef float Lanes __attribute__((vector_size(4 * lanes)));
typedef float LooseLanes __attribute__((vector_size(4 * lanes), aligned(4), may_alias));

inline Lanes load(const float *from) { return *reinterpret_cast<const LooseLanes *>(from); }
inline void put(float *to, Lanes value) { *reinterpret_cast<LooseLanes *>(to) = value; }
inline Lanes spread(float value) { return value - Lanes{}; }

#if defined(__clang__) || __GNUC__ >= 12
#define DINORAD_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int Indices __attribute__((vector_size(4 * lanes)));
#define DINORAD_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Indices{__VA_ARGS__})
#endif

// The lower or upper halves of two vectors, element by element in turn.
inline Lanes lower(Lanes a, Lanes b) {
#if defined(__AVX512F__)
    return DINORAD_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX__)
    return DINORAD_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return DINORAD_SHUFFLE(a, b, 0, 4, 1, 5);
#endif
}
inline Lanes upper(Lanes a, Lanes b) {
#if defined(__AVX512F__)
    return DINORAD_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX__)
    return DINORAD_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return DINORAD_SHUFFLE(a, b, 2, 6, 3, 7);
#endif
}

#else

struct Lanes {
    float value[lanes];
};

inline Lanes load(const float *from) {
    Lanes result;
    for (int i = 0; i < lanes; ++i) result.value[i] = from[i];
    return result;
}
inline void put(float *to, Lanes from) {
    for (int i = 0; i < lanes; ++i) to[i] = from.value[i];
}
inline Lanes spread(float value) {
    Lanes result;
    for (int i = 0; i < lanes; ++i) result.value[i] = value;
    return result;
}
inline Lanes operator*(Lanes a, Lanes b) {
    for (int i = 0; i < lanes; ++i) a.value[i] *= b.value[i];
    return a;
}
inline Lanes operator+(Lanes a, Lanes b) {
    for (int i = 0; i < lanes; ++i) a.value[i] += b.value[i];
    return a;
}
inline Lanes &operator+=(Lanes &a, Lanes b) { return a = a + b; }
inline Lanes lower(Lanes a, Lanes b) {
    Lanes result;
    for (int i = 0; i < lanes; ++i) result.value[i] = (i % 2 ? b : a).value[i / 2];
    return result;
}
inline Lanes upper(Lanes a, Lanes b) {
    Lanes result;
    for (int i = 0; i < lanes; ++i) result.value[i] = (i % 2 ? b : a).value[lanes / 2 + i / 2];
    return result;
}

#endif

// Transpose a square of `lanes` rows: perfect shuffles, as many as it takes to halve lanes to 1.
inline void transpose(const float *from, std::size_t from_stride, float *to,
                      std::size_t to_stride) {
    Lanes rows[lanes], turned[lanes];
    for (int i = 0; i < lanes; ++i) rows[i] = load(from + i * from_stride);
    for (int step = 1; step < lanes; step *= 2) {
        for (int i = 0; i < lanes / 2; ++i) {
            turned[2 * i] = lower(rows[i], rows[i + lanes / 2]);
            turned[2 * i + 1] = upper(rows[i], rows[i + lanes / 2]);
        }
        for (int i = 0; i < lanes; ++i) rows[i] = turned[i];
    }
    for (int i = 0; i < lanes; ++i) put(to + i * to_stride, rows[i]);
}
