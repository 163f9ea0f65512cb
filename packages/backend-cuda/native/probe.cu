// Whether this machine can run the backend, asked of the driver alone: libcuda is opened by name, never linked, so that this
// file loads everywhere and absence is an answer with a reason.
#include <dlfcn.h>
#include <cstdio>
#include <cstring>
#include "doge.h"
#if !defined(DOGE_SHIM)
#include <cuda_runtime.h>
#define DOGE_RUNTIME CUDART_VERSION
#else
#define DOGE_RUNTIME 13000
#endif

/** Compute capabilities that this build has code for, "90a" only for 9.0 itself; and those it has PTX for, which newer devices
 *  compile. Given by the build. */
#if !defined(DOGE_CODE)
#define DOGE_CODE "75,80,86,89,90a,100,120"
#define DOGE_PTX "90,120"
#endif

namespace {

typedef int (*Init)(unsigned);
typedef int (*Version)(int*);
typedef int (*Count)(int*);
typedef int (*Get)(int*, int);
typedef int (*Name)(char*, int, int);
typedef int (*Attribute)(int*, int, int);
typedef int (*ErrorText)(int, const char**);

/** The least compute capability that CUDA 13 compiles for. */
constexpr int LEAST = 75;
/** The driver's numbers of two attributes. */
constexpr int CAPABILITY_MAJOR = 75;
constexpr int CAPABILITY_MINOR = 76;

/** Code for x.y runs on x.z with z >= y; code for "90a" on 9.0 only; PTX for x.y on everything from x.y on. 9.0 takes no other: the
 *  products by warpgroups are empty there (warpgroup.cuh), and a device of 9.0 is given them. */
bool has_image(int capability) {
  for (const char* at = DOGE_CODE; *at != '\0';) {
    int built = 0;
    for (; *at >= '0' && *at <= '9'; at++) built = 10 * built + (*at - '0');
    const bool exact = *at == 'a';
    if (exact) at++;
    if (*at == ',') at++;
    if (exact ? built == capability : capability != 90 && built / 10 == capability / 10 && built <= capability) return true;
  }
  for (const char* at = DOGE_PTX; *at != '\0';) {
    int built = 0;
    for (; *at >= '0' && *at <= '9'; at++) built = 10 * built + (*at - '0');
    if (*at == ',') at++;
    if (capability != 90 && built <= capability) return true;
  }
  return false;
}

const char* text_of(ErrorText text, int status, char* number, size_t size) {
  const char* found = nullptr;
  if (text != nullptr && text(status, &found) == 0 && found != nullptr) return found;
  std::snprintf(number, size, "error %d", status);
  return number;
}

}  // namespace

void doge_probe(int device, const char* driver, doge_probe_result* result) {
  if (result == nullptr) return;
  std::memset(result, 0, sizeof *result);
  result->runtime = DOGE_RUNTIME;
  char number[32];
  const auto absent = [result](const char* reason) {
    std::snprintf(result->reason, sizeof result->reason, "%s", reason);
  };
  void* const library = dlopen(driver == nullptr ? "libcuda.so.1" : driver, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    absent("no-driver");
    std::snprintf(result->why, sizeof result->why,
                  "There is no CUDA driver: %.280s. Install the NVIDIA driver (580 or newer); in a container start it with the NVIDIA runtime.", dlerror());
    return;
  }
  const auto init = reinterpret_cast<Init>(dlsym(library, "cuInit"));
  const auto version = reinterpret_cast<Version>(dlsym(library, "cuDriverGetVersion"));
  const auto count = reinterpret_cast<Count>(dlsym(library, "cuDeviceGetCount"));
  const auto get = reinterpret_cast<Get>(dlsym(library, "cuDeviceGet"));
  const auto name = reinterpret_cast<Name>(dlsym(library, "cuDeviceGetName"));
  const auto attribute = reinterpret_cast<Attribute>(dlsym(library, "cuDeviceGetAttribute"));
  const auto text = reinterpret_cast<ErrorText>(dlsym(library, "cuGetErrorString"));
  // The library stays open: the runtime will want it, and drivers do not like to be unloaded.
  if (init == nullptr || version == nullptr || count == nullptr || get == nullptr || name == nullptr || attribute == nullptr) {
    absent("no-driver");
    std::snprintf(result->why, sizeof result->why, "The library found as the CUDA driver is none: it lacks cuInit or its companions. Install the NVIDIA driver (580 or newer).");
    return;
  }
  if (version(&result->driver) != 0) result->driver = 0;
  if (result->driver / 1000 < result->runtime / 1000) {
    absent("driver-too-old");
    std::snprintf(result->why, sizeof result->why,
                  "The CUDA driver is too old: it supports CUDA %d.%d and this build needs %d.x. Install the NVIDIA driver 580 or newer.",
                  result->driver / 1000, result->driver % 1000 / 10, result->runtime / 1000);
    return;
  }
  int status = init(0);
  if (status == 0) status = count(&result->devices);
  if (status != 0 || result->devices == 0) {
    absent("no-device");
    std::snprintf(result->why, sizeof result->why, "The CUDA driver is there, but no device can be used: %.200s. See that nvidia-smi lists a GPU, that CUDA_VISIBLE_DEVICES hides none, "
                  "and that a container was started with the NVIDIA runtime.",
                  status == 0 ? "it lists none" : text_of(text, status, number, sizeof number));
    return;
  }
  if (device < 0 || device >= result->devices) {
    absent("wrong-device");
    std::snprintf(result->why, sizeof result->why, "Device %d was asked for; the driver lists %d, counted from 0 (CUDA_VISIBLE_DEVICES may hide some).",
                  device, result->devices);
    return;
  }
  int handle = 0, major = 0, minor = 0;
  status = get(&handle, device);
  if (status == 0) status = name(result->name, sizeof result->name, handle);
  if (status == 0) status = attribute(&major, CAPABILITY_MAJOR, handle);
  if (status == 0) status = attribute(&minor, CAPABILITY_MINOR, handle);
  if (status != 0) {
    absent("no-device");
    std::snprintf(result->why, sizeof result->why, "The CUDA driver lists device %d but cannot describe it: %.200s. See what nvidia-smi says of it, or use another device.", device,
                  text_of(text, status, number, sizeof number));
    return;
  }
  result->capability = 10 * major + minor;
  if (!has_image(result->capability)) {
    absent("no-image");
    // What is older than the least cannot be built for either.
    std::snprintf(result->why, sizeof result->why, "This build has no code for %.200s (compute capability %d.%d): it has code for %s and PTX for %s. %s",
                  result->name, major, minor, DOGE_CODE, DOGE_PTX[0] == '\0' ? "none" : DOGE_PTX,
                  result->capability < LEAST ? "It needs 7.5 or newer: use another device or another backend." : "Build from source for it, or use another backend.");
    return;
  }
  result->available = 1;
}
