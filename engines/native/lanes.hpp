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

// Sums of neighbours: first of `a`, then of `b`.
inline Lanes pairs(Lanes a, Lanes b) {
#if defined(__AVX512F__)
    return DINORAD_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           DINORAD_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif defined(__AVX__)
    return DINORAD_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
           DINORAD_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return DINORAD_SHUFFLE(a, b, 0, 2, 4, 6) + DINORAD_SHUFFLE(a, b, 1, 3, 5, 7);
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
inline Lanes pairs(Lanes a, Lanes b) {
    Lanes result;
    for (int i = 0; i < lanes / 2; ++i) {
        result.value[i] = a.value[2 * i] + a.value[2 * i + 1];
        result.value[lanes / 2 + i] = b.value[2 * i] + b.value[2 * i + 1];
    }
    return result;
}

#endif

// Sums of each of `lanes` vectors, in order: lane i = sum of sums[i]. Destroys `sums`.
inline Lanes sums_of(Lanes *sums) {
    for (int n = lanes; n > 1; n /= 2)
        for (int i = 0; i < n / 2; ++i) sums[i] = pairs(sums[2 * i], sums[2 * i + 1]);
    return sums[0];
}
