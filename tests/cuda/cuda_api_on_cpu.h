/* tests/cuda/cuda_api_on_cpu.h - the second half of cuda_on_cpu.h: launches, and the calls of the
   CUDA runtime that a program makes on the host. Work runs when it is launched, or with
   gan_cuda_late when something waits for it, or when a graph that recorded it is launched. Every
   call can be made to fail (gan_cuda_fail_after). A copy to or from memory that is not what the
   call says is refused. */
#ifndef GAN_CUDA_API_ON_CPU_H
#define GAN_CUDA_API_ON_CPU_H

/* ---- Streams: work in order, now, or late, or recorded for a graph
   ------------------------------------------------- */

struct gan__graph {
    std::vector<std::function<void()>> work;
};

struct gan__stream {
    gan__graph *recording;
    bool broken;
    int mode;
};

struct gan__event {
    std::chrono::steady_clock::time_point when;
    bool done;
};

typedef gan__stream *cudaStream_t;
typedef gan__graph *cudaGraph_t, *cudaGraphExec_t;
typedef gan__event *cudaEvent_t;

namespace gan_on_cpu
{

inline std::recursive_mutex lock; /* of CPU threads: one at a time is in the API */
inline thread_local cudaError_t last_error;
inline std::deque<std::function<void()>> queue; /* launched, not run */
inline std::function<void()> now;               /* what runs */
inline cudaStream_t capturing;

struct Memory {
    char *start;
    size_t bytes;
    bool device;
}; /* on the GPU, or pinned: the host's, which async copies work on */

inline std::vector<Memory> memories;

inline cudaError_t error(cudaError_t e)
{
    return e ? last_error = e : e;
}

/* Runs what was launched. */
inline cudaError_t finish()
{
    lock.lock();
    while (!queue.empty() && !failed) {
        now = std::move(queue.front());
        queue.pop_front();
        now();
    }
    bool wrong = failed;
    if (wrong) {
        queue.clear();
        idle.clear();
        fibers.clear();
    }
    failed = false;
    lock.unlock();
    if (!wrong)
        return cudaSuccess;
    if (!gan_cuda_on_error) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
    gan_cuda_on_error(message);
    return error(failed_with);
}

inline cudaError_t submit(cudaStream_t stream, std::function<void()> work, bool at_once = false)
{
    if (capturing && !stream) {
        capturing->broken = true;
        return error(cudaErrorStreamCaptureImplicit);
    }
    if (stream && stream->recording) {
        stream->recording->work.push_back(std::move(work));
        return cudaSuccess;
    }
    lock.lock();
    queue.push_back(std::move(work));
    lock.unlock();
    return gan_cuda_late && !at_once ? cudaSuccess : finish();
}

/* Every API function begins here, and returns at once if it says so: no GPU, or a failure that a
   test wants. */
inline cudaError_t begin(const char *name)
{
    gan_cuda_calls++;
    if (gan_cuda_driver < 11080)
        return error(cudaErrorInsufficientDriver);
    if (gan_cuda_devices < 1)
        return error(cudaErrorNoDevice);
    if (!gan_cuda_fail_after || (gan_cuda_fail_call && strcmp(gan_cuda_fail_call, name)))
        return cudaSuccess;
    if (gan_cuda_fail_after > 1) {
        gan_cuda_fail_after--;
        return cudaSuccess;
    }
    if (!gan_cuda_fail_sticky)
        gan_cuda_fail_after = 0;
    else
        gan_cuda_fail_call = nullptr;
    return error((cudaError_t)gan_cuda_fail_with);
}

/* ... or here, if it waits or allocates, which a capture forbids. */
inline cudaError_t begin_waiting(const char *name, cudaStream_t stream = nullptr)
{
    if (cudaError_t e = begin(name))
        return e;
    if (!capturing || (capturing->mode == 2 && capturing != stream))
        return finish();
    capturing->broken = true;
    return error(cudaErrorStreamCaptureUnsupported);
}

template <class... P> struct Launcher {
    static_assert((sizeof(P) + ... + 0) <= 4096, "a kernel's parameters are 4096 bytes at most");
    const char *name;
    void (*kernel)(P...);
    dim3 grid, block;
    cudaStream_t stream;

    void operator()(P... args) const
    {
        if (begin("cudaLaunchKernel"))
            return;
        auto call = [kernel = kernel, arguments = std::tuple<P...>(args...)] {
            std::apply(kernel, arguments);
        };
        submit(stream, [launch = Launch{name, grid, block, call}] { run(launch); });
    }
};

template <class... P>
Launcher<P...> launcher(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                        cudaStream_t stream)
{
    return {name, kernel, grid, block, stream};
}

/* Bytes from p to the end of the memory it points into; -1: into none. */
inline ptrdiff_t room(const void *p, bool device)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    for (const Memory &m : memories)
        if (m.device == device && (const char *)p >= m.start && (const char *)p < m.start + m.bytes)
            return m.start + m.bytes - (const char *)p;
    return -1;
}

inline cudaError_t allocate(void **p, size_t bytes, bool device)
{
    *p = nullptr;
    if (device && bytes > gan_cuda_memory - gan_cuda_memory_used)
        return error(cudaErrorMemoryAllocation);
    if (!bytes)
        return cudaSuccess;
    void *memory = nullptr;
    if (posix_memalign(&memory, 256, bytes))
        return error(cudaErrorMemoryAllocation);
    memset(memory, 0xFF, bytes);
    GAN__MSAN(__msan_poison(memory, bytes);)
    std::lock_guard<std::recursive_mutex> hold(lock);
    memories.push_back({(char *)memory, bytes, device});
    if (device)
        gan_cuda_memory_used += bytes;
    *p = memory;
    return cudaSuccess;
}

inline cudaError_t release(void *p, bool device)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    for (Memory &m : memories)
        if (m.start == p && m.device == device) {
            if (device)
                gan_cuda_memory_used -= m.bytes;
            m = memories.back();
            memories.pop_back();
            free(p);
            return cudaSuccess;
        }
    return p ? error(cudaErrorInvalidValue) : cudaSuccess;
}

} // namespace gan_on_cpu

#define GAN_LAUNCH(kernel, grid, block, stream, ...) \
    gan_on_cpu::launcher(#kernel, kernel, grid, block, stream)(__VA_ARGS__)

/* ---- The runtime API
   -------------------------------------------------------------------------------- */

#define GAN__BEGIN                                   \
    if (cudaError_t e = gan_on_cpu::begin(__func__)) \
    return e
#define GAN__WAIT                                            \
    if (cudaError_t e = gan_on_cpu::begin_waiting(__func__)) \
    return e

inline cudaError_t cudaPeekAtLastError()
{
    return gan_on_cpu::last_error;
}

inline cudaError_t cudaGetLastError()
{
    cudaError_t e = gan_on_cpu::last_error;
    gan_on_cpu::last_error = cudaSuccess;
    return e;
}

/* Devices */
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
    int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock,
        maxThreadsPerMultiProcessor, l2CacheSize, memoryBusWidth;
};

enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrWarpSize = 10,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};

inline cudaError_t cudaDriverGetVersion(int *v)
{
    *v = gan_cuda_driver;
    return cudaSuccess;
}

inline cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = 11080;
    return cudaSuccess;
}

inline cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 0;
    GAN__BEGIN;
    *n = gan_cuda_devices;
    return cudaSuccess;
}

inline cudaError_t cudaGetDevice(int *d)
{
    GAN__BEGIN;
    *d = 0;
    return cudaSuccess;
}

inline cudaError_t cudaSetDevice(int d)
{
    GAN__BEGIN;
    return gan_on_cpu::error(d >= 0 && d < gan_cuda_devices ? cudaSuccess : cudaErrorInvalidDevice);
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    GAN__BEGIN;
    *p = {"a CPU that plays a GPU",
          gan_cuda_memory,
          48 * 1024,
          48 * 1024,
          48 * 1024,
          9,
          0,
          16,
          32,
          1024,
          1024,
          1 << 20,
          64};
    return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int)
{
    GAN__BEGIN;
    *v = a == cudaDevAttrMaxThreadsPerBlock  ? 1024
       : a == cudaDevAttrWarpSize            ? 32
       : a == cudaDevAttrMultiProcessorCount ? 16
       : a == cudaDevAttrMaxSharedMemoryPerBlock || a == cudaDevAttrMaxSharedMemoryPerBlockOptin
           ? 48 * 1024
           : 0;
    return cudaSuccess;
}

struct cudaFuncAttributes {
    int ptxVersion, binaryVersion;
};

template <class F> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *code, F *)
{
    GAN__BEGIN;
    if (!gan_cuda_code)
        return gan_on_cpu::error(cudaErrorNoKernelImageForDevice);
    *code = {gan_cuda_code, 90};
    return cudaSuccess;
}

template <class F> cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int)
{
    GAN__BEGIN;
    return cudaSuccess;
}

inline cudaError_t cudaDeviceSynchronize()
{
    GAN__WAIT;
    return cudaSuccess;
}

/* Memory. What gives back does so even in a call that is made to fail. */
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};

template <class T> cudaError_t cudaMalloc(T **p, size_t bytes)
{
    GAN__WAIT;
    return gan_on_cpu::allocate((void **)p, bytes, true);
}

template <class T> cudaError_t cudaMallocHost(T **p, size_t bytes)
{
    GAN__WAIT;
    return gan_on_cpu::allocate((void **)p, bytes, false);
}

template <class T> cudaError_t cudaHostAlloc(T **p, size_t bytes, unsigned)
{
    return cudaMallocHost(p, bytes);
}

inline cudaError_t gan__free(const char *name, void *p, bool device)
{
    cudaError_t before = p ? gan_on_cpu::begin_waiting(name) : cudaSuccess;
    cudaError_t after = gan_on_cpu::release(p, device);
    return before ? before : after;
}

inline cudaError_t cudaFree(void *p)
{
    return gan__free(__func__, p, true);
}

inline cudaError_t cudaFreeHost(void *p)
{
    return gan__free(__func__, p, false);
}

inline cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    GAN__BEGIN;
    *left = gan_cuda_memory - gan_cuda_memory_used;
    *total = gan_cuda_memory;
    return cudaSuccess;
}

inline bool gan__fits(const void *p, size_t bytes,
                      bool device) /* p .. p + bytes is all on the GPU, or p is not */
{
    ptrdiff_t room = gan_on_cpu::room(p, true);
    return device ? room >= (ptrdiff_t)bytes : room < 0;
}

inline cudaError_t gan__copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                             cudaStream_t stream, bool async)
{
    bool guess = kind == cudaMemcpyDefault;
    bool to_device = guess ? gan__fits(to, 0, true)
                           : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = guess ? gan__fits(from, 0, true)
                             : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!bytes)
        return cudaSuccess;
    if (!gan__fits(to, bytes, to_device) || !gan__fits(from, bytes, from_device))
        return gan_on_cpu::error(cudaErrorInvalidValue);
    auto pageable = [](const void *p, bool device) {
        return !device && gan_on_cpu::room(p, false) < 0;
    };
    if (!async || !gan_cuda_late || (stream && stream->recording))
        return gan_on_cpu::submit(
            stream, [=] { memcpy(to, from, bytes); }, !async);
    if (pageable(to, to_device)) /* what is read before something waits is no result */
        memset(to, 0xFF, bytes);
    std::vector<char>
        now; /* memory of the program that it must not change before the copy is made */
    if (!from_device)
        now.assign((const char *)from, (const char *)from + bytes);
    return gan_on_cpu::submit(stream, [=] {
        if (!now.empty() && memcmp(now.data(), from, bytes))
            gan_on_cpu::fail(
                cudaErrorInvalidValue,
                "the host memory of a cudaMemcpyAsync was changed before it was copied");
        else
            memcpy(to, from, bytes);
    });
}

inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    GAN__WAIT;
    return gan__copy(to, from, bytes, kind, nullptr, false);
}

inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream = nullptr)
{
    GAN__BEGIN;
    return gan__copy(to, from, bytes, kind, stream, true);
}

inline cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream = nullptr)
{
    GAN__BEGIN;
    if (bytes && !gan__fits(p, bytes, true))
        return gan_on_cpu::error(cudaErrorInvalidValue);
    return gan_on_cpu::submit(stream, [=] {
        if (bytes)
            memset(p, value, bytes);
    });
}

inline cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes);
}

template <class T>
cudaError_t cudaMemcpyToSymbol(T &symbol, const void *from,
                               size_t bytes) /* symbol: a __constant__ array */
{
    GAN__WAIT;
    if (bytes > sizeof symbol)
        return gan_on_cpu::error(cudaErrorInvalidValue);
    memcpy(&symbol, from, bytes);
    return cudaSuccess;
}

/* Streams. Work recorded between BeginCapture and EndCapture is a graph; launching the graph
   does it again. */
enum { cudaStreamDefault, cudaStreamNonBlocking };

enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};

enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive,
    cudaStreamCaptureStatusInvalidated
};

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    GAN__BEGIN;
    *s = new gan__stream();
    return cudaSuccess;
}

inline cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithFlags(s, 0);
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    return gan_on_cpu::begin_waiting(__func__, s);
}

inline cudaError_t cudaStreamQuery(cudaStream_t s)
{
    return gan_on_cpu::begin_waiting(__func__, s);
}

inline cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    cudaError_t e = gan_on_cpu::begin(__func__);
    cudaError_t late = gan_on_cpu::finish();
    if (s && s == gan_on_cpu::capturing)
        gan_on_cpu::capturing = nullptr;
    if (s)
        delete s->recording;
    delete s;
    return e ? e : late;
}

inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode)
{
    GAN__BEGIN;
    if (!s || gan_on_cpu::capturing)
        return gan_on_cpu::error(cudaErrorStreamCaptureUnsupported);
    gan_on_cpu::capturing = s;
    *s = {new gan__graph(), false, mode};
    return cudaSuccess;
}

inline cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    cudaError_t e = gan_on_cpu::begin(__func__);
    *graph = nullptr;
    if (!s || !s->recording)
        return gan_on_cpu::error(e ? e : cudaErrorInvalidValue);
    if (!e && s->broken)
        e = gan_on_cpu::error(cudaErrorStreamCaptureInvalidated);
    if (e)
        delete s->recording;
    else
        *graph = s->recording;
    gan_on_cpu::capturing = nullptr;
    *s = {};
    return e;
}

inline cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status)
{
    GAN__BEGIN;
    *status = !s || !s->recording ? cudaStreamCaptureStatusNone
            : s->broken           ? cudaStreamCaptureStatusInvalidated
                                  : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

inline cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                                 unsigned long long)
{
    GAN__BEGIN;
    *exec = new gan__graph(*graph);
    return cudaSuccess;
}

inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                        unsigned long long flags = 0)
{
    return cudaGraphInstantiateWithFlags(exec, graph, flags);
}

inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    GAN__BEGIN;
    return gan_on_cpu::submit(stream, [exec] {
        for (auto &work : exec->work)
            if (!gan_on_cpu::failed)
                work();
    });
}

inline cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t e = gan_on_cpu::begin(__func__);
    delete graph;
    return e;
}

inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaError_t e = gan_on_cpu::begin(__func__);
    cudaError_t late = gan_on_cpu::finish();
    delete exec;
    return e ? e : late;
}

/* Events: the time at which the stream got there. */
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    GAN__BEGIN;
    *event = new gan__event();
    return cudaSuccess;
}

inline cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr)
{
    GAN__BEGIN;
    return gan_on_cpu::submit(stream, [event] {
        *event = {std::chrono::steady_clock::now(), true};
    });
}

inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned = 0)
{
    GAN__BEGIN;
    return cudaSuccess;
} /* in order already */

inline cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    GAN__WAIT;
    return cudaSuccess;
}

inline cudaError_t cudaEventQuery(cudaEvent_t)
{
    GAN__WAIT;
    return cudaSuccess;
}

inline cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    GAN__WAIT;
    if (!from->done || !to->done)
        return gan_on_cpu::error(cudaErrorInvalidResourceHandle);
    *ms = std::chrono::duration<float, std::milli>(to->when - from->when).count();
    return cudaSuccess;
}

inline cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t e = gan_on_cpu::begin(__func__);
    cudaError_t late = gan_on_cpu::finish();
    delete event;
    return e ? e : late;
}

#endif
